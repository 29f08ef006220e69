"""Read one process from /proc, a few files per look.

Every function returns None for a process that is gone or may not be read, at whatever moment it goes. Sources: proc(5) and its parts
proc_pid_stat(5), proc_pid_status(5), proc_pid_smaps_rollup. Linux only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says."""

    pid: int
    parent: int
    started_ticks: int  # since boot; with the PID it names a process for good, as a reused PID starts later
    ended: bool  # a zombie: it holds no memory, only its exit status and its CPU time
    own_ticks: int  # CPU time of all its threads, those that ended too
    waited_ticks: int  # CPU time of children that ended and were waited for, with their own children in turn
    threads: int
    resident_bytes: int


def read_bytes(path: str) -> bytes | None:
    """Return a file of /proc, or None when its process is gone or closed to us."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(handle, 65_536):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # ESRCH: it went between open and read
        return None
    finally:
        os.close(handle)


def parse_stat(content: bytes) -> Stat:
    """Split the line after the last ')': the name before it may hold spaces and brackets."""
    head, _, tail = content.rpartition(b")")
    field = tail.split()  # field[0] is number 3 of proc_pid_stat(5)
    return Stat(
        pid=int(head.split(b" ", 1)[0]),
        parent=int(field[1]),
        started_ticks=int(field[19]),
        ended=field[0] in (b"Z", b"X"),
        own_ticks=int(field[11]) + int(field[12]),
        waited_ticks=int(field[13]) + int(field[14]),
        threads=int(field[17]),
        resident_bytes=int(field[21]) * PAGE_BYTES,
    )


def stat(pid: int) -> Stat | None:
    """Look at one process."""
    content = read_bytes(f"/proc/{pid}/stat")
    return parse_stat(content) if content else None


class Parents:
    """Who is whose child, over the whole machine: one listing of /proc a refresh, and one read for each process not seen before.

    A PID that changed hands between two refreshes keeps its old parent here until the next full look, one refresh in `_FULL_EVERY`.
    """

    _FULL_EVERY = 20

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._refreshes = 0

    def children(self) -> dict[int, list[int]]:
        """Look again; return parent -> children."""
        if self._refreshes % self._FULL_EVERY == 0:
            self._parent.clear()
        self._refreshes += 1
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208  HOT: names are all that is wanted
        for pid in self._parent.keys() - pids:
            del self._parent[pid]
        for pid in pids - self._parent.keys():
            look = stat(pid)
            if look is not None:
                self._parent[pid] = look.parent
        below: dict[int, list[int]] = {}
        for pid, parent in self._parent.items():
            below.setdefault(parent, []).append(pid)
        return below


def descriptors(pid: int) -> int | None:
    """Count the open descriptors: since Linux 6.2 the size of the folder; before, where that is 0, its entries are counted one by one."""
    try:
        handle = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.fstat(handle).st_size or sum(1 for _ in os.scandir(handle))
    except OSError:
        return None
    finally:
        os.close(handle)


def high_water_bytes(pid: int) -> int | None:
    """Return VmHWM: the largest resident set since the program was started (exec begins anew)."""
    return _kib(read_bytes(f"/proc/{pid}/status"), (b"VmHWM:",))


def unique_bytes(pid: int) -> int | None:
    """Return the bytes that belong to this process alone.

    Walks its page tables: milliseconds for gigabytes, in which its own changes to its address space have to wait.
    """
    return _kib(read_bytes(f"/proc/{pid}/smaps_rollup"), (b"Private_Clean:", b"Private_Dirty:", b"Private_Hugetlb:"))


def _kib(content: bytes | None, names: tuple[bytes, ...]) -> int | None:
    found = [int(line.split()[1]) for line in (content or b"").splitlines() if line.startswith(names)]
    return sum(found) * 1024 if found else None
