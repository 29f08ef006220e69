"""Latency: every chunk arrives later, none slower. Fixed, or drawn per chunk between two ends; the order is kept, as TCP keeps it.

A delay line, not a brake: while chunks wait, more are read, up to `hold_bytes` per connection and direction. At that bound the sender
has to wait (back-pressure), so a stream of more than hold_bytes / delay is slowed down; the default carries 1 Gbit/s for 2 s.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import MIB, End, Item, Shaper
from floodmark.faults.wire.spec import LaneFault, ShaperFactory
from floodmark.model import checks

DISTRIBUTIONS = ("uniform", "normal", "pareto")
_SIGMAS = 6.0  # the width of the range in standard deviations: 99.7 % of a normal distribution lies inside
_PARETO_SHAPE = 1.5  # heavy-tailed: finite mean, infinite variance before it is cut off at most_s


class Latency(LaneFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`least_s` alone is a fixed delay; with `most_s` each chunk draws its own between the two.

    `normal` has its mean in the middle and three standard deviations to each end, where it is cut off. `pareto` begins at `least_s` and
    has its tail cut off at `most_s`: mostly short delays, a few very long ones.
    """

    least_s: float
    most_s: float | None = None
    distribution: Literal["uniform", "normal", "pareto"] = "uniform"
    hold_bytes: int = 256 * MIB

    SHORT: ClassVar[str] = "least_s"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.not_negative("fault 'latency': least_s", self.least_s)
        checks.whole("fault 'latency': hold_bytes", self.hold_bytes)
        if self.most_s is not None:
            checks.not_negative("fault 'latency': most_s", self.most_s)
            checks.require(
                self.most_s >= self.least_s,
                f"fault 'latency': most_s must be at least least_s ({self.least_s:g}), got {self.most_s:g}",
            )
        checks.require(
            self.distribution in DISTRIBUTIONS,
            f"fault 'latency': distribution must be one of {', '.join(DISTRIBUTIONS)}, got {self.distribution!r}",
        )
        checks.require(self.distribution != "pareto" or self.least_s > 0, "fault 'latency': a pareto distribution needs a least_s above 0")

    @property
    def inert(self) -> bool:
        return super().inert or not (self.most_s or self.least_s)

    def shapers(self) -> ShaperFactory:
        return lambda _direction, rng, tally: _DelayLine(self, rng, tally)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one delay, in seconds; a fixed one takes nothing from the generator."""
        least_s, most_s = self.least_s, self.most_s
        if most_s is None or most_s == least_s:
            return least_s
        width_s = most_s - least_s
        match self.distribution:
            case "uniform":
                return float(least_s + width_s * rng.random())
            case "normal":
                return float(np.clip(rng.normal(least_s + width_s / 2, width_s / _SIGMAS), least_s, most_s))
            case "pareto":
                # the inverse of the bounded Pareto distribution function
                ratio = (least_s / most_s) ** _PARETO_SHAPE
                return min(most_s, float(least_s * (1 - rng.random() * (1 - ratio)) ** (-1 / _PARETO_SHAPE)))

    @classmethod
    def short(cls, text: str) -> dict[str, float | int | str]:
        least, dots, most = text.partition("..")
        if dots and not (least and most):
            raise UsageError(f"{text!r} is not a range; write it as 50ms..500ms")
        options: dict[str, float | int | str] = {"least_s": units.parse(least, Dimension.TIME, where="least_s")}
        if dots:
            options["most_s"] = units.parse(most, Dimension.TIME, where="most_s")
        return options


class _DelayLine(Shaper):
    """Gives each chunk its delay; none overtakes another."""

    def __init__(self, fault: Latency, rng: np.random.Generator, tally: Tally) -> None:
        self.capacity_bytes = fault.hold_bytes
        self._fault = fault
        self._rng = rng
        self._tally = tally
        self._last_s = 0.0

    def admit(self, item: Item, now_s: float) -> float:
        due_s = now_s + self._fault.draw(self._rng)
        self._last_s = max(self._last_s, due_s)
        self._tally.hit(0 if isinstance(item, End) else len(item))
        return self._last_s
