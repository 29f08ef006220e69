"""A real PostgreSQL, started for these tests in a temporary folder: rows, types, lost connections, memory."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import polars as pl
import psutil
import pytest

from floodmark.systems.pipeline.errors import QueryError, QueryRefusedError
from floodmark.systems.pipeline.query import Query, Relation
from floodmark.systems.pipeline.relations import Loader
from floodmark.systems.pipeline.source.base import Cursor, Source
from floodmark.systems.pipeline.source.postgres import PostgresSource
from tests.live.conftest import require
from tests.systems.pipeline.fixtures import with_source

LIMIT_S = 60
USER = "floodmark"
ROWS_COUNT = 20_000
SCHEMA = """
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE TABLE customers(id int PRIMARY KEY, name text NOT NULL);
INSERT INTO customers SELECT n, 'c''' || n FROM generate_series(0, 99) n;
CREATE TABLE sales(
  region text, id bigint, customer_id int NOT NULL, amount numeric(12,2), rough numeric, price float8, sold_on date,
  sold_at timestamptz, paid bool, tag uuid, extra jsonb, feeling mood, codes int[], PRIMARY KEY (region, id));
INSERT INTO sales SELECT CASE n % 3 WHEN 0 THEN 'it''s' ELSE 'r' || n % 3 END, n, n % 100, n * 1.25, n / 8.0,
  CASE WHEN n % 7 > 0 THEN n / 7.0 END, date '2024-01-01' + n % 365, timestamptz '2024-01-01 00:00:00+00' + n * interval '1 second',
  n % 2 = 0,
  ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, jsonb_build_object('n', n),
  CASE WHEN n % 2 = 0 THEN 'calm' ELSE 'wild' END::mood,
  ARRAY[n, n + 1] FROM generate_series(0, 19999) n;
