"""How values are printed, and how chunks of any source are brought to the declared kinds."""

from __future__ import annotations

import datetime
import math
import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.pipeline.report import Format, Group, Kind, Parameter, ReportError, format_all, format_named, formatter
from floodmark.systems.pipeline.report.kinds import conform, kind_of_dtype
from floodmark.systems.pipeline.report.shape import Shape
from tests.systems.pipeline.report.declared import sales, sales_report

MOMENT = datetime.datetime(2026, 3, 1, 9, 5, 7)


@pytest.mark.parametrize(
    ("chosen", "value", "text"),
    [
        ("number", 1234567.891, "1,234,567.89"),
        ("number:0", 1234.5, "1,234"),  # binary halves go to the even neighbour
        ("number:0", Decimal("1234.5"), "1,235"),  # decimals half up
        ("number", -0.001, "0.00"),
        ("number", math.nan, "NaN"),
        ("number", -math.inf, "-∞"),
        ("integer", 10**20, "100,000,000,000,000,000,000"),
        ("number:0", Decimal("1e45"), "1" + ",000" * 15),
        ("percent", 0.1234, "12.3%"),
        ("percent:0", Decimal("0.5"), "50%"),
        ("money:EUR", Decimal("1234.565"), "€1,234.57"),
        ("money:JPY", Decimal("1234.5"), "¥1,235"),
        ("money:CHF", 12, "12.00 CHF"),
        ("money", Decimal("-3"), "-3.00"),
        ("money:USD", Decimal("-3"), "-$3.00"),
        ("money", {"amount": Decimal("9.9"), "currency": "GBP"}, "£9.90"),
        ("money", {"amount": None, "currency": "GBP"}, ""),
        ("money:EUR", math.nan, "NaN"),
        ("money:EUR", math.inf, "∞"),
        ("date", MOMENT.date(), "2026-03-01"),
        ("date:%-d %B %Y", MOMENT.date(), "1 March 2026"),
        ("datetime", MOMENT, "2026-03-01 09:05:07"),
        ("boolean", True, "yes"),
        ("text:5", "longish", "long…"),
        ("text", 17, "17"),
        ("number", "n/a", "n/a"),
        ("number", True, "True"),
        ("money:EUR", "n/a", "n/a"),
        ("percent", "n/a", "n/a"),
        ("date", "yesterday", "yesterday"),
        ("boolean", 1, "1"),
        ("number", None, ""),
    ],
)
def test_formatter_prints_a_value(chosen: str, value: Any, text: str) -> None:
    assert formatter(format_named(chosen))(value) == text


@pytest.mark.parametrize(
    ("chosen", "value", "text"),
    [
        (Format(type="number", thousands=".", decimal_mark=","), 1234.5, "1.234,50"),
        (Format(type="number", thousands="", precision=3), 1234.5, "1234.500"),
        (Format(type="money", currency="EUR", negative="parentheses"), -1234, "(€1,234.00)"),
        (Format(type="money", currency="EUR", currency_style="code"), 5, "5.00 EUR"),
        (Format(type="money", currency="EUR", currency_style="none", precision=0), 5, "5"),
        (Format(type="text", transform="upper"), "abc", "ABC"),
        (Format(type="text", transform="title"), "the sea", "The Sea"),
        (Format(type="boolean", true="paid", false="open"), False, "open"),
        (Format(type="number", empty="-"), None, "-"),
    ],
)
def test_formatter_follows_the_options_of_a_format(chosen: Format, value: Any, text: str) -> None:
    assert formatter(chosen)(value) == text


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Kind.MONEY, Decimal("2"), "2.00"),
        (Kind.INTEGER, 1000, "1,000"),
        (Kind.DECIMAL, Decimal("2.345"), "2.35"),
        (Kind.DATE, MOMENT.date(), "2026-03-01"),
        (Kind.UUID, "x", "x"),
    ],
)
def test_formatter_without_a_format_follows_the_kind(kind: Kind, value: Any, text: str) -> None:
    assert formatter(format_named(""), kind)(value) == text


