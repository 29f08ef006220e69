"""What a field holds, and how a chunk of rows is brought to what the report declared.

Sources disagree about types: SQLite has no dates and keeps decimals as text or floats, CSV is all text, a JSON API sends dates as text.
`conform` casts each declared field to its kind and unfolds relationships (`customer.name`) into plain columns, so that everything behind it
sees one shape. A row with a value that cannot be read as its kind is left out and counted, as a failing record is anywhere in the stream.

Limits: a has-many relationship (a list) gives its first element. Text and floats are read as decimals with 6 places behind the point, so
that a product of three still has 20 digits before it; decimals of the source keep the places they have.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping

import msgspec
import polars as pl
from polars.datatypes import DataTypeClass

from floodmark.systems.pipeline.report.errors import PlacedError, unknown


class Kind(enum.StrEnum):
    """What a field holds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"  # floating point
    DECIMAL = "decimal"  # exact
    MONEY = "money"  # exact, printed with a currency
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    UUID = "uuid"


DECIMAL_PLACES = 6  # of 38 digits in all

DTYPES: dict[Kind, pl.DataType] = {
    Kind.TEXT: pl.String(),
    Kind.INTEGER: pl.Int64(),
    Kind.NUMBER: pl.Float64(),
    Kind.DECIMAL: pl.Decimal(38, DECIMAL_PLACES),
    Kind.MONEY: pl.Decimal(38, DECIMAL_PLACES),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.DATE: pl.Date(),
    Kind.DATETIME: pl.Datetime("us"),
    Kind.UUID: pl.String(),
}

NUMERIC = frozenset({Kind.INTEGER, Kind.NUMBER, Kind.DECIMAL, Kind.MONEY})

_TYPES: dict[type, Kind] = {
    str: Kind.TEXT,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    decimal.Decimal: Kind.DECIMAL,
    bool: Kind.BOOLEAN,
    datetime.date: Kind.DATE,
    datetime.datetime: Kind.DATETIME,
    uuid.UUID: Kind.UUID,
}


def kind_of(declared: Kind | str | type) -> Kind:
    """Read a kind as an author writes it: its name, or the Python type of the values.

    >>> kind_of("money"), kind_of(int)
    (<Kind.MONEY: 'money'>, <Kind.INTEGER: 'integer'>)
    """
    if isinstance(declared, type):
        if declared in _TYPES:
            return _TYPES[declared]
        raise unknown("type", declared.__name__, [entry.__name__ for entry in _TYPES])
    if declared in list(Kind):
        return Kind(declared)
    raise unknown("kind", str(declared), list(Kind))


def kind_of_dtype(dtype: pl.DataType) -> Kind:
    """Return the kind whose values a polars type holds; what is neither a number, a date nor a flag counts as text."""
    if isinstance(dtype, pl.Decimal):
        return Kind.DECIMAL
    if dtype.is_integer():
        return Kind.INTEGER
    if dtype.is_float():
        return Kind.NUMBER
    if isinstance(dtype, pl.Boolean):
        return Kind.BOOLEAN
    if isinstance(dtype, pl.Datetime):
        return Kind.DATETIME
    return Kind.DATE if isinstance(dtype, pl.Date) else Kind.TEXT


