"""Sources: what they read, what they refuse and in which words, and what is left after a cancelled, broken or closed fetch."""

from __future__ import annotations

import asyncio
import datetime
import json
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import polars as pl
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import QueryError, QueryRefusedError, QueryTimeoutError
from floodmark.systems.pipeline.query import Query, Relation
from floodmark.systems.pipeline.source import Cursor, Source, source_from
from floodmark.systems.pipeline.source.duck import DuckSource
from floodmark.systems.pipeline.source.http import HttpSource
from floodmark.systems.pipeline.source.iterable import IterableSource
from floodmark.systems.pipeline.source.parameters import bound
from floodmark.systems.pipeline.source.postgres import PostgresSource
from floodmark.systems.pipeline.source.sqlite import SqliteSource
from floodmark.systems.pipeline.source.steady import Steady, joined
from floodmark.systems.pipeline.source.testing import Faults, FaultySource
from floodmark.systems.pipeline.source.threads import Lane, Threads, ThreadsGoneError
from tests.systems.pipeline.fixtures import with_source

LIMIT_S = 20


async def drained(cursor: Cursor, count: int = 100, *, before: int = 0) -> pl.DataFrame:
    parts = [await cursor.fetch(count)]
    while not cursor.exhausted and parts[-1].height == count:
        parts.append(await cursor.fetch(count))
    assert cursor.total == before + sum(part.height for part in parts)
    await cursor.close()
    return joined([part for part in parts if part.height] or parts[:1])


def read(source: Source, query: Query, count: int = 100) -> pl.DataFrame:
    async def work(opened: Source) -> pl.DataFrame:
        return await drained(await opened.open(query), count)

    return with_source(source, work)


async def first_rows(source: Source, query: Query) -> pl.DataFrame:
    cursor = await source.open(query)
    try:
        return await cursor.fetch(10)
    finally:
        await cursor.close()


def refusal(source: Source, query: Query) -> str:
    async def work(opened: Source) -> str:
        with pytest.raises((QueryRefusedError, UsageError)) as raised:
            await first_rows(opened, query)
        return str(raised.value)

    return with_source(source, work)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE sales(id INTEGER PRIMARY KEY, amount DECIMAL(10,2), note TEXT, paid BOOLEAN, any_value)")
    rows = [(n, n if n < 300 else n + 0.5, None if n < 250 else f"o'n {n}", n % 2, n if n < 280 else f"t{n}") for n in range(500)]
    connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?, ?)", rows)
    connection.execute("CREATE VIEW big AS SELECT id, amount FROM sales WHERE amount > 400")
    connection.execute('CREATE TABLE "odd ""name"""("a b" INT, "select" TEXT)')
    connection.execute('INSERT INTO "odd ""name""" VALUES (1, ?)', ("x;'--",))
    connection.commit()
    connection.close()
    return path


# --- SQLite


def test_sqlite_types_stay_the_same_from_chunk_to_chunk_and_no_value_changes(shop: Path) -> None:
    async def work(source: Source) -> list[pl.DataFrame]:
        cursor = await source.open(Query(table="sales"))
        chunks = [await cursor.fetch(100) for _ in range(5)]
        await cursor.close()
        return chunks

    chunks = with_source(SqliteSource(shop), work)

    declared = [pl.Int64, pl.Float64, pl.String, pl.Boolean]
    assert [chunk.dtypes[:4] for chunk in chunks] == [declared] * 5
    # A column without a declared type keeps what its values are: the chunk in which text begins becomes text.
    assert [chunk.dtypes[4] for chunk in chunks] == [pl.Int64, pl.Int64, pl.String, pl.String, pl.String]
    assert chunks[2].row(90) == (290, 290.0, "o'n 290", False, "t290")
    assert chunks[3].row(0) == (300, 300.5, "o'n 300", False, "t300")


