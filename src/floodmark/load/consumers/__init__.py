"""Consumer profiles: how a subscriber connection reads. One profile per file; `CONSUMERS` is the whole list.

The parameters are in `model.scenario`. Pure: the caller asks, and pauses or resumes its socket by the answer. Time counts from the start
of the first measured phase; before it, and in the drain, every connection reads, whatever its profile.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from floodmark.load.consumers import bursty, fast, slow, stuck
from floodmark.model.scenario import Bursty, Consumer, Fast, Slow, Stuck

__all__ = ["CONSUMERS", "selected", "wants_to_read"]

CONSUMERS: dict[type[msgspec.Struct], Callable[..., bool]] = {
    Fast: fast.wants_to_read,
    Slow: slow.wants_to_read,
    Bursty: bursty.wants_to_read,
    Stuck: stuck.wants_to_read,
}


def wants_to_read(consumer: Consumer, *, elapsed_ns: int, received_bytes: int) -> bool:
    """Tell whether a connection should be reading now.

    Args:
        elapsed_ns: since the start of the first measured phase; negative before it.
        received_bytes: on this connection since that start.
    """
    return elapsed_ns < 0 or CONSUMERS[type(consumer)](consumer, elapsed_ns=elapsed_ns, received_bytes=received_bytes)


def selected(connections: int, ratio: float, seed: int) -> npt.NDArray[np.int64]:
    """Choose the connections that have the profile; the others are fast.

    Returns: round(ratio * connections) different connection numbers, ascending, the same for the same seed.

    >>> len(selected(10, 0.25, seed=1)), len(selected(10, 1.0, seed=1))
    (2, 10)
    """
    generator = np.random.default_rng((abs(seed) * 2 + (seed < 0), connections))
    return np.sort(generator.permutation(connections)[: round(ratio * connections)]).astype(np.int64)
