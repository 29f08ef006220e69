"""A target's output in the run folder, bounded: the first and the last mebibyte are kept, however much it prints and often it starts."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from floodmark.core.errors import UsageError

LOG_HEAD_BYTES = 1 << 20
LOG_TAIL_BYTES = 1 << 20


class Log:
    """A target's output, bounded: the head goes to the file at once, the tail is kept in memory and added at the end.

    What the disk does not take is dropped and counted: the target must never stand still because its output is not read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as exc:
            raise UsageError(f"cannot write {path}: {exc.strerror or exc}; choose another place with --out") from exc
        self._head_bytes = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.dropped_bytes = 0
        self._lines: deque[str] = deque(maxlen=20)
        self._rest = b""

    def write(self, chunk: bytes) -> list[str]:
        """Take some output; returns the complete lines in it."""
        if self._head_bytes < LOG_HEAD_BYTES:
            self._put(chunk)
            self._head_bytes += len(chunk)
        else:
            self._tail.append(chunk)
            self._tail_bytes += len(chunk)
            while self._tail_bytes > LOG_TAIL_BYTES and len(self._tail) > 1:
                gone = self._tail.popleft()
                self._tail_bytes -= len(gone)
                self.dropped_bytes += len(gone)
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[-4096:]
        texts = [line[:2000].decode("utf-8", "replace").rstrip() for line in lines]
        self._lines.extend(text for text in texts if text)
        return texts

    def last_lines(self) -> tuple[str, ...]:
        """The last lines printed, oldest first; an unfinished one counts."""
        rest = self._rest[:2000].decode("utf-8", "replace").strip()
        return (*self._lines, *([rest] if rest else []))

    def close(self) -> None:
        """Add the tail and close the file."""
        if self.dropped_bytes:
            self._put(b"\n[floodmark: %d bytes left out here]\n" % self.dropped_bytes)
        for chunk in self._tail:
            self._put(chunk)
        self._file.close()

    def _put(self, chunk: bytes) -> None:
        try:
            self._file.write(chunk)
        except OSError:
            self.dropped_bytes += len(chunk)
