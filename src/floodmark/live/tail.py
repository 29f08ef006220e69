"""Read the lines of a file that is still being written: whole lines only, each once, in order.

A line that cannot be read is counted and left out; so is one longer than `LINE_BYTES`. The file may come later, and it may be taken away:
what was written before is still read. Nothing here waits. Memory: one block and the beginning of one line.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from floodmark.report.live import AnyLine

BLOCK_BYTES = 256 * 1024
LINE_BYTES = 4 * 1024 * 1024


class Tail:
    """Reads `live.jsonl`. A context manager: on leaving it, the file is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._begun = b""
        self._skipping = False  # in a line that is too long
        self._decoder = msgspec.json.Decoder(AnyLine)
        self.broken_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def find(self) -> bool:
        """Open the file; tell if it is there, or was when it was opened."""
        if self._file is None:
            with suppress(OSError):
                self._file = self._path.open("rb", buffering=0)
        return self._file is not None

    def read(self) -> list[AnyLine]:
        """Give what has been written since the last call, a block at most; empty when there is nothing new."""
        if not self.find() or self._file is None:
            return []
        try:
            block = self._file.read(BLOCK_BYTES)
        except OSError:
            return []
        *whole, self._begun = (self._begun + block).split(b"\n")
        if self._skipping and whole:
            self._skipping = False
            del whole[0]
        if len(self._begun) > LINE_BYTES:
            self._begun, self._skipping = b"", True
            self.broken_count += 1
        return self._decoded(whole)

    def _decoded(self, lines: list[bytes]) -> list[AnyLine]:
        found: list[AnyLine] = []
        for line in lines:
            try:
                found.append(self._decoder.decode(line))
            except msgspec.DecodeError:  # also one that is no UTF-8
                self.broken_count += 1
        return found
