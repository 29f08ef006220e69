"""Layout: groups begin and end where they should however the rows are cut into chunks, and running values are exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import polars as pl
from hypothesis import given

from floodmark.systems.pipeline.report.render.layout import Layout
from floodmark.systems.pipeline.report.render.plan import Plan, plan_of
from tests.systems.pipeline.report.render.shown import running_report, sales, shown_report

SHOWN = plan_of(shown_report())  # read once: what is tried is what a layout makes of rows
RUNNING = plan_of(running_report())
Printed = list[tuple[str, int, tuple[str, ...]]]  # kind of band, level, texts


def laid_out(plan: Plan, rows: pl.DataFrame, sizes: list[int]) -> Printed:
    """Everything that is printed of rows that come in chunks of these sizes, the last one with what is left."""
    layout = Layout(plan)
    items, start = [], 0
    for size in [*sizes, len(rows)]:
        items += layout.feed(rows.slice(start, size))
        start += size
    items += layout.finish()
    return [(str(plan.bands[item.band].kind), plan.bands[item.band].level, tuple(item.texts)) for item in items]


def by_hand(records: list[dict[str, Any]]) -> Printed:
    """The same, the obvious way: all rows at hand, no chunks."""

    def euros(of: list[dict[str, Any]]) -> str:
        return f"€{sum((Decimal(record['amount']) for record in of), Decimal()):,.2f}"

    printed: Printed = [("title", 0, ("Sales by territory",))]
    place = 0
    while place < len(records):
        territory = records[place]["territory"]
        end = next((at for at in range(place, len(records)) if records[at]["territory"] != territory), len(records))
        printed.append(("group_header", 1, ("Territory", territory)))
        inner = place
        while inner < end:
            customer = records[inner]["customer"]
            stop = next((at for at in range(inner, end) if records[at]["customer"] != customer), end)
            printed.append(("group_header", 2, (customer,)))
            printed += [("detail", 0, (it["product"], str(it["quantity"]), f"€{it['amount']}")) for it in records[inner:stop]]
            printed.append(("group_footer", 2, ("Customer total", euros(records[inner:stop]))))
            inner = stop
        printed.append(("group_footer", 1, ("Territory total", euros(records[place:end]))))
        place = end
    total = euros(records) if records else ""
    return [*printed, ("summary", 0, ("Grand total", total))]


@given(
    count=st.integers(0, 40),
    per_customer=st.integers(1, 6),
    per_territory=st.integers(1, 15),
    sizes=st.lists(st.integers(0, 12), max_size=8),
)
def test_layout_any_chunks_same_as_by_hand(count: int, per_customer: int, per_territory: int, sizes: list[int]) -> None:
    rows = sales(count, per_customer=per_customer, per_territory=per_territory)

    printed = laid_out(SHOWN, rows, sizes)

    assert printed == by_hand(rows.to_dicts())


@given(sizes=st.lists(st.integers(0, 12), max_size=8))
def test_layout_running_values_any_chunks_same_as_by_hand(sizes: list[int]) -> None:
    rows = sales(24, per_customer=4, per_territory=9)

    printed = [texts for kind, _, texts in laid_out(RUNNING, rows, sizes) if kind == "detail"]

    expected, total, in_group, greatest, before = [], Decimal(), 0, 0, (None, None)
    for record in rows.to_dicts():
        total += Decimal(record["amount"])
        key = (record["territory"], record["customer"])
        in_group = in_group + 1 if key == before else 1
        greatest = max(greatest, record["quantity"]) if before[0] == key[0] else record["quantity"]
        quantity = record["quantity"]
        expected.append((record["product"], f"{total:,.2f}", str(in_group), str(quantity * 2), str(quantity), str(greatest)))
        before = key
    assert printed == expected


def test_layout_missing_keys_are_one_group() -> None:
    rows = sales(6).with_columns(territory=pl.lit(None, dtype=pl.String), customer=pl.lit("C"))

    printed = laid_out(SHOWN, rows, [1, 2])

    assert [level for kind, level, _ in printed if kind == "group_header"] == [1, 2]


def test_layout_counts_what_cannot_be_read() -> None:
    layout = Layout(SHOWN)

    items = layout.feed(sales(3).with_columns(quantity=pl.Series(["1", "two", "3"])))

    assert (layout.rows_count, layout.skipped_count) == (2, 1)
    assert "two" in layout.skipped_reason
    assert [item.texts[0] for item in items if len(item.texts) == 3] == ["Product 0", "Product 2"]


def test_layout_control_characters_become_visible() -> None:
    printed = laid_out(SHOWN, sales(1).with_columns(product=pl.lit("a\x00b\x1bc")), [])

    assert ("detail", 0, ("a�b�c", "0", "€0.01")) in printed
