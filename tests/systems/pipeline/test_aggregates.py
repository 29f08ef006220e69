"""Aggregates against known figures, and against a slow, obvious model: any records, any split, as frames or as records."""

from __future__ import annotations

import datetime
import math
import random
import struct
from collections.abc import Hashable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.aggregate import FUNCTIONS, Aggregates, Grouping, Snapshot
from floodmark.systems.pipeline.aggregate import aggregates as aggregates_module
from floodmark.systems.pipeline.aggregate import totals as totals_module
from floodmark.systems.pipeline.aggregate.aggregates import LARGE_ROWS
from floodmark.systems.pipeline.aggregate.groups import Groups

Record = Mapping[str, Any]

# --- the model -----------------------------------------------------------------------------------------------------------------------


def is_number(value: object) -> bool:
    """A number that takes part: no boolean, no NaN."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value == value


def exact_sum(values: Sequence[Any], divisor: int | None = None) -> Any:
    """Add numbers as a person would who has the time."""
    infinities = {value for value in values if isinstance(value, float) and math.isinf(value)}
    if infinities:
        return math.nan if len(infinities) > 1 else infinities.pop()
    total = sum((Fraction(value) for value in values), Fraction(0)) / (divisor or 1)
    if any(isinstance(value, float) for value in values):
        try:
            return float(total)
        except OverflowError:
            return math.inf if total > 0 else -math.inf
    if any(isinstance(value, Decimal) for value in values):
        return total  # compared as a fraction
    return int(total) if divisor is None else total.numerator / total.denominator


def model_figures(records: Sequence[Record], functions: Sequence[str]) -> dict[str, Any]:
    """Every figure of some records."""
    figures: dict[str, Any] = {function: {} for function in functions}
    for field in {name for record in records for name in record}:
        values = [record[field] for record in records if is_number(record.get(field))]
        if not values:
            continue
        every = {"sum": exact_sum, "running_total": exact_sum, "min": min, "max": max, "avg": lambda them: exact_sum(them, len(them))}
        for function in set(functions) - {"count"}:
            figures[function][field] = every[function](values)  # type: ignore[operator]
    if "count" in figures:
        figures["count"] = len(records)
    return figures


def model_groups(records: Sequence[Record], grouping: Grouping) -> tuple[dict[Hashable, list[Record]], int]:
    """Who is in which group, and how many were rejected."""
    groups: dict[Hashable, list[Record]] = {}
    rejected = 0
    for record in records:
        parts = tuple(record.get(path) for path in grouping.group_by)
        key: Hashable = parts[0] if len(parts) == 1 else parts
        if key not in groups and grouping.max_groups is not None and len(groups) >= grouping.max_groups:
            rejected += 1
        else:
            groups.setdefault(key, []).append(record)
    return groups, rejected


def same(found: Any, wanted: Any) -> bool:
    """Equal, NaN to NaN, and quotients of decimals to the digits that they have."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            return False
        # Of 0, 0.0 and Decimal(0) any may be the least.
        return all(found[key] == wanted[key] if key in ("min", "max") else same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, Fraction):
        return isinstance(found, Decimal) and abs(Fraction(found) - wanted) <= abs(wanted) * Fraction(1, 10**45)
    if isinstance(wanted, float) and math.isnan(wanted):
        return isinstance(found, float) and math.isnan(found)
    return type(found) is type(wanted) and found == wanted


def batches_of(rows: Any, sizes: Sequence[int]) -> list[Any]:
    """Split rows into batches; the last one takes the rest."""
    batches, start = [], 0
    for size in sizes:
        batches.append(rows[start : start + size])
        start += size
    return [*batches, rows[start:]]


def aggregated(batches: Sequence[Any], functions: Sequence[str] = (), groupings: Sequence[Grouping] = ()) -> Snapshot:
    aggregates = Aggregates(functions, groupings)
    for batch in batches:
        aggregates.update(batch)
    return aggregates.snapshot()


def frames(*records: Sequence[Record]) -> list[pl.DataFrame]:
    return [pl.DataFrame(each) for each in records]


SALES = (
    [{"territory": "north", "amount": 1.5, "quantity": 10}, {"territory": "south", "amount": 2.5, "quantity": 20}],
    [{"territory": "north", "amount": 4.0, "quantity": 5}],
    [{"territory": "south", "amount": -1.0, "quantity": 0}, {"territory": "east", "amount": 0.25, "quantity": 7}],
)

