"""The live view as the run sees it: a child process that owns the terminal for a while, and plain lines whenever it does not.

`View.follow` is the body of a task beside the run. It starts the child once the run has a folder, waits for its end, and gives the terminal
back as it was, however the child ended. A user who leaves the view (q) gets plain lines, one who presses Ctrl-C in it interrupts the run. A
child that fails costs a line that says so. Cancelled, as it is when the run is over, it ends the child within `LEAVE_LIMIT_S`.

The run neither waits for the child nor sends it anything: the child reads `live.jsonl`. It is a process tree of its own to the monitor.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from floodmark.model.finding import Finding
from floodmark.model.result import ScenarioResult
from floodmark.report.display import Planned
from floodmark.report.terminal import Progress

LEAVE_LIMIT_S = 2.0
INTERRUPTED = (130, -signal.SIGINT)
KILLED = (-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)  # nothing can be put back by who ends like that
LEAST_COLUMNS, LEAST_ROWS = 60, 20
_AS_BEFORE = "\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[0m"  # the main screen, a cursor, no mouse


def possible(stdin: IO[str] | None, stderr: IO[str] | None, environment: Mapping[str, str]) -> bool:
    """Whether this terminal can hold a live view, and is ours to use."""
    if stdin is None or stderr is None or environment.get("TERM", "") in ("", "dumb"):  # None: closed before Python began
        return False
    try:
        if not (stdin.isatty() and stderr.isatty()):
            return False
        size = os.get_terminal_size(stderr.fileno())
        ours = os.tcgetpgrp(stdin.fileno()) == os.getpgrp()  # not so in the background, where reading a key would stop us
    except (OSError, ValueError):
        return False
    return ours and size.columns >= LEAST_COLUMNS and size.lines >= LEAST_ROWS


class View:
    """A display that is another process.

    Args:
        lines: what is shown on the terminal while the view is not.
        wanted: False makes it do nothing at all.
        command: what to start, without the folder.
    """

    def __init__(self, lines: Progress, *, wanted: bool, command: Sequence[str] | None = None) -> None:
        self._lines, self._wanted = lines, wanted
        self._command = tuple(command or (sys.executable, "-m", "floodmark.live"))
        self._folder: Path | None = None
        self._opened = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def follow(self, interrupt: Callable[[], None]) -> None:
        """Show the run until somebody leaves. Args: interrupt: called when the user presses Ctrl-C in the view."""
        await self._opened.wait()
        if not self._wanted or self._folder is None:
            return
        before = termios.tcgetattr(sys.stdin.fileno())
        self._lines.hide()
        try:
            try:
                code = await self._run(self._folder)
            finally:
                self._restore(before)
                self._lines.show()
        except OSError as exc:  # no such program, no more processes
            self._lines.say(f"no live view: {exc.strerror or exc}; going on with plain lines")
            return
        if code in INTERRUPTED:
            interrupt()
        elif code:
            self._lines.say(f"the live view has ended with exit code {code}; going on with plain lines")

    async def _run(self, folder: Path) -> int:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            str(folder),
            stdin=None,
            stdout=sys.stderr.fileno(),  # where it asks for the size of the terminal; ours may be a file
            stderr=None,
        )
        try:
            return await process.wait()
        finally:
            await _end(process)

    def _restore(self, before: list[object]) -> None:
        """Leave the terminal as it was; only a view that was killed has not done so itself."""
        if self._process is not None and self._process.returncode in KILLED:
            with suppress(OSError, ValueError):
                os.write(sys.stderr.fileno(), _AS_BEFORE.encode())
        with suppress(termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)  # type: ignore[arg-type]  # what tcgetattr gave

    # -- as a display

    def opened(self, folder: Path, planned: Sequence[Planned], *, seed: int, command: str) -> None:
        """There is something to watch now."""
        self._folder = folder
        self._opened.set()

    def scenario(self, scenario_id: str, title: str = "") -> None:
        """It reads that itself."""

    def update(
        self,
        *,
        phase: str | None = None,
        connections: int | None = None,
        published: int | None = None,
        delivered: int | None = None,
        offered_hz: float | None = None,
        published_hz: float | None = None,
        rate_hz: float | None = None,
        p50_ns: int | None = None,
        p99_ns: int | None = None,
        rss_bytes: int | None = None,
        harness_rss_bytes: int | None = None,
    ) -> None:
        """It reads that itself."""

    def mark(self, text: str) -> None:
        """It reads that itself."""

    def found(self, findings: Sequence[Finding]) -> None:
        """It reads that itself."""

    def done(self, result: ScenarioResult) -> None:
        """It reads that itself."""

    def apart(self) -> int | None:
        """The child, while there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a child: asked first, then made to."""
    for ask in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            ask()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_LIMIT_S):
                await process.wait()
