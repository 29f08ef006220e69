"""Where the streams of a channel get their rows: from the records offered, as they come, or from a table that these were written to first.

Either way a row is handed out only when the pipeline fetches, so that a pipeline that does not ask holds up whoever offers.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Hashable
from pathlib import Path

import polars as pl

from floodmark.systems.pipeline.errors import QueryRefusedError
from floodmark.systems.pipeline.host.intake import Intake, answer
from floodmark.systems.pipeline.host.rows import COLUMNS, TABLE, rows_of
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.source.base import Cursor, Pager

WRITTEN_COUNT = 2000  # records that go into the table in one transaction


class FeedSource:
    """The next `records` records of an intake, in order, each given once."""

    name = "offered records"

    def __init__(self, intake: Intake, *, records: int, groups: int) -> None:
        self._intake = intake
        self._records = records
        self._groups = groups

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Stand before the next record that is offered."""
        return FeedCursor(self._intake, self._records, self._groups)

    async def close(self) -> None:
        """Nothing to give back."""


class FeedCursor:
    """Its place is how many records were given."""

    def __init__(self, intake: Intake, records: int, groups: int) -> None:
        self._intake = intake
        self._groups = groups
        self.total: int | None = records
        self._given_count = 0

    @property
    def position(self) -> Hashable:
        """Records given."""
        return self._given_count

    @property
    def exhausted(self) -> bool:
        """Whether the stream has all of its records."""
        return self.total is not None and self._given_count >= self.total

    async def fetch(self, count: int) -> pl.DataFrame:
        """Wait until `count` records were offered, or the last ones, and take them on."""
        assert self.total is not None
        count = min(count, self.total - self._given_count)
        await self._intake.wait(count)
        payloads, tickets = self._intake.take(count)
        rows = rows_of(self._given_count, payloads, self._groups)
        self._given_count += len(payloads)
        answer(tickets)
        return rows

    def seek(self, position: Hashable) -> None:
        """Only where it is."""
        if position != self._given_count:
            raise QueryRefusedError(f"records are offered once: there is no way from {self._given_count} to {position}")

    async def close(self) -> None:
        """Nothing to give back."""


async def spool(intake: Intake, path: Path, *, records: int, groups: int) -> None:
    """Write the next records of an intake into a table of a new database; each is taken on when it is committed."""
    done_count = 0
    while done_count < records:
        count = min(WRITTEN_COUNT, records - done_count)
        await intake.wait(count)
        payloads, tickets = intake.take(count)
        await write_rows(path, rows_of(done_count, payloads, groups))
        answer(tickets)
        done_count += count


async def write_rows(path: Path, rows: pl.DataFrame) -> None:
    """Add rows to the table in one transaction, away from the event loop."""
    await asyncio.to_thread(_write, path, rows.with_columns(pl.col("timestamp").dt.to_string("iso")))


def _write(path: Path, rows: pl.DataFrame) -> None:
    connection = sqlite3.connect(path)
    try:
        with connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {TABLE} (id INTEGER PRIMARY KEY, name TEXT, value INTEGER, amount REAL, category TEXT, "
                "timestamp TEXT, payload BLOB)"
            )
            marks = ", ".join("?" for _ in COLUMNS)
            connection.executemany(f"INSERT INTO {TABLE} VALUES ({marks})", rows.select(COLUMNS).iter_rows())
    finally:
        connection.close()
