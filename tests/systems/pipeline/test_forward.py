"""A result read forward from a run that can break, hang and be interrupted: every row once, and a run that is left is closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import polars as pl
import pytest

from floodmark.systems.pipeline.errors import QueryError, QueryRefusedError
from floodmark.systems.pipeline.source.forward import ForwardCursor
from floodmark.systems.pipeline.source.steady import Steady
from floodmark.systems.pipeline.source.threads import Lane, Threads
from tests.systems.pipeline.fixtures import LIMIT_S, until

ROWS = 100


class Database:
    """Runs queries for the numbers from 0 on, after a mark; the calls of `more` that are named fail or hang."""

    def __init__(self, *, failing: tuple[int, ...] = (), hanging: tuple[int, ...] = ()) -> None:
        self.failing, self.hanging = failing, hanging
        self.started: list[Any] = []
        self.closed_count = 0
        self.calls_count = 0
        self.hangs = threading.Event()

    def start(self, mark: Any) -> Running:
        self.started.append(mark)
        return Running(self, 0 if mark is None else mark + 1)


class Running:
    def __init__(self, database: Database, first: int) -> None:
        self.database = database
        self.place = first
        self.interrupted = threading.Event()

    def more(self, count: int) -> pl.DataFrame:
        number, self.database.calls_count = self.database.calls_count, self.database.calls_count + 1
        if number in self.database.hanging:
            self.database.hangs.set()
            assert self.interrupted.wait(LIMIT_S)
        if self.interrupted.is_set() or number in self.database.failing:
            raise QueryError("interrupted" if self.interrupted.is_set() else f"call {number} fails")
        end = min(self.place + min(count, 7), ROWS)
        rows = pl.DataFrame({"id": list(range(self.place, end)), "hidden": [0] * (end - self.place)})
        self.place = end
        return rows

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        self.database.closed_count += 1


@pytest.fixture
def lane() -> Iterator[Lane]:
    threads = Threads(2)
    threads.hold()
    yield Lane(threads)
    threads.release()


def cursor_of(database: Database, lane: Lane, *, marked: bool = True, **options: Any) -> ForwardCursor:
    mark: Callable[[pl.DataFrame], Any] | None = (lambda page: page["id"][-1]) if marked else None
    return ForwardCursor(start=database.start, lane=lane, steady=Steady(), names=("id",), hidden=("hidden",), mark=mark, **options)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await work

    asyncio.run(limited())


async def rest(cursor: ForwardCursor, count: int = 10) -> list[int]:
    """Read to the end, trying again what may be tried again."""
    ids: list[int] = []
    while True:
        try:
            frame = await cursor.fetch(count)
        except QueryError:
            continue
        ids += frame["id"].to_list()
        if frame.height < count:
            return ids


@pytest.mark.parametrize("failing", [(), (0,), (1,), (3, 4, 9), (15,)])
def test_forward_run_that_breaks_goes_on_after_the_last_mark(lane: Lane, failing: tuple[int, ...]) -> None:
    async def work() -> None:
        database = Database(failing=failing)
        cursor = cursor_of(database, lane)

        assert await rest(cursor) == list(range(ROWS))
        assert cursor.exhausted
        assert cursor.total == ROWS
        assert len(database.started) == 1 + len(failing)
        await cursor.close()
        assert database.closed_count == len(database.started)

    run(work())


def test_forward_run_without_marks_that_breaks_in_the_middle_is_refused_with_the_way_out(lane: Lane) -> None:
    async def work() -> None:
        cursor = cursor_of(Database(failing=(0, 4)), lane, marked=False)
        with pytest.raises(QueryError):
            await cursor.fetch(10)
        assert (await cursor.fetch(10))["id"].to_list() == list(range(10))

        with pytest.raises(QueryRefusedError, match="name a `key`"):
            await rest(cursor)
        await cursor.close()

    run(work())


@pytest.mark.parametrize("hanging", [0, 1, 5])
def test_forward_fetch_cancelled_while_the_run_hangs_is_interrupted_and_no_row_is_lost(lane: Lane, hanging: int) -> None:
    async def work() -> None:
        database = Database(hanging=(hanging,))
        cursor = cursor_of(database, lane)
        ids: list[int] = []
        while not database.hangs.is_set():
            fetching = asyncio.create_task(cursor.fetch(10))
            await until(lambda task=fetching: task.done() or database.hangs.is_set())  # type: ignore[misc]
            if fetching.done():
                ids += fetching.result()["id"].to_list()
        fetching.cancel()
        await asyncio.wait([fetching])

        ids += await rest(cursor)

        assert ids == list(range(ROWS))
        await cursor.close()
        assert database.closed_count == len(database.started) == 2

    run(work())


def test_forward_cursor_closed_while_its_run_hangs_interrupts_it(lane: Lane) -> None:
    async def work() -> None:
        database = Database(hanging=(0,))
        told: list[str] = []
        cursor = cursor_of(database, lane, marked=False, on_close=lambda: told.append("closed"))
        fetching = asyncio.create_task(cursor.fetch(10))
        await until(database.hangs.is_set)
        fetching.cancel()
        await asyncio.wait([fetching])

        await cursor.close()
        await cursor.close()

        assert (database.closed_count, told) == (1, ["closed"])
        with pytest.raises(QueryRefusedError, match="closed"):
            await cursor.fetch(1)

    run(work())


@pytest.mark.parametrize("marked", [True, False])
def test_forward_cursor_sought_to_a_place_reads_on_from_there(lane: Lane, marked: bool) -> None:
    async def work() -> None:
        first = cursor_of(Database(), lane, marked=marked, limit=95)
        await first.fetch(40)
        place = first.position
        later = cursor_of(Database(), lane, marked=marked, limit=95)
        await later.fetch(3)

        later.seek(place)
        later.seek(place)  # where it stands already: nothing begins anew

        assert await rest(later) == list(range(40, 95))
        assert (await later.fetch(5)).columns == ["id"]
        await first.close()
        await later.close()

    run(work())
