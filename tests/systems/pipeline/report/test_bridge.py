"""DS-01 to DS-11: what a report says about aggregation is what the pipeline is told to do."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from floodmark.systems.pipeline.aggregate import Aggregates, Grouping
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.report import Aggregate, Band, Expression, Field, Group, Report, ReportError, Variable
from floodmark.systems.pipeline.report.bridge import Plan, TooManyGroupsError, guard, path_of, plan_of
from floodmark.systems.pipeline.report.shape import Shape
from tests.systems.pipeline.report.declared import sales, sales_report

TERRITORY = Group(level=1, name="territory")
CUSTOMER = Group(level=2, name="customer")


def footer(level: int, *elements: Any) -> Band:
    return Band(kind="group_footer", group_level=level, elements=elements)


def summary(*elements: Any) -> Band:
    return Band(kind="summary", elements=elements)


def run(report: Report, rows: pl.DataFrame, chunk_size: int = 100) -> tuple[Plan, Any]:
    """Aggregate rows as the pipeline would, chunk by chunk; the plan and the snapshot."""
    plan = plan_of(report)
    aggregates = Aggregates(plan.aggregations, plan.groupings)
    shape = Shape(report, {}, plan.derived, at_source=True)
    for start in range(0, len(rows), chunk_size):
        aggregates.update(shape.rows(rows.slice(start, chunk_size)))
    return plan, aggregates.snapshot()


def test_ds_01_aggregates_over_the_report_become_global_ones() -> None:
    report = sales_report(
        variables=(Variable(name="all", type="sum", expression="amount"),),
        bands=(summary(Aggregate(function="count"), Expression(text="MAX(price) - MIN(price)")),),
    )

    plan = plan_of(report)

    assert plan.aggregations == ("sum", "count", "max", "min")
    assert plan.columns == ("amount", "price")


def test_ds_02_group_bands_become_groupings() -> None:
    plan = plan_of(sales_report(groups=(TERRITORY,), bands=(footer(1, Aggregate(function="avg", source="amount")),)))

    assert plan.groupings == (Grouping(group_by=("territory",), aggregations=("avg",), fields=("amount",), max_groups=10_000, level=1),)


@pytest.mark.parametrize(
    ("text", "functions"),
    [
        ("SUM(amount)", ("sum",)),
        ("COUNT(*)", ("count",)),
        ("AVG(amount)", ("avg",)),
        ("SUM(amount) / COUNT(*) + SUM(amount)", ("sum", "count")),
    ],
)
def test_ds_03_functions_are_inferred_from_expressions(text: str, functions: tuple[str, ...]) -> None:
    (grouping,) = plan_of(sales_report(groups=(TERRITORY,), bands=(footer(1, Expression(text=text)),))).groupings

    assert grouping.aggregations == functions


def test_ds_03_variables_of_a_level_give_its_functions_and_custom_ones_none() -> None:
    variables = (
        Variable(name="a", type="average", expression="amount", reset_on="group", reset_group=1),
        Variable(name="b", type="max", expression="price", reset_on="group", reset_group=1),
        Variable(name="c", type="max", expression="amount", reset_on="group", reset_group=1),
        Variable(name="d", type="custom", expression="a * 2"),
    )

    plan = plan_of(sales_report(variables=variables, bands=(summary(),)))

    assert [grouping.aggregations for grouping in plan.groupings] == [("avg", "max"), ("sum", "count")]
    assert plan.groupings[0].fields == ("amount", "price")
    assert plan.groupings[1].fields is None
    assert plan.aggregations == ()


@pytest.mark.parametrize("expression", ["", "territory", Field(source="territory")])
def test_ds_04_group_fields_are_taken_from_names_and_field_nodes(expression: str | Field) -> None:
    plan = plan_of(sales_report(groups=(Group(level=1, name="territory", expression=expression),), bands=()))

    assert plan.groupings[0].group_by == ("territory",)
    assert plan.relationships == ()


def test_ds_04_group_paths_lead_through_relationships_of_any_depth() -> None:
    report = Report(
        name="r",
        query=Query(table="sales", order_by=("customer_id",)),
        fields={"customer.address.city": str, "amount": "money"},
        groups=(Group(level=1, name="city", expression="customer.address.city"),),
    )

    plan = plan_of(report)

    assert plan.groupings[0].group_by == ("customer.address.city",)
    assert plan.relationships == ("customer.address",)
    assert path_of("customer.address.city").relationships == ("customer", "address")
    assert path_of("city").terminal == "city"
    with pytest.raises(ReportError, match="a field is named like"):
        path_of("a..b")


def test_ds_05_max_groups_is_carried_into_every_grouping() -> None:
    plan = plan_of(sales_report(max_groups=17))

    assert [grouping.max_groups for grouping in plan.groupings] == [17, 17]
    assert plan_of(sales_report()).groupings[0].max_groups == 10_000


def test_ds_06_levels_are_nested_with_gaps_and_cumulative_unless_told_otherwise() -> None:
    report = sales_report(groups=(Group(level=7, name="customer", sort="desc"), Group(level=3, name="territory")), bands=())

    plan, own = plan_of(report), plan_of(report, cumulative=False)

    assert [(grouping.level, grouping.group_by, grouping.sort) for grouping in plan.groupings] == [
        (3, ("territory",), "asc"),
        (7, ("territory", "customer"), "desc"),
    ]
    assert [grouping.group_by for grouping in own.groupings] == [("territory",), ("customer",)]


def test_ds_07_plan_is_what_the_aggregates_take() -> None:
    plan = plan_of(sales_report())

    aggregates = Aggregates(plan.aggregations, plan.groupings)

    assert [grouping.group_by for grouping in aggregates.snapshot().groupings] == [("territory",), ("territory", "customer")]


def test_ds_08_thousand_records_by_territory_match_the_report() -> None:
    rows = sales(1000, territories=4)

    _, snapshot = run(sales_report(), rows)

    expected = {name: Decimal(sum(range(index, 1000, 4))) / 4 for index, name in enumerate(("T0", "T1", "T2", "T3"))}
    groups = snapshot.groupings[0].groups
    assert {name: values["sum"]["amount"] for name, values in groups.items()} == expected
    assert snapshot.aggregations["sum"]["amount"] == sum(expected.values())


def test_ds_09_arithmetic_inside_of_an_aggregate_is_evaluated_per_row() -> None:
    rows = sales(1000, territories=4)
    report = sales_report(
        groups=(TERRITORY,),
        bands=(footer(1, Expression(text="SUM(amount*quantity)")), summary(Aggregate(function="max", source="price * 2"))),
    )

    plan, snapshot = run(report, rows)

    assert [call.argument for call in plan.derived] == ["price * 2", "amount * quantity"]
    groups = snapshot.groupings[0].groups
    for name, values in groups.items():
        own = rows.filter(pl.col("territory") == name)
        assert values["sum"]["amount * quantity"] == sum(
            amount * quantity for amount, quantity in zip(own["amount"], own["quantity"], strict=True)
        )
    assert snapshot.aggregations["max"]["price * 2"] == 999.0


def test_ds_09_computed_groups_are_columns_of_their_own() -> None:
    query = Query(table="sales", order_by=("sold_at",))
    report = sales_report(
        query=query,
        groups=(Group(level=1, name="day", expression="strftime(sold_at, '%d')"),),
        bands=(footer(1, Aggregate(function="count")),),
    )

    plan, snapshot = run(report, sales(48).sort("sold_at"))

    assert plan.groupings[0].group_by == ("day",)
    assert {name: values["count"] for name, values in snapshot.groupings[0].groups.items()}.keys() == {"01", "02"}


@pytest.mark.parametrize("text", ["SUM(amount", "SUMM(amount)", "SUM()", "SUM(amount quantity)", "SUM(customer)"])
def test_ds_10_malformed_aggregate_is_told_where_it_stands(text: str) -> None:
    with pytest.raises(
        ReportError,
        match=r"^report 'sales', band group_footer of level 1, element 1",
    ):
        sales_report(bands=(footer(1, Expression(text=text)),))


def test_ds_11_group_by_an_unknown_field_names_the_nearest_one() -> None:
    with pytest.raises(ReportError, match=r"group 'area' \(level 1\).*unknown field 'teritory'; did you mean 'territory'") as caught:
        sales_report(groups=(Group(level=1, name="area", expression="teritory"),), bands=())

    assert caught.value.near == "territory"


@pytest.mark.parametrize(("levels", "groups_count"), [(1, 100), (2, 1_100), (3, 6_100), (4, 16_100), (5, 26_100)])
def test_guard_guesses_groups_by_the_number_of_fields(levels: int, groups_count: int) -> None:
    names = [f"f{index}" for index in range(levels)]
    report = Report(
        name="r", query="t", fields=dict.fromkeys(names, str), groups=tuple(Group(level=at, name=name) for at, name in enumerate(names, 1))
    )

    estimate = guard(plan_of(report))

    assert estimate.groups_count == groups_count
    assert estimate.bytes == groups_count * 600


def known(count: int, max_groups: int = 10_000_000) -> Plan:
    return plan_of(sales_report(groups=(Group(level=1, name="territory", expected_count=count),), bands=(), max_groups=max_groups))


def test_guard_refuses_too_many_groups_at_the_exact_boundary() -> None:
    assert guard(known(100_000)).groups_count == 100_000
    with pytest.raises(TooManyGroupsError, match="too_many_groups: about 100,001 groups") as caught:
        guard(known(100_001))
    assert caught.value.kind == "memory_limit_exceeded"
    assert caught.value.reason == "too_many_groups"


def test_guard_refuses_too_much_memory_and_warns_before(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        guard(known(83_333))
        assert not caplog.records  # 50.0 MB: not above
        guard(known(83_334))
    assert "may take 50 MB" in caplog.text
    with pytest.raises(TooManyGroupsError, match="memory_too_high"):
        guard(known(90_000), group_bytes=1200)


def test_guard_takes_max_groups_and_known_counts_for_what_they_are() -> None:
    groups = (Group(level=1, name="territory", expected_count=50), Group(level=2, name="customer", expected_count=40))

    assert plan_of(sales_report(groups=groups, bands=())).expected == (50, 2000)
    assert known(1_000_000, max_groups=500).expected == (500,)
