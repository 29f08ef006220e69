"""The machine's figures from known text, and from the kernel."""

from __future__ import annotations

import os
import socket

from floodmark.monitor.sockets import parse_sockstat, sockets
from floodmark.monitor.system import parse_available_bytes, parse_cpu_busy_s, sample_system

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def test_parse_sockstat_memory_is_in_bytes() -> None:
    found = parse_sockstat("sockets: used 14\nTCP: inuse 7 orphan 0 tw 3 alloc 9 mem 121\nUDP: inuse 0 mem 5\n")

    assert (found.memory_bytes, found.in_use, found.time_wait) == (121 * PAGE_BYTES, 7, 3)


def test_parsers_without_their_line_say_unreadable_and_never_zero() -> None:
    found = parse_sockstat("UDP: inuse 0 mem 5\n")

    assert (found.memory_bytes, found.in_use, found.time_wait) == (None, None, None)
    assert parse_available_bytes("") is None
    assert parse_cpu_busy_s("") is None
    assert sockets("/proc/there-is-no-such-file").memory_bytes is None


def test_parse_cpu_busy_leaves_idle_and_iowait_out() -> None:
    ticks_per_s = os.sysconf("SC_CLK_TCK")

    assert parse_cpu_busy_s("cpu  1 2 4 1000 2000 8 16 32 64 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n") == (1 + 2 + 4 + 8 + 16 + 32) / ticks_per_s


def test_sockets_bytes_nobody_reads_are_kernel_memory() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver:
            before = sockets().memory_bytes
            sender.setblocking(False)
            sent = 0
            while True:
                try:
                    sent += sender.send(b"x" * 65_536)
                except BlockingIOError:
                    break
            after = sockets().memory_bytes

    assert before is not None
    assert after is not None
    # The count is batched per processor and other sockets come and go, so half of what lies there must show.
    assert sent > 200_000
    assert after - before > sent / 2


def test_sample_system_has_every_figure_on_linux() -> None:
    found = sample_system(42)

    assert found.t_ns == 42
    assert found.available_bytes is not None
    assert found.available_bytes > 0
    assert found.cpu_busy_s is not None
    assert found.cpu_busy_s > 0
