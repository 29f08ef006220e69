"""`python -m floodmark` is the command line.

Loading it takes a moment, in which nothing has been started that would need an end: a Ctrl-C then is answered here, in one line.
An agent, which is there to stay, is spared the part that it does not need.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def main() -> None:
    """Load the command line, then run it."""
    before = signal.signal(signal.SIGINT, _leave)
    part = "floodmark.agent_command" if sys.argv[1:2] == ["agent"] else "floodmark.cli"
    command_line = importlib.import_module(part)  # here, so that an interrupt finds somebody who answers
    try:
        signal.signal(signal.SIGINT, before)
        command_line.main()
    except KeyboardInterrupt:  # in the moment between the two
        sys.exit(INTERRUPTED)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"floodmark: interrupted\n")
    os._exit(INTERRUPTED)  # an exception could be caught, or shown, by whatever is being imported


if __name__ == "__main__":
    main()