def test_format_declared_in_the_report_wins_over_a_built_in_one() -> None:
    declared = {"money": Format(type="money", currency="USD"), "share": Format(type="percent", precision=0)}

    assert format_named("money", declared).currency == "USD"
    assert formatter(format_named("share", declared))(0.25) == "25%"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: format_named("mony"), "did you mean 'money'"),
        (lambda: format_named("number:x"), "'x' is not a whole number"),
        (lambda: format_named("boolean:x"), "takes no such argument"),
        (lambda: format_named("money:"), "takes no such argument"),
        (lambda: format_named("money:euro"), "ISO 4217"),
        (lambda: format_named("date:%Q"), "unknown directive '%Q'"),
        (lambda: format_named("date:%"), "unknown directive '%'"),
        (lambda: Format(type="numbre"), "unknown format type 'numbre'; did you mean 'number'"),
        (lambda: Format(precision=16), "0 to 15 places"),
        (lambda: Format(max_length=0), "at least 1 letter"),
        (lambda: Format(thousands=",", decimal_mark=","), "could not tell them apart"),
        (lambda: Format(transform="loud"), "unknown format transform"),
    ],
)
def test_format_that_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        make()


@given(value=st.decimals(min_value=-(10**12), max_value=10**12, places=4), places=st.integers(min_value=0, max_value=6))
def test_formatter_of_a_decimal_loses_no_more_than_the_rounding(value: Decimal, places: int) -> None:
    text = formatter(Format(type="number", precision=places))(value)

    assert Decimal(text.replace(",", "")) == value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    assert not text.startswith("-0") or Decimal(text.replace(",", "")) != 0


@given(values=st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.booleans(), st.lists(st.integers()))))
def test_format_all_prints_a_column_as_one_value_at_a_time(values: list[Any]) -> None:
    write = formatter(Format(type="number"))

    assert format_all(values, write) == [write(value) for value in values]


def test_conform_reads_text_and_floats_as_the_declared_kinds() -> None:
    chunk = pl.DataFrame(
        {
            "day": ["2026-01-02", "2026-01-02 10:11:12", None],
            "moment": ["2026-01-02", "2026-01-02 10:11:12.5", "2026-01-02T10:11:12+02:00"],
            "amount": [0.1, 1e15, 12.345],
            "count": ["1", "-2", None],
            "paid": ["yes", "0", "TRUE"],
            "nothing": [None, None, None],
        }
    )
    kinds = {"day": "date", "moment": "datetime", "amount": "money", "count": "integer", "paid": "boolean", "nothing": "decimal"}

    read = conform(chunk, {name: Kind(kind) for name, kind in kinds.items()})

    assert read.skipped_count == 0
    assert read.frame["day"].to_list() == [datetime.date(2026, 1, 2)] * 2 + [None]
    assert read.frame["moment"].to_list() == [
        datetime.datetime(2026, 1, 2),
        datetime.datetime(2026, 1, 2, 10, 11, 12, 500_000),
        datetime.datetime(2026, 1, 2, 8, 11, 12),
    ]
    assert read.frame["amount"].to_list() == [Decimal("0.1"), Decimal(10**15), Decimal("12.345")]
    assert read.frame["count"].to_list() == [1, -2, None]
    assert read.frame["paid"].to_list() == [True, False, True]
    assert read.frame["nothing"].to_list() == [None] * 3


def test_conform_leaves_out_and_counts_rows_that_cannot_be_read() -> None:
    chunk = pl.DataFrame({"n": ["1", "two", None, "4", "five"], "d": ["2026-01-01", "2026-01-01", "never", None, "never"]})

    read = conform(chunk, {"n": Kind.INTEGER, "d": Kind.DATE})

    assert read.frame["n"].to_list() == [1, 4]
    assert read.skipped_count == 3
    assert read.reason == "n: cannot read 'two' as integer"


