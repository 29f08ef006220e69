"""Strategies by name; see `base` for what each of them promises."""

from __future__ import annotations

from collections.abc import Callable

from floodmark.systems.fleet.strategy.base import NOBODY, Assignments, DuplicateWorkerError, NoWorkersError, Strategy
from floodmark.systems.fleet.strategy.consistent_hash import ConsistentHash
from floodmark.systems.fleet.strategy.round_robin import RoundRobin
from floodmark.systems.fleet.strategy.weighted import Weighted

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "consistent-hash": ConsistentHash,
    "weighted": Weighted,
    "round-robin": RoundRobin,
}

__all__ = [
    "NOBODY",
    "STRATEGIES",
    "Assignments",
    "ConsistentHash",
    "DuplicateWorkerError",
    "NoWorkersError",
    "RoundRobin",
    "Strategy",
    "Weighted",
]
