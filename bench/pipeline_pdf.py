"""`python -m bench.pipeline_pdf [--rows N]`: render a detail report as PDF and say what it took. One line per format on stdout.

The report is made of what costs: two group levels, six columns, headers and footers with aggregates on every page. Peak RSS is that of this
process and all its children together, sampled every 20 ms, so a shorter peak is missed; the parent's own memory before the run is told too.
Exit code 1 when a page or a row is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import polars as pl
import psutil

from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.report import Aggregate, Band, Expression, Field, Format, Group, Label, Report
from floodmark.systems.pipeline.report.render import Progress, Rendered, render

CHUNK_ROWS = 1000
SAMPLE_S = 0.02
TERRITORIES = ("East", "North", "South", "West")
PRODUCTS = ("Mooring rope, 12 mm", "Fender", "Anchor chain, galvanised, with shackle and swivel")


def sales_report() -> Report:
    """The report that is rendered."""
    eur = Format(type="money", currency="EUR")
    return Report(
        name="sales",
        title="Sales by territory",
        author="floodmark",
        query=Query(table="sales"),
        fields={
            "territory": "text",
            "customer": "text",
            "id": "integer",
            "product": "text",
            "sold_on": "date",
            "quantity": "integer",
            "amount": "money",
        },
        groups=(Group(level=1, name="territory"), Group(level=2, name="customer")),
        formats={"eur": eur},
        bands=(
            Band(kind="title", elements=(Label(text="Sales by territory"),)),
            Band(kind="page_header", elements=(Label(text="Sales by territory"), Field(source="territory", align="right"))),
            Band(kind="group_header", group_level=1, elements=(Field(source="territory"),)),
            Band(kind="group_header", group_level=2, elements=(Field(source="customer"),)),
            Band(
                kind="detail",
                elements=(
                    Field(source="product"),
                    Field(source="id", label="No."),
                    Field(source="sold_on", label="Sold", format="date:%d %b %Y"),
                    Field(source="quantity"),
                    Field(source="amount", format="eur"),
                ),
            ),
            Band(
                kind="group_footer",
                group_level=2,
                elements=(
                    Label(text="Total of the customer"),
                    Aggregate(function="sum", source="quantity"),
                    Aggregate(function="sum", source="amount", format="eur"),
                ),
            ),
            Band(
                kind="group_footer",
                group_level=1,
                elements=(
                    Label(text="Total of the territory", bold=True),
                    Aggregate(function="sum", source="amount", format="eur", bold=True),
                ),
            ),
            Band(
                kind="page_footer",
                elements=(
                    Label(text="Page {page} of {pages}"),
                    Aggregate(function="sum", source="amount", format="eur", label="On this page", align="right"),
                ),
            ),
            Band(
                kind="summary",
                elements=(
                    Label(text="Total"),
                    Expression(text="SUM(amount * quantity)", format="eur", label="Turnover"),
                    Aggregate(function="sum", source="amount", format="eur"),
                ),
            ),
        ),
    )


async def sales(count: int) -> AsyncIterator[pl.DataFrame]:
    """Rows in the order of the groups: 100 to each customer."""
    for start in range(0, count, CHUNK_ROWS):
        numbers = range(start, min(start + CHUNK_ROWS, count))
        yield pl.DataFrame(
            {
                "territory": [TERRITORIES[number * len(TERRITORIES) // count] for number in numbers],
                "customer": [f"Customer {number // 100:05}" for number in numbers],
                "id": list(numbers),
                "product": [
                    "Mooring rope, 12 mm" if number % 3 else "Anchor chain, galvanised, with shackle and swivel" for number in numbers
                ],
                "sold_on": [datetime.date(2026, 1, 1) + datetime.timedelta(days=number % 365) for number in numbers],
                "quantity": [number % 9 + 1 for number in numbers],
                "amount": [number * 37 % 100_000 / 100 for number in numbers],
            }
        )


class Memory:
    """Samples what this process and its children hold together."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory")
        self.rss_bytes_before = self.rss_bytes_peak = self._me.memory_info().rss

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            held = 0
            for process in (self._me, *self._me.children(recursive=True)):
                try:
                    held += process.memory_info().rss
                except psutil.NoSuchProcess:  # renewed meanwhile
                    continue
            self.rss_bytes_peak = max(self.rss_bytes_peak, held)


def main(arguments: list[str]) -> int:
    """Render and print one line for each format."""
    parser = argparse.ArgumentParser(prog="bench.pipeline_pdf", description="what a report of many rows takes")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--format", action="append", choices=("pdf", "html", "jsonl", "csv"), help="default: pdf; may be repeated")
    chosen = parser.parse_args(arguments)
    if chosen.rows < 1:
        parser.error("--rows must be at least 1")
    whole = True
    for name in chosen.format or ["pdf"]:
        rendered, memory = measure(chosen.rows, name)
        whole = whole and rendered.records == chosen.rows and (name in ("jsonl", "csv") or rendered.pages > 0)
        print(
            f"{name}: {rendered.records:,} rows, {rendered.pages:,} pages, {rendered.seconds:.1f} s, {rendered.bytes / 1e6:.1f} MB; "
            f"RSS {memory.rss_bytes_before / 1e6:.0f} MB before, {memory.rss_bytes_peak / 1e6:.0f} MB at most with children, "
            f"{rendered.rss_bytes_peak / 1e6:.0f} MB the largest child"
        )
    return 0 if whole else 1


def measure(count: int, name: str) -> tuple[Rendered, Memory]:
    """Render `count` rows in one format."""

    def told(progress: Progress) -> None:
        if progress.records % 10_000 == 0:
            print(f"{name}: {progress.records:,} rows, {progress.pages:,} pages", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder, Memory() as memory:
        rendered = asyncio.run(render(sales_report(), sales(count), Path(folder) / f"report.{name}", progress=told))
    return rendered, memory


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
