"""A pseudo-terminal with a `floodmark` on it that believes to be at a real one: what it writes is read back, keys are typed in."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.runner.played import GONE_S, LIMIT_S, MARK, POLL_S, holders

ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?<>=]*[A-Za-z]|[PX^_\]].*?(?:\x1b\\|\x07)|.)", re.DOTALL)
ALTERNATE, MAIN = b"\x1b[?1049h", b"\x1b[?1049l"
INTERRUPT = b"\x03"


class Terminal:
    """One process on a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int, mark: str) -> None:
        self.process, self._descriptor, self._mark = process, descriptor, mark
        self.seen = b""
        self.before = termios.tcgetattr(descriptor)

    @property
    def words(self) -> str:
        """All that was written, without colours and movements."""
        return ESCAPES.sub(b" ", self.seen).decode("utf-8", "replace")

    def type_in(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def until(self, *words: str, limit_s: float = LIMIT_S) -> None:
        """Read until all of these were written."""
        end_s = time.monotonic() + limit_s
        while not all(word in self.words for word in words):
            assert time.monotonic() < end_s, f"no {words} in:\n{self.words[-3000:]}"
            assert self._read(0.05) or self.process.poll() is None, f"it ended without {words}:\n{self.words[-3000:]}"

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self.seen = b""

    def ended(self, limit_s: float = LIMIT_S) -> int:
        """Read until the process has ended, and see that nothing of it is left. Returns: its exit code."""
        end_s = time.monotonic() + limit_s
        while self.process.poll() is None:
            assert time.monotonic() < end_s, f"still there:\n{self.words[-3000:]}"
            self._read(0.02)
        while self._read(0.05):
            pass
        gone_s = time.monotonic() + GONE_S
        while (left := holders(self._mark)) and time.monotonic() < gone_s:
            time.sleep(POLL_S)
        assert not left, f"still there: {left}"
        return self.process.returncode

    def as_before(self) -> bool:
        """Whether the terminal's own settings are those that it had."""
        return termios.tcgetattr(self._descriptor) == self.before

    def view_pids(self) -> list[int]:
        """The processes that show the live view."""
        return [int(line.split(":")[0]) for line in holders(self._mark) if "floodmark.live" in line]

    def _read(self, limit_s: float) -> bool:
        if not select.select([self._descriptor], [], [], limit_s)[0]:
            return False
        try:
            read = os.read(self._descriptor, 65_536)
        except OSError:  # its other end is closed
            return False
        self.seen += read
        return bool(read)


@contextmanager
def terminal(folder: Path, *arguments: str, size: tuple[int, int] = (100, 30), **more: str) -> Iterator[Terminal]:
    """Start `floodmark ARGUMENTS` in `folder` on a terminal of its own; every process of it is gone afterwards."""
    ours, theirs = pty.openpty()
    mark = uuid.uuid4().hex
    columns, rows = size
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "floodmark", *arguments],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, MARK: mark, "TERM": "xterm-256color", **more},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # as a shell would: its Ctrl-C reaches this session
        )
        shown = Terminal(process, ours, mark)
        try:
            yield shown
        finally:
            os.close(theirs)
            for _ in range(3):
                for line in holders(mark):
                    subprocess.run(["kill", "-9", line.split(":")[0]], check=False, stderr=subprocess.DEVNULL)
            process.wait(LIMIT_S)
    finally:
        os.close(ours)