# --- the functions -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "function", "after_each"),
    [
        ("ag_01", "sum", [{"amount": 4.0, "quantity": 30}, {"amount": 8.0, "quantity": 35}, {"amount": 7.25, "quantity": 42}]),
        ("ag_02", "count", [2, 3, 5]),
        ("ag_03", "avg", [{"amount": 2.0, "quantity": 15.0}, {"amount": 8 / 3, "quantity": 35 / 3}, {"amount": 1.45, "quantity": 8.4}]),
        ("ag_04", "min", [{"amount": 1.5, "quantity": 10}, {"amount": 1.5, "quantity": 5}, {"amount": -1.0, "quantity": 0}]),
        ("ag_05", "max", [{"amount": 2.5, "quantity": 20}, {"amount": 4.0, "quantity": 20}, {"amount": 4.0, "quantity": 20}]),
        ("ag_06", "running_total", [{"amount": 4.0, "quantity": 30}, {"amount": 8.0, "quantity": 35}, {"amount": 7.25, "quantity": 42}]),
    ],
)
def test_ag_01_to_06_each_function_over_three_batches_is_exact_and_cumulative(case: str, function: str, after_each: list[Any]) -> None:
    aggregates = Aggregates([function])

    found = []
    for frame in frames(*SALES):
        aggregates.update(frame)
        found.append(aggregates.snapshot().aggregations[function])

    assert found == after_each, case


def test_ag_07_several_numeric_fields_are_aggregated_apart() -> None:
    records = [{"amount": 10, "quantity": 2, "price": 1.25}, {"amount": 20, "quantity": 3, "price": 0.5}]

    found = aggregated(frames(records), ["sum", "max"]).aggregations

    assert found == {"sum": {"amount": 30, "quantity": 5, "price": 1.75}, "max": {"amount": 20, "quantity": 3, "price": 1.25}}


def test_ag_08_mixed_types_only_numbers_take_part() -> None:
    day = datetime.date(2026, 1, 1)
    records = [{"name": "a", "day": day, "at": datetime.datetime(2026, 1, 1), "list": [1, 2], "amount": 3}] * 2

    found = aggregated(frames(records), ["sum", "count"]).aggregations

    assert found == {"sum": {"amount": 6}, "count": 2}


def test_ag_08_mixed_types_within_a_field_of_records_each_value_counts_for_itself() -> None:
    records = [{"x": 1}, {"x": "7"}, {"x": 2.5}, {"x": True}, {"x": None}, {"x": [4]}, {"x": Decimal("0.25")}, {}]

    found = aggregated([records], FUNCTIONS).aggregations

    assert found == {
        "sum": {"x": 3.75},
        "running_total": {"x": 3.75},
        "count": 8,
        "avg": {"x": 1.25},
        "min": {"x": Decimal("0.25")},
        "max": {"x": 2.5},
    }


def test_ag_09_one_field_groups_are_exact() -> None:
    found = aggregated(frames(*SALES), groupings=[Grouping(group_by=("territory",), aggregations=("sum",))]).groupings[0]

    assert found.groups == {
        "east": {"sum": {"amount": 0.25, "quantity": 7}},
        "north": {"sum": {"amount": 5.5, "quantity": 15}},
        "south": {"sum": {"amount": 1.5, "quantity": 20}},
    }
    assert (found.group_count, found.rejected, list(found.groups)) == (3, 0, ["east", "north", "south"])


def test_ag_10_groups_of_several_fields_have_tuple_keys() -> None:
    records = [{"t": t, "p": p, "n": n} for t, p, n in [("a", "x", 1), ("a", "y", 2), ("b", "x", 4), ("a", "x", 8)]]

    found = aggregated(frames(records), groupings=[Grouping(group_by=("t", "p"), aggregations=("sum",))]).groupings[0].groups

    assert found == {("a", "x"): {"sum": {"n": 9}}, ("a", "y"): {"sum": {"n": 2}}, ("b", "x"): {"sum": {"n": 4}}}


def test_ag_11_several_aggregates_per_group_are_exact() -> None:
    grouping = Grouping(group_by=("territory",), aggregations=("sum", "count", "avg"), fields=("quantity",))

    found = aggregated(frames(*SALES), groupings=[grouping]).groupings[0].groups

    assert found["south"] == {"sum": {"quantity": 20}, "count": 2, "avg": {"quantity": 10.0}}