def test_sqlite_parameters_are_values_and_never_text(shop: Path) -> None:
    hostile = "x' OR 1=1; DROP TABLE sales; --"

    none = read(SqliteSource(shop), Query(table="sales", where="note = :note", parameters={"note": hostile}))
    one = read(SqliteSource(shop), Query(table="sales", where="note = :note", parameters={"note": "o'n 300"}))
    echoed = read(SqliteSource(shop), Query(sql="SELECT :note AS note, :none AS none", parameters={"note": hostile, "none": None}))
    left = read(SqliteSource(shop), Query(table="sales"))

    assert (none.height, one["id"].to_list(), left.height) == (0, [300], 500)
    assert echoed.rows() == [(hostile, None)]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (True, 1),
        (1.5, 1.5),
        (b"\x00x", b"\x00x"),
        (Decimal("1.50"), "1.50"),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        (datetime.datetime(2024, 5, 1, 8, 30), "2024-05-01 08:30:00"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (-(2**63), -(2**63)),
    ],
)
@pytest.mark.parametrize("key", [(), ("v",)])  # without a key Python's driver reads, with one ADBC's
def test_sqlite_parameters_of_every_kind_are_bound_as_sqlite_stores_them(
    shop: Path, value: object, stored: object, key: tuple[str, ...]
) -> None:
    found = read(SqliteSource(shop), Query(sql="SELECT :v AS v", parameters={"v": value}, key=key))

    assert found.rows() == [(stored,)]


def test_sqlite_names_with_quotes_and_keywords_are_just_names(shop: Path) -> None:
    query = Query(table='odd "name"', columns=("select", "a b"), order_by=("-a b",), where='"a b" = 1 -- why not')

    assert read(SqliteSource(shop), query).rows() == [("x;'--", 1)]


def test_sqlite_view_and_sql_text_without_a_key_are_read_once_from_beginning_to_end(shop: Path) -> None:
    view = read(SqliteSource(shop), Query(table="big", order_by=("-amount",), columns=("id",)), count=30)
    text = read(SqliteSource(shop), Query(sql="SELECT id FROM sales ORDER BY id -- all", where="id >= :a", parameters={"a": 495}), count=2)
    limited = read(SqliteSource(shop), Query(table="big", limit=7), count=3)

    assert view["id"].to_list() == list(range(499, 399, -1))
    assert text["id"].to_list() == [495, 496, 497, 498, 499]
    assert limited.height == 7


def test_sqlite_total_is_known_where_counting_is_cheap(shop: Path) -> None:
    async def totals(source: Source) -> list[int | None]:
        found = []
        for options in ({}, {"where": "id < 10"}, {"limit": 3}, {"counted": False}):
            cursor = await source.open(Query(table="sales", **options))
            found.append(cursor.total)
            await cursor.close()
        return found

    assert with_source(SqliteSource(shop), totals) == [500, 10, 3, None]
    assert with_source(SqliteSource(shop, counted_rows=100), totals) == [None, 10, 3, None]
    assert with_source(SqliteSource(shop, counted_rows=None), totals) == [500, 10, 3, None]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (Query(table="sale"), "no table 'sale' in the database; did you mean 'sales'?"),
        (Query(table="zzz"), "there are: big, odd"),
        (Query(table="sales", columns=("amuont",)), "no column 'amuont' in table 'sales'; did you mean 'amount'?"),
        (Query(table="sales", order_by=("-amuont",)), "did you mean 'amount'?"),
        (Query(table="sales", key=("idd",)), "did you mean 'id'?"),
        (Query(table="sales", where="amuont > 1"), "no such column: amuont; did you mean 'amount'?"),
        (Query(sql="SELECT id FROM sales", columns=("ids",)), "did you mean 'id'?"),
        (Query(sql="SELEC 1"), "syntax error"),
        (Query(sql="DELETE FROM sales RETURNING id"), "syntax error"),
        (Query(), "name one, or give SQL text. There are: "),
        (Query(table="sales", where="id > :least", parameters={"last": 1}), ":least, which was not given; did you mean :last?"),
        (Query(table="sales", where="id > :x", parameters={"x": 2**63}), "must fit into 64 bits"),
        (Query(table="sales", where="id > :x", parameters={"x": [1]}), "a parameter must be a number, text"),
    ],
)
def test_sqlite_mistakes_are_refused_and_name_what_was_probably_meant(shop: Path, query: Query, words: str) -> None:
    assert words in refusal(SqliteSource(shop), query)


