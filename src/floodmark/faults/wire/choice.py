"""Which connections a fault hits: exactly the share asked for, chosen by the seed, for those that are there and those to come.

Of the connections that are open when the fault is added, exactly round(share * count) are hit. Those that come later are taken in blocks
of 20 by their number: each block gets its exact part, the remainder carried on, and the seed picks which of the block. So the choice
depends on nothing but seed, fault and connection number, and after any number of whole blocks the count is exact to within one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from floodmark.faults.disconnect import victims

_BLOCK = 20


class Choice:
    """The choice of one fault."""

    def __init__(self, share: float, *, seed: int, fault: int, first_new: int, only: frozenset[int] | None = None) -> None:
        self._share = share
        self._seed = seed
        self._fault = fault
        self._first_new = first_new  # the number of the first connection that comes after the fault
        self._only = only

    def of_present(self, numbers: Sequence[int]) -> frozenset[int]:
        """Choose among the connections that are there; with `only`, those named are the whole."""
        eligible = [number for number in numbers if self._only is None or number in self._only]
        chosen = victims(len(eligible), self._share, seed=self._seed, occasion=self._fault)
        return frozenset(eligible[index] for index in chosen)

    def takes(self, number: int) -> bool:
        """Tell if a connection that came after the fault is hit.

        >>> [Choice(0.25, seed=7, fault=1, first_new=1).takes(number) for number in range(1, 41)].count(True)
        10
        """
        if self._only is not None or self._share == 0:
            return False
        block, place = divmod(number - self._first_new, _BLOCK)
        per_block = self._share * _BLOCK
        count = math.floor((block + 1) * per_block + 0.5) - math.floor(block * per_block + 0.5)
        rng = np.random.default_rng([self._seed, self._fault, block])
        return place in rng.choice(_BLOCK, size=count, replace=False)
