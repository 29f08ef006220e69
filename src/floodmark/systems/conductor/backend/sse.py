"""Server-sent events out of bytes that may be cut anywhere: inside a line end, inside a character, inside the word `data`.

Lines end with LF, CRLF or CR; comments and unknown fields are skipped; several `data` lines make one event, joined by LF; a byte order
mark at the beginning is no text. An event is one only when an empty line has followed it. No I/O, and no JSON: what an event means is the
caller's.
"""

from __future__ import annotations

from typing import Final

EVENT_BYTES: Final = 1_048_576
_BOM = b"\xef\xbb\xbf"


class SseError(Exception):
    """What came cannot be a stream of events."""


class SseReader:
    """Feed it what was read; it gives the events that are complete, each as (name, data); the name is empty for most."""

    __slots__ = ("_data", "_fresh", "_held_bytes", "_name", "_parts", "_skips_lf")

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of a line that has not ended
        self._data: list[bytes] = []  # lines of an event that has not ended
        self._held_bytes = 0
        self._name = ""
        self._fresh = True
        self._skips_lf = False  # the last byte was a CR: an LF now belongs to it

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """HOT: the events that these bytes complete, oldest first. Raises: SseError for an event of more than EVENT_BYTES."""
        data = self._with_lf(data)
        if b"\n" not in data:
            self._hold(data)
            return []
        lines = data.split(b"\n")
        if self._parts:
            self._held_bytes -= sum(map(len, self._parts))  # they count with their line
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts.clear()
        rest = lines.pop()
        if self._fresh:
            lines[0] = lines[0].removeprefix(_BOM)
            self._fresh = False
        events: list[tuple[str, bytes]] = []
        for line in lines:
            if not line:
                if self._data:
                    events.append((self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
                    self._data = []
                self._name = ""
                self._held_bytes = 0
            else:
                self._line(line)
        self._hold(rest)
        return events

    def finish(self) -> bytes:
        """What a clean end cut off from its empty line: the data of an event whose lines are complete; empty for none."""
        return b"\n".join(self._data)

    def _with_lf(self, data: bytes) -> bytes:
        """The same text with every line end an LF."""
        if self._skips_lf and data:
            data = data[1:] if data[:1] == b"\n" else data
            self._skips_lf = False
        if b"\r" not in data:
            return data
        self._skips_lf = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            self._bound(len(line))
        elif line == b"data":
            self._data.append(b"")
        elif line.startswith(b"event:"):
            self._name = line[6:].removeprefix(b" ").decode("utf-8", "replace")

    def _hold(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._bound(len(part))

    def _bound(self, more_bytes: int) -> None:
        self._held_bytes += more_bytes
        if self._held_bytes > EVENT_BYTES:
            raise SseError(f"an event has more than {EVENT_BYTES} bytes")
