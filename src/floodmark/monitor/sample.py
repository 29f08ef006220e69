"""What one look at a process tree or at the machine gave.

None means "could not be read": a metric that is missing must never look like a metric that is zero.
"""

from __future__ import annotations

import msgspec


class ProcessSample(msgspec.Struct, frozen=True, kw_only=True):
    """A process and all its descendants, added up.

    `resident_bytes` counts pages shared between the processes once per process; `unique_bytes` (USS) counts only pages of one process
    alone. `high_water_bytes` is the largest VmHWM of any one process: the kernel's own peak, which no sampling can miss.
    `cpu_s` has a resolution of one clock tick (10 ms on Linux) and includes children that have ended.
    """

    t_ns: int
    resident_bytes: int
    unique_bytes: int | None
    high_water_bytes: int | None
    cpu_s: float
    descriptors: int | None
    threads: int
    processes: int


class SystemSample(msgspec.Struct, frozen=True, kw_only=True):
    """The machine: what the kernel holds for sockets, which is in no process's resident memory, and how busy all processors are."""

    t_ns: int
    tcp_memory_bytes: int | None
    tcp_in_use: int | None
    tcp_time_wait: int | None
    available_bytes: int | None
    cpu_busy_s: float | None


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """The largest of every figure of one tree over the run, thinned-out samples included.

    `resident_bytes` is the larger of `sampled_bytes` and `high_water_bytes`. `covers` says in words what that means.
    """

    resident_bytes: int
    sampled_bytes: int
    high_water_bytes: int | None
    unique_bytes: int | None
    cpu_s: float
    descriptors: int | None
    threads: int
    processes: int
    samples: int
    covers: str
