"""Cut a stream of bytes into server-sent events, by the rules of the HTML standard ("9.2.6 Interpreting an event stream").

Input: the body of an answer, cut at any byte. Output: the events that are complete, as (name, data), both bytes; name is empty for an
event without one. Comments, unknown fields and events without data are left out; an event that the body's end cuts off is dropped, as the
standard has it. Pure: no I/O, no clock. Not here: what the data means (sse_shape.py), UTF-8, which whoever reads the data checks.
Memory: the event under way, at most `limit_bytes`; a longer one is an error.

HOT: a read of many events costs one split; only what is not `data: ...` on a single line is looked at line by line.
"""

from __future__ import annotations

from floodmark.core.errors import FloodmarkError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
EVENT_LIMIT_BYTES = 1024 * 1024

Event = tuple[bytes, bytes]


class EventTooLongError(FloodmarkError):
    """An event without an end."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"an event of more than {self.limit_bytes:,} bytes"


class EventCutter:
    """Cuts one body.

    >>> cutter = EventCutter()
    >>> cutter.feed(b"data: one\\n\\nevent: add\\ndata: tw")
    [(b'', b'one')]
    >>> cutter.feed(b"o\\ndata: three\\r\\n\\r\\n")
    [(b'add', b'two\\nthree')]
    """

    __slots__ = ("_begun", "_limit_bytes", "_rest", "_skips_line_feed", "last_id", "retry_ms")

    def __init__(self, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self.last_id = b""
        self.retry_ms: int | None = None
        self._rest = b""
        self._begun = False
        self._skips_line_feed = False
        self._limit_bytes = limit_bytes

    def feed(self, data: bytes) -> list[Event]:
        """HOT: once per read. Raises: EventTooLongError."""
        if b"\r" in data or self._skips_line_feed:
            data = self._with_line_feeds(data)
        if not self._begun:
            data = self._without_mark(data)
        rest = self._rest
        if rest:
            data = rest + data
        blocks = data.split(b"\n\n")
        self._rest = last = blocks.pop()
        if len(last) > self._limit_bytes:
            raise EventTooLongError(self._limit_bytes)
        events: list[Event] = []
        add = events.append
        for block in blocks:
            # Most blocks are one line of data; the others are rare enough to be read field by field.
            if block[:6] == b"data: " and b"\n" not in block:
                add((b"", block[6:]))
            else:
                events += self._read(block)
        return events

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Make every line end in LF. A CR that ends a read ends its line; the LF that may follow it in the next one belongs to it."""
        if self._skips_line_feed and data:
            self._skips_line_feed = False
            data = data.removeprefix(b"\n")
        if data.endswith(b"\r"):
            self._skips_line_feed = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_mark(self, data: bytes) -> bytes:
        """Leave out a byte order mark, which may come in pieces."""
        head = self._rest + data
        if len(head) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(head):
            self._rest = head
            return b""
        self._begun = True
        self._rest = b""
        return head.removeprefix(BYTE_ORDER_MARK)

    def _read(self, block: bytes) -> list[Event]:
        """Read what stands before an empty line, field by field. It may begin with empty lines, but holds none."""
        name = b""
        lines: list[bytes] = []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                lines.append(value)
            elif field == b"event":
                name = value
            elif field == b"id":
                if b"\0" not in value:
                    self.last_id = value
            elif field == b"retry" and value.isdigit():
                self.retry_ms = int(value[:9])
        return [(name, b"\n".join(lines))] if lines else []
