"""Whose turn it is to send: the round of sources that a phase repeats from its first message to its last.

Message i belongs to the source at place i modulo the round's length. Equal shares make a round in which each source stands once, in order.
With unequal ones a source stands in it as often as its share says, spread evenly: after any part of a round each source has sent what its
share of that part is, to within a message or two of its own. After whole rounds the numbers are exact. Pure: no randomness, so every agent
works out the same round by itself. Memory: 8 bytes a place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def turns(sources: int, shares: Sequence[int] = ()) -> npt.NDArray[np.int64]:
    """Deal one round.

    Args:
        sources: how many there are.
        shares: relative weights, at least 1, given to the sources in turn; none: all the same.
    Returns: (n,) the source of each place; n is the sum of the sources' weights in lowest terms.

    >>> turns(3).tolist(), turns(3, [10, 20, 20]).tolist()
    ([0, 1, 2], [1, 2, 0, 1, 2])
    """
    if not shares:
        return np.arange(sources, dtype=np.int64)
    weights = np.resize(np.array(shares, dtype=np.int64), sources)
    weights //= math.gcd(*weights.tolist())
    source = np.repeat(np.arange(sources, dtype=np.int64), weights)
    first = np.repeat(np.cumsum(weights) - weights, weights)
    # Turn j of a source of weight w is due at (2j + 1) / 2w of the round: in the middle of its own stretch.
    due = (2 * (np.arange(len(source), dtype=np.int64) - first) + 1) / (2 * weights[source])
    order: npt.NDArray[np.int64] = np.argsort(due, kind="stable")
    dealt: npt.NDArray[np.int64] = source[order]
    return dealt