def test_ag_12_sparse_groups_one_record_beside_many_are_exact() -> None:
    records = [{"k": "many", "n": n} for n in range(999)] + [{"k": "one", "n": 5}]

    found = aggregated(frames(records), groupings=[Grouping(group_by="k", aggregations=("sum", "count"))]).groupings[0].groups  # type: ignore[arg-type]

    assert found == {"many": {"sum": {"n": 498_501}, "count": 999}, "one": {"sum": {"n": 5}, "count": 1}}


def test_ag_13_state_of_a_group_split_over_batches_accumulates() -> None:
    batches = [pl.DataFrame({"k": ["a"], "n": [n]}) for n in range(5)]

    found = aggregated(batches, groupings=[Grouping(group_by=("k",), aggregations=FUNCTIONS)]).groupings[0].groups

    assert found == {"a": {"sum": {"n": 10}, "count": 5, "avg": {"n": 2.0}, "min": {"n": 0}, "max": {"n": 4}, "running_total": {"n": 10}}}


def test_ag_14_limit_of_5_among_10_keys_keeps_5_groups_and_rejects_the_rest() -> None:
    frame = pl.DataFrame({"k": [n % 10 for n in range(100)], "n": range(100)})

    found = aggregated([frame], ["count"], [Grouping(group_by=("k",), aggregations=("count",), max_groups=5)])

    assert list(found.groupings[0].groups) == [0, 1, 2, 3, 4]
    assert all(group == {"count": 10} for group in found.groupings[0].groups.values())
    assert (found.groupings[0].group_count, found.groupings[0].rejected) == (5, 50)
    assert found.aggregations["count"] == 100  # rejected from the grouping, from nothing else


def test_ag_15_default_limit_is_10_000_groups() -> None:
    frame = pl.DataFrame({"k": range(10_001)})

    found = aggregated([frame], groupings=[Grouping(group_by=("k",), aggregations=("count",))]).groupings[0]

    assert (found.max_groups, found.group_count, found.rejected) == (10_000, 10_000, 1)
    assert 10_000 not in found.groups


@pytest.mark.parametrize("empty", [pl.DataFrame(), pl.DataFrame(schema={"k": pl.String, "n": pl.Float64}), []])
def test_ag_16_empty_batch_leaves_the_state_unchanged(empty: Any) -> None:
    aggregates = Aggregates(FUNCTIONS, [Grouping(group_by=("k",), max_groups=1)])
    aggregates.update(pl.DataFrame({"k": ["a", "b"], "n": [1, 2]}))
    before = aggregates.snapshot()

    update = aggregates.update(empty)

    assert aggregates.snapshot() == before
    assert (update.records, update.rejected, update.groupings[0].limit_reached) == (0, 0, False)


def test_ag_17_none_values_are_ignored_by_sum_and_avg() -> None:
    found = aggregated([pl.DataFrame({"n": [1, None, 5, None]})], ["sum", "avg", "count", "min"]).aggregations

    assert found == {"sum": {"n": 6}, "avg": {"n": 3.0}, "count": 4, "min": {"n": 1}}


@pytest.mark.parametrize("as_records", [False, True])
def test_ag_18_missing_field_only_those_who_have_it_are_counted(as_records: bool) -> None:
    batches: list[Any] = [[{"k": "a", "amount": 4}], [{"k": "a"}], [{"k": "a", "amount": 8}, {"k": "b"}]]

    found = aggregated(batches if as_records else frames(*batches), ["avg"], [Grouping(group_by=("k",), aggregations=("avg", "count"))])

    assert found.aggregations == {"avg": {"amount": 6.0}}
    assert found.groupings[0].groups == {"a": {"avg": {"amount": 6.0}, "count": 3}, "b": {"avg": {}, "count": 1}}


def test_ag_19_zeros_are_included_in_sum_and_avg() -> None:
    found = aggregated([pl.DataFrame({"n": [0, 0, 9], "x": [0.0, -0.0, 1.5]})], ["sum", "avg", "min"]).aggregations

    assert found == {"sum": {"n": 9, "x": 1.5}, "avg": {"n": 3.0, "x": 0.5}, "min": {"n": 0, "x": 0.0}}


@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt64, pl.Int128, pl.UInt128])
def test_ag_20_very_large_integers_add_up_beyond_their_type(kind: Any) -> None:
    bits = {pl.Int64: 63, pl.UInt64: 64, pl.Int128: 127, pl.UInt128: 128}[kind]
    series = pl.Series("n", [2**bits - 1] * 1000, dtype=kind)

    found = aggregated([series.to_frame(), series.to_frame()], ["sum", "avg", "max"]).aggregations

    assert found == {"sum": {"n": 2000 * (2**bits - 1)}, "avg": {"n": float(2**bits - 1)}, "max": {"n": 2**bits - 1}}


