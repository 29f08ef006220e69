"""Rows on their way: a frame, or the records that a transformer has made of it.

A batch holds one of the two and makes the other on demand, once. Frames are immutable and shared; whoever is given records may keep
them but should not change them. `size_bytes` is exact for a frame (its buffers) and an estimate from a sample for records.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

SAMPLED_COUNT = 8  # records looked at to estimate the size of all


class Batch:
    """Some rows of one stream, in order."""

    __slots__ = ("_count", "_frame", "_records", "_size_bytes")

    def __init__(self, rows: pl.DataFrame | list[Mapping[str, Any]] | list[dict[str, Any]]) -> None:
        self._frame: pl.DataFrame | None = None
        self._records: list[dict[str, Any]] | None = None
        if isinstance(rows, pl.DataFrame):
            self._frame = rows
        else:
            self._records = rows  # type: ignore[assignment]  # any mapping is read as one, none is changed
        self._count = len(rows)
        self._size_bytes = -1

    def __len__(self) -> int:
        return self._count

    @property
    def has_frame(self) -> bool:
        """Whether the rows are at hand as a frame, without conversion."""
        return self._frame is not None

    @property
    def size_bytes(self) -> int:
        """Memory held by the rows."""
        if self._size_bytes < 0:
            held = int(self._frame.estimated_size()) if self._frame is not None else 0
            self._size_bytes = held + (0 if self._records is None else records_size_bytes(self._records))
        return self._size_bytes

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows as a frame, all columns or those of the given ones that exist.

        Records of differing shape give the union of their fields; a column of values of different types becomes numeric if all its
        values are numbers, text otherwise.
        """
        if self._frame is None:
            assert self._records is not None
            if columns is not None:
                return frame_of(self._records, columns)
            self._frame = frame_of(self._records)
            self._size_bytes = -1
        if columns is None:
            return self._frame
        return self._frame.select([name for name in columns if name in self._frame.columns])

    def records(self) -> list[dict[str, Any]]:
        """The rows as one mapping each."""
        if self._records is None:
            assert self._frame is not None
            self._records = self._frame.to_dicts()
            self._size_bytes = -1
        return self._records

    def slice(self, start: int, count: int) -> Batch:
        """`count` rows from `start` on, without a copy of the data."""
        if start == 0 and count >= self._count:
            return self
        if self._frame is not None:
            return Batch(self._frame.slice(start, count))
        assert self._records is not None
        return Batch(self._records[start : start + count])


def frame_of(records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Make a frame of records; a field that no record has is left out.

    >>> frame_of([{"a": 1}, {"a": 2.5, "b": "x"}]).to_dicts()
    [{'a': 1.0, 'b': None}, {'a': 2.5, 'b': 'x'}]
    """
    names: Sequence[str] = columns if columns is not None else list(dict.fromkeys(name for record in records for name in record))
    series = []
    for name in names:
        values = [record.get(name) for record in records]
        if columns is not None and not any(name in record for record in records[:1]) and not any(name in record for record in records):
            continue
        series.append(_series(name, values))
    return pl.DataFrame(series)


def _series(name: str, values: list[Any]) -> pl.Series:
    given = [type(value) for value in values if value is not None]
    if given and given[0] in (dict, list) and set(given) == {given[0]}:  # whose shape all of them decide, not the first alone
        return pl.DataFrame([{name: value} for value in values], infer_schema_length=None, strict=False).to_series()
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, pl.exceptions.PolarsError, OverflowError):  # of several types, or an integer beyond 64 bit
        numbers = (int, float)
        if all(value is None or (isinstance(value, numbers) and not isinstance(value, bool)) for value in values):
            if all(value is None or isinstance(value, int) for value in values):
                try:
                    return pl.Series(name, values, dtype=pl.Int128)
                except (TypeError, pl.exceptions.PolarsError, OverflowError):
                    pass
            return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
        return pl.Series(name, values, strict=False)


def records_size_bytes(records: Sequence[Mapping[str, Any]]) -> int:
    """Estimate what records hold from up to SAMPLED_COUNT of them, spread evenly; values shared between records count each time."""
    if not records:
        return 0
    step = max(len(records) // SAMPLED_COUNT, 1)
    sample = records[::step][:SAMPLED_COUNT]
    sampled_bytes = sum(sys.getsizeof(record) + sum(map(sys.getsizeof, record.values())) for record in sample)
    return sampled_bytes * len(records) // len(sample)
