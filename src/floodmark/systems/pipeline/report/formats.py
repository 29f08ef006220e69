"""How a value is printed: numbers, percentages, money, dates, flags, text.

A `Format` is data; `formatter` turns it into a function from one value to its text, so that what can be decided once is decided once.
An author names a format by its built-in name (`number`), by a name with one argument (`money:EUR`, `number:0`, `date:%d.%m.%Y`), by a name
declared in the report, or by a `Format` itself.

Contract: a formatter takes any value and never raises: what is not of its type is printed as text. None is printed as `empty`.
Decimals round half up, as on an invoice; floats round by their binary value. Limits: locales are spelled out (`thousands`, `decimal_mark`),
not looked up.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from floodmark.systems.pipeline.report.errors import PlacedError, unknown
from floodmark.systems.pipeline.report.kinds import Kind

Formatter: TypeAlias = Callable[[Any], str]


class FormatType(enum.StrEnum):
    """Which rules a format follows."""

    AUTO = "auto"  # those of the field's kind
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    PERCENT = "percent"  # 0.25 is 25%
    MONEY = "money"
    DATE = "date"
    DATETIME = "datetime"
    BOOLEAN = "boolean"


class CurrencyStyle(enum.StrEnum):
    """What stands beside an amount."""

    SYMBOL = "symbol"  # €1,234.50
    CODE = "code"  # 1,234.50 EUR
    NONE = "none"  # 1,234.50


class Negative(enum.StrEnum):
    """How a number below zero is told from one above."""

    MINUS = "minus"
    PARENTHESES = "parentheses"


class Transform(enum.StrEnum):
    """What happens to the letters of a text."""

    NONE = "none"
    UPPER = "upper"
    LOWER = "lower"
    TITLE = "title"


SYMBOLS: dict[str, str] = {
    "EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥", "CNY": "¥", "INR": "₹", "KRW": "₩", "BRL": "R$", "TRY": "₺", "UAH": "₴", "ILS": "₪",
    "VND": "₫", "NGN": "₦", "PHP": "₱", "AUD": "A$", "CAD": "C$", "NZD": "NZ$", "MXN": "MX$", "HKD": "HK$", "SGD": "S$", "TWD": "NT$",
}  # fmt: skip
PLACES: dict[str, int] = {
    "JPY": 0,
    "KRW": 0,
    "VND": 0,
    "CLP": 0,
    "ISK": 0,
    "BHD": 3,
    "KWD": 3,
    "OMR": 3,
    "TND": 3,
    "JOD": 3,
}  # ISO 4217; others 2

_DIRECTIVES = frozenset("aAbBcdfHIjmMpSuUVwWxXyYzZGe%")
_PATTERNS = {FormatType.DATE: "%Y-%m-%d", FormatType.DATETIME: "%Y-%m-%d %H:%M:%S"}


class Format(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the values of a field are printed. Options that do not belong to the type are ignored, so that formats can be derived."""

    type: FormatType | str = FormatType.AUTO
    precision: int | None = None  # places behind the point; None: 2, for money what the currency has
    thousands: str = ","
    decimal_mark: str = "."
    negative: Negative | str = Negative.MINUS
    currency: str = ""  # ISO 4217 code; "": the value's own, if it has one
    currency_style: CurrencyStyle | str = CurrencyStyle.SYMBOL
    pattern: str = ""  # of dates, as strftime takes it
    transform: Transform | str = Transform.NONE
    max_length: int | None = None  # letters; a longer text ends with an ellipsis
    true: str = "yes"
    false: str = "no"
    empty: str = ""  # what stands for a missing value

    def __post_init__(self) -> None:
        for name, options in (("type", FormatType), ("negative", Negative), ("currency_style", CurrencyStyle), ("transform", Transform)):
            value = getattr(self, name)
            if value not in list(options):
                raise unknown(f"format {name}", str(value), list(options))
            msgspec.structs.force_setattr(self, name, options(value))
        if self.precision is not None and not 0 <= self.precision <= 15:
            raise PlacedError(f"a format's precision is 0 to 15 places, got {self.precision}")
        if self.max_length is not None and self.max_length < 1:
            raise PlacedError(f"a format's max_length is at least 1 letter, got {self.max_length}")
        if self.currency and not (len(self.currency) == 3 and self.currency.isascii() and self.currency.isupper()):
            raise PlacedError(f"a currency is an ISO 4217 code of three capital letters, such as 'EUR', got {self.currency!r}")
        if self.thousands and self.thousands == self.decimal_mark:
            raise PlacedError(f"thousands and decimal_mark are both {self.thousands!r}: a reader could not tell them apart")
        _check_pattern(self.pattern)


