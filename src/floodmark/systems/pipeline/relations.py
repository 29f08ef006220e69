"""Load related rows beside the rows of a chunk: one query per relation and chunk, whatever the number of rows.

Input: a frame and the relations that a query declares. Output: the same rows in the same order, with a struct column per `belongs_to` (null
without a match) and a list-of-struct column per `has_many` (empty without one), down to the depth that the strategy allows. Keys are
collected from the frame, made distinct, and asked for in one statement. Where a `belongs_to` finds several rows the first one counts.

Memory: the related rows of one chunk, at most `rows_limit` per relation; more are refused, never cut off in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import QueryRefusedError, nearest
from floodmark.systems.pipeline.query import Query, Relation
from floodmark.systems.pipeline.source.base import Source
from floodmark.systems.pipeline.source.statement import quoted, unknown

__all__ = ["LoadConfig", "Loader", "Relation"]

KEYS_MAX = 30_000  # values in one statement; SQLite takes 32,766 and PostgreSQL 65,535
KEY = "__floodmark_relation_"


class LoadConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which relations to load. `required` and `optional` are paths: "customer", "customer.region".

    eager: all of them, to max_depth. lazy: the required ones. selective: the required ones to max_depth, of the optional ones what lies
    within max(max_depth - 1, 1). A depth of 0 or less loads nothing. A path deeper than max_depth is an error, not a shorter path.
    """

    strategy: Literal["eager", "lazy", "selective"] = "eager"
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    max_depth: int = 3

    def paths(self) -> tuple[str, ...]:
        """The paths to load, shallow ones first, each with what leads to it."""
        if self.max_depth <= 0:
            return ()
        asked = self.required if self.strategy == "lazy" else self.required + self.optional
        for path in asked:
            depth = path.count(".") + 1
            if depth > self.max_depth:
                raise UsageError(f"relation {path!r} is {depth} levels deep, and max_depth allows {self.max_depth}")
        chosen = list(self.required)
        if self.strategy == "eager":
            chosen += self.optional
        elif self.strategy == "selective":
            deepest = max(self.max_depth - 1, 1)
            chosen += [path for path in self.optional if path.count(".") < deepest]
        steps = {".".join(path.split(".")[:depth]) for path in chosen for depth in range(1, path.count(".") + 2)}
        return tuple(sorted(steps, key=lambda step: (step.count("."), step)))


