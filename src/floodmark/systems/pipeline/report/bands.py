"""Bands and what stands in them: the parts of a report's page, as plain data.

A band is a strip of the page that is printed at one moment of the run through the rows: once at the start, on every page, where a group
begins or ends, for every row, once at the end. An element is one cell of it. Everything is frozen and checked for itself here; what needs
the whole report (does this field exist, is there a group of this level) is checked by `check.py`.

Not here: where on the page anything lands. A renderer lays the elements of a band out from left to right, in the order given; in a detail
band they are the columns of the table.
"""

from __future__ import annotations

import enum
import math
from typing import TypeAlias, TypeVar

import msgspec

from floodmark.systems.pipeline.report.errors import PlacedError, unknown
from floodmark.systems.pipeline.report.formats import Format


class BandKind(enum.StrEnum):
    """When a band is printed."""

    TITLE = "title"  # once, before everything
    PAGE_HEADER = "page_header"  # at the top of every page
    GROUP_HEADER = "group_header"  # where a group of its level begins
    DETAIL = "detail"  # for every row
    GROUP_FOOTER = "group_footer"  # where a group of its level ends
    PAGE_FOOTER = "page_footer"  # at the bottom of every page
    SUMMARY = "summary"  # once, after everything


GROUP_KINDS = (BandKind.GROUP_HEADER, BandKind.GROUP_FOOTER)
PAGE_KINDS = (BandKind.PAGE_HEADER, BandKind.PAGE_FOOTER)


class Scope(enum.StrEnum):
    """Which rows an aggregate is taken over."""

    BAND = "band"  # what the band it stands in covers: its group, its page, or the report
    GROUP = "group"
    PAGE = "page"
    REPORT = "report"


class Align(enum.StrEnum):
    """Where a cell's text stands; AUTO puts numbers to the right and everything else to the left."""

    AUTO = "auto"
    LEFT = "left"
    CENTER = "center"
    RIGHT = "right"


class Direction(enum.StrEnum):
    """Which way a line runs."""

    HORIZONTAL = "horizontal"
    VERTICAL = "vertical"


FUNCTIONS: dict[str, str] = {
    "sum": "SUM",
    "count": "COUNT",
    "avg": "AVG",
    "average": "AVG",
    "min": "MIN",
    "max": "MAX",
}  # as written: in SQL

Option = TypeVar("Option", bound=enum.StrEnum)


def option(options: type[Option], what: str, written: str) -> Option:
    """Return the option that was written, or raise a ReportError that names the nearest one."""
    if written not in list(options):
        raise unknown(what, str(written), list(options))
    return options(written)


class Element(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all cells have."""

    width: float | None = None  # share of the line, relative to its neighbours; None: chosen from the content
    align: Align | str = Align.AUTO
    bold: bool = False

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "align", option(Align, "alignment", self.align))
        if self.width is not None and not 0 < self.width < math.inf:
            raise PlacedError(f"an element's width is a share above 0, got {self.width!r}")


class Label(Element, frozen=True, kw_only=True, tag="label"):
    """Fixed text."""

    text: str


class Field(Element, frozen=True, kw_only=True, tag="field"):
    """The value of a field, a computed group or a variable."""

    source: str  # its name; `customer.name` for a field of a relationship
    format: str | Format = ""
    label: str = ""  # the heading of its column; "": made from the name

    @property
    def heading(self) -> str:
        """Return the words above its column.

        >>> Field(source="customer.first_name").heading
        'Customer first name'
        """
        return self.label or self.source.replace(".", " ").replace("_", " ").strip().capitalize()


class Expression(Element, frozen=True, kw_only=True, tag="expression"):
    """A value computed from fields, variables, parameters (`:since`) and aggregates: `SUM(amount * quantity) / COUNT(*)`."""

    text: str
    scope: Scope | str = Scope.BAND  # of the aggregates in it
    group_level: int | None = None  # of scope group; None: the band's own level
    format: str | Format = ""
    label: str = ""

    def __post_init__(self) -> None:
        Element.__post_init__(self)
        msgspec.structs.force_setattr(self, "scope", option(Scope, "scope", self.scope))

    @property
    def heading(self) -> str:
        """Return the words above its column."""
        return self.label or self.text


class Aggregate(Element, frozen=True, kw_only=True, tag="aggregate"):
    """One aggregate of one value, the short form of an expression: `Aggregate(function="sum", source="amount")` is `SUM(amount)`."""

    function: str
    source: str = ""  # a field or an expression over fields; only a count may leave it empty
    scope: Scope | str = Scope.BAND
    group_level: int | None = None  # of scope group; None: the band's own level
    format: str | Format = ""
    label: str = ""

    def __post_init__(self) -> None:
        Element.__post_init__(self)
        msgspec.structs.force_setattr(self, "scope", option(Scope, "scope", self.scope))
        if self.function not in FUNCTIONS:
            raise unknown("aggregate function", self.function, FUNCTIONS)
        if not self.source and self.function != "count":
            raise PlacedError(f"aggregate {self.function!r} needs a source: the field or expression it is taken of")

    @property
    def text(self) -> str:
        """Return the aggregate as an expression.

        >>> Aggregate(function="average", source="amount").text
        'AVG(amount)'
        """
        return f"{FUNCTIONS[self.function]}({self.source or '*'})"

    @property
    def heading(self) -> str:
        """Return the words above its column."""
        return self.label or self.text


class Line(Element, frozen=True, kw_only=True, tag="line"):
    """A rule across the page."""

    direction: Direction | str = Direction.HORIZONTAL
    thickness_pt: float = 1.0

    def __post_init__(self) -> None:
        Element.__post_init__(self)
        msgspec.structs.force_setattr(self, "direction", option(Direction, "direction", self.direction))
        if not 0 < self.thickness_pt <= 100:
            raise PlacedError(f"a line's thickness_pt is above 0 and at most 100, got {self.thickness_pt!r}")


AnyElement: TypeAlias = Label | Field | Expression | Aggregate | Line
Valued: TypeAlias = Field | Expression | Aggregate  # the elements that have a value


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One strip of the page."""

    kind: BandKind | str
    elements: tuple[AnyElement, ...] = ()
    group_level: int | None = None  # of group headers and footers, and of nothing else
    headings: bool = True  # detail: print the columns' headings at the top of every page
    keep_together: bool = False  # never break it across pages
    visible: bool = True

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "kind", option(BandKind, "kind of band", self.kind))
        msgspec.structs.force_setattr(self, "elements", tuple(self.elements))
        for index, element in enumerate(self.elements, start=1):
            if not isinstance(element, AnyElement):
                raise PlacedError(
                    f"element {index} is a {type(element).__name__}; a band takes Label, Field, Expression, Aggregate and Line", self.place
                )
        if self.kind in GROUP_KINDS:
            if self.group_level is None:
                raise PlacedError("needs a group_level: the level of the group it begins or ends", self.place)
            if self.group_level < 1:
                raise PlacedError(f"group levels begin at 1, got {self.group_level}", self.place)
        elif self.group_level is not None:
            raise PlacedError("has a group_level, which only a group_header and a group_footer have", self.place)

    @property
    def place(self) -> str:
        """Return how errors name this band."""
        return f"band {self.kind}" if self.group_level is None else f"band {self.kind} of level {self.group_level}"