def _check_pattern(pattern: str) -> None:
    """Refuse a date pattern with a directive that strftime does not have on every machine."""
    rest = iter(pattern)
    for letter in rest:
        if letter != "%":
            continue
        directive = next(rest, "")
        if directive == "-":  # no leading zero
            directive = next(rest, "")
        if directive not in _DIRECTIVES or not directive:
            raise PlacedError(
                f"date pattern {pattern!r} has the unknown directive '%{directive}'; known are %Y %m %d %b %a %H %M %S and so on"
            )


BUILT_IN: dict[str, Format] = {entry.value: Format(type=entry) for entry in FormatType}

_ARGUMENTS: dict[FormatType, Callable[[str], Format]] = {
    FormatType.TEXT: lambda text: Format(type="text", max_length=int(text)),
    FormatType.NUMBER: lambda text: Format(type="number", precision=int(text)),
    FormatType.PERCENT: lambda text: Format(type="percent", precision=int(text)),
    FormatType.MONEY: lambda text: Format(type="money", currency=text),
    FormatType.DATE: lambda text: Format(type="date", pattern=text),
    FormatType.DATETIME: lambda text: Format(type="datetime", pattern=text),
}


def format_named(name: str | Format, declared: Mapping[str, Format] | None = None) -> Format:
    """Return the format that an author meant.

    Args:
        name: a name of `declared`, a built-in name, a built-in name with its argument behind a colon, "" for auto, or a format.
        declared: the report's own formats; they win over the built-in ones.
    Raises: ReportError that names the nearest known format.

    >>> format_named("money:EUR").currency
    'EUR'
    """
    if isinstance(name, Format):
        return name
    declared = declared or {}
    if name in declared:
        return declared[name]
    if not name:
        return BUILT_IN["auto"]
    base, colon, argument = name.partition(":")
    if base not in BUILT_IN:
        raise unknown("format", name, [*declared, *BUILT_IN])
    if not colon:
        return BUILT_IN[base]
    make = _ARGUMENTS.get(FormatType(base))
    if make is None or not argument:
        takes = ", ".join(f"{entry}:..." for entry in _ARGUMENTS)
        raise PlacedError(f"format {name!r}: {base!r} takes no such argument; those that do: {takes}")
    try:
        return make(argument)
    except ValueError:
        raise PlacedError(f"format {name!r}: {argument!r} is not a whole number") from None


_OF_KIND: dict[Kind, FormatType] = {
    Kind.TEXT: FormatType.TEXT,
    Kind.INTEGER: FormatType.INTEGER,
    Kind.NUMBER: FormatType.NUMBER,
    Kind.DECIMAL: FormatType.NUMBER,
    Kind.MONEY: FormatType.MONEY,
    Kind.BOOLEAN: FormatType.BOOLEAN,
    Kind.DATE: FormatType.DATE,
    Kind.DATETIME: FormatType.DATETIME,
    Kind.UUID: FormatType.TEXT,
}


def resolved(chosen: Format, kind: Kind) -> Format:
    """Return a format whose type is no longer AUTO."""
    return chosen if chosen.type is not FormatType.AUTO else msgspec.structs.replace(chosen, type=_OF_KIND[kind])


def formatter(chosen: Format, kind: Kind = Kind.TEXT) -> Formatter:
    """Return the function that prints one value.

    >>> formatter(format_named("money:EUR"))(decimal.Decimal("1234.565"))
    '€1,234.57'
    >>> formatter(format_named("date:%d %b %Y"))(datetime.date(2026, 3, 1))
    '01 Mar 2026'
    """
    spec = resolved(chosen, kind)
    write = _WRITERS[FormatType(spec.type)](spec)
    empty = spec.empty

    def text(value: Any) -> str:
        return empty if value is None else write(value)

    return text


