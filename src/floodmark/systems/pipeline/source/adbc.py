"""What SQLite and PostgreSQL share, as both are spoken to through ADBC: parameters, and a query's rows as one frame."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from floodmark.core.errors import UsageError


def parameters(values: Sequence[Any]) -> pl.DataFrame | None:
    """One row of values to bind. None goes as an untyped NULL; what the drivers cannot bind goes as text."""
    if not values:
        return None
    return pl.DataFrame([_series(str(place), value) for place, value in enumerate(values)])


def _series(name: str, value: Any) -> pl.Series:
    if value is None:
        return pl.Series(name, [None], dtype=pl.String)
    if isinstance(value, (Decimal, uuid.UUID)):
        return pl.Series(name, [str(value)])
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        raise UsageError(f"a parameter must fit into 64 bits, got {value}")
    if not isinstance(value, (bool, int, float, str, bytes, datetime.date, datetime.datetime, datetime.time)):
        raise UsageError(f"a parameter must be a number, text, bytes, a date or a time, got {type(value).__name__}")
    return pl.Series(name, [value])


def asked(cursor: Any, text: str, values: Sequence[Any], options: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Run a query on an ADBC cursor and give all of its rows."""
    if options:
        cursor.adbc_statement.set_options(**options)
    cursor.execute(text, parameters(values))
    frame: pl.DataFrame = cursor.fetch_polars()
    return frame
