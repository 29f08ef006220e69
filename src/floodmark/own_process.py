"""`floodmark run` in a process of its own: start it, pass on what it says, wait for its end, end it.

For a program that has a life of its own and wants a verdict, such as a test runner: the run is then the very one of the command line, with
its own event loop, signals, memory and warnings, and nothing that the caller does beside it is measured as floodmark's.

Contract: what was started has ended when the `with` block is left, whatever happened in it: asked to, so that the run ends its agents and
its target in order, and killed when that takes longer than END_LIMIT_S or the caller will not wait. When the caller is killed, the kernel
asks in its place. Not here: what the words mean, and what comes of the verdict. Limit: Linux; elsewhere the run outlives a killed caller.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

LOOK_S = 0.05
END_LIMIT_S = 30.0
TAIL_BYTES = 64 * 1024

#: Before anything is loaded, the kernel is told to end the run with its caller.
CODE = "from floodmark.core.parent import die_with_parent; die_with_parent(); from floodmark.__main__ import main; main()"
#: Variables by which a terminal is claimed where there is none; what the run says is read as plain lines.
_CLAIMS = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


class Ended(NamedTuple):
    """How it ended: the exit code (negative: the signal that killed it), all of stdout, the end of stderr."""

    code: int
    stdout: bytes
    stderr: str


class OwnProcess:
    """One `floodmark WORDS`, a context manager. `say` is given what it writes to stderr, soon after it was written.

    Raises: OSError on entering, when no program can be started.
    """

    def __init__(self, words: Sequence[str], say: Callable[[str], object]) -> None:
        self._words = tuple(words)
        self._say = say
        self._heard = codecs.getincrementaldecoder("utf-8")("replace")
        self._said_bytes = 0
        self._asked = False
        self._open = False

    def __enter__(self) -> Self:
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # files: a full pipe would hold the run up
        try:
            self._process = subprocess.Popen(
                [sys.executable, *(["-m", "floodmark"] if os.getpid() == 1 else ["-c", CODE]), *self._words],  # all die with process 1
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                env={name: value for name, value in os.environ.items() if name not in _CLAIMS},
                start_new_session=True,  # Ctrl-C reaches the caller alone, which then asks for an end
            )
            self._open = True
        except OSError:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def look(self) -> bool:
        """Pass on what it has said since the last look; whether it has ended."""
        ended = self._process.poll() is not None
        while fresh := os.pread(self._err.fileno(), TAIL_BYTES, self._said_bytes):  # reading would move the place that it writes at
            self._said_bytes += len(fresh)
            self._say(self._heard.decode(fresh))
        return ended

    def wait(self) -> Ended:
        """Wait until it ends by itself; a run has limits of its own for all it does."""
        __tracebackhide__ = True  # to pytest, what a timeout interrupts is the caller's line
        while not self.look():
            time.sleep(LOOK_S)
        return self._ended()

    async def wait_beside(self) -> Ended:
        """Wait, and let the event loop go on meanwhile. When cancelled, the end is in order as well, and the loop goes on until then."""
        __tracebackhide__ = True
        try:
            while not self.look():  # noqa: ASYNC110  # a child watcher would bind us to one kind of loop
                await asyncio.sleep(LOOK_S)
        except asyncio.CancelledError:
            self._ask()
            until_s = time.monotonic() + END_LIMIT_S
            while not self.look() and time.monotonic() < until_s:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
            raise
        return self._ended()

    def end(self) -> None:
        """End it, if it has not ended: ask and wait, then kill. Asked already, or interrupted in the waiting, kill at once."""
        if not self._open:
            return
        try:
            if not self._asked and self._process.poll() is None:
                self._ask()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(END_LIMIT_S)
        finally:
            self._process.kill()  # of one that has ended and was waited for, nothing is asked any more
            self._process.wait()
            self.look()
            self._close()

    def _ask(self) -> None:
        self._asked = True
        self._process.terminate()

    def _ended(self) -> Ended:
        self._out.seek(0)
        tail = os.pread(self._err.fileno(), TAIL_BYTES, max(0, self._said_bytes - TAIL_BYTES))
        return Ended(self._process.returncode, self._out.read(), tail.decode("utf-8", "replace"))

    def _close(self) -> None:
        self._open = False
        self._out.close()
        self._err.close()
