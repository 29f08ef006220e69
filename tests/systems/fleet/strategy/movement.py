"""Counts what moved between two assignments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from floodmark.systems.fleet.partition import Partition


def moved_count(before: Mapping[str, Sequence[Partition]], after: Mapping[str, Sequence[Partition]]) -> int:
    """Partitions that have another worker than before, or had none."""
    owner = {partition.keys: worker for worker, theirs in before.items() for partition in theirs}
    return sum(owner.get(partition.keys) != worker for worker, theirs in after.items() for partition in theirs)


def fleet(count: int) -> list[str]:
    return [f"worker-{number}" for number in range(count)]


def parts(count: int) -> list[Partition]:
    return [Partition(keys=(f"p{number}",)) for number in range(count)]
