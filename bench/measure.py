"""Run contenders in turns and make figures of what they measured: medians, spreads, ratios.

A contender is a callable that measures once and gives a number, or raises BenchError when there is none to be had. A contender that
failed in any round has no figure: a median over the rounds that happened to work would hide that it does not.
Pure but for calling the contenders: no clock, no I/O.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from typing import Literal

from bench.processes import BenchError

Better = Literal["higher", "lower"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One measurement that passed its check."""

    value: float
    check: str  # what was verified, in words


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """All readings of one contender, in the order of the rounds; none of them counts when `failure` is set."""

    contender: str
    readings: tuple[Reading, ...] = ()
    failure: str = ""

    @property
    def median(self) -> float:
        return statistics.median(reading.value for reading in self.readings)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest reading."""
        values = [reading.value for reading in self.readings]
        return min(values), max(values)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One benchmark's figures; the first one is the yardstick of the ratios."""

    title: str
    unit: str
    better: Better
    figures: tuple[Figure, ...]

    def ratio(self, figure: Figure) -> float | None:
        """How many times better the yardstick is than this one (above 1: the yardstick wins); the median of the rounds' ratios."""
        ours = self.figures[0]
        if ours.failure or figure.failure or figure is ours:
            return None
        pairs = zip(ours.readings, figure.readings, strict=True)
        ratios = [a.value / b.value if self.better == "higher" else b.value / a.value for a, b in pairs]
        return statistics.median(ratios)


def rate(count: int, spent_s: float) -> float:
    """Give count per CPU-second; BenchError when no clock tick was spent, which is no measurement."""
    if spent_s <= 0:
        raise BenchError(f"too little work to be measured: {count:,} took less than a clock tick")
    return count / spent_s


def take_turns(
    contenders: Mapping[str, Callable[[], Reading]], *, rounds: int, progress: Callable[[str, int, str], None]
) -> tuple[Figure, ...]:
    """Measure every contender once per round, in order, for `rounds` rounds.

    Args:
        contenders: by name; the first is the yardstick.
        rounds: at least 1.
        progress: told (contender, round from 1, what came out) after each measurement.
    """
    readings: dict[str, list[Reading]] = {name: [] for name in contenders}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name, measure in contenders.items():
            if name in failures:
                continue
            try:
                reading = measure()
            except BenchError as exc:
                failures[name] = str(exc)
                progress(name, number, f"no figure: {exc}")
            else:
                readings[name].append(reading)
                progress(name, number, f"{reading.value:,.4g} ({reading.check})")
    return tuple(
        Figure(contender=name, failure=failures[name]) if name in failures else Figure(contender=name, readings=tuple(readings[name]))
        for name in contenders
    )
