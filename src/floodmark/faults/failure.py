"""Failure in the client: chosen operations fail before anything is sent, at a rate or an exact number of times.

A publish that fails is journalled as dropped by us: nobody has to deliver it, and it is never the target's loss. A subscribe that fails
leaves the client without that connection until its next try. Pure: decided by the seed and by the operation's number alone, so that all
agents together fail exactly what was asked for.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from floodmark.core.errors import UsageError

_BLOCK_COUNT = 4096


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`on` says which operations fail: `publish` or `subscribe`. The fault's `ratio` is the rate, each operation by chance.

    With `of`, exactly `count` of every `of` operations fail, whichever the seed chooses; `ratio` is 1 then, or 0 to switch it off.
    """

    on: Literal["publish", "subscribe"] = "publish"
    count: int = 0
    of: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.of <= 10_000_000:
            raise UsageError(f"fault 'failure': of must be a whole number from 0 to 10,000,000, got {self.of!r}")
        if not 0 <= self.count <= self.of:
            raise UsageError(f"fault 'failure': count must be from 0 to of ({self.of}), got {self.count!r}")

    def check_ratio(self, ratio: float) -> None:
        """Refuse a rate beside an exact count. Raises: UsageError."""
        if self.of and ratio not in (0.0, 1.0):
            raise UsageError(f"fault 'failure': count and of say exactly how many fail; leave ratio out, got {ratio!r}")


class Failing:
    """One failure fault in place: says which operations fail, and counts them.

    Operations of `lanes` (publishers, or connections) are numbered in turn: the k-th of lane i is number k * lanes + i.

    >>> failing = Failing(Failure(count=2, of=10), ratio=1.0, seed=(7,), lanes=5)
    >>> sum(failing.fails(lane) for _ in range(2) for lane in range(5)), failing.hits
    (2, 2)
    """

    def __init__(self, fault: Failure, *, ratio: float, seed: tuple[int, ...], lanes: int) -> None:
        self._fault = fault
        self._ratio = ratio
        self._seed = seed
        self._lanes = lanes
        self._seen: dict[int, int] = {}
        self._block = -1
        self._chosen: np.ndarray = np.zeros(0, np.bool_)
        self.hits = 0

    def fails(self, lane: int) -> bool:
        """Decide on the next operation of a lane."""
        # HOT: once per operation under the fault.
        turn = self._seen.get(lane, 0)
        self._seen[lane] = turn + 1
        block, place = divmod(turn * self._lanes + lane, self._fault.of or _BLOCK_COUNT)
        if block != self._block:
            self._block, self._chosen = block, self._choose(block)
        fails = bool(self._chosen[place])
        self.hits += fails
        return fails

    def _choose(self, block: int) -> np.ndarray:
        """Which operations of a block fail: any agent that asks gets the same answer."""
        chosen = np.zeros(self._fault.of or _BLOCK_COUNT, np.bool_)
        if not self._ratio or (self._fault.of and not self._fault.count):
            return chosen  # without a draw
        rng = np.random.default_rng((*self._seed, block))
        if not self._fault.of:
            return rng.random(_BLOCK_COUNT) < self._ratio
        chosen[rng.choice(self._fault.of, size=self._fault.count, replace=False)] = True
        return chosen
