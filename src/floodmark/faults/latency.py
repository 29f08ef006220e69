"""Latency in the client: chosen operations happen later, none is slowed down. Fixed, or drawn from a distribution.

A delay line, not a brake: while one operation waits, others go on, and the order of each publisher's messages and of each subscription's
deliveries is kept. The delay is the client's own: a delayed publish was meant to go out later, a delayed delivery keeps the time at which
it arrived, so neither the generator's lag nor the target's latencies contain it. Latency that the target is to be judged under belongs
on the wire (docs/proxy.md). Pure: the agent does the waiting.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np

from floodmark.core.errors import UsageError

_SIGMAS = 6.0  # least_s .. most_s is six standard deviations wide: 99.7 % of a normal distribution lie inside
_PARETO_SHAPE = 1.5  # heavy tail: finite mean, infinite variance but for the cut at most_s
_BLOCK_COUNT = 1024


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`on` says which operations wait: `publish`, `subscribe` or `receive`. `least_s` alone is a fixed delay.

    With `most_s` each operation draws its own between the two: `uniform`; `normal` around the middle, cut off at both ends; `pareto`, which
    is mostly close to `least_s` with a tail up to `most_s`. The fault's `ratio` is the share of the operations that wait at all.
    """

    on: Literal["publish", "subscribe", "receive"] = "publish"
    least_s: float = 0.0
    most_s: float | None = None
    distribution: Literal["uniform", "normal", "pareto"] = "uniform"

    def __post_init__(self) -> None:
        for name in ("least_s", "most_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"fault 'latency': {name} must be finite and >= 0, got {value!r}")
        if self.most_s is not None and self.most_s < self.least_s:
            raise UsageError(f"fault 'latency': most_s must be at least least_s ({self.least_s:g}), got {self.most_s:g}")
        if self.distribution == "pareto" and self.most_s is not None and self.least_s == 0:
            raise UsageError("fault 'latency': a pareto distribution needs a least_s above 0")

    @property
    def inert(self) -> bool:
        """Whether it delays nothing whatever happens."""
        return not (self.most_s or self.least_s)

    def draw_ns(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw `count` delays in nanoseconds, each between least_s and most_s."""
        least_s, most_s = self.least_s, self.most_s
        if most_s is None or most_s == least_s:
            return np.full(count, round(least_s * 1e9), np.int64)
        width_s = most_s - least_s
        match self.distribution:
            case "uniform":
                delays_s = least_s + width_s * rng.random(count)
            case "normal":
                delays_s = np.clip(rng.normal(least_s + width_s / 2, width_s / _SIGMAS, count), least_s, most_s)
            case "pareto":  # the inverse of the bounded Pareto distribution function
                tail = 1 - (least_s / most_s) ** _PARETO_SHAPE
                delays_s = np.minimum(most_s, least_s * (1 - rng.random(count) * tail) ** (-1 / _PARETO_SHAPE))
        return np.round(delays_s * 1e9).astype(np.int64)


class Delays:
    """One latency fault in place: gives each operation its delay, and counts those that got one.

    >>> delays = Delays(Latency(least_s=0.001), ratio=1.0, seed=(7,))
    >>> delays.draw_ns(), delays.hits
    (1000000, 1)
    """

    def __init__(self, fault: Latency, *, ratio: float, seed: tuple[int, ...]) -> None:
        self._fault = fault
        self._ratio = ratio
        self._rng = np.random.default_rng(seed)
        self._drawn: list[int] = []
        self.hits = 0

    def draw_ns(self) -> int:
        """Draw the delay of the next operation; 0 for one that the ratio leaves out."""
        # HOT: once per operation under the fault.
        if not self._ratio:
            return 0
        if not self._drawn:
            delays_ns = self._fault.draw_ns(self._rng, _BLOCK_COUNT)
            if self._ratio < 1.0:
                delays_ns = np.where(self._rng.random(_BLOCK_COUNT) < self._ratio, delays_ns, 0)
            self._drawn = delays_ns.tolist()
        delay_ns = self._drawn.pop()
        self.hits += delay_ns > 0
        return delay_ns
