"""Independent arrivals: exponential gaps with the mean 1 / rate, fixed by the seed of the run.

Gaps are drawn in blocks of 4,096, each from its own generator seeded with (seed, block number), so any block can be drawn again
at any time. Kept in memory: the start of each block seen so far (8 bytes per 4,096 messages) and the last two blocks. A jump far
ahead draws every block on the way once (about 40 us each). As in the textbook process, message 0 comes after a gap, not at offset 0.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict

import numpy as np

from floodmark.load.arrivals.schedule import FAR_NS, NS_PER_S, Offsets, per_ns
from floodmark.model.arrival import Poisson

BLOCK_COUNT = 4096
_CACHED_BLOCKS = 2


class PoissonSchedule:
    """The same seed gives the same times, another seed others."""

    def __init__(self, arrival: Poisson, *, duration_s: float | None = None, seed: int = 0) -> None:
        per_ns(arrival.rate_hz, setting="poisson.rate_hz")
        self._mean_ns = NS_PER_S / arrival.rate_hz
        self._seed = abs(seed) * 2 + (seed < 0)  # a SeedSequence takes no negative numbers
        self._starts = array("q", [0])  # the last offset of the block before; as many as blocks drawn, plus one
        self._cache: OrderedDict[int, Offsets] = OrderedDict()

    def due(self, elapsed_ns: int) -> int:
        """Count the messages intended at or before `elapsed_ns`."""
        if elapsed_ns < 0:
            return 0
        while self._starts[-1] <= elapsed_ns < FAR_NS:
            self._block(len(self._starts) - 1)
        number = bisect_right(self._starts, elapsed_ns) - 1
        return number * BLOCK_COUNT + int(np.searchsorted(self._block(number), elapsed_ns, side="right"))

    def times_ns(self, start: int, stop: int) -> Offsets:
        """Return the intended offsets of messages `start` to `stop` - 1."""
        if start >= stop:
            return np.empty(0, dtype=np.int64)
        first, last = start // BLOCK_COUNT, (stop - 1) // BLOCK_COUNT
        while len(self._starts) <= first:
            self._block(len(self._starts) - 1)
        blocks = [self._block(number) for number in range(first, last + 1)]
        whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return whole[start - first * BLOCK_COUNT : stop - first * BLOCK_COUNT].copy()

    def _block(self, number: int) -> Offsets:
        """Draw a block whose start is known; learn the start of the next."""
        found = self._cache.get(number)
        if found is not None:
            return found
        gaps = np.random.default_rng((self._seed, number)).standard_exponential(BLOCK_COUNT)
        # Only the sums are rounded, never the gaps: the error stays below a nanosecond per block instead of growing per message.
        sums = np.minimum(np.rint(np.cumsum(gaps) * self._mean_ns), float(FAR_NS - self._starts[number]))
        block: Offsets = sums.astype(np.int64) + self._starts[number]
        if len(self._starts) == number + 1:
            self._starts.append(int(block[-1]))
        self._cache[number] = block
        if len(self._cache) > _CACHED_BLOCKS:
            self._cache.popitem(last=False)
        return block
