"""What aggregation has come to: plain data, a copy of its own, safe to keep while the stream goes on."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import msgspec

Figures = dict[str, Any]  # {function: {field: number}}, but "count": the number of records


class GroupSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The groups of one grouping, in its order.

    groups: figures by key, the value itself for one field, a tuple for several; None for records that lack the field.
    rejected: records that would have founded a group beyond max_groups.
    """

    group_by: tuple[str, ...]
    level: int
    groups: dict[Hashable, Figures]
    group_count: int
    rejected: int
    max_groups: int | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of a stream at one moment.

    aggregations: {function: {field: number}} over all records, "count": the number of records.
    """

    records: int
    aggregations: Figures
    groupings: tuple[GroupSnapshot, ...]


class GroupingUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch did to one grouping.

    rejected: records of this batch.   limit_reached: whether there were any.
    group_count: exact where limit_reached; otherwise groups that the latest rows may have founded are not in it yet.
    """

    group_by: tuple[str, ...]
    rejected: int
    limit_reached: bool
    group_count: int
    max_groups: int | None


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch did; groupings in the order they were declared."""

    records: int
    groupings: tuple[GroupingUpdate, ...]

    @property
    def rejected(self) -> int:
        """Rejections of this batch in all groupings together: a record can be rejected from several."""
        return sum(grouping.rejected for grouping in self.groupings)


def ordered(groups: Mapping[Hashable, Figures], sort: str) -> dict[Hashable, Figures]:
    """Put groups in order of their keys, None after everything else either way.

    >>> list(ordered({None: {}, 2: {}, 1: {}}, "desc"))
    [2, 1, None]
    """
    if {type(key) for key in groups} in ({str}, {int}):  # nearly always, and ten times as fast
        return {key: groups[key] for key in sorted(groups, reverse=sort == "desc")}  # type: ignore[type-var]
    keys = sorted(groups, key=lambda key: tuple(map(_rank, key)) if isinstance(key, tuple) else _rank(key), reverse=sort == "desc")
    named = [key for key in keys if not _is_missing(key)]
    return {key: groups[key] for key in (*named, *(key for key in keys if _is_missing(key)))}


def _is_missing(key: Hashable) -> bool:
    return key is None


def _rank(value: Any) -> tuple[str, Any]:
    """Make values of any types comparable: numbers among themselves, NaN above them, the rest by type."""
    if value is None:
        return ("~", 0)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return (type(value).__name__, repr(value))
    try:
        if value != value:
            return ("number~", 0)
        hash(value + 0)
    except TypeError:
        return (type(value).__name__, value)
    return ("number", value)
