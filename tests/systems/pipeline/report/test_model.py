"""A report is checked when it is declared: each mistake is one sentence that names the place and the nearest valid thing."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.query import Query, Relation
from floodmark.systems.pipeline.report import (
    Aggregate,
    Band,
    BandKind,
    Expression,
    Field,
    Group,
    Kind,
    Label,
    Line,
    Parameter,
    Report,
    ReportError,
    Variable,
)
from floodmark.systems.pipeline.report.errors import PlacedError
from floodmark.systems.pipeline.report.words import named
from tests.systems.pipeline.report.declared import FIELDS, sales_report


def detail(*elements: Any) -> tuple[Band, ...]:
    return (Band(kind="detail", elements=elements),)


def footer(*elements: Any) -> tuple[Band, ...]:
    return (Band(kind="group_footer", group_level=1, elements=elements),)


def test_report_whole_keeps_what_was_declared_in_order_of_levels() -> None:
    report = sales_report(groups=(Group(level=5, name="customer"), Group(level=2, name="territory")), bands=())

    assert [group.level for group in report.groups] == [2, 5]
    assert report.kinds["amount"] is Kind.MONEY
    assert report.title == "Sales"
    assert report.rows == Query(table="sales")


def test_report_without_bands_gets_a_table_of_its_fields_with_totals() -> None:
    report = Report(
        name="plain_sales",
        query="sales",
        fields={"territory": str, "unit price": float, "quantity": int},
        groups=(Group(level=1, name="territory"),),
    )

    (columns,) = report.bands_of("detail")
    (totals,) = report.bands_of(BandKind.GROUP_FOOTER, 1)
    assert [element.source for element in columns.elements if isinstance(element, Field)] == ["unit price", "quantity"]
    assert [element.text for element in totals.elements if isinstance(element, Aggregate)] == [
        "COUNT(*)",
        'SUM("unit price")',
        "SUM(quantity)",
    ]
    assert report.bands_of("summary")
    assert report.rows.table == "sales"


def test_report_hidden_band_is_checked_but_not_given_out() -> None:
    hidden = Band(kind="detail", elements=(Field(source="amount"),), visible=False)

    assert sales_report(bands=(hidden,)).bands_of("detail") == ()
    with pytest.raises(ReportError, match="unknown field 'amont'"):
        sales_report(bands=(Band(kind="detail", elements=(Field(source="amont"),), visible=False),))


def header(level: int, *elements: Any) -> Band:
    return Band(kind="group_header", group_level=level, elements=elements)


COUNT = Aggregate(function="count")
TERRITORY = Group(level=1, name="territory")
MONTH = Group(level=1, name="month", expression="strftime(sold_at, '%Y-%m')")

MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown field": ({"bands": detail(Field(source="amuont"))}, "amount", r"^report 'sales', band detail, element 1 \(Field"),
    "unknown field in expression": ({"bands": detail(Expression(text="qantity * 2"))}, "quantity", "unknown field 'qantity'"),
    "unknown group field": ({"groups": (Group(level=1, name="teritory"),), "bands": ()}, "territory", r"group 'teritory' \(level 1\)"),
    "malformed aggregate": ({"bands": footer(Expression(text="SUM(amount"))}, "", "1 bracket is not closed"),
    "misspelt aggregate": ({"bands": footer(Expression(text="SUMM(amount)"))}, "SUM", "unknown function 'SUMM'"),
    "sum of text": ({"bands": footer(Aggregate(function="sum", source="customer"))}, "", "SUM needs numbers, and 'customer' is text"),
    "level without group": ({"bands": (Band(kind="group_header", group_level=4),)}, "2", "there is no group of level 4; levels: 1, 2"),
    "reset of no level": ({"variables": (Variable(name="v", type="count", reset_on="group", reset_group=3),)}, "2", "no group of level 3"),
    "unknown format": ({"bands": detail(Field(source="amount", format="mony"))}, "money", "unknown format 'mony'"),
    "format of another kind": ({"bands": detail(Field(source="amount", format="date"))}, "money", "the format date does not suit money"),
    "money for text": ({"bands": detail(Field(source="customer", format="money"))}, "text", "does not suit text values"),
    "unknown output": ({"outputs": ("pfd",)}, "pdf", "unknown output 'pfd'"),
    "unknown kind": ({"fields": {"amount": "mony"}}, "money", "fields: unknown kind 'mony'"),
    "field type that is none": ({"fields": {"amount": list}}, "", "unknown type 'list'"),
    "group twice": ({"groups": (TERRITORY, Group(level=2, name="territory"))}, "", "group 'territory' is there twice"),
    "level twice": ({"groups": (TERRITORY, Group(level=1, name="customer"))}, "", "group level '1' is there twice"),
    "variable twice": ({"variables": (Variable(name="n", type="count"),) * 2}, "", "variable 'n' is there twice"),
    "parameter twice": ({"parameters": (Parameter(name="p"), Parameter(name="p"))}, "", "parameter 'p' is there twice"),
    "band twice": ({"bands": (*detail(), *detail())}, "", "band 'detail' is there twice"),
    "output twice": ({"outputs": ("pdf", "pdf")}, "", "output 'pdf' is there twice"),
    "no output": ({"outputs": ()}, "", "at least one output"),
    "variable like a field": ({"variables": (Variable(name="amount", type="count"),)}, "", "a field or a group of that name"),
    "group like another field": ({"groups": (Group(level=1, name="amount", expression="territory"),)}, "", "named like the field 'amount'"),
    "no fields": ({"fields": {}, "bands": ()}, "", "needs its fields"),
    "empty field name": ({"fields": {"a..b": str}, "bands": ()}, "", "got 'a..b'"),
    "no name": ({"name": ""}, "", "needs a name"),
    "max_groups": ({"max_groups": 0}, "", "max_groups is at least 1"),
    "query parameter": ({"query": Query(table="sales", where="sold_at > :sinse AND note <> ':no'")}, "since", "unknown parameter 'sinse'"),
    "column not read": ({"query": Query(table="sales", columns=("territory", "customer"))}, "", "the query does not read it"),
    "computed group without order": ({"groups": (MONTH,), "bands": ()}, "", "give query.order_by"),
    "aggregate in the title": ({"bands": (Band(kind="title", elements=(Aggregate(function="count"),)),)}, "", "put it into the summary"),
    "field in the title": ({"bands": (Band(kind="title", elements=(Field(source="amount"),)),)}, "", "before the first row"),
    "field in the summary": ({"bands": (Band(kind="summary", elements=(Field(source="amount"),)),)}, "", "no one value"),
    "aggregate in the header": ({"bands": (header(1, Aggregate(function="count")),)}, "", "put it into the group_footer"),
    "page total in the page header": ({"bands": (Band(kind="page_header", elements=(COUNT,)),)}, "", "put it into the page_footer"),
    "page total in a footer": ({"bands": footer(Aggregate(function="count", scope="page"))}, "", "scope page is for page headers"),
    "inner group in an outer footer": ({"bands": footer(Aggregate(function="count", scope="group", group_level=2))}, "", "have ended"),
    "aggregate without scope in detail": ({"bands": detail(Aggregate(function="count"))}, "", "seen so far"),
    "group scope without a level": ({"bands": detail(Aggregate(function="count", scope="group"))}, "", "needs a group_level"),
    "level without group scope": ({"bands": footer(Aggregate(function="count", group_level=1))}, "", "only scope group has"),
    "page variable in detail": (
        {"variables": (Variable(name="n", type="count", reset_on="page"),), "bands": detail(Field(source="n"))},
        "",
        "page headers and page footers only",
    ),
    "custom variable of a later one": (
        {"variables": (Variable(name="a", type="custom", expression="b + 1"), Variable(name="b", type="count")), "bands": detail()},
        "",
        "variable 'a'.*unknown field 'b'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_report_with_a_mistake_is_refused_with_its_place_and_the_nearest_name(mistake: str) -> None:
    changes, near, message = MISTAKES[mistake]

    with pytest.raises(ReportError, match=message) as caught:
        sales_report(**changes)

    assert caught.value.near == near
    assert isinstance(caught.value, UsageError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


PARTS: dict[str, tuple[Any, str]] = {
    "kind of band": (lambda: Band(kind="details"), "unknown kind of band 'details'; did you mean 'detail'"),
    "band of a wrong level": (lambda: Band(kind="group_header", group_level=0), "group levels begin at 1"),
    "group band without level": (lambda: Band(kind="group_footer"), "needs a group_level"),
    "level of a title": (lambda: Band(kind="title", group_level=1), "has a group_level"),
    "element that is none": (lambda: Band(kind="title", elements=("text",)), "element 1 is a str"),  # type: ignore[arg-type]
    "function": (lambda: Aggregate(function="summ", source="x"), "unknown aggregate function 'summ'; did you mean 'sum'"),
    "aggregate of nothing": (lambda: Aggregate(function="sum"), "needs a source"),
    "scope": (lambda: Aggregate(function="count", scope="bands"), "unknown scope 'bands'"),
    "alignment": (lambda: Label(text="x", align="middle"), "unknown alignment 'middle'"),
    "width": (lambda: Label(text="x", width=float("nan")), "width is a share above 0"),
    "line": (lambda: Line(thickness_pt=0), "thickness_pt is above 0"),
    "direction": (lambda: Line(direction="up"), "unknown direction 'up'"),
    "group level": (lambda: Group(level=0, name="x"), "levels begin at 1"),
    "group name": (lambda: Group(level=1, name=""), "needs a name"),
    "group size": (lambda: Group(level=1, name="x", expected_count=0), "at least 1"),
    "sort": (lambda: Group(level=1, name="x", sort="down"), "unknown sort"),
    "variable name": (lambda: Variable(name="a b", type="count"), "letters, digits and _"),
    "variable type": (lambda: Variable(name="a", type="avg"), "unknown variable type 'avg'; did you mean 'average'"),
    "variable of nothing": (lambda: Variable(name="a", type="sum"), "needs an expression"),
    "reset without level": (lambda: Variable(name="a", type="count", reset_on="group"), "go together"),
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_part_with_a_mistake_is_refused_by_itself(part: str) -> None:
    make, message = PARTS[part]

    with pytest.raises(ReportError, match=message):
        make()


def test_report_of_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="nme"):
        Report(nme="x")  # type: ignore[call-arg]


def test_report_fields_of_relationships_need_no_column_of_the_query() -> None:
    relation = Relation(name="buyer", kind="belongs_to", table="buyers", local=("buyer_id",), foreign=("id",))
    query = Query(table="sales", columns=("amount", "buyer_id"), relations=(relation,))

    report = Report(name="r", query=query, fields={"amount": "money", "buyer.name": str})

    assert list(report.kinds) == ["amount", "buyer.name"]


def test_report_what_may_stand_where_is_accepted() -> None:
    so_far = Aggregate(function="sum", source="amount", scope="group", group_level=1)
    bands = (
        Band(kind="title", elements=(Label(text="Sales"), Expression(text="'since ' || CAST(:since AS text)"))),
        Band(kind="page_header", elements=(Field(source="territory"), Aggregate(function="count", scope="report"))),
        Band(
            kind="group_header",
            group_level=2,
            elements=(Field(source="customer"), so_far),
        ),
        Band(kind="detail", elements=(Field(source="amount"), so_far)),
        Band(kind="group_footer", group_level=2, elements=(Expression(text="customer || ': ' || CAST(SUM(amount) AS text)"),)),
        Band(kind="page_footer", elements=(Aggregate(function="sum", source="amount"), Field(source="per_page"))),
        Band(kind="summary", elements=(Field(source="share"),)),
    )
    variables = (
        Variable(name="per_page", type="count", reset_on="page"),
        Variable(name="all", type="sum", expression="amount"),
        Variable(name="share", type="custom", expression='"all" / 2'),
    )

    assert sales_report(bands=bands, variables=variables).bands == bands


def test_headings_are_made_from_names_unless_given() -> None:
    assert Field(source="customer.first_name").heading == "Customer first name"
    assert Field(source="amount", label="EUR").heading == "EUR"
    assert Aggregate(function="avg", source="amount").heading == "AVG(amount)"
    assert Expression(text="1 + 1", label="two").heading == "two"


def test_named_is_quoted_only_where_it_must() -> None:
    assert [named(name) for name in ("amount", "end", 'a"b', *FIELDS)][:3] == ["amount", '"end"', '"a""b"']


PARAMETER = Parameter(name="limit", type="decimal", minimum=1, maximum="99.5")


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        (PARAMETER, "0.5", "below the minimum 1"),
        (PARAMETER, 100, "above the maximum 99.5"),
        (PARAMETER, "much", "cannot read 'much' as decimal"),
        (Parameter(name="p", choices=("north", "south")), "east", "not one of north, south"),
        (Parameter(name="p", pattern="[A-Z]{2}"), "de", "does not match"),
        (Parameter(name="p", max_length=3), "long", "longer than 3 letters"),
        (Parameter(name="p", type="date"), "2026-02-30", "cannot read"),
        (Parameter(name="p", type="uuid"), "no", "cannot read"),
        (Parameter(name="p", type="integer"), "1.5", "cannot read"),
        (Parameter(name="p", type="boolean"), "perhaps", "cannot read"),
    ],
)
def test_parameter_value_out_of_its_bounds_is_refused(parameter: Parameter, value: Any, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        parameter.read(value)


def test_parameter_text_is_read_as_its_kind() -> None:
    assert PARAMETER.read("12.50") == Decimal("12.50")
    assert Parameter(name="p", type="boolean").read("true") is True
    assert Parameter(name="p", type="integer", default="7").default == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a b"}, "letters, digits and _"),
        ({"required": True, "default": "x"}, "only be one of them"),
        ({"pattern": "("}, "no regular expression"),
        ({"minimum": 1}, "minimum and maximum are for numbers"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "minimum 2 is above maximum 1"),
        ({"type": "integer", "default": "x"}, "cannot read 'x' as integer"),
        ({"choices": ("a",), "default": "b"}, "not one of"),
    ],
)
def test_parameter_declared_wrongly_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlacedError, match=message):
        Parameter(**({"name": "p"} | changes))