CREATE SEQUENCE numbers;
CREATE TABLE loose(n int);
INSERT INTO loose SELECT generate_series(1, 5000);
"""


def programs() -> Path | None:
    """Where Debian puts the server; it is on no PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3].split(".")[0]))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    """A cluster of our own; the server refuses root, so root lends it to `postgres`, whom Debian's package brings."""
    found = programs()
    require(found is not None, "PostgreSQL's server is not installed (Debian: postgresql)")
    assert found is not None
    as_other: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="floodmark-pg-"))
    try:
        if os.geteuid() == 0:
            other = pwd.getpwnam("postgres")
            os.chown(folder, other.pw_uid, other.pw_gid)
            as_other = ["runuser", "-u", "postgres", "--"]
        cluster, port = folder / "data", free_port()

        def call(program: str, *arguments: str) -> None:
            done = subprocess.run(
                [*as_other, str(found / program), *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=folder
            )
            assert done.returncode == 0, done.stdout + done.stderr

        call("initdb", "-D", str(cluster), "-A", "trust", "-U", USER, "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -F -c max_connections=30"
        call("pg_ctl", "-D", str(cluster), "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            address = f"postgresql://{USER}:secret@127.0.0.1:{port}/postgres"
            execute(address, SCHEMA)
            yield address
        finally:
            call("pg_ctl", "-D", str(cluster), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def execute(address: str, text: str) -> None:
    with adbc_driver_postgresql.dbapi.connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in text.split(";\n"):
            if statement.strip():
                cursor.execute(statement)


async def drained(cursor: Cursor, count: int = 999) -> pl.DataFrame:
    parts: list[pl.DataFrame] = []
    while not cursor.exhausted:
        parts.append(await cursor.fetch(count))
        assert parts[-1].height <= count
    await cursor.close()
    return pl.concat(parts)


def read(uri: str, query: Query, pager: Any = "keyset") -> pl.DataFrame:
    async def work(source: Source) -> pl.DataFrame:
        return await drained(await source.open(query, pager=pager))

    return with_source(PostgresSource(uri), work)


def test_postgres_each_type_arrives_as_what_it_is(uri: str) -> None:
    frame = read(uri, Query(table="sales", where="id = :id", parameters={"id": 7}))

    assert frame.schema["amount"] == pl.Decimal(38, 2)
    row = frame.row(0, named=True)
    assert (row["region"], row["id"], row["customer_id"], row["amount"], row["rough"], row["price"]) == (
        "r1",
        7,
        7,
        Decimal("8.75"),
        0.875,
        None,
    )
    assert (row["sold_on"].isoformat(), row["sold_at"].isoformat(), row["paid"]) == ("2024-01-08", "2024-01-01T00:00:07+00:00", False)
    assert (row["tag"], row["extra"], row["feeling"], row["codes"]) == ("00000000-0000-0000-0000-000000000007", '{"n": 7}', "wild", [7, 8])


def test_postgres_types_are_the_same_without_rows_and_with_nothing_but_null(uri: str) -> None:
    some, nulls, none = (read(uri, Query(table="sales", where=where)) for where in ("id = 1", "id = 7", "id < 0"))

    assert some.schema == nulls.schema
    assert none.height == 0
    assert none.columns == some.columns


@pytest.mark.parametrize("pager", ["keyset", "offset"])
@pytest.mark.parametrize("order_by", [(), ("-price", "amount"), ("feeling", "-tag"), ("sold_on", "-region")])
def test_postgres_every_row_comes_once_and_in_order(uri: str, order_by: tuple[str, ...], pager: Any) -> None:
    frame = read(uri, Query(table="sales", columns=("id", "region", "price"), order_by=order_by), pager)

    assert frame["id"].n_unique() == frame.height == ROWS_COUNT
    if order_by == ("-price", "amount"):
        assert frame["price"].to_list() == frame["price"].sort(descending=True, nulls_last=True).to_list()
    if not order_by:
        assert frame.rows() == sorted(frame.rows(), key=lambda row: (row[1], row[0]))


def test_postgres_sql_text_with_parameters_order_and_limit(uri: str) -> None:
    text = "SELECT region, count(*) AS n, sum(id)::int8 AS ids, :word AS word FROM sales WHERE id >= :least GROUP BY region -- done"
    parameters = {"least": 19_990, "word": "a';--", "most": 100}

    found = read(uri, Query(sql=text, parameters=parameters, order_by=("-n", "region"), where="n < :most", limit=2))

    groups = {region: [n for n in range(19_990, ROWS_COUNT) if n % 3 == rest] for region, rest in (("it's", 0), ("r1", 1), ("r2", 2))}
    wanted = sorted(((region, len(ids), sum(ids), "a';--") for region, ids in groups.items()), key=lambda row: (-row[1], row[0]))
    assert found.rows() == wanted[:2]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (Query(table="sale"), "no table 'sale' in the database; did you mean 'sales'?"),
        (Query(table="sales", columns=("amuont",)), "did you mean 'amount'?"),
        (Query(table="sales", where="amuont > 1"), "did you mean 'amount'?"),
        (Query(sql="SELEC 1"), "syntax error"),
        (Query(sql="SELECT 1 / (id - 5) AS x FROM sales", counted=False), "division by zero"),
        (Query(sql="SELECT nextval('numbers') AS x", counted=False), "read-only transaction"),
    ],
)
def test_postgres_mistakes_are_refused(uri: str, query: Query, words: str) -> None:
    async def work(source: Source) -> str:
        with pytest.raises(QueryRefusedError) as raised:
            await first_rows(source, query)
        return str(raised.value)

    assert words in with_source(PostgresSource(uri), work)


async def first_rows(source: Source, query: Query) -> pl.DataFrame:
    cursor = await source.open(query)
    try:
        return await cursor.fetch(10)
    finally:
        await cursor.close()


def test_postgres_nobody_there_may_be_tried_again_and_the_password_is_not_told() -> None:
    async def work(source: Source) -> str:
        with pytest.raises(QueryError) as raised:
            await source.open(Query(table="sales"))
        return str(raised.value)

    said = with_source(PostgresSource(f"postgresql://ann:topsecret@127.0.0.1:{free_port()}/x"), work)

    assert "topsecret" not in said


KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"


@pytest.mark.parametrize("order_by", [(), ("-price",), ("feeling", "tag")])
def test_postgres_lost_connection_goes_on_after_the_last_row(uri: str, order_by: tuple[str, ...]) -> None:
    async def work(source: Source) -> tuple[list[int], int]:
        cursor = await source.open(Query(table="sales", columns=("id",), order_by=order_by))
        found: list[int] = []
        lost_count = 0
        while not cursor.exhausted:
            if len(found) in (3000, 9000, 15_000) and lost_count < len(found) // 3000:
                await asyncio.to_thread(execute, uri, KILL)
            try:
                found += (await cursor.fetch(1000))["id"].to_list()
            except QueryError:
                lost_count += 1
        await cursor.close()
        return found, lost_count

    found, lost_count = with_source(PostgresSource(uri), work)

    assert len(found) == ROWS_COUNT
    assert set(found) == set(range(ROWS_COUNT))
    assert lost_count >= 3
    assert found == read(uri, Query(table="sales", columns=("id",), order_by=order_by))["id"].to_list()


def test_postgres_lost_connection_without_a_key_is_refused_and_says_what_to_do(uri: str) -> None:
    async def work(source: Source) -> str:
        cursor = await source.open(Query(table="loose"))
        await cursor.fetch(1000)
        await asyncio.to_thread(execute, uri, KILL)
        with pytest.raises(QueryRefusedError) as raised:
            await cursor.fetch(1000)
        await cursor.close()
        return str(raised.value)

    said = with_source(PostgresSource(uri), work)

    assert "broke after 1,000 rows" in said
    assert "name a `key`" in said


@pytest.mark.parametrize("query", [Query(table="sales", columns=("id",)), Query(table="loose")])
def test_postgres_cancelled_fetch_loses_no_row(uri: str, query: Query) -> None:
    async def work(source: Source) -> tuple[list[int], int]:
        cursor = await source.open(query)
        found: list[int] = []
        cancelled_count = 0
        while not cursor.exhausted:
            fetch = asyncio.ensure_future(cursor.fetch(500))
            if len(found) % 1500 == 0 and cancelled_count <= len(found) // 1500:
                await asyncio.sleep(0)
                fetch.cancel()
            try:
                found += (await fetch).to_series().to_list()
            except asyncio.CancelledError:
                cancelled_count += 1
        await cursor.close()
        return found, cancelled_count

    found, cancelled_count = with_source(PostgresSource(uri), work)

    assert len(found) == len(set(found)) == (ROWS_COUNT if query.table == "sales" else 5000)
    assert cancelled_count >= 3


def test_postgres_slow_query_is_stopped_when_its_cursor_closes(uri: str) -> None:
    async def work(source: Source) -> None:
        cursor = await source.open(Query(sql="SELECT pg_sleep(50)::text AS x", counted=False))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await cursor.fetch(1)
        async with asyncio.timeout(10):
            await cursor.close()

    with_source(PostgresSource(uri), work)


def test_postgres_cursors_wait_for_one_of_the_connections(uri: str) -> None:
    source = PostgresSource(uri, connections_max=3)

    async def one() -> int:
        return (await drained(await source.open(Query(table="loose")))).height

    async def work(_: Source) -> list[int]:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one()) for _ in range(12)]
        return [task.result() for task in running]

    assert with_source(source, work) == [5000] * 12