def test_ag_20_negative_and_very_large_numbers_cancel_exactly() -> None:
    frame = pl.DataFrame({"i": [-(2**63), 2**63 - 1, 7], "f": [1e300, 1.0, -1e300]})

    found = aggregated([frame], ["sum", "min"]).aggregations

    assert found == {"sum": {"i": 6, "f": 1.0}, "min": {"i": -(2**63), "f": -1e300}}


def test_ag_20_integers_of_records_beyond_128_bits_count_as_floats() -> None:
    found = aggregated([[{"n": 2**200}, {"n": 1}, {"n": -(10**400)}]], ["count", "min"]).aggregations

    assert found == {"count": 3, "min": {"n": -math.inf}}
    assert aggregated([[{"n": 2**200}, {"n": 1}]], ["sum"]).aggregations == {"sum": {"n": 2.0**200}}


def test_ag_21_nan_counts_as_missing_and_infinities_take_part() -> None:
    nan, inf = math.nan, math.inf
    frame = pl.DataFrame({"k": ["a", "a", "b", "b", "c", "c", "d"], "x": [nan, 2.0, inf, 1.0, inf, -inf, nan]})

    found = aggregated([frame], groupings=[Grouping(group_by=("k",), aggregations=("sum", "avg", "min", "max"))]).groupings[0].groups

    assert found["a"] == {"sum": {"x": 2.0}, "avg": {"x": 2.0}, "min": {"x": 2.0}, "max": {"x": 2.0}}
    assert found["b"] == {"sum": {"x": inf}, "avg": {"x": inf}, "min": {"x": 1.0}, "max": {"x": inf}}
    assert (found["c"]["min"], found["c"]["max"]) == ({"x": -inf}, {"x": inf})
    assert math.isnan(found["c"]["sum"]["x"])
    assert math.isnan(found["c"]["avg"]["x"])
    assert found["d"] == {"sum": {}, "avg": {}, "min": {}, "max": {}}


@pytest.mark.parametrize("batch", [pl.DataFrame({"b": [True, False], "n": [1, 2]}), [{"b": True, "n": 1}, {"b": False, "n": 2}]])
def test_ag_22_booleans_are_not_numbers(batch: Any) -> None:
    assert aggregated([batch], ["sum", "max"]).aggregations == {"sum": {"n": 3}, "max": {"n": 2}}


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_ag_23_boundary_10_groups_fit_and_the_11th_is_rejected(size: int) -> None:
    frame = pl.DataFrame({"k": [*range(10), 10, 3, 10, 11]})
    aggregates = Aggregates([], [Grouping(group_by=("k",), aggregations=("count",), max_groups=10)])

    updates = [aggregates.update(batch) for batch in frame.iter_slices(size)]
    found = aggregates.snapshot().groupings[0]

    assert sum(update.rejected for update in updates) == found.rejected == 3
    assert found.groups == {key: {"count": 2 if key == 3 else 1} for key in range(10)}
    if size == 1:  # to the record
        assert [update.rejected for update in updates] == [0] * 10 + [1, 0, 1, 1]
        assert [update.groupings[0].limit_reached for update in updates] == [False] * 10 + [True, False, True, True]
        assert updates[10].groupings[0].group_count == 10


# --- keys ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_records", [False, True])
def test_key_none_and_missing_field_share_one_group(as_records: bool) -> None:
    batches: list[Any] = [[{"k": "a", "n": 1}, {"k": None, "n": 2}], [{"n": 4}], [{"k": "a", "n": 8}]]

    found = aggregated(batches if as_records else frames(*batches), groupings=[Grouping(group_by=("k",), aggregations=("sum",))])

    assert found.groupings[0].groups == {"a": {"sum": {"n": 9}}, None: {"sum": {"n": 6}}}
    assert list(found.groupings[0].groups) == ["a", None]


@pytest.mark.parametrize("as_records", [False, True])
def test_key_path_leads_into_related_records_and_takes_the_first_of_many(as_records: bool) -> None:
    records: list[Record] = [
        {"n": 1, "customer": {"name": "x", "orders": [{"no": 5}, {"no": 6}]}},
        {"n": 2, "customer": {"name": "x", "orders": []}},
        {"n": 4, "customer": None},
    ]
    groupings = [Grouping(group_by=(path,), aggregations=("sum",), fields=("n",)) for path in ("customer.name", "customer.orders.no")]

    found = aggregated([records] if as_records else frames(records), groupings=groupings).groupings

    assert found[0].groups == {"x": {"sum": {"n": 3}}, None: {"sum": {"n": 4}}}
    assert found[1].groups == {5: {"sum": {"n": 1}}, None: {"sum": {"n": 6}}}


