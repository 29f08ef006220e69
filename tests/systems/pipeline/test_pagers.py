"""The pagers against a slow, obvious model: Python's own sort. Every row once, in order, whatever the NULLs, ties and directions."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floodmark.systems.pipeline.errors import QueryRefusedError
from floodmark.systems.pipeline.query import Query, orders
from floodmark.systems.pipeline.source.base import Cursor, Pager
from floodmark.systems.pipeline.source.pager import after, stretches
from floodmark.systems.pipeline.source.sqlite import SqliteSource
from floodmark.systems.pipeline.source.statement import Term
from floodmark.systems.pipeline.source.testing import FaultySource

Row = tuple[Any, ...]


def table(path: Path, create: str, rows: list[Row]) -> SqliteSource:
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute(create)
    if rows:
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(rows[0]))})", rows)
    connection.commit()
    connection.close()
    return SqliteSource(path)


async def drained(cursor: Cursor, count: int) -> list[Row]:
    rows: list[Row] = []
    while not cursor.exhausted:
        frame = await cursor.fetch(count)
        rows += frame.rows()
        assert frame.height <= count
        if frame.height < count:
            break
    await cursor.close()
    return rows


def read(source: SqliteSource, query: Query, *, count: int, pager: Pager = "keyset") -> list[Row]:
    async def work() -> list[Row]:
        try:
            return await drained(await source.open(query, pager=pager), count)
        finally:
            await source.close()

    return asyncio.run(work())


def model(rows: list[Row], names: tuple[str, ...], order_by: tuple[str, ...], key: tuple[str, ...]) -> list[Row]:
    """Sort by the last column first: Python's sort is stable. NULL is smaller than everything."""
    wanted = list(rows)
    for order in reversed((*orders(order_by), *orders(key))):
        place = names.index(order.column)
        wanted.sort(key=lambda row: (row[place] is not None, row[place] if row[place] is not None else 0), reverse=order.descending)
    return wanted