def test_postgres_relations_are_loaded_in_one_query(uri: str) -> None:
    customer = Relation(name="customer", kind="belongs_to", table="customers", local=("customer_id",), foreign=("id",))
    pair = Relation(name="self", kind="has_many", table="sales", local=("region", "id"), foreign=("region", "id"), columns=("amount",))

    async def work(source: Source) -> tuple[list[dict[str, Any]], int]:
        cursor = await source.open(Query(table="sales", columns=("region", "id", "customer_id")))
        loader = Loader(source, (customer, pair))
        frame = await loader.load(await cursor.fetch(1000))
        await cursor.close()
        return frame.rows(named=True), loader.queries_count

    rows, queries_count = with_source(PostgresSource(uri), work)

    assert queries_count == 2
    assert all(row["customer"] == {"id": row["customer_id"], "name": f"c'{row['customer_id']}"} for row in rows)
    assert all(row["self"] == [{"amount": Decimal(row["id"]) * Decimal("1.25")}] for row in rows)


def test_postgres_memory_stays_flat_over_two_million_rows(uri: str) -> None:
    process = psutil.Process()
    count = 2_000_000

    async def work(source: Source) -> tuple[int, int]:
        text = "SELECT n, repeat('x', 100) AS padding FROM generate_series(1, :count::int) AS n"
        cursor = await source.open(Query(sql=text, parameters={"count": count}, counted=False))
        rows_count = total = settled_bytes = grown_bytes = 0
        while not cursor.exhausted:
            frame = await cursor.fetch(10_000)
            rows_count += frame.height
            total += int(frame["n"].cast(pl.Int64).sum())
            if rows_count == 200_000:
                settled_bytes = process.memory_info().rss
            if settled_bytes:
                grown_bytes = max(grown_bytes, process.memory_info().rss - settled_bytes)
        await cursor.close()
        assert total == count * (count + 1) // 2
        return rows_count, grown_bytes

    rows_count, grown_bytes = with_source(PostgresSource(uri), work)

    assert rows_count == count
    assert grown_bytes < 40_000_000  # the rows that came meanwhile are 200 MB and more
