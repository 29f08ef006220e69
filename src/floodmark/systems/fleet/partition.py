"""Partitions, the units of work that a fleet shares, and where the list of them comes from.

A partition is named by its keys; the name of its subject joins them with ".", its id joins them with "-". Contract of a source: it is asked
whenever the leader computes an assignment, and what it returns is the caller's to keep: a source copies in and copies out.
Not here: who gets which partition (strategy/). Limits: a key is one word of a NATS subject, so it has no blank, ".", "*" or ">".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

import msgspec

from floodmark.core.errors import UsageError

DEFAULT_WEIGHT = 100
_KEY = re.compile(r"[^\s.*>\x00-\x1f\x7f]+")


class PartitionError(UsageError):
    """A partition, or a list of them, that no fleet could share."""


class Partition(msgspec.Struct, frozen=True, kw_only=True, gc=False, order=True):
    """One unit of work; equal partitions have equal keys and weight.

    >>> Partition(keys=("orders", "17")).subject_key, Partition(keys=("orders", "17")).id
    ('orders.17', 'orders-17')
    """

    keys: tuple[str, ...]
    weight: int = DEFAULT_WEIGHT  # how heavy the work is beside that of other partitions; 0: not known, counted as 1

    def __post_init__(self) -> None:
        if not self.keys:
            raise PartitionError("a partition needs at least one key")
        for key in self.keys:
            if _KEY.fullmatch(key) is None:
                raise PartitionError(
                    f'the key {key!r} is not one word of a subject: it must not be empty, nor have a blank, ".", "*" or ">"'
                )
        if self.weight < 0:
            raise PartitionError(f"the weight of {self.id} must be 0 or more, got {self.weight}")

    @property
    def subject_key(self) -> str:
        """What a template of subjects puts in for this partition."""
        return ".".join(self.keys)

    @property
    def id(self) -> str:
        """The name for people; two partitions with different keys may share it, as ("a-b",) and ("a", "b") do."""
        return "-".join(self.keys)


def unique(partitions: Iterable[Partition]) -> list[Partition]:
    """Copy the list.

    Raises: PartitionError when two have the same keys, whatever their weights.
    """
    copied = list(partitions)
    if len({partition.keys for partition in copied}) != len(copied):
        seen: set[tuple[str, ...]] = set()
        for partition in copied:
            if partition.keys in seen:
                raise PartitionError(f"the partition {partition.id} is listed twice")
            seen.add(partition.keys)
    return copied


class Source(Protocol):
    """Anything that can list the partitions."""

    async def list_partitions(self) -> list[Partition]:
        """List all partitions that there are now; an empty list is an answer, too."""
        ...


class StaticSource:
    """A list that changes only when `update` replaces it."""

    def __init__(self, partitions: Iterable[Partition] = ()) -> None:
        self._partitions = tuple(unique(partitions))

    async def list_partitions(self) -> list[Partition]:
        """List what was last given; the list is the caller's own."""
        return list(self._partitions)

    def update(self, partitions: Iterable[Partition]) -> None:
        """Replace the whole list.

        Raises: PartitionError when two have the same keys; the old list stays then.
        """
        self._partitions = tuple(unique(partitions))
