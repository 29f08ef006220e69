"""What a lying hub does wrong, and where: a pure function of the seed and the specification.

Deliveries, publishes, resumes and connections that broke off are numbered from 1. `NAME=K/N` hits exactly K of every N in a row, `NAME=K@N`
exactly K of the first N; which ones is drawn from the seed. Acting on it is the part of `liar.py` (what is sent) and `misconduct.py` (what
is done about clients that break off and come back). The point of a liar is to prove that the ledger catches it, to the number.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator

import msgspec

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.systems.hub.event import json_equal

OF_DELIVERIES = ("drop", "duplicate", "reorder", "flip", "misroute")
OF_PUBLISHES = ("forget",)
OF_RESUMES = ("skip", "again")
OF_BREAKS = ("drift",)  # connections that ended without a close frame
COUNTED = (*OF_DELIVERIES, *OF_PUBLISHES, *OF_RESUMES, *OF_BREAKS)
GRAMMAR = (
    f"a lie is NAME=K/N or NAME=K@N with NAME one of {', '.join(COUNTED)} and 1 <= K <= N; "
    + "or stall=2s@N, stall=forever@N, leak=BYTES, stats=FACTOR, queue=unbounded, down=K@N, slow=FACTOR@N"
)
_COUNTED = re.compile(r"(\d+)([/@])(\d+)")
_FACTOR = re.compile(r"\d+(\.\d+)?")


class Lie(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the specification."""

    name: str
    hits: int = 0  # K
    block: int = 1  # N
    repeats: bool = False  # K/N: every block; K@N: the first only
    stall_s: float = 0.0  # inf: for ever
    at: int = 0  # the delivery, or the break, from which on it holds
    leak_bytes: int = 0
    factor: float = 1.0


def parse_lie(text: str) -> Lie:
    """Read one lie.

    Raises: UsageError that quotes the text and gives the grammar.

    >>> parse_lie("drop=1/1000").block
    1000
    """
    name, equals, value = text.partition("=")
    lie = _counted(name, value) if name in COUNTED else _once(name, value)
    if lie is None:
        raise UsageError(f"{text!r} is not a lie{'' if equals else ' (there is no =)'}: {GRAMMAR}")
    return lie


def _counted(name: str, value: str) -> Lie | None:
    match = _COUNTED.fullmatch(value)
    if match is None or not 1 <= int(match[1]) <= int(match[3]):
        return None
    return Lie(name=name, hits=int(match[1]), block=int(match[3]), repeats=match[2] == "/")


def _once(name: str, value: str) -> Lie | None:
    """The lies that are not drawn by lot: they hold all the time, or from a number on."""
    what, _, at = value.partition("@")
    since = int(at) if at.isdecimal() else 0
    match name:
        case "stall" if since:
            stall_s = _seconds(what)
            return Lie(name=name, stall_s=stall_s, at=since) if stall_s is not None else None
        case "leak" if value.isdecimal() and int(value):
            return Lie(name=name, leak_bytes=int(value))
        case "stats" if _FACTOR.fullmatch(value):
            return Lie(name=name, factor=float(value))
        case "queue" if value == "unbounded":
            return Lie(name=name)
        case "down" if what.isdecimal() and 1 <= int(what) <= since:
            return Lie(name=name, hits=int(what), at=since)
        case "slow" if since and _FACTOR.fullmatch(what) and float(what) > 1:
            return Lie(name=name, factor=float(what), at=since)
    return None


def _seconds(text: str) -> float | None:
    if text == "forever":
        return math.inf
    try:
        return units.parse(text, units.Dimension.TIME)
    except UsageError:
        return None


def places(lie: Lie, seed: int) -> Iterator[int]:
    """Give the numbers that a counted lie hits, rising; endless for K/N."""
    start = 1
    while True:
        rng = random.Random(f"{seed}:{lie.name}:{lie.hits}:{lie.block}:{start}")
        for offset in sorted(rng.sample(range(lie.block), lie.hits)):
            yield start + offset
        if not lie.repeats:
            return
        start += lie.block


class Due:
    """Follows one counted lie: how many hits are owed at a number.

    A hit that cannot be carried out where it falls (nothing to swap with, nobody to misroute to) stays owed and is paid at the next
    number where it can: the count stays exact.
    """

    __slots__ = ("_next", "_places", "owed", "planted")

    def __init__(self, lie: Lie, seed: int) -> None:
        self._places = places(lie, seed)
        self._next = next(self._places, 0)
        self.owed = 0
        self.planted = 0

    def reach(self, number: int) -> bool:
        """Move on to a number, each of which must be reached; tell if a hit is owed there."""
        if number == self._next:
            self.owed += 1
            self._next = next(self._places, 0)
        return self.owed > 0

    def paid(self) -> None:
        """A hit was carried out."""
        self.owed -= 1
        self.planted += 1


def flip_bit(data: bytes) -> bytes | None:
    """Flip one bit inside an alphanumeric character of a JSON text so that it stays one, the text stays JSON and its value changes.

    Looks in the last quarter first, from its end backwards, then in the rest. None if there is no such place.

    >>> flip_bit(b'{"a":"xyz"}')
    b'{"a":"xyx"}'
    """
    last_quarter = len(data) - max(1, len(data) // 4)
    for index in (*range(len(data) - 1, last_quarter - 1, -1), *range(last_quarter - 1, -1, -1)):
        byte = data[index]
        if not (byte < 128 and chr(byte).isalnum()):
            continue
        for bit in (1, 2, 4, 8, 16):
            other = byte ^ bit
            if other < 128 and chr(other).isalnum():
                changed = data[:index] + bytes((other,)) + data[index + 1 :]
                if json_equal(data, changed) is False:
                    return changed
    return None