def test_key_column_named_like_a_path_goes_before_the_path() -> None:
    frame = pl.DataFrame({"a.b": [1, 2], "a": [{"b": 8}, {"b": 9}]})

    found = aggregated([frame], groupings=[Grouping(group_by=("a.b",), aggregations=("count",))]).groupings[0].groups

    assert list(found) == [1, 2]


def test_key_nan_and_both_zeros_are_one_group_each() -> None:
    batches = [pl.DataFrame({"k": [math.nan, 0.0, math.nan]}), pl.DataFrame({"k": [-0.0, math.nan]})]

    found = aggregated(batches, groupings=[Grouping(group_by=("k",), aggregations=("count",), max_groups=2)]).groupings[0]

    assert found.rejected == 0
    assert [group["count"] for group in found.groups.values()] == [2, 3]


def test_key_of_changing_type_in_records_keeps_one_and_text_apart_in_order() -> None:
    records = [{"k": key} for key in (1, "1", None, 1, "1", 2)]

    found = aggregated([records], groupings=[Grouping(group_by=("k",), aggregations=("count",), max_groups=3)]).groupings[0]

    assert found.groups == {1: {"count": 2}, "1": {"count": 2}, None: {"count": 1}}
    assert found.rejected == 1


def test_key_categories_of_different_batches_are_the_same_by_their_text() -> None:
    batches = [pl.DataFrame({"k": keys}, schema={"k": pl.Enum(keys)}) for keys in (["a", "b"], ["b", "c"])]

    found = aggregated(batches, groupings=[Grouping(group_by=("k",), aggregations=("count",))]).groupings[0].groups

    assert found == {"a": {"count": 1}, "b": {"count": 2}, "c": {"count": 1}}


@pytest.mark.parametrize(("sort", "keys"), [("asc", [-1, 2, "b", "c", None]), ("desc", ["c", "b", 2, -1, None])])
def test_snapshot_groups_stand_in_the_order_asked_for(sort: Any, keys: list[Any]) -> None:
    records = [{"k": key} for key in ("b", None, 2, "c", -1)]

    found = aggregated([records], groupings=[Grouping(group_by=("k",), aggregations=("count",), sort=sort)]).groupings[0].groups

    assert list(found) == keys


def test_key_named_like_a_path_in_a_later_record_is_found() -> None:
    records: list[Record] = [{"n": 1}, {"a.b": "x", "n": 2}]

    found = aggregated([records], groupings=[Grouping(group_by=("a.b",), aggregations=("sum",), fields=("n",))]).groupings[0].groups

    assert found == {"x": {"sum": {"n": 2}}, None: {"sum": {"n": 1}}}


def test_records_whose_related_records_differ_in_shape_are_grouped_by_what_they_have() -> None:
    records: list[Record] = [{"c": {"name": "x"}}, {"c": {"name": "x", "age": 3}}, {"c": {"age": "four"}}]

    found = aggregated([records], groupings=[Grouping(group_by=("c.name",), aggregations=("count",))]).groupings[0].groups

    assert found == {"x": {"count": 2}, None: {"count": 1}}


def test_records_with_a_field_named_like_a_part_of_another_keep_them_apart() -> None:
    records: list[Record] = [{"a:int": 5, "a": 1}, {"a:int": 6, "a": 0.5}, {"a:int": 7, "a": Decimal("1e40")}]

    found = aggregated([records], ["sum", "max"]).aggregations

    assert found == {"sum": {"a:int": 18, "a": 1e40}, "max": {"a:int": 7, "a": 1e40}}


# --- fields and columns --------------------------------------------------------------------------------------------------------------


def test_fields_chosen_only_they_are_aggregated_and_paths_lead_to_them() -> None:
    records = [{"k": 1, "a": 2, "b": 3, "item": {"price": 1.5}, "items": [{"price": 4}, {"price": 5}], "list": [9]}] * 2

    grouping = Grouping(group_by=("k",), aggregations=("sum",), fields=("b", "item.price", "items.price", "list", "nowhere"))
    found = aggregated(frames(records), groupings=[grouping]).groupings[0].groups

    assert found == {1: {"sum": {"b": 6, "item.price": 3.0, "items.price": 8}}}


