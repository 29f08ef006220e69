"""The live view beside a run: `python -m floodmark.live FOLDER`, which `floodmark run` starts, at a lower priority than all that measures.

It ends with the run, with 0 when the user leaves it, with 130 on Ctrl-C.
"""

import os
import signal
import sys

NICER = 19  # all that there is

if __name__ == "__main__":
    os.nice(NICER)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the screen is there, Ctrl-C ends this process without a word
    import asyncio
    from pathlib import Path

    from floodmark.live.command import show
    from floodmark.report.folder import RunFolder

    sys.exit(asyncio.run(show(RunFolder(Path(sys.argv[1])), beside=True)))
