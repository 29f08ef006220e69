"""What a process fault has to know of a process, from /proc: who it is, whether it runs, how much it has.

Every function gives None for a process that is gone, at whatever moment it goes. Sources: proc_pid_stat(5), proc_pid_status(5),
proc_pid_fd(5). Linux only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_AT_REST = frozenset("TtZXD")  # D: inside the kernel, and the stop that was sent waits for it on the way out


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says."""

    pid: int
    state: str
    parent: int
    session: int
    started_ticks: int  # since boot; with the PID it names a process for good
    cpu_ticks: int  # its own, all threads

    @property
    def ended(self) -> bool:
        """A zombie: only its exit status is left."""
        return self.state in "ZX"

    @property
    def stopped(self) -> bool:
        """By a signal or by a debugger."""
        return self.state in "Tt"


def parse_stat(content: bytes) -> Stat:
    """Split the line after the last ')': the name before it may hold spaces and brackets.

    >>> parse_stat(b"7 (a) b) T 3 7 5 0 -1 0 0 0 0 0 11 4 0 0 20 0 1 0 900 0 0").started_ticks
    900
    """
    head, _, tail = content.rpartition(b")")
    field = tail.split()  # field[0] is number 3 of proc_pid_stat(5)
    return Stat(
        pid=int(head.split(b" ", 1)[0]),
        state=field[0].decode(),
        parent=int(field[1]),
        session=int(field[3]),
        started_ticks=int(field[19]),
        cpu_ticks=int(field[11]) + int(field[12]),
    )


def stat(pid: int) -> Stat | None:
    """Look at one process."""
    content = _read(f"/proc/{pid}/stat")
    return parse_stat(content) if content else None


def everyone() -> dict[int, Stat]:
    """Look at every process of the machine, by PID."""
    looks = (stat(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  names are all that is wanted
    return {look.pid: look for look in looks if look is not None}


def at_rest(pid: int) -> bool:
    """Tell whether no thread of a process that was sent a stop runs any more; a process that is gone rests."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        content = _read(f"{task}/stat")
        if content and parse_stat(content).state not in _AT_REST:
            return False
    return True


def is_named(pid: int, name: str) -> bool:
    """Tell if a process is known by a name: that of its program's file, or the one it was started under (argv[0]), without folders.

    A process that changed its argv[0] is found by its file still; one of another user by argv[0] only.
    """
    argv0 = (_read(f"/proc/{pid}/cmdline") or b"").split(b"\0", 1)[0].decode("utf-8", "replace")
    try:
        program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")  # noqa: PTH115  a deleted file has no Path
    except OSError:
        program = ""
    return name in (os.path.basename(argv0), os.path.basename(program))  # noqa: PTH119


def size_bytes(pid: int, field: str) -> int | None:
    """Return a size that /proc/PID/status gives in kB, such as VmSize; a zombie has none."""
    for line in (_read(f"/proc/{pid}/status") or b"").splitlines():
        if line.startswith(field.encode() + b":"):
            return int(line.split()[1]) * 1024
    return None


def descriptor_numbers(pid: int) -> frozenset[int] | None:
    """Return the numbers of the open descriptors. Raises: PermissionError when the process is closed to us."""
    try:
        return frozenset(int(name) for name in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
    except (FileNotFoundError, ProcessLookupError):
        return None


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the second: it went between open and read
        return None