def test_conform_reads_relationships_however_they_come() -> None:
    kinds = {"customer.name": Kind.TEXT, "items.product.price": Kind.INTEGER}
    folded = pl.DataFrame(
        {
            "customer": [{"name": "Ada"}, None],
            "items": [[{"product": {"price": 7}}, {"product": {"price": 8}}], []],
        }
    )
    flat = pl.DataFrame({"customer_name": ["Ada", None], "items_product_price": [7, None]})
    quoted = pl.DataFrame({"customer.name": ["Ada", None], "items.product.price": [7, None]})

    frames = [conform(chunk, kinds).frame for chunk in (folded, flat, quoted)]

    assert [frame.to_dict(as_series=False) for frame in frames] == [{"customer.name": ["Ada", None], "items.product.price": [7, None]}] * 3


@pytest.mark.parametrize("path", ["nme", "customer.nme", "name.first"])
def test_conform_without_a_declared_field_names_the_nearest_one(path: str) -> None:
    chunk = pl.DataFrame({"name": ["x"], "customer": [{"name": "Ada"}]})

    with pytest.raises(ReportError, match=r"the rows of the source: unknown field"):
        conform(chunk, {path: Kind.TEXT})


def test_conform_keeps_decimals_of_the_source_and_zones_become_utc() -> None:
    zoned = pl.Series([MOMENT]).dt.replace_time_zone("Europe/Berlin")
    chunk = pl.DataFrame({"amount": pl.Series([Decimal("1.123456789")]), "moment": zoned})

    read = conform(chunk, {"amount": Kind.MONEY, "moment": Kind.DATETIME}).frame

    assert read["amount"].to_list() == [Decimal("1.123456789")]
    assert read["moment"].to_list() == [MOMENT - datetime.timedelta(hours=1)]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(pl.Decimal(10, 2), Kind.DECIMAL), (pl.UInt8(), Kind.INTEGER), (pl.Float32(), Kind.NUMBER), (pl.Duration("us"), Kind.TEXT)],
)
def test_kind_of_dtype_is_what_its_values_are(dtype: pl.DataType, kind: Kind) -> None:
    assert kind_of_dtype(dtype) is kind


def test_shape_adds_parameters_groups_and_is_the_same_twice() -> None:
    report = sales_report(presorted=True, groups=(Group(level=1, name="month", expression="strftime(sold_at, '%Y-%m')"),), bands=())
    shape = Shape(report, {"since": MOMENT.date()})

    once = shape.rows(sales(20))

    assert once.columns == [*report.fields, ":since", "month"]
    assert set(once["month"]) == {"2026-01"}
    assert shape.rows(once).equals(once)
    assert shape.skipped_count == 0


def test_shape_counts_what_it_leaves_out_over_all_chunks(caplog: pytest.LogCaptureFixture) -> None:
    shape = Shape(sales_report(), {})
    bad = sales(3).with_columns(pl.lit("many").alias("quantity"))

    kept = [len(shape.rows(chunk)) for chunk in (sales(5), bad, bad)]

    assert kept == [5, 0, 0]
    assert shape.skipped_count == 6
    assert shape.skipped_reason == "quantity: cannot read 'many' as integer"
    assert len(caplog.records) == 1


def test_shape_signature_tells_parameters_apart() -> None:
    report = sales_report()

    assert Shape(report, {"since": MOMENT.date()}).signature != Shape(report, {"since": None}).signature
    assert Shape(report, {"since": MOMENT.date()}).signature == Shape(report, {"since": MOMENT.date()}).signature


def test_shape_takes_a_uuid_parameter_as_text() -> None:
    report = sales_report(parameters=(Parameter(name="seller", type="uuid"),))

    rows = Shape(report, {"seller": uuid.UUID(int=1)}).rows(sales(1))

    assert rows[":seller"].to_list() == [str(uuid.UUID(int=1))]