def test_pr_10_offset_pager_of_500_rows_asks_five_times_at_0_100_200_300_400(tmp_path: Path) -> None:
    source = FaultySource(table(tmp_path / "t.db", "CREATE TABLE t(id INTEGER PRIMARY KEY)", [(number,) for number in range(500)]))

    async def work() -> list[Row]:
        rows = await drained(await source.open(Query(table="t"), pager="offset"), 100)
        await source.close()
        return rows

    rows = asyncio.run(work())

    assert rows == [(number,) for number in range(500)]
    assert [(asked.position, asked.count, asked.rows) for asked in source.asked] == [(offset, 100, 100) for offset in range(0, 500, 100)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pagers")


texts = st.one_of(st.none(), st.sampled_from(["", "a", "A", "o'brien", '"q"', "z;--", "é", ":x", "?"]))
numbers = st.one_of(st.none(), st.integers(-3, 3))
words = st.sampled_from(["a", "b", "c", "id"])


@given(
    rows=st.lists(st.tuples(texts, numbers, st.integers(-2, 2)), max_size=40),
    columns=st.lists(words, unique=True, max_size=4),
    signs=st.lists(st.booleans(), min_size=4, max_size=4),
    count=st.integers(1, 9),
    chosen=st.lists(words, unique=True, min_size=1, max_size=4),
    is_keyset=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_pagers_any_order_with_nulls_give_every_row_once_and_sorted(
    folder: Path,
    rows: list[Row],
    columns: list[str],
    signs: list[bool],
    count: int,
    chosen: list[str],
    is_keyset: bool,
) -> None:
    full = [(*row, number) for number, row in enumerate(rows)]
    source = table(folder / "t.db", "CREATE TABLE t(a TEXT, b INTEGER, c INTEGER NOT NULL, id INTEGER PRIMARY KEY)", full)
    order_by = tuple(("-" if sign else "") + column for column, sign in zip(columns, signs, strict=False))
    query = Query(table="t", columns=tuple(chosen), order_by=order_by)

    found = read(source, query, count=count, pager="keyset" if is_keyset else "offset")

    names = ("a", "b", "c", "id")
    wanted = model(full, names, order_by, ("id",))
    assert found == [tuple(row[names.index(name)] for name in chosen) for row in wanted]


@pytest.mark.parametrize("order_by", [(), ("a",), ("-a",), ("a", "-b"), ("-b", "a")])
@pytest.mark.parametrize(
    "create",
    [
        "CREATE TABLE t(a TEXT, b INT, PRIMARY KEY (a, b))",  # a primary key beside the rowid
        "CREATE TABLE t(a TEXT, b INT, PRIMARY KEY (a, b)) WITHOUT ROWID",
        "CREATE TABLE t(a TEXT, b INT)",
        "CREATE TABLE t(a TEXT, b INT, rowid TEXT GENERATED ALWAYS AS (a) VIRTUAL)",  # a column takes the rowid's usual name
    ],
)
def test_keyset_every_kind_of_key_gives_every_row_once(tmp_path: Path, create: str, order_by: tuple[str, ...]) -> None:
    rows = [(text, number) for text in ("x", "it's", '"') for number in range(7)]
    path = tmp_path / "t.db"
    connection = sqlite3.connect(path)
    connection.execute(create)
    connection.executemany("INSERT INTO t(a, b) VALUES (?, ?)", rows)
    connection.commit()
    connection.close()

    found = read(SqliteSource(path), Query(table="t", columns=("a", "b"), order_by=order_by), count=4)

    assert sorted(found) == sorted(rows)
    for order in orders(order_by)[:1]:
        place = ("a", "b").index(order.column)
        assert [row[place] for row in found] == sorted((row[place] for row in rows), reverse=order.descending)


def test_keyset_with_a_key_that_is_not_unique_refuses_where_a_row_would_be_lost(tmp_path: Path) -> None:
    source = table(tmp_path / "t.db", "CREATE TABLE t(a INT)", [(number // 3,) for number in range(9)])

    with pytest.raises(QueryRefusedError, match="two rows have the same key"):
        read(source, Query(sql="SELECT a FROM t", key=("a",)), count=2)


@pytest.mark.parametrize("pager", ["keyset", "offset"])
@pytest.mark.parametrize(("limit", "count"), [(0, 3), (1, 3), (3, 3), (4, 3), (6, 3), (99, 3), (10, 10), (10, 11)])
def test_pagers_with_a_limit_stop_there(tmp_path: Path, pager: Pager, limit: int, count: int) -> None:
    source = table(tmp_path / "t.db", "CREATE TABLE t(id INTEGER PRIMARY KEY)", [(number,) for number in range(10)])

    found = read(source, Query(table="t", limit=limit), count=count, pager=pager)

    assert found == [(number,) for number in range(min(limit, 10))]


@pytest.mark.parametrize("pager", ["keyset", "offset"])
def test_cursor_seek_goes_on_at_a_place_another_cursor_had(tmp_path: Path, pager: Pager) -> None:
    rows = [(number, str(number % 3)) for number in range(50)]
    source = table(tmp_path / "t.db", "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT)", rows)
    query = Query(table="t", order_by=("-a",), columns=("id",))

    async def work() -> tuple[list[Row], list[Row]]:
        first, second = await source.open(query, pager=pager), await source.open(query, pager=pager)
        await first.fetch(20)
        second.seek(first.position)
        found = await drained(first, 7), await drained(second, 7)
        await source.close()
        return found

    left, right = asyncio.run(work())

    assert left == right
    assert len(left) == 30


def test_after_all_ascending_values_is_one_comparison_that_an_index_serves() -> None:
    terms = (Term(expression="a"), Term(expression="id", nullable=False))

    assert after(terms, (1, 2)) == ("(a, id) > (\0, \0)", (1, 2))
    assert after(terms, None) == ("", ())
    assert after((Term(expression="a", descending=True),), (None,)) == ("1 = 0", ())


@pytest.mark.parametrize("value", [5, None])
@pytest.mark.parametrize("descending", [False, True])
def test_stretches_each_are_a_range_of_the_index_and_need_no_sorting(tmp_path: Path, descending: bool, value: int | None) -> None:
    path = tmp_path / "t.db"
    table(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT)", [(number, number % 10) for number in range(1000)])
    connection = sqlite3.connect(path)
    connection.execute("CREATE INDEX by_a ON t(a)")
    terms = (Term(expression="a", descending=descending), Term(expression="id", descending=descending, nullable=False))
    order = ", ".join(term.expression + (" DESC" if descending else "") for term in terms)

    plans = []
    for text, values in stretches(terms, (value, 500)):
        found = connection.execute(
            f"EXPLAIN QUERY PLAN SELECT * FROM t WHERE {text.replace(chr(0), '?')} ORDER BY {order}", values
        ).fetchall()
        plans.append([row[3].removeprefix("SEARCH t USING COVERING INDEX by_a ") for row in found])
    connection.close()

    sign = "<" if descending else ">"
    wanted = [[f"(a=? AND rowid{sign}?)"]]
    if value is not None:
        wanted += [[f"(a{sign}?)"]] + ([["(a=?)"]] if descending else [])  # downwards, the rows without a value come last
    elif not descending:
        wanted += [["(a>?)"]]
    assert plans == wanted


@given(
    rows=st.lists(st.tuples(texts, numbers, st.integers(-2, 2)), min_size=1, max_size=30),
    signs=st.lists(st.booleans(), min_size=4, max_size=4),
    data=st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_after_any_row_finds_exactly_the_rows_behind_it(rows: list[Row], signs: list[bool], data: st.DataObject) -> None:
    names = ("a", "b", "c", "id")
    full = [(*row, number) for number, row in enumerate(rows)]
    terms = [Term(expression=name, descending=sign, nullable=name in "ab") for name, sign in zip(names, signs, strict=True)]
    ordered = model(full, names, tuple(("-" if sign else "") + name for name, sign in zip(names, signs, strict=True)), ())
    place = data.draw(st.integers(0, len(ordered) - 1))
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t(a TEXT, b INTEGER, c INTEGER NOT NULL, id INTEGER PRIMARY KEY)")
    connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", full)

    text, values = after(terms, ordered[place])
    found = connection.execute(f"SELECT * FROM t WHERE {text.replace(chr(0), '?')}", values).fetchall()
    connection.close()

    assert set(found) == set(ordered[place + 1 :])


def test_query_frame_of_an_empty_table_has_the_declared_types(tmp_path: Path) -> None:
    source = table(tmp_path / "t.db", "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b DECIMAL(10, 2), c BOOLEAN, d BLOB, e DATE, f)", [])

    async def work() -> pl.DataFrame:
        cursor = await source.open(Query(table="t"))
        frame = await cursor.fetch(10)
        assert (cursor.total, cursor.exhausted, (await cursor.fetch(5)).schema) == (0, True, frame.schema)
        await cursor.close()
        await source.close()
        return frame

    assert asyncio.run(work()).dtypes == [pl.Int64, pl.String, pl.Float64, pl.Boolean, pl.Binary, pl.String, pl.Null]
