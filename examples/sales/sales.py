"""Half a year of a tea and coffee dealer: two levels of groups, money, dates, a parameter.

    floodmark pipeline examples/sales/sales.py -o sales.pdf
    floodmark pipeline examples/sales/sales.py -o sales.pdf --parameter since=2026-01-01
    floodmark pipeline examples/sales/sales.py -o - --format csv --parameter territory=North

The rows come from sales.csv beside this file unless --source names something else with the same columns. A SQLite file of them is made by

    sqlite3 sales.db '.import --csv examples/sales/sales.csv sales'
"""

from __future__ import annotations

from pathlib import Path

from floodmark.systems.pipeline import Query
from floodmark.systems.pipeline.report import Aggregate, Band, Expression, Field, Group, Label, Line, Parameter, Report, Variable

TURNOVER = "price * quantity"

report = Report(
    name="sales",
    title="Sales by territory and customer",
    author="The example shop",
    source=str(Path(__file__).with_name("sales.csv")),
    query=Query(
        table="sales",  # of a file: its name
        where="CAST(sold_on AS TEXT) >= CAST(:since AS TEXT) AND (:territory IS NULL OR territory = :territory)",
        order_by=("sold_on", "id"),
    ),
    fields={
        "id": int,
        "sold_on": "date",
        "territory": str,
        "customer": str,
        "product": str,
        "quantity": int,
        "price": "money",
    },
    parameters=(
        Parameter(name="since", type="date", default="2025-10-01", description="the first day that counts"),
        Parameter(name="territory", choices=("North", "East", "South", "West"), description="only this one"),
    ),
    groups=(Group(level=1, name="territory", expected_count=4), Group(level=2, name="customer", expected_count=20)),
    variables=(Variable(name="turnover", type="sum", expression=TURNOVER),),
    bands=(
        Band(
            kind="title",
            elements=(
                Label(text="Sales", bold=True),
                Expression(text="'from ' || strftime(:since, '%d %b %Y') || ' on'", align="right"),
            ),
        ),
        Band(kind="group_header", group_level=1, elements=(Field(source="territory", bold=True),)),
        Band(kind="group_header", group_level=2, keep_together=True, elements=(Field(source="customer", bold=True),)),
        Band(
            kind="detail",
            elements=(
                Field(source="sold_on", format="date:%d %b %Y", label="Date", width=2),
                Field(source="product", label="Product", width=4),
                Field(source="quantity", format="number:0", label="Quantity", width=1.5),
                Field(source="price", format="money:EUR", label="Price", width=1.5),
                Expression(text=TURNOVER, format="money:EUR", label="Turnover", width=2),
            ),
        ),
        Band(
            kind="group_footer",
            group_level=2,
            elements=(
                Field(source="customer", width=6),
                Aggregate(function="sum", source="quantity", format="number:0", width=1.5),
                Label(text="", width=1.5),
                Aggregate(function="sum", source=TURNOVER, format="money:EUR", width=2),
            ),
        ),
        Band(
            kind="group_footer",
            group_level=1,
            elements=(
                Line(),
                Expression(text="'All of ' || territory || ', ' || CAST(COUNT(*) AS TEXT) || ' sales'", bold=True, width=6),
                Aggregate(function="sum", source="quantity", format="number:0", bold=True, width=1.5),
                Label(text="", width=1.5),
                Aggregate(function="sum", source=TURNOVER, format="money:EUR", bold=True, width=2),
            ),
        ),
        Band(
            kind="summary",
            elements=(
                Label(text="All in all", bold=True, width=6),
                Aggregate(function="count", format="number:0", label="Sales", width=1.5),
                Aggregate(function="avg", source=TURNOVER, format="money:EUR", label="Mean", width=1.5),
                Field(source="turnover", format="money:EUR", bold=True, label="Turnover", width=2),
            ),
        ),
    ),
)