def test_columns_name_what_is_looked_at_or_none_for_all() -> None:
    chosen = Grouping(group_by=("customer.name", "t"), fields=("amount",))

    assert Aggregates([], [chosen]).columns == ("customer.name", "customer", "t", "amount")
    assert Aggregates(["count"], [chosen]).columns == ("customer.name", "customer", "t", "amount")
    assert Aggregates(["sum"], [chosen]).columns is None
    assert Aggregates([], [Grouping(group_by=("t",))]).columns is None
    assert Aggregates().columns == ()


def test_update_without_functions_and_groupings_counts_records() -> None:
    assert aggregated([pl.DataFrame({"n": [1, 2]}), [{}]]).records == 3


def test_update_records_without_any_field_are_counted() -> None:
    found = aggregated([[{}, {}]], ["count", "sum"], [Grouping(group_by=("k",), aggregations=("count",))])

    assert found.aggregations == {"count": 2, "sum": {}}
    assert found.groupings[0].groups == {None: {"count": 2}}


def test_snapshot_of_nothing_is_complete_and_empty() -> None:
    found = aggregated([], FUNCTIONS, [Grouping(group_by=("k",))])

    assert found.aggregations == {"count": 0, **{name: {} for name in FUNCTIONS if name != "count"}}
    assert (found.records, found.groupings[0].groups, found.groupings[0].group_count) == (0, {}, 0)


def test_snapshot_stays_as_it_was_when_the_stream_goes_on() -> None:
    aggregates = Aggregates(["sum"])
    aggregates.update(pl.DataFrame({"n": [1]}))
    before = aggregates.snapshot()

    aggregates.update(pl.DataFrame({"n": [1]}))

    assert before.aggregations == {"sum": {"n": 1}}
    assert aggregates.snapshot().aggregations == {"sum": {"n": 2}}


def test_size_grows_with_groups_not_with_records() -> None:
    aggregates = Aggregates([], [Grouping(group_by=("k",), aggregations=("sum",))])
    frame = pl.DataFrame({"k": range(100), "n": range(100)})
    aggregates.update(frame)
    aggregates.fold()
    folded_bytes = aggregates.size_bytes

    sizes = []
    for _ in range(1000):
        aggregates.update(frame)
        sizes.append(aggregates.size_bytes)
    aggregates.fold()

    assert aggregates.size_bytes == folded_bytes == 100 * 600
    assert max(sizes) <= folded_bytes + totals_module.FOLD_ROWS * 32


# --- exactness -----------------------------------------------------------------------------------------------------------------------


def test_decimals_of_several_scales_add_up_exactly() -> None:
    batches = [
        pl.DataFrame({"d": [Decimal("0.10"), None, Decimal("99999999999999.99")]}),
        pl.DataFrame({"d": [Decimal("0.0001")]}),
        pl.DataFrame({"d": pl.Series([Decimal("9" * 38)] * 5, dtype=pl.Decimal(38, 0))}),
    ]

    found = aggregated(batches, ["sum", "avg", "min", "max"]).aggregations

    total = Fraction("0.1001") + Fraction("99999999999999.99") + 5 * int("9" * 38)
    assert Fraction(found["sum"]["d"]) == total
    assert abs(Fraction(found["avg"]["d"]) - total / 8) < Fraction(1, 10**10)  # 50 digits, 39 of them before the point
    assert (found["min"], found["max"]) == ({"d": Decimal("0.0001")}, {"d": Decimal("9" * 38)})


def test_floats_with_random_bits_add_up_as_fsum_does() -> None:
    generator = random.Random(7)
    values = [value for _ in range(5000) if math.isfinite(value := struct.unpack("d", generator.randbytes(8))[0])]
    values = [value for value in values if abs(value) < 1e290]

    found = aggregated([pl.DataFrame({"x": values})], ["sum"]).aggregations["sum"]["x"]

    assert found == math.fsum(values)


def test_floats_of_32_bits_add_up_as_what_they_are() -> None:
    values = pl.Series("x", [0.1, 0.2, 1e-30, 3e38], dtype=pl.Float32)

    found = aggregated([values.to_frame()], ["sum"]).aggregations["sum"]["x"]

    assert found == math.fsum(values.to_list())