class Loader:
    """Loads what a configuration allows of the relations that a query declares."""

    def __init__(self, source: Source, relations: Sequence[Relation], config: LoadConfig | None = None) -> None:
        """Check the paths. Without a configuration all declared relations are required, to the depth they are declared with."""
        self._source = source
        self._relations = tuple(relations)
        self.queries_count = 0
        if config is None:
            every = tuple(declared(self._relations))
            config = LoadConfig(required=every, max_depth=max((path.count(".") + 1 for path in every), default=0))
        self.paths = config.paths()
        for path in self.paths:
            self._checked(path)

    async def load(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add the related rows. Raises QueryError (try again with the same frame) or QueryRefusedError; the frame is never altered."""
        return await self._load(frame, self._relations, "")

    async def _load(self, frame: pl.DataFrame, relations: Sequence[Relation], above: str) -> pl.DataFrame:
        for relation in relations:
            path = above + relation.name
            if path in self.paths:
                frame = await self._with(frame, relation, path)
        return frame

    async def _with(self, frame: pl.DataFrame, relation: Relation, path: str) -> pl.DataFrame:
        for name in relation.local:
            if name not in frame.columns:
                raise unknown("column", name, frame.columns, f"the rows that relation {path!r} starts from")
        if relation.name in frame.columns:
            raise QueryRefusedError(f"relation {path!r} has the name of a column; call it something else")
        keys = frame.select(relation.local).drop_nulls().unique(maintain_order=True)
        related = await self._related(keys, relation, path)
        for name in relation.foreign:
            if name not in related.columns:
                raise unknown("column", name, related.columns, f"table {relation.table!r}")
        related = await self._load(related, relation.relations, f"{path}.")
        fields = [name for name in related.columns if name not in _added(relation)]
        marks = [f"{KEY}{place}" for place in range(len(relation.foreign))]
        folded = related.select(
            *(pl.col(foreign).alias(mark) for foreign, mark in zip(relation.foreign, marks, strict=True)),
            pl.struct(fields).alias(relation.name),
        )
        for local, mark in zip(relation.local, marks, strict=True):
            folded = folded.with_columns(_matching(folded.get_column(mark), frame.schema[local], relation, path))
        if relation.kind == "belongs_to":
            folded = folded.unique(marks, keep="first", maintain_order=True)
            return frame.join(folded, left_on=relation.local, right_on=marks, how="left", maintain_order="left")
        folded = folded.group_by(marks, maintain_order=True).agg(pl.col(relation.name))
        joined = frame.join(folded, left_on=relation.local, right_on=marks, how="left", maintain_order="left")
        return joined.with_columns(pl.col(relation.name).fill_null([]))

    async def _related(self, keys: pl.DataFrame, relation: Relation, path: str) -> pl.DataFrame:
        """Ask for all rows that any of the keys leads to; without keys, for none, which still tells the columns."""
        if keys.height * keys.width > KEYS_MAX:
            raise QueryRefusedError(
                f"relation {path!r} has {keys.height:,} different keys in one chunk, above {KEYS_MAX // keys.width:,}; take smaller chunks"
            )
        condition, parameters = _condition(keys, relation)
        query = Query(
            table=relation.table,
            columns=relation.columns + _added(relation),
            where=condition,
            parameters=parameters,
            order_by=relation.order_by,
            counted=False,
        )
        cursor = await self._source.open(query)
        try:
            self.queries_count += 1
            rows = await cursor.fetch(relation.rows_limit)
            if rows.height == relation.rows_limit and not cursor.exhausted and (await cursor.fetch(1)).height:
                raise QueryRefusedError(
                    f"relation {path!r} brings more than {relation.rows_limit:,} rows to a chunk of {keys.height:,} keys; "
                    "take smaller chunks, or raise the relation's rows_limit"
                )
            return rows
        finally:
            await cursor.close()

    def _checked(self, path: str) -> None:
        relations = self._relations
        for part in path.split("."):
            found = next((relation for relation in relations if relation.name == part), None)
            if found is None:
                names = [relation.name for relation in relations]
                near = nearest(part, names)
                hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(names) or 'none'}"
                raise UsageError(f"no relation {part!r} is declared on the way of {path!r}; {hint}")
            relations = found.relations


def declared(relations: Sequence[Relation], above: str = "") -> list[str]:
    """The paths of all relations, each before those below it."""
    return [path for relation in relations for path in (above + relation.name, *declared(relation.relations, f"{above}{relation.name}."))]


def _added(relation: Relation) -> tuple[str, ...]:
    """Columns that are needed to find rows, and were not asked for: the foreign key, and where the relations below start from."""
    if not relation.columns:
        return ()
    needed = dict.fromkeys([*relation.foreign, *(name for below in relation.relations for name in below.local)])
    return tuple(name for name in needed if name not in relation.columns)


def _condition(keys: pl.DataFrame, relation: Relation) -> tuple[str, dict[str, object]]:
    if not keys.height:
        return "1 = 0", {}
    parameters: dict[str, object] = {}
    rows: list[str] = []
    for place, row in enumerate(keys.iter_rows()):
        names = [f"k{place}_{part}" for part in range(len(row))]
        parameters.update(zip(names, row, strict=True))
        rows.append(", ".join(f":{name}" for name in names))
    if len(relation.foreign) == 1:
        return f"{quoted(relation.foreign[0])} IN ({', '.join(rows)})", parameters
    return f"({', '.join(map(quoted, relation.foreign))}) IN (VALUES {', '.join(f'({row})' for row in rows)})", parameters


def _matching(column: pl.Series, wanted: pl.DataType, relation: Relation, path: str) -> pl.Series:
    """A foreign key in the type of the local one; keys of different kinds would match nothing, and are refused."""
    if column.dtype == wanted or wanted == pl.Null() or not len(column):
        return column.cast(wanted) if wanted != pl.Null() and not len(column) else column
    if (column.dtype.is_numeric() and wanted.is_numeric()) or column.null_count() == len(column):
        return column.cast(wanted)
    raise QueryRefusedError(
        f"relation {path!r} compares {', '.join(relation.local)} ({wanted}) with a column of {column.dtype}; cast one of them"
    )
