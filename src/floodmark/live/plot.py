"""Curves as text: each cell of the screen holds two by four dots of a Braille character.

Input: traces and a size in cells. Output: rows of cells, each a character and the number of the curve it belongs to. Where two curves share
a cell, it has the dots of both and belongs to the one that was named first. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from floodmark.live.trace import Trace

BLANK = "\u2800"
NOBODY = -1
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column and row of a cell, the upper row first


class Cell(NamedTuple):
    """A character and the curve that it belongs to; NOBODY's is blank."""

    character: str
    curve: int


def round_up(value: float) -> float:
    """The next number that reads well on an axis: 1, 1.5, 2, 3, 4, 5, 6 or 8 times a power of ten.

    >>> round_up(498.0), round_up(0.0), round_up(1010.0), round_up(6.1)
    (500.0, 1.0, 1500.0, 8.0)
    """
    if not 0 < value < math.inf:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0) if step * power >= value * 0.999)


def draw(traces: Sequence[Trace], *, columns: int, rows: int, until_s: float, top: float) -> list[list[Cell]]:
    """Draw traces from 0 to `until_s` and from 0 to `top`; the first row is the uppermost."""
    width, height = columns * 2, rows * 4
    masks = [_mask(trace, width, height, until_s, top) for trace in traces]
    drawn: list[list[Cell]] = []
    for row in range(rows):
        line: list[Cell] = []
        for column in range(columns):
            bits, owner = 0, NOBODY
            for number, mask in enumerate(masks):
                here = mask[row * columns + column]
                if here and owner == NOBODY:
                    owner = number
                bits |= here
            line.append(Cell(chr(0x2800 | bits), owner))
        drawn.append(line)
    return drawn


def _mask(trace: Trace, width: int, height: int, until_s: float, top: float) -> bytearray:
    """The dots of one curve, cell by cell, row by row."""
    columns = width // 2
    mask = bytearray(columns * (height // 4))
    spans = _spans(trace, width, height, until_s, top)
    for x, span in enumerate(spans):
        if span is None:
            continue
        for y in range(span[0], span[1] + 1):
            down = height - 1 - y
            mask[(down // 4) * columns + x // 2] |= _DOTS[x % 2][down % 4]
    return mask


def _spans(trace: Trace, width: int, height: int, until_s: float, top: float) -> list[tuple[int, int] | None]:
    """The lowest and the highest dot of each column of dots; None before the first value and after the last."""
    spans: list[tuple[int, int] | None] = [None] * width
    if not len(trace) or until_s <= 0 or top <= 0:
        return spans
    scale_x = (width - 1) / until_s
    before: tuple[int, int] | None = None  # column and dot of the last value
    for point in trace:
        x = min(max(round(point.t_s * scale_x), 0), width - 1)
        low, high, last = (round(min(max(value / top, 0.0), 1.0) * (height - 1)) for value in (point.lowest, point.highest, point.last))
        if before is not None:
            for between in range(before[0] + 1, x):  # until there is news, the last value holds
                spans[between] = _widened(spans[between], before[1], before[1])
            low, high = min(low, before[1]), max(high, before[1])
        spans[x] = _widened(spans[x], low, high)
        before = x, last
    return spans


def _widened(span: tuple[int, int] | None, low: int, high: int) -> tuple[int, int]:
    return (low, high) if span is None else (min(span[0], low), max(span[1], high))
