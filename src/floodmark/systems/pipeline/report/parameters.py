"""What a report asks its reader for: typed, checked values that are passed to the query and may stand in expressions.

Values come as Python objects or, from a command line, as text; both are read as the declared kind and held against the constraints. What
is missing, unknown or out of range is a ReportError that names the parameter.
"""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from floodmark.systems.pipeline.report.errors import PlacedError, unknown
from floodmark.systems.pipeline.report.kinds import NUMERIC, Kind, kind_of

_PYTHON: dict[Kind, type] = {
    Kind.TEXT: str,
    Kind.INTEGER: int,
    Kind.NUMBER: float,
    Kind.DECIMAL: decimal.Decimal,
    Kind.MONEY: decimal.Decimal,
    Kind.BOOLEAN: bool,
    Kind.DATE: datetime.date,
    Kind.DATETIME: datetime.datetime,
    Kind.UUID: uuid.UUID,
}


class Parameter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value that a report takes."""

    name: str
    type: Kind | str = Kind.TEXT
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    minimum: Any = None  # of numbers and dates: the smallest value allowed
    maximum: Any = None
    pattern: str = ""  # of texts: a regular expression that the whole text matches
    max_length: int | None = None  # of texts, in letters
    description: str = ""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "type", kind_of(self.type))
        if not self.name.isidentifier():
            raise PlacedError(f"a parameter's name is made of letters, digits and _, got {self.name!r}")
        if self.required and self.default is not None:
            raise PlacedError("is required and has a default; it can only be one of them", self.place)
        if self.pattern:
            try:
                re.compile(self.pattern)
            except re.error as exc:
                raise PlacedError(f"pattern {self.pattern!r} is no regular expression: {exc}", self.place) from None
        bounds = self.minimum is not None or self.maximum is not None
        if bounds and self.type not in NUMERIC | {Kind.DATE, Kind.DATETIME}:
            raise PlacedError(f"minimum and maximum are for numbers and dates, not for {self.type}", self.place)
        for name in ("minimum", "maximum"):
            if getattr(self, name) is not None:
                msgspec.structs.force_setattr(self, name, self._read(getattr(self, name)))
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise PlacedError(f"minimum {self.minimum} is above maximum {self.maximum}", self.place)
        msgspec.structs.force_setattr(self, "choices", tuple(self._read(choice) for choice in self.choices))
        if self.default is not None:
            msgspec.structs.force_setattr(self, "default", self.read(self.default))

    @property
    def place(self) -> str:
        """Return how errors name this parameter."""
        return f"parameter {self.name!r}"

    def read(self, value: Any) -> Any:
        """Return a value as the declared kind.

        Raises: ReportError for what cannot be read, or is not allowed.

        >>> Parameter(name="since", type="date").read("2026-03-01")
        datetime.date(2026, 3, 1)
        """
        known = self._read(value)
        if self.choices and known not in self.choices:
            raise PlacedError(f"{known!s} is not one of {', '.join(map(str, self.choices))}", self.place)
        if self.minimum is not None and not known >= self.minimum:
            raise PlacedError(f"{known!s} is below the minimum {self.minimum}", self.place)
        if self.maximum is not None and not known <= self.maximum:
            raise PlacedError(f"{known!s} is above the maximum {self.maximum}", self.place)
        if self.pattern and not re.fullmatch(self.pattern, str(known)):
            raise PlacedError(f"{known!r} does not match {self.pattern!r}", self.place)
        if self.max_length is not None and len(str(known)) > self.max_length:
            raise PlacedError(f"{known!r} is longer than {self.max_length} letters", self.place)
        return known

    def _read(self, value: Any) -> Any:
        if self.type is Kind.UUID:
            value = str(value)
        try:
            return msgspec.convert(value, _PYTHON[Kind(self.type)], strict=self.type is Kind.TEXT)
        except (msgspec.ValidationError, ArithmeticError):
            raise PlacedError(f"cannot read {value!r} as {self.type}", self.place) from None


def bind(parameters: tuple[Parameter, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every parameter: the given one, else its default, else None.

    Args:
        values: by parameter name; Python values or text.
    Raises: ReportError for an unknown name, a missing value, or one that is not allowed.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    for name in values:
        if name not in by_name:
            raise unknown("parameter", name, by_name)
    bound = {}
    for name, parameter in by_name.items():
        value = values.get(name)
        if value is None and parameter.required:
            raise PlacedError(f"is required ({parameter.type}): give {name}=VALUE", parameter.place)
        bound[name] = parameter.default if value is None else parameter.read(value)
    return bound
