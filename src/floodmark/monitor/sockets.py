"""Kernel memory held by sockets.

Bytes that wait in socket buffers belong to the kernel and appear in no process's resident memory, yet a slow consumer puts them there.
/proc/net/sockstat counts them: `TCP: ... mem N` in pages, over the whole machine, all processes together. Whoever reads the figure
must know that the harness's own sockets are in it; the socket counts beside it are of this network namespace. Source:
Documentation/networking/proc_net_tcp.rst and tcp(7) (`tcp_mem` has the same unit).
"""

from __future__ import annotations

import msgspec

from floodmark.monitor.procfs import PAGE_BYTES, read_bytes


class Sockets(msgspec.Struct, frozen=True, kw_only=True):
    """TCP in the kernel; None for what is not to be had."""

    memory_bytes: int | None
    in_use: int | None
    time_wait: int | None


def sockets(path: str = "/proc/net/sockstat") -> Sockets:
    """Read the kernel's count."""
    return parse_sockstat((read_bytes(path) or b"").decode())


def parse_sockstat(text: str) -> Sockets:
    """Find the TCP line and its pairs of name and number.

    >>> parse_sockstat("sockets: used 9\\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 0\\n")
    Sockets(memory_bytes=0, in_use=5, time_wait=2)
    """
    line = next((line for line in text.splitlines() if line.startswith("TCP:")), "TCP:").split()
    figures = dict(zip(line[1::2], map(int, line[2::2]), strict=False))
    pages = figures.get("mem")
    return Sockets(
        memory_bytes=None if pages is None else pages * PAGE_BYTES,
        in_use=figures.get("inuse"),
        time_wait=figures.get("tw"),
    )
