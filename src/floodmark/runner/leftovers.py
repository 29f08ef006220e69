"""Find and end what a target has started and left behind: every process that inherited a mark in its environment.

A process group is not enough, since a daemon leaves it, and parents are not either, since an orphan has lost its own.
Limits: Linux, where /proc shows environments; elsewhere nothing is found. A process that wiped its environment is not found.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "FLOODMARK_TARGET"
SWEEP_LIMIT_S = 1.0
SWEEP_PAUSE_S = 0.005


def marked(mark: str) -> list[int]:
    """The processes that carry this mark, this one left out."""
    wanted = f"{MARK}={mark}".encode()
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or belongs to somebody else
            if wanted in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def end_marked(mark: str) -> int:
    """Kill them until none is left, since one may fork meanwhile; returns how many signals that took."""
    until_s = time.monotonic() + SWEEP_LIMIT_S
    sent = 0
    while (left := marked(mark)) and time.monotonic() < until_s:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                sent += 1
        time.sleep(SWEEP_PAUSE_S)  # they need a moment to go, and nobody tells us
    return sent