def test_sqlite_locked_file_may_be_tried_again(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floodmark.systems.pipeline.source.sqlite.BUSY_LIMIT_S", 0)
    lock = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    )

    @contextmanager
    def locked() -> Iterator[None]:
        """Locks are per process: it has to be another one."""
        with subprocess.Popen([sys.executable, "-c", lock, str(shop)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            try:
                yield
            finally:
                holder.stdin.close()
                holder.wait(LIMIT_S)

    async def work(source: Source) -> pl.DataFrame:
        cursor = await source.open(Query(table="sales"))
        first = await cursor.fetch(100)
        with locked(), pytest.raises(QueryError, match="locked"):
            await cursor.fetch(100)
        rest = await drained_rest(cursor)
        return pl.concat([first, rest], how="vertical_relaxed")

    frame = with_source(SqliteSource(shop), work)

    assert frame["id"].to_list() == list(range(500))


async def drained_rest(cursor: Cursor) -> pl.DataFrame:
    frame = await cursor.fetch(10_000)
    await cursor.close()
    return frame.select(pl.exclude("any_value"), pl.col("any_value").cast(pl.String)) if "any_value" in frame.columns else frame


def test_sqlite_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("this is no database, but it is long enough to be looked at" * 20)

    assert "not a database" in refusal(SqliteSource(tmp_path / "x.db"), Query(table="sales"))
    assert "there is no file" in refusal(SqliteSource(tmp_path / "none.db"), Query(table="sales"))
    with pytest.raises(UsageError, match="in memory"):
        SqliteSource(":memory:")


def test_sqlite_many_cursors_share_the_connections_of_few_threads(shop: Path) -> None:
    source = SqliteSource(shop)

    async def one() -> int:
        cursor = await source.open(Query(table="sales"))
        return (await drained(cursor, 50)).height

    async def work(_: Source) -> tuple[list[int], int]:
        rows = await asyncio.gather(*(one() for _ in range(40)))  # the test's own: all at once
        return rows, len(source._idle)

    rows, connections_count = with_source(source, work)

    assert rows == [500] * 40
    assert 1 <= connections_count <= 8


@pytest.mark.parametrize("query", [Query(table="sales"), Query(table="big")])
def test_sqlite_closed_source_and_cursor_refuse_and_close_twice(shop: Path, query: Query) -> None:
    async def work(source: Source) -> None:
        cursor = await source.open(query)
        await cursor.fetch(1)
        await cursor.close()
        await cursor.close()
        with pytest.raises(QueryRefusedError, match="closed"):
            await cursor.fetch(1)
        await source.close()
        with pytest.raises(QueryRefusedError, match="closed"):
            await source.open(query)

    with_source(SqliteSource(shop), work)


# --- cancelling


@pytest.mark.parametrize("query", [Query(table="sales"), Query(sql="SELECT * FROM sales")])
def test_cancelled_fetch_loses_no_row_and_repeats_none(shop: Path, query: Query) -> None:
    async def work(source: Source) -> tuple[list[int], int]:
        cursor = await source.open(query)
        found: list[int] = []
        cancelled_count = 0
        for round_number in range(200):
            fetch = asyncio.ensure_future(cursor.fetch(20))
            for _ in range(round_number % 4):
                await asyncio.sleep(0)
            if round_number % 3:
                fetch.cancel()
            try:
                found += (await fetch)["id"].to_list()
            except asyncio.CancelledError:
                cancelled_count += 1
            if cursor.exhausted:
                break
        await cursor.close()
        return found, cancelled_count

    found, cancelled_count = with_source(SqliteSource(shop), work)

    assert found == list(range(500))
    assert cancelled_count > 0


def test_lane_cancelled_call_is_interrupted_and_the_next_waits_for_it() -> None:
    threads = Threads(2)
    release = threading.Event()
    steps: list[str] = []

    def slow() -> None:
        release.wait(LIMIT_S)
        steps.append("slow ended")

    async def work() -> None:
        threads.hold()
        lane = Lane(threads)
        began = asyncio.ensure_future(lane.run(slow, interrupt=lambda: steps.append("interrupted")))
        await asyncio.sleep(0)
        began.cancel()
        with pytest.raises(asyncio.CancelledError):
            await began
        following = asyncio.ensure_future(lane.run(lambda: steps.append("next")))
        await asyncio.sleep(0)
        release.set()
        await following
        threads.release()

    asyncio.run(work())

    assert steps in (["interrupted", "slow ended", "next"], ["next"])  # a call that had not begun is not begun


def test_threads_are_gone_when_the_last_holder_lets_go() -> None:
    threads = Threads(1)
    threads.hold()
    threads.hold()
    threads.release()
    assert threads.submit(lambda: 7).result().result() == 7
    threads.release()

    with pytest.raises(ThreadsGoneError):
        threads.submit(lambda: 7)


# --- DuckDB and its files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    frame = pl.DataFrame({"id": range(30_000), "g": ["a", "b", None] * 10_000, "x": [n * 0.5 for n in range(30_000)]})
    frame.write_parquet(tmp_path / "rows.parquet")
    frame.write_csv(tmp_path / "rows.csv")
    frame.write_ndjson(tmp_path / "rows.jsonl")
    with duckdb.connect(str(tmp_path / "rows.duckdb")) as connection:
        connection.execute(f"CREATE TABLE rows AS SELECT * FROM '{tmp_path}/rows.parquet'")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "table", "total"),
    [
        ("rows.parquet", None, 30_000),
        ("rows.csv", None, None),
        ("rows.jsonl", "rows", None),
        ("rows.duckdb", "rows", 30_000),
        ("*.parquet", "data", 30_000),
    ],
)
def test_duck_reads_each_kind_of_file_in_its_order(files: Path, file: str, table: str | None, total: int | None) -> None:
    async def work(source: Source) -> tuple[int | None, pl.DataFrame]:
        cursor = await source.open(Query(table=table))
        return cursor.total, await drained(cursor, 7_777)

    known, frame = with_source(source_from(str(files / file)), work)

    assert known == total
    assert frame["id"].to_list() == list(range(30_000))
    assert frame.row(5) == (5, None, 2.5)


