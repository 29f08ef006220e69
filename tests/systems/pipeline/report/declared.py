"""Reports and rows that the tests of this folder share."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import polars as pl

from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.report import Aggregate, Band, Field, Group, Parameter, Report, Variable

FIELDS: dict[str, Any] = {
    "territory": str,
    "customer": str,
    "amount": "money",
    "quantity": int,
    "price": float,
    "sold_at": datetime.datetime,
}


def sales_report(**changes: Any) -> Report:
    """A report over sales in two group levels; every part can be changed."""
    whole: dict[str, Any] = {
        "name": "sales",
        "query": Query(table="sales"),
        "fields": FIELDS,
        "groups": (Group(level=1, name="territory"), Group(level=2, name="customer")),
        "parameters": (Parameter(name="since", type="date"),),
        "variables": (Variable(name="total", type="sum", expression="amount"),),
        "bands": (
            Band(kind="group_header", group_level=1, elements=(Field(source="territory"),)),
            Band(kind="detail", elements=(Field(source="customer"), Field(source="amount", format="money:EUR"))),
            Band(kind="group_footer", group_level=1, elements=(Aggregate(function="sum", source="amount"),)),
            Band(kind="summary", elements=(Field(source="total"), Aggregate(function="count"))),
        ),
    }
    return Report(**(whole | changes))


def sales(count: int, *, territories: int = 4, customers: int = 10) -> pl.DataFrame:
    """Rows of sales, ordered by territory and customer."""
    rows = [
        {
            "territory": f"T{index % territories}",
            "customer": f"C{index % customers}",
            "amount": Decimal(index) / 4,
            "quantity": index % 7,
            "price": index * 0.5,
            "sold_at": datetime.datetime(2026, 1, 1) + datetime.timedelta(hours=index),
        }
        for index in range(count)
    ]
    schema = {
        "territory": pl.String(),
        "customer": pl.String(),
        "amount": pl.Decimal(38, 2),
        "quantity": pl.Int64(),
        "price": pl.Float64(),
        "sold_at": pl.Datetime("us"),
    }
    return pl.DataFrame(rows, schema=schema).sort("territory", "customer", maintain_order=True)
