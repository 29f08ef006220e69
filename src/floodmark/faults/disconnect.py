"""Mass disconnect: a share of the connections is dropped in the same instant and comes back.

With `resume` each subscription asks for what it missed; without it, a returned subscription starts anew and what was published meanwhile
is not required of the target. `abrupt` drops the socket as a crashed client does; otherwise the closing handshake is kept.
"""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet

import numpy as np

from floodmark.core.errors import UsageError
from floodmark.faults.backoff import Backoff


class Disconnect(Backoff, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`back_after_s` is how long the victims stay away; `spread_s` spreads their return evenly; `backoff_*` space out further tries."""

    resume: bool = True
    abrupt: bool = True
    back_after_s: float = 0.0
    spread_s: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("back_after_s", "spread_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"fault 'disconnect': {name} must be finite and >= 0, got {value!r}")


def victims(connections: int, ratio: float, *, seed: int, occasion: int, gone: AbstractSet[int] = frozenset()) -> set[int]:
    """Choose exactly round(ratio * connections) connections by the seed, as far as so many are not gone; another occasion hits others.

    >>> victims(10, 0.3, seed=1, occasion=0) == victims(10, 0.3, seed=1, occasion=0)
    True
    >>> len(victims(10, 0.3, seed=1, occasion=0))
    3
    """
    count = round(ratio * connections)
    if not count:
        return set()
    rng = np.random.default_rng([seed, occasion])
    if not gone:
        return set(rng.choice(connections, size=count, replace=False).tolist())
    left = [number for number in range(connections) if number not in gone]
    return set(rng.choice(left, size=min(count, len(left)), replace=False).tolist()) if left else set()