numbers = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-5, 5),
    st.floats(),
    st.floats(-100, 100, width=32),
    st.sampled_from([5e-324, 1.7976931348623157e308, 2.0**-22, 2.0**31, 0.1, -0.0]),
    st.decimals(-(10**9), 10**9, places=3),
    st.decimals(-(10**15), 10**15, places=9),
    st.booleans(),
    st.text(max_size=2),
)
keys = st.one_of(st.none(), st.sampled_from("abc"), st.integers(0, 3))
records_of_any_kind = st.lists(
    st.fixed_dictionaries({}, optional={"k": keys, "j": st.sampled_from(["x", "y", None]), "a": numbers, "b": numbers}), max_size=30
)
sizes_of_batches = st.lists(st.integers(0, 12), max_size=5)


@given(records=records_of_any_kind, sizes=sizes_of_batches, limit=st.integers(1, 5), as_seen=st.booleans())
@example(records=[{"a": 2**63}, {"a": 5e-324}, {"a": Decimal("0.001")}], sizes=[1], limit=1, as_seen=True)
def test_any_records_in_any_split_agree_with_the_model(records: list[Record], sizes: list[int], limit: int, as_seen: bool) -> None:
    groupings = [
        Grouping(group_by=("k",), aggregations=FUNCTIONS, max_groups=limit),
        Grouping(group_by=("j", "k"), aggregations=("avg", "count"), max_groups=limit),
        Grouping(group_by=("j",), aggregations=("min", "sum"), max_groups=None),
    ]
    aggregates = Aggregates(FUNCTIONS, groupings)

    rejected = [0, 0, 0]
    for batch in batches_of(records, sizes):
        update = aggregates.update(batch)
        rejected = [sum(both) for both in zip(rejected, (each.rejected for each in update.groupings), strict=True)]
        if as_seen:  # looking must change nothing
            aggregates.snapshot()
    found = aggregates.snapshot()

    assert found.records == len(records)
    assert same(found.aggregations, model_figures(records, FUNCTIONS))
    for grouping, each, count in zip(groupings, found.groupings, rejected, strict=True):
        groups, model_rejected = model_groups(records, grouping)
        assert each.rejected == count == model_rejected
        assert same(each.groups, {key: model_figures(group, grouping.aggregations) for key, group in groups.items()})


columns_of_one_type = st.one_of(
    st.just((pl.Int64, st.integers(-(2**63), 2**63 - 1))),
    st.just((pl.UInt64, st.integers(0, 2**64 - 1))),
    st.just((pl.Int8, st.integers(-128, 127))),
    st.just((pl.Int128, st.integers(-(2**127), 2**127 - 1))),
    st.just((pl.Float64, st.floats())),
    st.just((pl.Float32, st.floats(width=32))),
    st.just((pl.Decimal(38, 4), st.decimals(-(10**33), 10**33, places=4))),
    st.just((pl.Boolean, st.booleans())),
)


@given(data=st.data(), limit=st.integers(1, 4), sizes=sizes_of_batches)
def test_any_frame_in_any_split_agrees_with_the_model(data: st.DataObject, limit: int, sizes: list[int]) -> None:
    height = data.draw(st.integers(0, 25))
    series = [pl.Series("k", data.draw(st.lists(st.sampled_from(["a", "b", "c", "d", "e", None]), min_size=height, max_size=height)))]
    for name in "xy":
        kind, values = data.draw(columns_of_one_type)
        series.append(pl.Series(name, data.draw(st.lists(st.none() | values, min_size=height, max_size=height)), dtype=kind))
    frame = pl.DataFrame(series)
    grouping = Grouping(group_by=("k",), aggregations=FUNCTIONS, max_groups=limit)

    found = aggregated(batches_of(frame, sizes), FUNCTIONS, [grouping])

    records = frame.to_dicts()
    groups, rejected = model_groups(records, grouping)
    assert same(found.aggregations, model_figures(records, FUNCTIONS))
    assert same(found.groupings[0].groups, {key: model_figures(group, FUNCTIONS) for key, group in groups.items()})
    assert found.groupings[0].rejected == rejected


@given(records=records_of_any_kind, cut=st.integers(0, 30))
def test_merge_of_two_parts_is_the_whole(records: list[Record], cut: int) -> None:
    groupings = [Grouping(group_by=("k",), aggregations=FUNCTIONS), Grouping(group_by=("j", "k"), aggregations=FUNCTIONS)]
    first, second = Aggregates(FUNCTIONS, groupings), Aggregates(FUNCTIONS, groupings)
    first.update(records[:cut])
    second.update(records[cut:])

    first.merge(second)

    found, wanted = first.snapshot(), aggregated([records], FUNCTIONS, groupings)
    assert found.records == wanted.records
    assert same(found.aggregations, model_figures(records, FUNCTIONS))
    for ours, theirs, grouping in zip(found.groupings, wanted.groupings, groupings, strict=True):
        groups, _ = model_groups(records, grouping)
        assert same(ours.groups, {key: model_figures(group, FUNCTIONS) for key, group in groups.items()})
        assert list(ours.groups) == list(theirs.groups)


