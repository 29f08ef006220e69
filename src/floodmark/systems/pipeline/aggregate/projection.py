"""Cut from a frame the columns that one grouping looks at, under the names its totals expect.

Worked out once per shape of frame: which column or path each part of the key is, and which columns hold numbers. Plain columns are
taken as they are, without going through expressions, since this runs once per batch and grouping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from floodmark.systems.pipeline.aggregate.exact import is_number
from floodmark.systems.pipeline.aggregate.groups import key_names
from floodmark.systems.pipeline.aggregate.paths import resolve


class Projection:
    """What to cut from frames of one shape.

    `fields` tells, by column of the cut, the field whose numbers stand in it.
    """

    __slots__ = ("_expressions", "_names", "_plain", "fields")

    def __init__(
        self,
        schema: Mapping[str, pl.DataType],
        *,
        group_by: Sequence[str] = (),
        fields: Sequence[str] | None = None,
        values: bool = True,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """Work out the cut.

        Args:
            schema: of the frames.
            group_by: the fields that make the key.
            fields: the fields whose numbers are wanted; None for all.
            values: False where records are only counted.
            aliases: by column, the field that it is a part of, for columns not named after theirs.
        """
        field_of = {name: name for name in schema} | dict(aliases or {})
        self.fields: dict[str, str] = {}
        self._expressions: list[pl.Expr] = []
        plain: list[tuple[str, str]] | None = []
        for alias, path in zip(key_names(len(group_by)), group_by, strict=True):
            found = resolve(path, schema)
            expression, kind = found or (pl.lit(None), pl.Null())
            if isinstance(kind, pl.Categorical | pl.Enum):  # batches may differ in their categories, not in the text of them
                expression, found = expression.cast(pl.String), None
            self._expressions.append(expression.alias(alias))
            plain = _with(plain, alias, path, plainly=found is not None and path in schema and expression.meta.is_column())
        for field in (fields if fields is not None else dict.fromkeys(field_of.values())) if values else ():
            columns = [name for name, whose in field_of.items() if whose == field and is_number(schema[name])]
            beyond = resolve(field, schema, first=False) if not columns and field not in field_of.values() else None
            if beyond and is_number(beyond[1]):
                columns = [field]
            for name in columns:
                alias = f"value:{len(self.fields)}"
                self.fields[alias] = field
                self._expressions.append((beyond[0] if beyond else pl.col(name)).alias(alias))
                plain = _with(plain, alias, name, plainly=beyond is None)
        self._plain = plain
        self._names = [*key_names(len(group_by)), *self.fields]

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Cut a frame of the shape this was made for."""
        if self._plain is not None:  # HOT: once per batch and grouping; a fifth of the cost of expressions
            return pl.DataFrame([frame.get_column(name).alias(alias) for alias, name in self._plain])
        return frame.with_columns(self._expressions).select(self._names)


def _with(plain: list[tuple[str, str]] | None, alias: str, name: str, *, plainly: bool) -> list[tuple[str, str]] | None:
    """Add a column to the plain ones; None from the first on that is none."""
    if plain is None or not plainly:
        return None
    return [*plain, (alias, name)]
