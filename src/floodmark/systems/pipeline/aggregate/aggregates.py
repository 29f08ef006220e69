"""Aggregate a stream batch by batch: totals over everything, and any number of groupings with their limits.

    aggregates = Aggregates(["sum", "count"], [Grouping(group_by=("territory",), aggregations=("avg",))])
    for frame in frames:
        update = aggregates.update(frame)     # who was rejected in this batch
    aggregates.snapshot()                     # every figure, exact as of the last update

- Figures do not depend on how the records were split into batches, nor on the order of merging: they are exact, see exact.py.
- `count` counts records; `avg` divides by the numbers that there were: None, a missing field and NaN are no zeros, a zero is one.
- `running_total` is the sum as of the last batch; a field appears once it has had a number.
- A rejected record is rejected from its grouping alone; it stays in the other groupings, the totals and the stream.

Cost: about 0.1 us per record over 1,000 groups. Memory: about 600 bytes per group, and the columns looked at of up to 65,536 records
that wait to be folded. Not thread-safe. Not here: telemetry, and the records themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from floodmark.systems.pipeline.aggregate.config import Grouping, checked_functions
from floodmark.systems.pipeline.aggregate.groups import Groups
from floodmark.systems.pipeline.aggregate.projection import Projection
from floodmark.systems.pipeline.aggregate.records import frame_of, runs
from floodmark.systems.pipeline.aggregate.snapshot import GroupingUpdate, GroupSnapshot, Snapshot, Update, ordered
from floodmark.systems.pipeline.aggregate.totals import Totals

GROUP_BYTES = 600  # planned for, per group
LARGE_ROWS = 4096  # from here on counting the distinct keys costs less per row than a look at each

Rows = pl.DataFrame | Sequence[Mapping[str, Any]]


class View:
    """One grouping at work, or the totals over everything (`grouping` None)."""

    def __init__(self, functions: Sequence[str], grouping: Grouping | None, *, limited: bool = True) -> None:
        self.group_by = grouping.group_by if grouping else ()
        self.fields = grouping.fields if grouping else None
        self.groups = Groups(len(self.group_by), grouping.max_groups if grouping and limited else None)
        self.totals = Totals(functions, len(self.group_by), self.groups)
        self._rejected_last = False  # by the last batch: the next one will hardly fit either

    def project(self, schema: Mapping[str, pl.DataType], aliases: Mapping[str, str]) -> Projection:
        """Work out what to cut from frames of this shape."""
        return Projection(schema, group_by=self.group_by, fields=self.fields, values=self.totals.needs_values, aliases=aliases)

    def take(self, frame: pl.DataFrame, projection: Projection) -> pl.Series | None:
        """Take a batch into account, as far as there is room for its groups; gives who was accepted, None for everybody."""
        cut = projection(frame)
        most_count = frame.height  # groups that it can found
        is_large = most_count >= LARGE_ROWS and not self._rejected_last
        if is_large and self.groups.may_exceed(most_count):
            most_count = self.groups.distinct_count(cut)
        if self.groups.unseen_count and self.groups.may_exceed(most_count):
            self.totals.fold()
        looked_at = self.groups.may_exceed(most_count)
        at_once = looked_at and is_large and self.groups.admit_all(cut)
        accepted = self.groups.admit(cut) if looked_at and not at_once else None
        self._rejected_last = accepted is not None
        self._add(cut, projection, frame.height, accepted, unseen_count=0 if looked_at else most_count)
        return accepted

    def take_accepted(self, frame: pl.DataFrame, projection: Projection, accepted: pl.Series | None) -> None:
        """Take into account those whom somebody else has accepted."""
        self._add(projection(frame), projection, frame.height, accepted, unseen_count=frame.height)

    def _add(self, cut: pl.DataFrame, projection: Projection, row_count: int, accepted: pl.Series | None, *, unseen_count: int) -> None:
        if accepted is not None:
            cut, row_count = cut.filter(accepted), int(accepted.sum())
        self.totals.add(cut, projection.fields, row_count, unseen_count=unseen_count)


class Aggregates:
    """Totals and groupings of one stream."""

    def __init__(self, functions: Sequence[str] = (), groupings: Sequence[Grouping] = (), *, limited: bool = True) -> None:
        """Start from nothing.

        Args:
            functions: over all records and every numeric field; names out of FUNCTIONS.
            groupings: what to group by, in the order of the snapshots.
            limited: False leaves max_groups to somebody else, who has already rejected what is too much.
        """
        self.functions = checked_functions(functions)
        self.groupings = tuple(groupings)
        self.record_count = 0
        self._everything = [View(self.functions, None)] if self.functions else []
        self.views = [*self._everything, *(View(each.aggregations, each, limited=limited) for each in self.groupings)]
        self._shape: tuple[list[str], list[pl.DataType]] | None = None
        self._projections: list[Projection] = []

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that are looked at; None for all of them: some view takes every numeric field."""
        if any(view.fields is None and view.totals.needs_values for view in self.views):
            return None
        paths = [path for view in self.views for path in (*view.group_by, *((view.fields or ()) if view.totals.needs_values else ()))]
        # A dotted path may start from a column of the whole name, or from the part before the first dot.
        return tuple(dict.fromkeys(name for path in paths for name in (path, path.split(".", 1)[0])))

    @property
    def size_bytes(self) -> int:
        """Estimate of the memory held: groups, and rows that wait to be folded."""
        return sum(len(view.groups) * GROUP_BYTES + view.totals.aside_bytes for view in self.views)

    def update(self, rows: Rows) -> Update:
        """Take a batch into account, at once or with the next ones: no figure and no rejection depends on it.

        Args:
            rows: a frame, or records as a transformer gives them; these keep their types value by value.
        """
        rejected = [0] * len(self.views)
        for frame, aliases in self.frames(rows):
            for place, accepted in enumerate(self._take(frame, aliases)):
                rejected[place] += 0 if accepted is None else frame.height - int(accepted.sum())
        self.record_count += len(rows)
        return self._told(len(rows), rejected)

    def update_accepted(self, frame: pl.DataFrame, aliases: Mapping[str, str], accepted: Mapping[int, pl.Series]) -> None:
        """Take into account a frame of which somebody else has rejected what is too much.

        Args:
            frame, aliases: as `frames` gives them.
            accepted: who was accepted, by the number of the grouping; everybody where there is none.
        """
        for place, (view, projection) in enumerate(zip(self.views, self._projected(frame, aliases), strict=True)):
            view.take_accepted(frame, projection, accepted.get(place - len(self._everything)))
        self.record_count += frame.height

    def _told(self, count: int, rejected: Sequence[int]) -> Update:
        skip = len(self._everything)
        groupings = tuple(
            GroupingUpdate(
                group_by=grouping.group_by,
                rejected=number,
                limit_reached=number > 0,
                group_count=len(view.groups),
                max_groups=grouping.max_groups,
            )
            for grouping, number, view in zip(self.groupings, rejected[skip:], self.views[skip:], strict=True)
        )
        return Update(records=count, groupings=groupings)

    def frames(self, rows: Rows) -> list[tuple[pl.DataFrame, dict[str, str]]]:
        """Make frames of a batch, with the fields of columns not named after theirs: several where keys change their type on the way."""
        if not len(rows) or not self.views:
            return []
        if isinstance(rows, pl.DataFrame):
            return [(rows, {})]
        keys = list(dict.fromkeys(_start(path, rows) for view in self.views for path in view.group_by))
        values: Sequence[str] | None = self.columns
        if values is not None:
            values = [name for name in values if any(name in record for record in rows)]
        return [frame_of(run, keys=keys, values=values) for run in runs(rows, keys)]

    def _projected(self, frame: pl.DataFrame, aliases: Mapping[str, str]) -> list[Projection]:
        """What each view cuts from the frame; worked out anew when the shape changes."""
        shape = (frame.columns, frame.dtypes)
        if aliases or shape != self._shape:
            self._projections = [view.project(frame.schema, aliases) for view in self.views]
            self._shape = None if aliases else shape
        return self._projections

    def _take(self, frame: pl.DataFrame, aliases: Mapping[str, str]) -> list[pl.Series | None]:
        return [view.take(frame, projection) for view, projection in zip(self.views, self._projected(frame, aliases), strict=True)]

    def admit(self, frame: pl.DataFrame, aliases: Mapping[str, str]) -> dict[int, pl.Series]:
        """Like an update, but tells who was accepted by which grouping, where that is not everybody."""
        masks = self._take(frame, aliases)[len(self._everything) :]
        return {place: accepted for place, accepted in enumerate(masks) if accepted is not None}

    def states(self) -> list[Totals]:
        """Give the figures' state, for another process to `merge_states`."""
        self.fold()
        return [view.totals for view in self.views]

    def merge_states(self, states: Sequence[Totals], record_count: int) -> None:
        """Add the state of aggregates of the same functions and groupings."""
        self.record_count += record_count
        for view, theirs in zip(self.views, states, strict=True):
            view.totals.merge(theirs)

    def snapshot(self) -> Snapshot:
        """Give every figure as of the last update. Cost: about 3 us per group, field and function."""
        self.fold()
        everything = self._everything[0].totals.figures().get((), None) if self._everything else {}
        return Snapshot(
            records=self.record_count,
            aggregations=_empty(self.functions) if everything is None else everything,
            groupings=tuple(
                GroupSnapshot(
                    group_by=grouping.group_by,
                    level=grouping.level,
                    groups=ordered(view.totals.figures(), grouping.sort),
                    group_count=len(view.groups),
                    rejected=view.groups.rejected_count,
                    max_groups=grouping.max_groups,
                )
                for grouping, view in zip(self.groupings, self.views[len(self._everything) :], strict=True)
            ),
        )

    def peek(self) -> Snapshot:
        """The figures now; the same as `snapshot` here, where nothing has to be waited for."""
        return self.snapshot()

    async def settled(self) -> None:
        """Wait until another batch can be taken: always, here."""

    async def gathered(self) -> Snapshot:
        """The figures now; in PartitionedAggregates they have to be waited for."""
        return self.snapshot()

    def close(self) -> None:
        """Give back what is held besides memory: nothing here, processes in PartitionedAggregates."""

    def fold(self) -> None:
        """Work off the rows that were put aside, and let go of them."""
        for view in self.views:
            view.totals.fold()

    def merge(self, other: Aggregates) -> None:
        """Add another's figures, exactly; it has the same functions and groupings. Groups are united whatever their limit says."""
        if (other.functions, other.groupings) != (self.functions, self.groupings):
            raise ValueError("aggregates can be merged only with others of the same functions and groupings")
        self.fold()
        self.merge_states(other.states(), other.record_count)


def _start(path: str, records: Sequence[Mapping[str, Any]]) -> str:
    """The field that a path starts from: the whole name, where a record has a field of that name."""
    return path if "." not in path or any(path in record for record in records) else path.split(".", 1)[0]


def _empty(functions: Sequence[str]) -> dict[str, Any]:
    """The figures of no records at all."""
    return {function: 0 if function == "count" else {} for function in functions}