@pytest.mark.parametrize("pager", ["keyset", "offset"])
def test_duck_filters_orders_and_limits_as_the_others_do(files: Path, pager: Any) -> None:
    query = Query(columns=("id",), where="x >= :x", parameters={"x": 10.0}, order_by=("-g", "id"), key=("id",), limit=25_000)

    async def work(source: Source) -> list[int]:
        cursor = await source.open(query, pager=pager)
        return (await drained(cursor, 9_000))["id"].to_list()

    found = with_source(DuckSource(files / "rows.parquet"), work)

    wanted = [n for part in (1, 0, 2) for n in range(20, 30_000) if n % 3 == part]  # NULL is the smallest: last, downwards
    assert found == wanted[:25_000]


def test_duck_seek_goes_on_where_another_cursor_was(files: Path) -> None:
    async def work(source: Source) -> list[list[int]]:
        found = []
        for query in (Query(), Query(key=("id",), order_by=("-id",))):
            first, second = await source.open(query), await source.open(query)
            await first.fetch(12_345)
            second.seek(first.position)
            left, right = await drained_rest(first), await drained_rest(second)
            assert left.equals(right)
            found.append(left["id"].to_list()[:2])
        return found

    assert with_source(DuckSource(files / "rows.parquet"), work) == [[12_345, 12_346], [17_654, 17_653]]