def test_merge_of_different_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="same functions"):
        Aggregates(["sum"]).merge(Aggregates(["avg"]))


def test_fold_of_many_small_batches_and_of_one_large_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals_module, "FOLD_ROWS_MAX", 1000)  # one large frame is worked off in pieces, too
    generator = random.Random(3)
    frame = pl.DataFrame(
        {"k": [generator.randrange(50) for _ in range(40_000)], "x": [generator.uniform(-1e9, 1e9) for _ in range(40_000)]}
    )
    groupings = [Grouping(group_by=("k",), aggregations=FUNCTIONS, max_groups=45)]

    whole = aggregated([frame], FUNCTIONS, groupings)
    pieces = aggregated(list(frame.iter_slices(7)), FUNCTIONS, groupings)

    assert whole == pieces
    assert whole.aggregations["sum"]["x"] == math.fsum(frame["x"])


@pytest.mark.parametrize("limit", [49, 50, 51])
def test_large_batches_near_the_limit_reject_to_the_record(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregates_module, "LARGE_ROWS", 100)
    generator = random.Random(limit)
    frame = pl.DataFrame({"k": [generator.randrange(50) for _ in range(2000)], "n": range(2000)})
    grouping = Grouping(group_by=("k",), aggregations=("sum", "count"), max_groups=limit)

    found = aggregated(list(frame.iter_slices(150)), groupings=[grouping]).groupings[0]

    groups, rejected = model_groups(frame.to_dicts(), grouping)
    assert found.rejected == rejected
    assert (rejected > 0) == (limit < 50)
    assert same(found.groups, {key: model_figures(group, grouping.aggregations) for key, group in groups.items()})


# --- settings ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"group_by": ()}, "at least one field"),
        ({"group_by": ("a",), "aggregations": ("summ",)}, "did you mean 'sum'"),
        ({"group_by": ("a",), "max_groups": 0}, "max_groups of the grouping by a must be at least 1"),
        ({"group_by": ("a",), "level": 0}, "level of the grouping"),
        ({"group_by": ("a",), "sort": "up"}, "one of asc, desc"),
        ({"group_by": ("a..b",)}, "named by text"),
        ({"group_by": (3,)}, "named by text"),
    ],
)
def test_grouping_that_makes_no_sense_is_a_usage_error_that_says_why(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Grouping(**wrong)


def test_aggregates_of_an_unknown_function_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no aggregate function 'median'"):
        Aggregates(["median"])


@pytest.mark.parametrize(
    "key", [pl.Series([1, 2, None]), pl.Series(["a", "b", "c"]), pl.Series([float("nan"), 0.0, -0.0]), pl.Series([[1], [2], [1]])]
)
def test_update_large_batches_near_the_limit_are_judged_as_small_ones_are(key: pl.Series) -> None:
    rows = LARGE_ROWS * 2
    keys = key.gather(pl.Series([index % 3 for index in range(rows)]))
    frame = pl.DataFrame({"k": keys, "n": range(rows)})
    grouping = Grouping(group_by=("k",), aggregations=("sum", "count"), max_groups=2)
    large, small = Aggregates((), [grouping]), Aggregates((), [grouping])

    told = large.update(frame)
    told_small = [small.update(part) for part in frame.iter_slices(100)]

    assert told.groupings[0].rejected == sum(each.groupings[0].rejected for each in told_small)
    assert same(large.snapshot().groupings[0].groups, small.snapshot().groupings[0].groups)


def test_update_large_batches_of_few_keys_are_not_looked_at_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"k": [f"g{index % 10}" for index in range(LARGE_ROWS)]})
    aggregates = Aggregates((), [Grouping(group_by=("k",), aggregations=("count",), max_groups=100)])

    def refuse(*_: object) -> None:
        raise AssertionError("looked at")

    monkeypatch.setattr(Groups, "admit", refuse)
    monkeypatch.setattr(Groups, "admit_all", refuse)
    for _ in range(40):  # 400 groups at most, were they not folded on the way
        aggregates.update(frame)

    assert aggregates.snapshot().groupings[0].groups["g3"] == {"count": 40 * len([n for n in range(LARGE_ROWS) if n % 10 == 3])}
