"""The machine's side: kernel memory held by sockets, free memory, busy processors.

Bytes that wait in socket buffers belong to the kernel and appear in no process's resident memory, yet a slow consumer puts them there.
/proc/net/sockstat counts them: `TCP: ... mem N` in pages, over the whole machine, all processes together. Whoever reads the figure
must know that the harness's own sockets are in it. Sources: proc(5), Documentation/filesystems/proc.rst of the kernel.
"""

from __future__ import annotations

import os
from pathlib import Path

from floodmark.monitor.sample import SystemSample

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def sample_system(now_ns: int, *, proc: Path = Path("/proc")) -> SystemSample:
    """Read the machine's figures; None for each one that is not to be had."""
    tcp = parse_sockstat(_read(proc / "net/sockstat")).get("TCP", {})
    memory = tcp.get("mem")
    return SystemSample(
        t_ns=now_ns,
        tcp_memory_bytes=None if memory is None else memory * _PAGE_BYTES,
        tcp_in_use=tcp.get("inuse"),
        tcp_time_wait=tcp.get("tw"),
        available_bytes=_available_bytes(_read(proc / "meminfo")),
        cpu_busy_s=_cpu_busy_s(_read(proc / "stat")),
    )


def parse_sockstat(text: str) -> dict[str, dict[str, int]]:
    """Turn sockstat into protocol -> figure -> number.

    >>> parse_sockstat("TCP: inuse 5 tw 0 mem 3")["TCP"]["mem"]
    3
    """
    lines = (line.partition(":") for line in text.splitlines())
    return {name: {key: int(number) for key, number in zip(*[iter(rest.split())] * 2, strict=False)} for name, _, rest in lines}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _available_bytes(meminfo: str) -> int | None:
    line = next((line for line in meminfo.splitlines() if line.startswith("MemAvailable:")), None)
    return None if line is None else int(line.split()[1]) * 1024


def _cpu_busy_s(stat: str) -> float | None:
    """Add up everything but idle and iowait; guest time is already in user time."""
    head = stat.partition("\n")[0].split()
    if len(head) < 9:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(ticks) for ticks in head[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