def format_all(values: Iterable[Any], write: Formatter) -> list[str]:
    """Print a column of values; a value that repeats is printed once.

    HOT: a report of 100,000 rows prints millions of cells, and most columns hold few distinct values.
    """
    known: dict[Any, str] = {}
    texts = []
    for value in values:
        try:
            text = known.get((value.__class__, value))
        except TypeError:  # a list or a dict, which no dict takes as a key
            texts.append(write(value))
            continue
        if text is None:
            text = write(value)
            if len(known) < 10_000:
                known[(value.__class__, value)] = text
        texts.append(text)
    return texts


def _number(spec: Format, places: int) -> Formatter:
    """Return how a number is printed with this many places; Decimals half up."""
    pattern = f",.{places}f"
    quantum = decimal.Decimal(1).scaleb(-places)
    exact = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_UP)
    marks = str.maketrans({",": spec.thousands, ".": spec.decimal_mark})
    swap = (spec.thousands, spec.decimal_mark) != (",", ".")
    parentheses = spec.negative is Negative.PARENTHESES

    def text(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, float, decimal.Decimal)):
            return str(value)
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else ("∞" if value > 0 else "-∞")
        if isinstance(value, decimal.Decimal) and value.adjusted() < 40:
            value = exact.quantize(value, quantum)
        written = format(abs(value), pattern)
        below = value < 0 and any(letter in "123456789" for letter in written)  # -0.001 with two places is 0.00, not -0.00
        if swap:
            written = written.translate(marks)
        if not below:
            return written
        return f"({written})" if parentheses else f"-{written}"

    return text


_CHANGES: dict[Transform, Callable[[str], str]] = {
    Transform.NONE: str,
    Transform.UPPER: str.upper,
    Transform.LOWER: str.lower,
    Transform.TITLE: str.title,
}


def _text(spec: Format) -> Formatter:
    change = _CHANGES[Transform(spec.transform)]
    limit = spec.max_length

    def text(value: Any) -> str:
        written = change(value if isinstance(value, str) else str(value))
        return written if limit is None or len(written) <= limit else written[: limit - 1].rstrip() + "…"

    return text


def _percent(spec: Format) -> Formatter:
    write = _number(spec, 1 if spec.precision is None else spec.precision)

    def text(value: Any) -> str:
        number = not isinstance(value, bool) and isinstance(value, (int, float, decimal.Decimal))
        return f"{write(value * 100)}%" if number else str(value)

    return text


def _money(spec: Format) -> Formatter:
    """Return how an amount is printed; a value that is a mapping of amount and currency brings its own currency."""
    writers: dict[str, Formatter] = {}

    def amount(value: Any, currency: str) -> str:
        write = writers.get(currency)
        if write is None:
            write = writers[currency] = _number(spec, spec.precision if spec.precision is not None else PLACES.get(currency, 2))
        written = write(value)
        if not currency or spec.currency_style is CurrencyStyle.NONE or not math.isfinite(value):
            return written
        symbol = SYMBOLS.get(currency) if spec.currency_style is CurrencyStyle.SYMBOL else None
        if symbol is None:
            return f"{written[:-1]} {currency})" if written.endswith(")") else f"{written} {currency}"
        if written.startswith(("-", "(")):
            return f"{written[0]}{symbol}{written[1:]}"
        return f"{symbol}{written}"

    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            own = value.get("amount")
            return spec.empty if own is None else amount(own, spec.currency or str(value.get("currency") or ""))
        if isinstance(value, bool) or not isinstance(value, (int, float, decimal.Decimal)):
            return str(value)
        return amount(value, spec.currency)

    return text


def _date(spec: Format) -> Formatter:
    pattern = spec.pattern or _PATTERNS[FormatType(spec.type)]

    def text(value: Any) -> str:
        if isinstance(value, (datetime.date, datetime.datetime)):
            return value.strftime(pattern)
        return str(value)

    return text


def _boolean(spec: Format) -> Formatter:
    def text(value: Any) -> str:
        return (spec.true if value else spec.false) if isinstance(value, bool) else str(value)

    return text


_WRITERS: dict[FormatType, Callable[[Format], Formatter]] = {
    FormatType.AUTO: _text,
    FormatType.TEXT: _text,
    FormatType.INTEGER: lambda spec: _number(spec, 0),
    FormatType.NUMBER: lambda spec: _number(spec, 2 if spec.precision is None else spec.precision),
    FormatType.PERCENT: _percent,
    FormatType.MONEY: _money,
    FormatType.DATE: _date,
    FormatType.DATETIME: _date,
    FormatType.BOOLEAN: _boolean,
}
