"""Reports and rows that the tests of this folder share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import polars as pl

from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.report import Aggregate, Band, Field, Group, Label, Report, Variable
from floodmark.systems.pipeline.report.render import Rendered, render
from floodmark.systems.pipeline.report.render.base import Out

NASTY = (
    '#import "x"',
    "$5 * 2$",
    "*bold* _it_ `raw`",
    "<script>alert(1)</script>",
    "a\\b & c",
    "=1+1",
    "\"q\" 'r'",
    "@x <y> ~ // /* é",
)

BANDS = (
    Band(kind="title", elements=(Label(text="Sales by territory"),)),
    Band(kind="page_header", elements=(Label(text="Harbour supplies"), Field(source="territory", align="right"))),
    Band(kind="group_header", group_level=1, elements=(Label(text="Territory"), Field(source="territory"))),
    Band(kind="group_header", group_level=2, elements=(Field(source="customer"),)),
    Band(kind="detail", elements=(Field(source="product"), Field(source="quantity"), Field(source="amount", format="money:EUR"))),
    Band(
        kind="group_footer",
        group_level=2,
        elements=(Label(text="Customer total"), Aggregate(function="sum", source="amount", format="money:EUR")),
    ),
    Band(
        kind="group_footer",
        group_level=1,
        elements=(Label(text="Territory total"), Aggregate(function="sum", source="amount", format="money:EUR")),
    ),
    Band(
        kind="page_footer",
        elements=(
            Label(text="Page {page} of {pages}"),
            Aggregate(function="count", label="here"),
            Aggregate(function="count", scope="report", label="so far"),
        ),
    ),
    Band(kind="summary", elements=(Label(text="Grand total"), Aggregate(function="sum", source="amount", format="money:EUR"))),
)


def shown_report(**changes: Any) -> Report:
    """A report in two group levels with every kind of band; every part can be changed."""
    whole: dict[str, Any] = {
        "name": "sales",
        "title": "Sales by territory",
        "author": "Ada Harbour",
        "query": Query(table="sales"),
        "fields": {"territory": str, "customer": str, "product": str, "quantity": int, "amount": "money"},
        "groups": (Group(level=1, name="territory"), Group(level=2, name="customer")),
        "bands": BANDS,
    }
    return Report(**(whole | changes))


def plain_report(**changes: Any) -> Report:
    """A report of details alone."""
    return shown_report(**({"groups": (), "bands": (BANDS[4],)} | changes))


def running_report() -> Report:
    """A report whose rows show what has been seen so far."""
    variables = (
        Variable(name="total", type="sum", expression="amount"),
        Variable(name="in_group", type="count", reset_on="group", reset_group=2),
        Variable(name="twice", type="custom", expression="quantity * 2"),
        Variable(name="on_page", type="count", reset_on="page"),
        Variable(name="alone", type="max", expression="quantity", reset_on="detail"),
    )
    elements = (
        Field(source="product"),
        Field(source="total"),
        Field(source="in_group"),
        Field(source="twice"),
        Field(source="alone"),
        Aggregate(function="max", source="quantity", scope="group", group_level=1),
    )
    footer = Band(kind="page_footer", elements=(Label(text="p{page}"), Field(source="on_page"), Field(source="alone")))
    return shown_report(variables=variables, bands=(Band(kind="detail", elements=elements), footer))


def sales(count: int, *, per_customer: int = 7, per_territory: int = 40) -> pl.DataFrame:
    """`count` rows in the order of the groups; row i has the amount i and a hundredth."""
    return pl.DataFrame(
        {
            "territory": [f"T{number // per_territory}" for number in range(count)],
            "customer": [f"C{number // per_customer}" for number in range(count)],
            "product": [f"Product {number}" for number in range(count)],
            "quantity": [number % 5 for number in range(count)],
            "amount": [f"{number}.01" for number in range(count)],
        }
    )


def written(report: Report, rows: pl.DataFrame, out: Out, **options: Any) -> Rendered:
    """Render rows that come 50 at a time."""
    return asyncio.run(render(report, chunks(rows), out, **options))


async def chunks(frame: pl.DataFrame, *, rows: int = 50) -> AsyncIterator[pl.DataFrame]:
    """The rows as a stream brings them."""
    for start in range(0, len(frame), rows):
        yield frame.slice(start, rows)
