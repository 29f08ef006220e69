"""Subscription churn: again and again a share of the subscribers ends its subscriptions and opens new ones.

In `failure_ratio` of the cases the connection is dropped instead of being unsubscribed, which the target has to clean up by itself.
Every new subscription has a window of its own in the ledger.
"""

from __future__ import annotations

import msgspec
import numpy as np

from floodmark.core.errors import UsageError


class Churn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`failure_ratio` of the churned connections fail instead of leaving cleanly, exactly, chosen by the seed."""

    failure_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.failure_ratio <= 1:
            raise UsageError(f"fault 'churn': failure_ratio must be between 0 and 1, got {self.failure_ratio!r}")


def failing(churned: set[int], ratio: float, *, seed: int, occasion: int) -> set[int]:
    """Choose which of the churned connections fail: over many occasions exactly the ratio, rounded once per running total.

    >>> sum(len(failing({3}, 0.1, seed=7, occasion=n)) for n in range(100))
    10
    """
    before = round(ratio * len(churned) * occasion)
    count = round(ratio * len(churned) * (occasion + 1)) - before
    rng = np.random.default_rng([seed, occasion, 1])
    return set(rng.choice(sorted(churned), size=count, replace=False).tolist()) if count else set()