class Conformed(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk brought to its declared kinds; `skipped_count` rows held a value that could not be read, the first told in `reason`."""

    frame: pl.DataFrame
    skipped_count: int = 0
    reason: str = ""


def path_expr(path: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """Return the expression that reads a dotted path from a chunk, whichever way its relationship was put there.

    Taken in this order: a column of that very name, the flattened `customer_name`, then a struct (or list of structs) to unfold.

    Raises: ReportError when the chunk has none of them.
    """
    if path in schema:
        return pl.col(path)
    flat = path.replace(".", "_")
    if flat in schema:
        return pl.col(flat)
    head, *rest = path.split(".")
    if head not in schema:
        raise unknown("field", path, schema, where="the rows of the source")
    expression, dtype = pl.col(head), schema[head]
    for part in rest:
        if isinstance(dtype, pl.List):
            expression, dtype = expression.list.first(), _inner(dtype)
        known = {field.name: field.dtype for field in dtype.fields} if isinstance(dtype, pl.Struct) else {}
        if part not in known:
            raise unknown("field", path, [f"{path.rpartition('.')[0]}.{name}" for name in known], where="the rows of the source")
        expression, dtype = expression.struct.field(part), _instance(known[part])
    return expression


def readable(path: str, schema: Mapping[str, pl.DataType]) -> bool:
    """Whether a chunk has a dotted path, in whichever way."""
    try:
        path_expr(path, schema)
    except PlacedError:
        return False
    return True


def _inner(dtype: pl.List) -> pl.DataType:
    return _instance(dtype.inner)


def _instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype


def conform(frame: pl.DataFrame, fields: Mapping[str, Kind], *, keep_others: bool = False) -> Conformed:
    """Bring a chunk to the declared fields, in their order; rows that cannot be are left out and counted.

    Args:
        keep_others: whether columns that are no fields stay, as they are.

    Raises: ReportError when the source's rows have no such field at all.
    """
    columns = [path_expr(path, frame.schema).alias(path) for path in fields]
    raw = frame.with_columns(columns) if keep_others else frame.select(columns)
    casts = [_cast(path, raw.schema[path], kind) for path, kind in fields.items() if not _fits(raw.schema[path], kind)]
    if not casts:
        return Conformed(frame=raw)
    cast = raw.with_columns(casts)
    lost = [path for path in fields if cast[path].null_count() > raw[path].null_count()]
    if not lost:
        return Conformed(frame=cast)
    unread = pl.any_horizontal([(raw[path].is_not_null() & cast[path].is_null()).alias(path) for path in lost])
    mask = raw.select(unread.alias("unread"))["unread"]
    first = next(value for value, missing in zip(raw[lost[0]], cast[lost[0]].is_null(), strict=True) if missing and value is not None)
    reason = f"{lost[0]}: cannot read {first!r} as {fields[lost[0]]}"
    return Conformed(frame=cast.filter(~mask), skipped_count=int(mask.sum()), reason=reason)


def _fits(dtype: pl.DataType, kind: Kind) -> bool:
    return dtype == DTYPES[kind] or (isinstance(dtype, pl.Decimal) and kind in (Kind.DECIMAL, Kind.MONEY))


def _cast(path: str, dtype: pl.DataType, kind: Kind) -> pl.Expr:
    """Read one column as its kind; what cannot be read becomes null."""
    column = pl.col(path)
    if isinstance(dtype, pl.Null):
        return column.cast(DTYPES[kind])
    if isinstance(dtype, pl.String) and kind is Kind.DATE:
        return pl.coalesce(column.str.to_date("%Y-%m-%d", strict=False), column.str.head(10).str.to_date("%Y-%m-%d", strict=False)).alias(
            path
        )
    if isinstance(dtype, pl.String) and kind is Kind.DATETIME:
        return _datetime(column).alias(path)
    if isinstance(dtype, pl.String) and kind is Kind.BOOLEAN:
        words = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}
        return column.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None and kind is Kind.DATETIME:
        return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(DTYPES[kind])
    if dtype.is_float() and kind in (Kind.DECIMAL, Kind.MONEY):
        # A float holds 0.1 as 0.1000000000000000055: its shortest text is what its author meant.
        return column.cast(pl.String).cast(DTYPES[kind], strict=False)
    return column.cast(DTYPES[kind], strict=False)


def _datetime(column: pl.Expr) -> pl.Expr:
    """Read ISO 8601 text, with or without seconds, fraction and zone; a zone is turned into UTC and left off."""
    zoned = column.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", strict=False, time_unit="us", time_zone="UTC")
    plain = [
        column.str.to_datetime(pattern, strict=False, time_unit="us")
        for pattern in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")
    ]
    day = column.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    return pl.coalesce(*plain, zoned.dt.replace_time_zone(None), day)
