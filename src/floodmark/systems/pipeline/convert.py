"""Turn typed rows into rows that a report can print: text for times, money and UUIDs, plain numbers, related records laid flat.

| in the frame | becomes |
|---|---|
| datetime, date, time | ISO 8601 text, or text by a pattern |
| decimal | a float rounded to `decimal_places` (half away from zero, before it becomes a float), or text with all its digits |
| money: a structure of `amount` and `currency` | "€1.50", "1.50 EUR" or "1.50" |
| UUID objects, and binary columns named in `uuids` | text |
| categories, other objects | text |
| None in a column of text | `none_text`; numbers and booleans stay missing, since a column has one type: `records` gives "" for those |
| a related record | columns `rel_field`, down to `max_depth`; deeper ones stay structures |
| a list of related records | a list still, its records converted in the same way |

All of it is column work, worked out once per shape of frame. Integers, floats, booleans, text, durations and bytes stay as they are.
A flattened name that is taken gets underscores until it is free; the columns of the record itself keep their names.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import polars as pl

from floodmark.core.errors import UsageError

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

ISO_DATETIME = "%Y-%m-%dT%H:%M:%S%.f"
ISO_DATE = "%Y-%m-%d"
ISO_TIME = "%H:%M:%S%.f"
SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥", "CNY": "¥", "INR": "₹", "KRW": "₩", "BRL": "R$", "CHF": "CHF ", "PLN": "zł "}
PLACES_MAX = 20

Shape = tuple[tuple[str, "pl.DataType"], ...]


class Conversion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of which type; the defaults give what a printed report needs."""

    datetime_pattern: str = ""  # as strftime has it; empty: ISO 8601
    date_pattern: str = ""
    time_pattern: str = ""
    decimals: Literal["float", "text", "keep"] = "float"
    decimal_places: int = 2  # of floats made of decimals, and of money
    money: Literal["symbol", "code", "none", "keep"] = "symbol"
    uuids: tuple[str, ...] = ()  # binary columns of 16 bytes that are UUIDs
    none_text: str | None = ""  # None leaves missing text missing
    max_depth: int = 3  # of related records laid flat; 0 leaves them as they are

    def __post_init__(self) -> None:
        if self.decimals not in ("float", "text", "keep") or self.money not in ("symbol", "code", "none", "keep"):
            raise UsageError(
                f"decimals is one of float, text, keep, and money one of symbol, code, none, keep; got {self.decimals!r} and {self.money!r}"
            )
        if not 0 <= self.decimal_places <= PLACES_MAX:
            raise UsageError(f"decimal_places must be between 0 and {PLACES_MAX}, got {self.decimal_places!r}")
        if not self.max_depth >= 0:
            raise UsageError(f"max_depth must not be negative, got {self.max_depth!r}")
        for name, kind in (("datetime_pattern", pl.Datetime("us")), ("date_pattern", pl.Date()), ("time_pattern", pl.Time())):
            _check_pattern(name, getattr(self, name), kind)


def convert(frame: pl.DataFrame, options: Conversion) -> pl.DataFrame:
    """Convert a frame; rows and their order stay.

    >>> import datetime, decimal
    >>> frame = pl.DataFrame({"at": [datetime.datetime(2026, 1, 2, 3, 4)], "price": [decimal.Decimal("1.005")], "who": [{"name": None}]})
    >>> convert(frame, Conversion()).to_dicts()
    [{'at': '2026-01-02T03:04:00', 'price': 1.01, 'who_name': None}]
    """
    if not frame.width:
        return frame
    objects = [_texts(column) for column in frame.iter_columns() if column.dtype == pl.Object]
    if objects:
        frame = frame.with_columns(objects)
    return frame.select(_plan(tuple(zip(frame.columns, frame.dtypes, strict=True)), options))


def records(frame: pl.DataFrame, options: Conversion) -> list[dict[str, Any]]:
    """Convert a frame into one mapping per row, with `none_text` for every value that is missing, of whatever type."""
    converted = convert(frame, options).to_dicts()
    if options.none_text is None:
        return converted
    return [{name: _filled(value, options.none_text) for name, value in record.items()} for record in converted]


def _filled(value: Any, text: str) -> Any:
    """Replace None, in lists and structures as well."""
    if value is None:
        return text
    if isinstance(value, dict):
        return {name: _filled(inner, text) for name, inner in value.items()}
    return [_filled(inner, text) for inner in value] if isinstance(value, list) else value


@functools.lru_cache(maxsize=256)
def _plan(shape: Shape, options: Conversion) -> list[pl.Expr]:
    """Work out the expressions for frames of one shape."""
    taken = {name for name, _ in shape}
    plan = []
    for name, kind in shape:
        if not _is_record(kind, options) or not options.max_depth:
            plan.append(_converted(pl.col(name), kind, options, name).alias(name))
            continue
        for field, expression in _flattened(pl.col(name), kind, options, name, options.max_depth):
            free = field
            while free in taken:
                free += "_"
            taken.add(free)
            plan.append(expression.alias(free))
    return plan


