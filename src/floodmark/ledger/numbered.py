"""Text whose every token is known beforehand, read as it comes: which tokens arrived, which are damaged, in which order.

A token of `size` bytes, 5 .. 65,536, plain ASCII: 4 digits of base 36 (lower case) that hold its number modulo 36**4, one check digit,
(7 d0 + 5 d1 + 3 d2 + d3 + stream) mod 36 with d0 the most significant digit, then filler: a space and the alphabet over and over, cut to
length. A system that produces such text has its own implementation, so that no bug is shared with who checks; a test compares the two.

Contract: `Text` is given the pieces of one answer in order, of any length, cut anywhere. What is exactly as expected is compared, not read;
only where it differs is it read token by token. Damage keeps its place: a damaged token stands for the number that was due there. Where
bytes are missing or too many, reading goes on at the next place that makes sense, and what lies before it is one damaged token.

Streams that are equal modulo 36 have the same check digits. So that their tokens differ all the same, whoever asks has each stream count
from a number of its own (`base_of`), far from those of its neighbours and farther from those that are equal to it: a token of another
stream is then damaged, or nowhere near what was due.

Limits: a third digit that is wrong by 12 or 24 passes for another number (no single flipped bit does that). Memory: under three tokens of
rest, and at most `AHEAD_BYTES`, or one token, of expected text for each answer.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger.inbox import Bools, Ints

BASE = 36
WRAP = BASE**4
HEAD_BYTES = 5
SIZE_BYTES_MAX = 65_536
AHEAD_BYTES = 16_384
NEAR_COUNT = 10_000
"""Reading goes on at a token only if it is so near to what was due: at a wrong place a number fits by chance."""
FAR_COUNT = WRAP // 8
"""A token that is so far from what was due does not belong here, and what comes next is not expected to follow it."""
STRIDE_COUNT = 28_835
"""Between the numbers that neighbouring streams begin with. No stream below 36**4 has that of another, since this shares no divisor with
36; and streams that are 36 apart are 0.618 of the circle of numbers apart, which keeps any number of them as far apart as can be."""

_AHEAD_LEAST_BYTES = 512
_READ_BYTES = 1 << 20
_MARK_BYTES = 16
_ALPHABET = b"0123456789abcdefghijklmnopqrstuvwxyz"
_LETTERS = b"abcdefghijklmnopqrstuvwxyz"
_DIGIT: NDArray[np.uint8] = np.frombuffer(_ALPHABET, np.uint8)
_NO_DIGIT = 255
_VALUE: NDArray[np.uint8] = np.full(256, _NO_DIGIT, np.uint8)
_VALUE[_DIGIT] = np.arange(BASE, dtype=np.uint8)
_TENS, _ONES = np.divmod(np.arange(BASE * BASE, dtype=np.int64), BASE)
_PAIR: NDArray[np.uint8] = np.stack([_DIGIT[_TENS], _DIGIT[_ONES]], axis=1)  # two digits of each number below 36**2
_CHECK_HIGH: Ints = (7 * _TENS + 5 * _ONES) % BASE
_CHECK_LOW: Ints = (3 * _TENS + _ONES) % BASE
_NO_SEQS: Ints = np.zeros(0, np.int64)
_NO_BOOLS: Bools = np.zeros(0, np.bool_)


def check_size(size: int) -> None:
    """Raises: UsageError for a size that no token has."""
    if not HEAD_BYTES <= size <= SIZE_BYTES_MAX:
        raise UsageError(f"a numbered token has {HEAD_BYTES} .. {SIZE_BYTES_MAX:,} bytes, got {size:,}")


@functools.lru_cache(maxsize=64)
def _filler(size: int) -> bytes:
    length = size - HEAD_BYTES
    return (b" " + _LETTERS * (length // len(_LETTERS) + 1))[:length]


def base_of(stream: int) -> int:
    """The number that a stream counts from.

    >>> base_of(0), base_of(1), base_of(36)
    (0, 28835, 1038060)
    """
    return stream * STRIDE_COUNT % WRAP


def tokens(stream: int, first: int, count: int, size: int) -> bytes:
    """Write `count` tokens of a stream from the number `first` on.

    >>> tokens(0, 0, 2, 5), tokens(3, 1, 1, 10)
    (b'0000000011', b'00014 abcd')
    """
    check_size(size)
    # HOT: once per 16 KiB of text; the rest is copied from tables.
    high, low = np.divmod(np.arange(first, first + count, dtype=np.int64) % WRAP, BASE * BASE)
    out: NDArray[np.uint8] = np.empty((count, size), np.uint8)
    out[:, 0:2] = _PAIR[high]
    out[:, 2:4] = _PAIR[low]
    out[:, 4] = _DIGIT[(_CHECK_HIGH[high] + _CHECK_LOW[low] + stream) % BASE]
    if size > HEAD_BYTES:
        out[:, HEAD_BYTES:] = np.frombuffer(_filler(size), np.uint8)
    return out.tobytes()


def read(text: bytes, *, stream: int, size: int, expected: int) -> tuple[Ints, Bools]:
    """Read whole tokens, one behind the other.

    Args:
        text: n * size bytes.
        expected: the number due at the first token; each following token is read next to its own.
    Returns: (n,) numbers, that of a damaged head being the one due at its place, and (n,) whether it is what such a token must be.
    """
    check_size(size)
    if len(text) % size:
        raise HarnessBugError(f"{len(text)} bytes are not a whole number of tokens of {size} bytes")
    rows: NDArray[np.uint8] = np.frombuffer(text, np.uint8).reshape(-1, size)
    due = np.arange(expected, expected + len(rows), dtype=np.int64)
    digits = _VALUE[rows[:, :HEAD_BYTES]].astype(np.int64)
    intact: Bools = (digits != _NO_DIGIT).all(axis=1)
    d0, d1, d2, d3, check = digits.T
    intact &= (7 * d0 + 5 * d1 + 3 * d2 + d3 + stream) % BASE == check
    if size > HEAD_BYTES:
        intact &= (rows[:, HEAD_BYTES:] == np.frombuffer(_filler(size), np.uint8)).all(axis=1)
    number = ((d0 * BASE + d1) * BASE + d2) * BASE + d3
    seqs = due + (number - due + WRAP // 2) % WRAP - WRAP // 2
    seqs[seqs < 0] += WRAP
    return np.where(intact, seqs, due), intact


class Text:
    """One answer as it comes. `due_seq` is the number of the token that should come, or end, next, counted from `base`."""

    __slots__ = ("_ahead", "_ahead_bytes", "_at", "_rest", "base", "due_seq", "size", "stream")

    def __init__(self, *, stream: int, first: int, size: int, base: int = 0) -> None:
        check_size(size)
        self.base = base
        self.stream, self.size, self.due_seq = stream, size, first
        self._ahead = b""  # what should come, from the beginning of token `due_seq` on
        self._at = 0  # how much of that has come
        self._ahead_bytes = _AHEAD_LEAST_BYTES
        self._rest: bytes | None = None  # what came of the token under way, once it differed; None: just what was expected

    def follow(self, data: bytes) -> int:
        """Take a piece if it is exactly what should come; gives how many tokens it completes, -1 (and takes nothing) if it differs."""
        # HOT: once per piece.
        if self._rest is not None:
            return -1
        end = self._at + len(data)
        if end > len(self._ahead):
            self._look_ahead(end)
        if not self._ahead.startswith(data, self._at):
            return -1
        completed = end // self.size
        self._at = end
        if completed:
            self.due_seq += completed
            self._at = end - completed * self.size
            self._ahead = self._ahead[completed * self.size :]
        return completed

    def examine(self, data: bytes) -> tuple[Ints, Bools, Ints]:
        """Take a piece that may hold anything.

        Returns: numbers of the tokens completed, whether each is intact, and how many bytes of `data` had come when it was complete.
        """
        before = self._ahead[: self._at] if self._rest is None else self._rest
        text = before + data
        found, taken = self._walk(text, last=False)
        self._settle(text[taken:])
        seqs, intact, ends = found
        return seqs, intact, np.maximum(ends - len(before), 0)

    def finish(self) -> tuple[Ints, Bools]:
        """The answer is over: what is left of it is damaged tokens, or none."""
        if self._rest is None:
            rest = self._ahead[: self._at]
            left = 1 if rest else 0
            seqs = np.arange(self.due_seq, self.due_seq + left, dtype=np.int64)
            self._ahead, self._at = b"", 0
            return seqs, np.zeros(left, np.bool_)
        (seqs, intact, _), taken = self._walk(self._rest, last=True)
        if taken < len(self._rest):
            seqs, intact = np.append(seqs, self.due_seq), np.append(intact, False)
            self.due_seq += 1
        self._rest = b""
        return seqs, intact

    def _look_ahead(self, wanted_bytes: int) -> None:
        self._ahead_bytes = min(2 * self._ahead_bytes, AHEAD_BYTES)
        have = len(self._ahead) // self.size
        missing_bytes = max(self._ahead_bytes, wanted_bytes) - len(self._ahead)
        self._ahead += tokens(self.stream, self.base + self.due_seq + have, -(-missing_bytes // self.size), self.size)

    def _numbers(self, text: bytes) -> tuple[Ints, Bools]:
        """Read whole tokens; one from before the stream's beginning is of no stream that we know, and lies far ahead."""
        seqs, intact = read(text, stream=self.stream, size=self.size, expected=self.base + self.due_seq)
        seqs -= self.base
        seqs[seqs < 0] += WRAP
        return seqs, intact

    def _settle(self, rest: bytes) -> None:
        """Go on comparing where the rest is what should come."""
        self._rest, self._ahead, self._at = rest, b"", 0
        if len(rest) < self.size:
            self._look_ahead(len(rest))
            if self._ahead.startswith(rest):
                self._rest, self._at = None, len(rest)
            else:
                self._ahead = b""

    def _walk(self, text: bytes, *, last: bool) -> tuple[tuple[Ints, Bools, Ints], int]:
        """Read on as far as it can be decided; gives numbers, intact, where each ended, and how many bytes that were in all."""
        size = self.size
        parts: list[tuple[Ints, Bools, Ints]] = []
        at = 0

        def put(seqs: Ints, intact: Bools, ends: Ints) -> None:
            parts.append((seqs, intact, ends))
            last = int(seqs[-1])
            if abs(last - self.due_seq) < FAR_COUNT:
                self.due_seq = last + 1

        while (count := min(len(text) - at, _READ_BYTES) // size or min((len(text) - at) // size, 1)) > 0:
            seqs, intact = self._numbers(text[at : at + count * size])
            good = count if intact.all() else int(np.argmin(intact))
            if good:
                put(seqs[:good], intact[:good], at + size * np.arange(1, good + 1, dtype=np.int64))
                at += good * size
                continue
            bad = count if not intact.any() else int(np.argmax(intact))
            if bad == 1 and count > 1:
                skip, bad = size, 1  # the next one is where it belongs: this one was hit
            else:
                skip = self._next_place(text, at)
                if not skip and not last and len(text) - at < 3 * size:
                    break  # what comes will tell
                bad = 1 if skip else bad
                skip = skip or bad * size
            due = np.arange(self.due_seq, self.due_seq + bad, dtype=np.int64)
            ends = at + (np.array([skip], np.int64) if bad == 1 else size * np.arange(1, bad + 1, dtype=np.int64))
            put(due, np.zeros(bad, np.bool_), ends)
            at += skip
        if not parts:
            return (_NO_SEQS, _NO_BOOLS, _NO_SEQS), at
        seqs, intact, ends = (np.concatenate(column) for column in zip(*parts, strict=True))
        return (seqs, intact, ends), at

    def _next_place(self, text: bytes, at: int) -> int:
        """How far from a damaged token the next one is that makes sense, 0 if none does within two tokens."""
        size = self.size
        mark = _filler(size)[:_MARK_BYTES]
        place = at
        while True:
            place = text.find(mark, place + 1 + HEAD_BYTES, at + 3 * size) - HEAD_BYTES
            if place < at + 1 or place + size > len(text) or place >= at + 2 * size:
                return 0
            seqs, intact = self._numbers(text[place : place + size])
            if intact[0] and abs(int(seqs[0]) - self.due_seq) <= NEAR_COUNT:
                return place - at
