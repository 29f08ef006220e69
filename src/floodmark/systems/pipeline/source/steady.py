"""Keep the types of a cursor's chunks the same from chunk to chunk, where that alters no value.

A chunk whose column holds nothing but NULL says nothing about the column's type, and databases without strict types give whole numbers
in one chunk and fractions in the next. A column takes the type it is declared with, or else the first that a chunk shows; later chunks are
cast to it if each value stays what it is. If not, the chunk keeps its own type: a value is never altered for the sake of the column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl


class Steady:
    """The types of one cursor's columns."""

    def __init__(self, declared: Mapping[str, pl.DataType] | None = None, *, is_typed: bool = False) -> None:
        """Args: `is_typed`: the source gives even a column of NULLs its right type."""
        self._types: dict[str, pl.DataType] = dict(declared or {})
        self._is_typed = is_typed

    @property
    def names(self) -> tuple[str, ...]:
        """The columns seen so far."""
        return tuple(self._types)

    def empty(self, names: Sequence[str]) -> pl.DataFrame:
        """A chunk without rows."""
        return pl.DataFrame(schema={name: self._types.get(name, pl.Null()) for name in names})

    def settled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A chunk with the types that its columns have shown so far."""
        changed = []
        for column in frame.iter_columns():
            known = self._types.get(column.name)
            if column.null_count() == len(column) and not (self._is_typed and known is None):
                self._types.setdefault(column.name, pl.Null())
                changed.append(pl.Series(column.name, [None], known or pl.Null()).new_from_index(0, len(column)))
            elif known is None or known == pl.Null():
                self._types[column.name] = column.dtype
            elif known != column.dtype:
                changed.append(self._cast(column, known))
        return frame.with_columns(changed) if changed else frame

    def _cast(self, column: pl.Series, known: pl.DataType) -> pl.Series:
        if column.dtype.is_integer() and known.is_float() and (column.abs() <= 2**53).all():
            return column.cast(known)
        if column.dtype.is_float() and known.is_integer():
            self._types[column.name] = column.dtype  # fractions have come: whole numbers are no special case any more
            return column
        if column.dtype.is_integer() and known == pl.Boolean() and column.is_in([0, 1]).drop_nulls().all():
            return column.cast(known)
        if column.dtype == pl.String() and isinstance(known, pl.Decimal):
            return column.str.to_decimal(scale=known.scale)
        return column


def joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put parts of one chunk together. A column of NULLs has no type; where types have nothing in common the values become text."""
    if len(parts) == 1:
        return parts[0]
    bare = [
        part.with_columns([column.cast(pl.Null()) for column in part.iter_columns() if len(column) and column.null_count() == len(column)])
        for part in parts
    ]
    try:
        return pl.concat(bare, how="vertical_relaxed", rechunk=True)
    except pl.exceptions.PolarsError:
        mixed = [name for name in bare[0].columns if len({part.schema[name] for part in bare} - {pl.Null()}) > 1]
        return pl.concat([part.with_columns(pl.col(mixed).cast(pl.String)) for part in bare], how="vertical_relaxed", rechunk=True)
