"""Text whose every token is known in advance, so that whoever reads it can say what is missing, twice there or out of place.

A token of `size` bytes (5 <= size <= 65,536, plain ASCII) is 4 digits of base 36 holding its number mod 36**4, 1 check digit that also
depends on the stream, and filler: a space, then the alphabet over and over, cut to length. A prompt asks for it with one line:

    numbered: stream=3 first=0 count=1000 size=10 rate=100000 seed=7

Keys left out have the defaults of `Numbered`; `fail_after`, `hang_after` and `cut_after` break the answer after that many tokens. Here are
the text and its order form, no pace and no I/O. The harness has an implementation of its own, so that no bug is shared with who checks.
"""

from __future__ import annotations

import math
import re

import msgspec
import numpy as np

from floodmark.core.errors import UsageError

BASE = 36
WRAP = BASE**4  # numbers repeat after this many tokens
LEAST_SIZE_BYTES, MOST_SIZE_BYTES = 5, 65_536
MOST_COUNT = 10**12
_DIGITS = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyz", dtype=np.uint8)
_WEIGHTS = (7, 5, 3, 1)  # of the digits in the check, the most significant first
_LETTERS = b"abcdefghijklmnopqrstuvwxyz"
_LINE = re.compile(r"^[ \t]*numbered:(.*)$", re.MULTILINE)
_AHEAD_BYTES = 65_536  # made at once: large enough to spread the cost of a call, small enough for thousands of streams
_AHEAD_TOKENS = 4096
_AHEAD_S = 0.05


class Numbered(msgspec.Struct, frozen=True, kw_only=True):
    """What a prompt asked for. A rate of 0 is as fast as it is taken; -1 is never."""

    stream: int = 0
    first: int = 0
    count: int = 1000
    size: int = 10
    rate: float = 0.0  # tokens per second
    seed: int = 0  # for what is drawn by lot; the text itself does not depend on it
    fail_after: int = -1  # tokens, then an error
    hang_after: int = -1  # tokens, then silence
    cut_after: int = -1  # tokens, then an end without a terminal event

    def __post_init__(self) -> None:
        if not LEAST_SIZE_BYTES <= self.size <= MOST_SIZE_BYTES:
            raise UsageError(f"numbered: size={self.size} is not between {LEAST_SIZE_BYTES} and {MOST_SIZE_BYTES}")
        if not 0 <= self.count <= MOST_COUNT:
            raise UsageError(f"numbered: count={self.count} is not between 0 and {MOST_COUNT}")
        if self.stream < 0 or self.first < 0:
            raise UsageError(f"numbered: stream={self.stream} and first={self.first} must not be negative")
        if not 0 <= self.rate < math.inf:
            raise UsageError(f"numbered: rate={self.rate!r} is neither 0 nor a number of tokens per second")

    @property
    def stop_count(self) -> int:
        """Tokens that come before the answer ends or breaks."""
        return min([self.count, *(after for after in (self.fail_after, self.hang_after, self.cut_after) if after >= 0)])


def asked(prompt: str) -> Numbered | None:
    """Find the order in a prompt; None when there is no such line.

    Raises: UsageError for a line with an unknown key or a value that cannot be.

    >>> asked("Please:\\n numbered: stream=3 count=20")
    Numbered(stream=3, first=0, count=20, size=10, rate=0.0, seed=0, fail_after=-1, hang_after=-1, cut_after=-1)
    >>> asked("Tell me a story")
    """
    match = _LINE.search(prompt)
    if match is None:
        return None
    values: dict[str, float] = {}
    for pair in match[1].split():
        key, equals, value = pair.partition("=")
        if key not in Numbered.__struct_fields__ or not equals:
            raise UsageError(f"numbered: {pair!r} is not KEY=NUMBER with KEY one of {', '.join(Numbered.__struct_fields__)}")
        try:
            values[key] = float(value) if key == "rate" else int(value)
        except ValueError:
            raise UsageError(f"numbered: {pair!r} does not hold a number") from None
    return Numbered(**values)  # type: ignore[arg-type]  # whole numbers but for the rate, as just read


def line(order: Numbered) -> str:
    """Write the line that asks for it; what has its default is left out, except for the five that people look for.

    >>> line(Numbered(stream=3, count=20, cut_after=5))
    'numbered: stream=3 first=0 count=20 size=10 rate=0 cut_after=5'
    """
    shown = [f"stream={order.stream}", f"first={order.first}", f"count={order.count}", f"size={order.size}", f"rate={order.rate:.12g}"]
    shown += [f"seed={order.seed}"] if order.seed else []
    shown += [f"{key}={getattr(order, key)}" for key in ("fail_after", "hang_after", "cut_after") if getattr(order, key) >= 0]
    return "numbered: " + " ".join(shown)


def text_of(stream: int, first: int, count: int, size: int) -> str:
    """The text of `count` tokens from number `first` on, in one piece.

    >>> text_of(0, 0, 2, 5), text_of(0, 1, 1, 10)
    ('0000000011', '00011 abcd')
    """
    out = np.empty((count, size), dtype=np.uint8)
    rest = np.arange(first, first + count, dtype=np.int64) % WRAP
    check = np.full(count, stream, dtype=np.int64)
    for column in (3, 2, 1, 0):
        rest, digit = np.divmod(rest, BASE)
        out[:, column] = _DIGITS[digit]
        check += _WEIGHTS[column] * digit
    out[:, 4] = _DIGITS[check % BASE]
    if size > LEAST_SIZE_BYTES:
        out[:, LEAST_SIZE_BYTES:] = _filler(size - LEAST_SIZE_BYTES)
    return out.tobytes().decode("ascii")


def _filler(length: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer((b" " + _LETTERS * (length // len(_LETTERS) + 1))[:length], dtype=np.uint8)


class Source:
    """The text of one order, taken piece by piece; holds at most 64 KiB that nobody has taken yet, less for a slow one."""

    __slots__ = ("_ahead_count", "_at", "_made", "_order", "_text", "taken_count")

    def __init__(self, order: Numbered) -> None:
        self._order = order
        most = min(_AHEAD_TOKENS, max(1, _AHEAD_BYTES // order.size))
        self._ahead_count = max(1, min(most, int(order.rate * _AHEAD_S))) if order.rate else most
        self.taken_count = 0
        self._made = 0
        self._text = ""
        self._at = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of each token."""
        return self._order.size

    @property
    def left_count(self) -> int:
        """Tokens until the answer ends or breaks."""
        return self._order.stop_count - self.taken_count

    def texts(self, count: int, group: int = 1) -> list[str]:
        """HOT: the next `count` tokens, `group` of them to a string; what is over makes a shorter last one."""
        size = self._order.size
        length = min(count, self.left_count) * size
        text = self._next(length)
        step = size * group
        return [text[at : at + step] for at in range(0, length, step)]

    def count_of(self, piece: str) -> int:
        """Tokens in a string that came from here."""
        return len(piece) // self._order.size

    def _next(self, length: int) -> str:
        """The next characters, a whole number of tokens."""
        size = self._order.size
        self.taken_count += length // size
        missing = length - (len(self._text) - self._at)
        if missing > 0:
            made = min(max(missing // size, self._ahead_count), self._order.stop_count - self._made)
            fresh = text_of(self._order.stream, self._order.first + self._made, made, size)
            self._made += made
            self._text, self._at = (self._text[self._at :] + fresh if self._at < len(self._text) else fresh), 0
        start = self._at
        self._at += length
        return self._text[start : self._at]
