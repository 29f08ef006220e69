"""A child process that must not outlive its parent: Linux tells the kernel so."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the kernel for a signal when the parent's thread that started us ends; no effect outside Linux.

    If the parent has died already, leave at once: the signal would never come.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() == 1:
        os._exit(0)
