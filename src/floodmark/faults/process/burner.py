"""A process that does nothing, as fast as it can, on one core: run as a script by `starve`, with the standard library alone.

Arguments: the PID of its parent, the core, the nice value. It writes one byte when it is set up and then burns until it is killed. The
kernel kills it when its parent dies, also when the parent is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1


def set_up(parent: int, core: int, nice: int) -> None:
    """Die with the parent, be as nice as told, stay on the core."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0 or os.getppid() != parent:
        sys.exit(1)  # INVARIANT: asked after prctl. A parent that died before it is not our parent any more, one that dies later kills us.
    os.nice(nice)
    with suppress(OSError):  # where the kernel groups processes by session, a nice value counts within its own group only
        Path("/proc/self/autogroup").write_text(str(nice))
    os.sched_setaffinity(0, {core})


def main() -> None:
    """Set up, say so, burn."""
    parent, core, nice = (int(argument) for argument in sys.argv[1:])
    set_up(parent, core, nice)
    os.write(1, b"1")
    while True:
        pass


if __name__ == "__main__":
    main()