def test_duck_cursor_closed_half_way_ends_its_query(files: Path) -> None:
    async def work(source: Source) -> int:
        cursor = await source.open(Query(sql="SELECT a.id FROM data a, data b"))  # 900 million rows
        rows = (await cursor.fetch(10)).height
        await cursor.close()
        return rows

    assert with_source(DuckSource(files / "rows.parquet"), work) == 10


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (Query(table="dat"), "did you mean 'data'?"),
        (Query(columns=("xx",)), "did you mean 'x'?"),
        (Query(where="idd > 1"), '"id"'),
        (Query(sql="SELEC 1"), "syntax error"),
        (Query(sql="SELECT CAST(g AS INT) AS n FROM data"), "Could not convert"),
    ],
)
def test_duck_mistakes_are_refused(files: Path, query: Query, words: str) -> None:
    assert words in refusal(DuckSource(files / "rows.parquet"), query)


# --- iterables


def test_iterable_of_dicts_keeps_order_and_fills_what_is_missing() -> None:
    rows = [{"id": n, "x": None if n < 5 else n / 2} if n % 2 else {"id": n} for n in range(25)]

    frame = read(IterableSource(rows), Query(), count=10)

    assert frame["id"].to_list() == list(range(25))
    assert frame["x"].to_list() == [row.get("x") for row in rows]


def test_iterable_async_generator_of_dicts_and_frames_is_one_stream_and_is_closed() -> None:
    ended: list[bool] = []

    async def items() -> AsyncIterator[dict[str, int] | pl.DataFrame]:
        try:
            for n in range(0, 1000, 10):
                if n % 20:
                    yield pl.DataFrame({"id": range(n, n + 10)})
                else:
                    for number in range(n, n + 10):
                        yield {"id": number}
        finally:
            ended.append(True)

    async def work(source: Source) -> tuple[list[int], int]:
        cursor, part = await source.open(Query()), await source.open(Query(limit=33))
        first = await part.fetch(20)
        await part.close()
        return (await drained(cursor, 64))["id"].to_list(), first.height

    found, part = with_source(IterableSource(items), work)

    assert (found, part, ended) == (list(range(1000)), 20, [True, True])


def test_iterable_picks_columns_and_stops_at_a_limit() -> None:
    frame = read(IterableSource([{"id": n, "x": n} for n in range(100)]), Query(columns=("x",), limit=42), count=40)

    assert frame.columns == ["x"]
    assert frame.height == 42


def test_iterable_frame_total_counts_rows_and_not_frames() -> None:
    async def work(source: Source) -> tuple[int | None, int]:
        cursor = await source.open(Query())
        total = cursor.total
        return total, (await drained(cursor, 30)).height

    assert with_source(IterableSource(pl.DataFrame({"a": range(70)})), work) == (70, 70)
    assert with_source(IterableSource([{"a": 1}] * 7), work) == (7, 7)


def test_iterable_that_breaks_is_refused_with_its_own_words_and_ours_pass_through() -> None:
    def broken() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise ZeroDivisionError("no more")

    def told() -> Iterator[dict[str, int]]:
        raise QueryError("come again")
        yield {}

    assert "ZeroDivisionError: no more" in refusal(IterableSource(broken), Query())

    async def work(source: Source) -> None:
        with pytest.raises(QueryError, match="come again"):
            await (await source.open(Query())).fetch(1)

    with_source(IterableSource(told), work)


@pytest.mark.parametrize("query", [Query(sql="SELECT 1"), Query(where="a = 1"), Query(order_by=("a",)), Query(key=("a",))])
def test_iterable_and_http_refuse_what_they_cannot_do(query: Query) -> None:
    assert "knows no" in refusal(IterableSource([{"a": 1}]), query)
    assert "knows no" in refusal(HttpSource("http://127.0.0.1:9/rows"), query)


