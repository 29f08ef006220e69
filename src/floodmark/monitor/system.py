"""The machine's side of a sample: socket memory, free memory, busy processors.

A machine that ran out of either explains a target that was slow. Sources: proc_meminfo(5), proc_stat(5).
"""

from __future__ import annotations

from floodmark.monitor.procfs import TICKS_PER_S, read_bytes
from floodmark.monitor.sample import SystemSample
from floodmark.monitor.sockets import sockets


def sample_system(now_ns: int) -> SystemSample:
    """Read the machine's figures; None for each one that is not to be had."""
    tcp = sockets()
    return SystemSample(
        t_ns=now_ns,
        tcp_memory_bytes=tcp.memory_bytes,
        tcp_in_use=tcp.in_use,
        tcp_time_wait=tcp.time_wait,
        available_bytes=parse_available_bytes((read_bytes("/proc/meminfo") or b"").decode()),
        cpu_busy_s=parse_cpu_busy_s((read_bytes("/proc/stat") or b"").decode()),
    )


def parse_available_bytes(meminfo: str) -> int | None:
    """Return what could still be used without swapping.

    >>> parse_available_bytes("MemTotal: 9 kB\\nMemAvailable:  4 kB\\n")
    4096
    """
    line = next((line for line in meminfo.splitlines() if line.startswith("MemAvailable:")), None)
    return None if line is None else int(line.split()[1]) * 1024


def parse_cpu_busy_s(stat: str) -> float | None:
    """Add up all processors' time but idle and iowait; guest time is already in user time."""
    head = stat.partition("\n")[0].split()
    if len(head) < 9 or head[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(ticks) for ticks in head[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S