def _flattened(value: pl.Expr, kind: pl.DataType, options: Conversion, name: str, depth: int) -> Iterator[tuple[str, pl.Expr]]:
    """Give the fields of a related record, those of its own related records included, `depth` levels down."""
    for field, inner in _fields(kind):
        expression, path = value.struct.field(field), f"{name}_{field}"
        if depth > 1 and _is_record(inner, options):
            yield from _flattened(expression, inner, options, path, depth - 1)
        else:
            yield path, _converted(expression, inner, options, path)


def _converted(value: pl.Expr, kind: pl.DataType, options: Conversion, name: str) -> pl.Expr:
    """Convert the values of one type."""
    if isinstance(kind, pl.List | pl.Array):
        inner = _converted(pl.element(), _made(kind.inner), options, name)
        return value.list.eval(inner) if isinstance(kind, pl.List) else value.arr.eval(inner)
    if _is_money(kind) and options.money != "keep":
        return _or_text(_money(value, dict(_fields(kind))["amount"], options), options)
    if isinstance(kind, pl.Struct):
        fields = [_converted(value.struct.field(field), inner, options, f"{name}_{field}").alias(field) for field, inner in _fields(kind)]
        return pl.when(value.is_not_null()).then(pl.struct(fields)) if fields else value
    if kind.is_decimal():
        if options.decimals == "text":
            return _or_text(value.cast(pl.String), options)
        return value if options.decimals == "keep" else _rounded(value, options.decimal_places).cast(pl.Float64)
    text = _as_text(value, kind, options, name)
    return value if text is None else _or_text(text, options)


def _as_text(value: pl.Expr, kind: pl.DataType, options: Conversion, name: str) -> pl.Expr | None:
    """Give the text of what is printed as text; None for what is not."""
    if isinstance(kind, pl.Datetime):
        zone = "%:z" if kind.time_zone else ""
        return value.dt.strftime(options.datetime_pattern or ISO_DATETIME + zone)
    if isinstance(kind, pl.Date):
        return value.dt.strftime(options.date_pattern or ISO_DATE)
    if isinstance(kind, pl.Time):
        return value.dt.strftime(options.time_pattern or ISO_TIME)
    if isinstance(kind, pl.Categorical | pl.Enum):
        return value.cast(pl.String)
    if isinstance(kind, pl.Binary) and name in options.uuids:
        digits = value.bin.encode("hex")
        ends = ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))
        return pl.concat_str([digits.str.slice(start, length) for start, length in ends], separator="-")
    return value if isinstance(kind, pl.String) else None


def _or_text(value: pl.Expr, options: Conversion) -> pl.Expr:
    return value if options.none_text is None else value.fill_null(options.none_text)


def _rounded(value: pl.Expr, places: int) -> pl.Expr:
    return value.round(places, mode="half_away_from_zero")


def _money(value: pl.Expr, kind: pl.DataType, options: Conversion) -> pl.Expr:
    """Write amounts with their currency."""
    amount = value.struct.field("amount")
    if not kind.is_integer():
        amount = _rounded(amount, options.decimal_places)
    digits = amount.cast(pl.Decimal(38, options.decimal_places)).abs().cast(pl.String)
    sign = pl.when(amount < 0).then(pl.lit("-")).otherwise(pl.lit(""))
    code = value.struct.field("currency").cast(pl.String).fill_null("")
    if options.money == "code":
        return pl.concat_str(sign, digits, pl.when(code == "").then(pl.lit("")).otherwise(pl.concat_str(pl.lit(" "), code)))
    if options.money == "none":
        return pl.concat_str(sign, digits)
    symbol = code.replace_strict(SYMBOLS, default=pl.when(code == "").then(pl.lit("")).otherwise(pl.concat_str(code, pl.lit(" "))))
    return pl.concat_str(sign, symbol, digits)


def _is_money(kind: pl.DataType) -> bool:
    """A structure of an amount and a currency, and nothing else."""
    fields = dict(_fields(kind)) if isinstance(kind, pl.Struct) else {}
    return fields.keys() == {"amount", "currency"} and fields["amount"].is_numeric()


def _is_record(kind: pl.DataType, options: Conversion) -> bool:
    return isinstance(kind, pl.Struct) and (options.money == "keep" or not _is_money(kind))


def _fields(kind: pl.DataType) -> list[tuple[str, pl.DataType]]:
    return [(field.name, _made(field.dtype)) for field in kind.fields] if isinstance(kind, pl.Struct) else []


def _made(kind: PolarsDataType) -> pl.DataType:
    return kind if isinstance(kind, pl.DataType) else kind()


def _texts(column: pl.Series) -> pl.Series:
    """Write Python objects, such as UUIDs, as text."""
    return pl.Series(column.name, [None if value is None else str(value) for value in column], dtype=pl.String)


def _check_pattern(name: str, pattern: str, kind: pl.DataType) -> None:
    """Raise UsageError for a pattern that cannot be used, before any row has come."""
    if not pattern:
        return
    try:
        pl.Series([0]).cast(kind).dt.strftime(pattern)
    except Exception as exc:  # polars raises several, and panics derive from Exception at best
        raise UsageError(f"{name} must be a pattern such as '%d.%m.%Y', got {pattern!r}: {exc}") from exc