def test_iterable_iterator_is_read_once_only() -> None:
    source = IterableSource(iter([{"a": 1}]))

    async def work(opened: Source) -> None:
        assert (await drained(await opened.open(Query()))).height == 1
        with pytest.raises(QueryRefusedError, match="was read already"):
            await opened.open(Query())

    with_source(source, work)


def test_iterable_of_something_else_is_refused() -> None:
    with pytest.raises(UsageError, match="iterable of dicts"):
        IterableSource({"a": 1})  # type: ignore[dict-item]
    assert "must be a mapping" in refusal(IterableSource([1, 2]), Query())  # type: ignore[list-item]
    assert "did you mean 'amount'?" in refusal(IterableSource([{"amount": 1}]), Query(columns=("amuont",)))


# --- HTTP

Answer = tuple[int, Any, dict[str, str]]


@contextmanager
def served(answer: Callable[[str, dict[str, str], int], Answer]) -> Iterator[tuple[str, list[str]]]:
    """Serve what `answer(path, parameters, number of the request)` says; gives the address and the list of paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5  # a client that a failing test forgot keeps no thread

        def do_GET(self) -> None:
            asked.append(self.path)
            parts = urlsplit(self.path)
            status, body, headers = answer(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}, len(asked) - 1)
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(payload)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/rows", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def numbered(begin: int, end: int) -> list[dict[str, Any]]:
    return [{"id": n, "name": f"n{n}"} for n in range(begin, min(end, 100))]


def by_link(path: str, parameters: dict[str, str], number: int) -> Answer:
    begin = int(parameters.get("from", 0))
    return 200, {"data": numbered(begin, begin + 30), "links": {"next": f"?from={begin + 30}" if begin < 90 else None}, "total": 100}, {}


def by_header(path: str, parameters: dict[str, str], number: int) -> Answer:
    begin = int(parameters.get("from", 0))
    return 200, numbered(begin, begin + 30), {"Link": f'</rows?from={begin + 30}>; rel="next"'} if begin < 90 else {}


def by_offset(path: str, parameters: dict[str, str], number: int) -> Answer:
    begin = int(parameters["offset"])
    return 200, {"found": {"rows": numbered(begin, begin + min(int(parameters["limit"]), 40))}}, {}


def by_page(path: str, parameters: dict[str, str], number: int) -> Answer:
    begin = (int(parameters["page"]) - 1) * int(parameters["limit"])
    return 200, {"items": numbered(begin, begin + int(parameters["limit"])), "total": 100}, {}


@pytest.mark.parametrize(
    ("answer", "options"),
    [(by_link, {}), (by_header, {}), (by_offset, {"paging": "offset", "records": "found.rows"}), (by_page, {"paging": "page"})],
)
@pytest.mark.parametrize("count", [7, 30, 64, 100, 1000])
def test_http_every_way_of_paging_gives_every_row_once(answer: Any, options: dict[str, Any], count: int) -> None:
    with served(answer) as (url, _):
        frame = read(HttpSource(url, **options), Query(), count=count)

    assert frame["id"].to_list() == list(range(100))
    assert frame["name"][99] == "n99"


def test_http_table_and_parameters_make_the_address_and_columns_are_picked() -> None:
    with served(by_link) as (url, asked):
        frame = read(HttpSource(url + "?token=secret"), Query(table="of/may", parameters={"year": 2024}, columns=("id",), limit=5))

    assert asked == ["/rows/of/may?token=secret&year=2024"]
    assert frame.rows() == [(0,), (1,), (2,), (3,), (4,)]


def test_http_failing_answers_may_be_tried_again_and_no_row_is_lost() -> None:
    def answer(path: str, parameters: dict[str, str], number: int) -> Answer:
        if number in (1, 3):
            return 503 if number == 1 else 429, {}, {}
        return by_link(path, parameters, number)

    async def work(source: Source) -> tuple[list[int], int]:
        cursor = await source.open(Query())
        found: list[int] = []
        failed_count = 0
        while not cursor.exhausted:
            try:
                found += (await cursor.fetch(50))["id"].to_list()
            except QueryError:
                failed_count += 1
        await cursor.close()
        return found, failed_count

    with served(answer) as (url, _):
        found, failed_count = with_source(HttpSource(url), work)

    assert (found, failed_count) == (list(range(100)), 2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {}, {}), "answered 404"),
        ((302, {}, {"Location": "http://elsewhere.example/"}), "it points to http://elsewhere.example/"),
        ((200, b"<html>", {}), "gave no JSON"),
        ((200, {"stuff": [1]}, {}), "say where with `records`"),
        ((200, {"data": [1, 2]}, {}), "no list of objects"),
        ((200, {"data": [], "next": "http://elsewhere.example/2"}, {}), "another origin, http://elsewhere.example/2"),
        ((200, b"[" + b" " * 3000 + b"]", {}), "more than 2,000 bytes"),
    ],
)
def test_http_answers_of_no_use_are_refused(answer: Answer, words: str) -> None:
    with served(lambda path, parameters, number: answer) as (url, _):
        assert words in refusal(HttpSource(url, page_bytes_max=2000), Query())


def test_http_server_that_is_silent_or_gone_may_be_tried_again() -> None:
    release = threading.Event()

    def silent(path: str, parameters: dict[str, str], number: int) -> Answer:
        release.wait(LIMIT_S)
        return 200, [], {}

    async def work(source: Source) -> str:
        cursor = await source.open(Query())
        with pytest.raises(QueryError) as raised:
            await cursor.fetch(1)
        await cursor.close()
        return type(raised.value).__name__

    with served(silent) as (url, _):
        found = with_source(HttpSource(url, limit_s=0.05), work)
        release.set()

    assert found == QueryTimeoutError.__name__
    assert with_source(HttpSource(url), work) == QueryError.__name__  # nobody listens there any more


def test_http_seek_goes_on_where_another_cursor_was() -> None:
    async def work(source: Source) -> list[int]:
        first, second = await source.open(Query()), await source.open(Query())
        await first.fetch(41)
        second.seek(first.position)
        await first.close()
        return (await drained(second, 50, before=41))["id"].to_list()

    with served(by_link) as (url, _):
        assert with_source(HttpSource(url), work) == list(range(41, 100))


@pytest.mark.parametrize(
    ("url", "words"), [("ftp://x", "http:// or https://"), ("http://", "names a host"), ("http://u:p@h/", "Authorization header")]
)
def test_http_addresses_that_are_none_are_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        HttpSource(url)


# --- faults on purpose


def test_faulty_source_fails_as_told_and_then_gives_every_row(shop: Path) -> None:
    source = FaultySource(SqliteSource(shop), Faults(fail_first=2, fail_queries=frozenset({4}), after_rows=True))

    async def work(_: Source) -> list[int]:
        cursor = await source.open(Query(table="sales"))
        found: list[int] = []
        while not cursor.exhausted:
            try:
                found += (await cursor.fetch(100))["id"].to_list()
            except QueryError:
                continue
        await cursor.close()
        return found

    found = with_source(source, work)

    assert found == list(range(500))
    assert [asked.rows for asked in source.asked] == [None, None, 100, 100, None, 100, 100, 100]
    assert source.open_count == 0


def test_faulty_source_hangs_until_cancelled_and_refuses(shop: Path) -> None:
    source = FaultySource(SqliteSource(shop), Faults(hang_queries=frozenset({0}), refuse_queries=frozenset({1}), delay_s=0.001))

    async def work(_: Source) -> int:
        cursor = await source.open(Query(table="sales"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await cursor.fetch(10)
        with pytest.raises(QueryRefusedError, match="on purpose"):
            await cursor.fetch(10)
        rows = (await cursor.fetch(10)).height
        await cursor.close()
        return rows

    assert with_source(source, work) == 10
    with pytest.raises(UsageError):
        Faults(fail_first=-1)


# --- source_from, parameters, types


def test_source_from_makes_the_right_kind(files: Path, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.parent)
    kinds = {
        "shop.db": SqliteSource,
        "sqlite:///shop.db": SqliteSource,
        f"sqlite:///{shop}": SqliteSource,
        f"sqlite://{shop}": SqliteSource,
        "rows.parquet": DuckSource,
        "rows.duckdb": DuckSource,
        "duckdb:///rows.duckdb": DuckSource,
        "*.csv": DuckSource,
        "file:///rows.jsonl": DuckSource,
        "postgres://ann:secret@h/db": PostgresSource,
        "https://h.example/rows?token=secret": HttpSource,
    }

    for text, kind in kinds.items():
        source = source_from(text)
        assert isinstance(source, kind), text
        assert "secret" not in source.name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("shop.bd", "did you mean .db?"),
        ("shop", "a source is one of: sqlite:///"),
        ("shpo.db", r"there is no file 'shpo.db'; did you mean 'shop.db'\?"),
        ("sqlite://shop.db", "sqlite:///shop.db"),
        ("postgre://h/db", "did you mean postgres"),
        ("gopher://h", "a source is one of"),
    ],
)
def test_source_from_mistakes_say_what_is_allowed(shop: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    monkeypatch.chdir(shop.parent)

    with pytest.raises(UsageError, match=words.replace(".", r"\.").replace(r"\\.", r"\.").replace("db?", r"db\?")):
        source_from(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a = :x AND b = :x", ("a = ? AND b = ?", (1, 1))),
        ("a = ':x' AND \":x\" = `:x`", ("a = ':x' AND \":x\" = `:x`", ())),
        ("'it''s :x' || :x", ("'it''s :x' || ?", (1,))),
        ("a -- :x\n= :x /* :x */", ("a -- :x\n= ? /* :x */", (1,))),
        ("$$ :x $$ || $t$ $$ :x $t$ || :x::text", ("$$ :x $$ || $t$ $$ :x $t$ || ?::text", (1,))),
        ("a[1:x] = '10:x'", ("a[1:x] = '10:x'", ())),
    ],
)
def test_parameters_are_found_outside_of_quotes_comments_and_casts(text: str, wanted: tuple[str, tuple[int, ...]]) -> None:
    assert bound(text, {"x": 1}) == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"table": "a", "sql": "SELECT 1"},
        {"table": ""},
        {"sql": " ;"},
        {"table": "a", "limit": -1},
        {"table": "a", "columns": ("x", "x")},
        {"table": "a", "order_by": ("-",)},
    ],
)
def test_query_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Query(**wrong)


def test_relation_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="pairs 1 local with 2 foreign"):
        Relation(name="a", kind="has_many", table="t", local=("x",), foreign=("y", "z"))
    with pytest.raises(UsageError, match="no dot"):
        Relation(name="a.b", kind="has_many", table="t", local=("x",), foreign=("y",))
    with pytest.raises(UsageError, match="at least 1"):
        Relation(name="a", kind="has_many", table="t", local=("x",), foreign=("y",), rows_limit=0)


def test_steady_never_alters_a_value_for_the_sake_of_a_column() -> None:
    steady = Steady()
    chunks = [pl.DataFrame({"a": values}, strict=False) for values in ([None], [1], [2.5], [3], [2**53 + 1], ["x"], [None])]

    found = [steady.settled(chunk) for chunk in chunks]

    assert [frame["a"].to_list() for frame in found] == [[None], [1], [2.5], [3.0], [2**53 + 1], ["x"], [None]]
    assert [frame["a"].dtype for frame in found] == [pl.Null, pl.Int64, pl.Float64, pl.Float64, pl.Int64, pl.String, pl.Float64]
