"""A report, declared: where its rows come from, what they hold, how they are grouped, and what is printed where.

A `Report` is frozen data. It is checked as a whole the moment it is made (`check.py`): an unknown field, a malformed aggregate, a group
level that does not exist or an unknown format is a ReportError there and then, not a broken page an hour later. A report without bands
gets the obvious ones: a title, a table of all its fields, a header and a footer for each group, a summary.

Not here: reading rows (`loader.py`), aggregation settings (`bridge.py`), layout (`render/`). Expressions are SQL, never Python.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec

from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.report.bands import (
    Aggregate,
    Band,
    BandKind,
    Field,
    Label,
    option,
)
from floodmark.systems.pipeline.report.errors import PlacedError
from floodmark.systems.pipeline.report.formats import Format
from floodmark.systems.pipeline.report.kinds import NUMERIC, Kind, kind_of
from floodmark.systems.pipeline.report.parameters import Parameter
from floodmark.systems.pipeline.report.words import named

OUTPUTS = ("pdf", "png", "svg", "html", "jsonl", "csv")
MAX_GROUPS = 10_000


class VariableType(enum.StrEnum):
    """What a variable does with the values of its expression."""

    SUM = "sum"
    COUNT = "count"
    AVERAGE = "average"
    MIN = "min"
    MAX = "max"
    CUSTOM = "custom"  # computed from fields and the variables declared before it, whenever it is printed


class Reset(enum.StrEnum):
    """When a variable begins anew."""

    DETAIL = "detail"  # with every row
    GROUP = "group"  # with every group of its reset_group level
    PAGE = "page"
    REPORT = "report"  # never


class Sort(enum.StrEnum):
    """Which group comes first."""

    ASC = "asc"
    DESC = "desc"


class Variable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that grows from row to row and can be printed anywhere by its name."""

    name: str
    type: VariableType | str
    expression: str = ""  # over fields; of a count it may be left empty, then rows are counted
    reset_on: Reset | str = Reset.REPORT
    reset_group: int | None = None  # the group level, of reset_on group
    initial: Any = None  # None: 0 for sum and count, no value for average, min and max

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "type", option(VariableType, "variable type", self.type))
        msgspec.structs.force_setattr(self, "reset_on", option(Reset, "reset_on", self.reset_on))
        if not self.name.isidentifier():
            raise PlacedError(f"a variable's name is made of letters, digits and _, got {self.name!r}")
        if not self.expression and self.type is not VariableType.COUNT:
            raise PlacedError(f"of type {self.type} needs an expression", self.place)
        if (self.reset_on is Reset.GROUP) != (self.reset_group is not None):
            raise PlacedError("reset_on group and reset_group go together: give both or neither", self.place)

    @property
    def place(self) -> str:
        """Return how errors name this variable."""
        return f"variable {self.name!r}"


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that belong together at one level; level 1 is the outermost, and a level may be left out.

    The expression is a field, a path through relationships, or a computation such as `date_part('year', sold_at)`; "" stands for the field
    named like the group. The rows of a group must follow each other, so the loader orders the query by the group fields; with a computed
    group the query has to name its own order, or the report be `presorted`.
    """

    level: int
    name: str
    expression: str | Field = ""
    sort: Sort | str = Sort.ASC
    expected_count: int | None = None  # distinct values, when known: makes the memory estimate before a run exact

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "sort", option(Sort, "sort", self.sort))
        if self.level < 1:
            raise PlacedError(f"levels begin at 1, got {self.level}", self.place)
        if not self.name:
            raise PlacedError("a group needs a name", self.place)
        if self.expected_count is not None and self.expected_count < 1:
            raise PlacedError(f"expected_count is at least 1, got {self.expected_count}", self.place)

    @property
    def text(self) -> str:
        """Return what the group is made by, as text."""
        if isinstance(self.expression, Field):
            return self.expression.source
        return self.expression or self.name

    @property
    def place(self) -> str:
        """Return how errors name this group."""
        return f"group {self.name!r} (level {self.level})"


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One report, whole and checked."""

    name: str
    query: Query | str  # or the name of a table
    fields: Mapping[str, Kind | str | type]  # what the rows hold, by name; `customer.name` for a field of a relationship
    title: str = ""  # "": made from the name
    description: str = ""
    author: str = ""
    source: str = ""  # such as sqlite:///sales.db; "": given when the report is run
    parameters: tuple[Parameter, ...] = ()
    variables: tuple[Variable, ...] = ()
    groups: tuple[Group, ...] = ()  # kept in the order of their levels
    bands: tuple[Band, ...] = ()  # (): the obvious ones
    formats: Mapping[str, Format] = {}  # the report's own, by name
    outputs: tuple[str, ...] = OUTPUTS  # what it may be rendered as
    presorted: bool = False  # the source gives the rows in group order by itself: it is not asked to order them
    max_groups: int = MAX_GROUPS  # of each level; rows of further groups are printed but not aggregated

    def __post_init__(self) -> None:
        for name in ("parameters", "variables", "bands", "outputs"):
            msgspec.structs.force_setattr(self, name, tuple(getattr(self, name)))
        msgspec.structs.force_setattr(self, "query", self.rows)
        msgspec.structs.force_setattr(self, "groups", tuple(sorted(self.groups, key=lambda group: group.level)))
        try:
            msgspec.structs.force_setattr(self, "fields", {name: kind_of(kind) for name, kind in self.fields.items()})
        except PlacedError as error:
            raise error.within(f"{self.place}, fields") from None
        if not self.title:
            msgspec.structs.force_setattr(self, "title", self.name.replace("_", " ").replace("-", " ").strip().capitalize())
        if not self.bands:
            msgspec.structs.force_setattr(self, "bands", obvious_bands(self))
        from floodmark.systems.pipeline.report.check import check  # here: check reads the model, and the model is complete only now

        check(self)

    @property
    def place(self) -> str:
        """Return how errors name this report."""
        return f"report {self.name!r}"

    @property
    def rows(self) -> Query:
        """Return the query, also where the report named a table only."""
        return self.query if isinstance(self.query, Query) else Query(table=self.query)

    @property
    def kinds(self) -> dict[str, Kind]:
        """Return what each field holds."""
        return {name: kind_of(kind) for name, kind in self.fields.items()}

    def bands_of(self, kind: BandKind | str, group_level: int | None = None) -> tuple[Band, ...]:
        """Return the visible bands of a kind (and level), in the order declared."""
        return tuple(
            band for band in self.bands if band.visible and band.kind == kind and (group_level is None or band.group_level == group_level)
        )


def obvious_bands(report: Report) -> tuple[Band, ...]:
    """Return the bands of a report that declares none: every field a column, numbers summed per group and at the end."""
    names = tuple(report.fields)
    numbers = tuple(name for name, kind in report.kinds.items() if kind in NUMERIC)
    grouped = {group.text for group in report.groups}

    def totals(label: str) -> tuple[Label | Aggregate, ...]:
        count = Aggregate(function="count", label="Records", format="integer")
        return (
            Label(text=label, bold=True),
            count,
            *(Aggregate(function="sum", source=named(name), label=f"Sum of {name}") for name in numbers),
        )

    bands = [Band(kind="title", elements=(Label(text=report.title, bold=True),))]
    bands += [
        Band(kind="group_header", group_level=group.level, elements=(Field(source=group.name, bold=True),)) for group in report.groups
    ]
    bands.append(Band(kind="detail", elements=tuple(Field(source=name) for name in names if name not in grouped)))
    bands += [
        Band(kind="group_footer", group_level=group.level, elements=totals(f"Total of {group.name}")) for group in reversed(report.groups)
    ]
    bands.append(Band(kind="summary", elements=totals("Total")))
    return tuple(bands)
