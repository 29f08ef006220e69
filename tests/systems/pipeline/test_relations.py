"""Related rows: right for every row, one query per relation and chunk, and no deeper than the strategy allows."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import QueryError, QueryRefusedError
from floodmark.systems.pipeline.query import Query, Relation
from floodmark.systems.pipeline.relations import LoadConfig, Loader
from floodmark.systems.pipeline.source.sqlite import SqliteSource
from floodmark.systems.pipeline.source.testing import Faults, FaultySource

Given = TypeVar("Given")

REGION = Relation(name="region", kind="belongs_to", table="regions", local=("region_id",), foreign=("id",))
LINES = Relation(name="lines", kind="has_many", table="lines", local=("id",), foreign=("sale_id",), order_by=("-quantity",))
CUSTOMER = Relation(name="customer", kind="belongs_to", table="customers", local=("customer_id",), foreign=("id",), relations=(REGION,))


@pytest.fixture
def shop(tmp_path: Path) -> FaultySource:
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE sales(id INTEGER PRIMARY KEY, customer_id INT, amount REAL)")
    connection.execute("CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT, region_id INT)")
    connection.execute("CREATE TABLE regions(id INTEGER PRIMARY KEY, name TEXT)")
    connection.execute("CREATE TABLE lines(sale_id INT, part INT, quantity INT, code TEXT)")
    connection.executemany(
        "INSERT INTO sales VALUES (?, ?, ?)", [(n, None if n == 3 else 99 if n == 4 else n % 3, n * 1.5) for n in range(10)]
    )
    connection.executemany("INSERT INTO customers VALUES (?, ?, ?)", [(n, f"c'{n}", n % 2) for n in range(3)])
    connection.executemany("INSERT INTO regions VALUES (?, ?)", [(0, "north"), (1, "south")])
    connection.executemany(
        "INSERT INTO lines VALUES (?, ?, ?, ?)", [(n, part, part * 10, f"{n}-{part}") for n in range(0, 10, 2) for part in range(3)]
    )
    connection.commit()
    connection.close()
    return FaultySource(SqliteSource(path))


def run(source: FaultySource, work: Callable[[pl.DataFrame], Awaitable[Given]], query: Query | None = None) -> Given:
    return runs(source, (work, query))[0]


def runs(source: FaultySource, *works: tuple[Callable[[pl.DataFrame], Awaitable[Given]], Query | None]) -> list[Given]:
    """Do each piece of work with the rows of its query, all sales without one."""

    async def opened() -> list[Given]:
        found = []
        try:
            for work, query in works:
                cursor = await source.open(query or Query(table="sales"))
                frame = await cursor.fetch(1000)
                await cursor.close()
                source.asked.clear()
                found.append(await work(frame))
            return found
        finally:
            await source.close()
            assert source.open_count == 0

    return asyncio.run(opened())


def test_in_03_loader_belongs_to_and_has_many_give_each_row_its_own(shop: FaultySource) -> None:
    loader = Loader(shop, (CUSTOMER, LINES))

    frame = run(shop, loader.load)

    rows = frame.rows(named=True)
    assert [row["id"] for row in rows] == list(range(10))
    for row in rows:
        number = row["id"]
        wanted = None if number in (3, 4) else {"id": number % 3, "name": f"c'{number % 3}", "region_id": number % 3 % 2}
        if wanted is not None:
            wanted["region"] = {"id": wanted["region_id"], "name": ("north", "south")[wanted["region_id"]]}
        assert row["customer"] == wanted
        quantities = [20, 10, 0] if number % 2 == 0 else []
        assert [line["quantity"] for line in row["lines"]] == quantities
        assert all(line["code"].startswith(f"{number}-") for line in row["lines"])


def test_pr_11_loader_asks_once_per_relation_and_chunk(shop: FaultySource) -> None:
    loader = Loader(shop, (CUSTOMER, LINES))

    run(shop, loader.load)

    assert loader.queries_count == len(shop.asked) == 3  # customers, regions, lines


def test_loader_columns_come_without_the_keys_that_were_only_needed_to_find_them(shop: FaultySource) -> None:
    customer = Relation(
        name="customer",
        kind="belongs_to",
        table="customers",
        local=("customer_id",),
        foreign=("id",),
        columns=("name",),
        relations=(REGION,),
    )

    frame = run(shop, Loader(shop, (customer,)).load)

    assert frame["customer"][0] == {"name": "c'0", "region": {"id": 0, "name": "north"}}


def test_loader_keys_of_two_columns_match_together(shop: FaultySource) -> None:
    pair = Relation(
        name="line", kind="belongs_to", table="lines", local=("id", "customer_id"), foreign=("sale_id", "part"), columns=("code",)
    )

    frame = run(shop, Loader(shop, (pair,)).load)

    codes = [None if row["line"] is None else row["line"]["code"] for row in frame.rows(named=True)]
    assert codes == ["0-0", None, "2-2", None, None, None, "6-0", None, "8-2", None]


def test_loader_chunk_without_any_key_still_gets_the_columns(shop: FaultySource) -> None:
    loader = Loader(shop, (CUSTOMER, LINES))

    frame, empty = runs(shop, (loader.load, Query(table="sales", where="id = 3")), (loader.load, Query(table="sales", where="id > 99")))

    assert frame["customer"].to_list() == [None]
    assert frame["lines"].to_list() == [[]]
    assert frame.schema["customer"] == empty.schema["customer"]
    assert [field.name for field in frame.schema["customer"].fields] == ["id", "name", "region_id", "region"]  # type: ignore[attr-defined]
    assert empty.height == 0


def test_loader_query_that_fails_may_be_tried_again_with_the_same_frame(shop: FaultySource) -> None:
    broken = FaultySource(shop, Faults(fail_queries=frozenset({1})))
    loader = Loader(broken, (CUSTOMER, LINES))

    async def work(frame: pl.DataFrame) -> pl.DataFrame:
        with pytest.raises(QueryError, match="on purpose"):
            await loader.load(frame)
        assert frame.columns == ["id", "customer_id", "amount"]
        return await loader.load(frame)

    assert run(shop, work)["customer"].null_count() == 2
    assert broken.open_count == 0


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (LoadConfig(strategy="eager", required=("a",), optional=("b.c.d",)), {"a", "b", "b.c", "b.c.d"}),
        (LoadConfig(strategy="lazy", required=("a.b",), optional=("c",)), {"a", "a.b"}),
        (LoadConfig(strategy="selective", required=("a.b.c",), optional=("d.e", "d.e.f")), {"a", "a.b", "a.b.c", "d", "d.e"}),
        (LoadConfig(strategy="selective", required=("a",), optional=("b",), max_depth=1), {"a", "b"}),
        (LoadConfig(required=("a",), max_depth=0), set()),
        (LoadConfig(required=("a.b.c",), max_depth=-1), set()),
        (LoadConfig(strategy="lazy", required=("a",), optional=("a.b.c.d.e",)), {"a"}),
    ],
)
def test_load_config_each_strategy_chooses_its_paths(config: LoadConfig, wanted: set[str]) -> None:
    assert set(config.paths()) == wanted


@pytest.mark.parametrize("strategy", ["eager", "selective"])
def test_load_config_path_below_the_depth_is_refused_with_both_depths(strategy: Any) -> None:
    with pytest.raises(UsageError, match=r"'a\.b\.c\.d' is 4 levels deep, and max_depth allows 3"):
        LoadConfig(strategy=strategy, required=("a",), optional=("a.b.c.d",)).paths()


def test_loader_strategy_decides_what_is_loaded(shop: FaultySource) -> None:
    lazy = Loader(shop, (CUSTOMER, LINES), LoadConfig(strategy="lazy", required=("customer",), optional=("lines", "customer.region")))
    none = Loader(shop, (CUSTOMER, LINES), LoadConfig(required=("customer",), max_depth=0))

    frame, same = runs(shop, (lazy.load, None), (none.load, None))

    assert frame.columns == ["id", "customer_id", "amount", "customer"]
    assert "region" not in frame["customer"][0]
    assert same.columns == ["id", "customer_id", "amount"]
    assert (lazy.queries_count, none.queries_count) == (1, 0)


def test_loader_unknown_path_names_the_nearest() -> None:
    source = FaultySource(SqliteSource("none.db"))

    with pytest.raises(UsageError, match=r"no relation 'custmer' .* did you mean 'customer'"):
        Loader(source, (CUSTOMER,), LoadConfig(required=("custmer",)))
    with pytest.raises(UsageError, match=r"no relation 'x' is declared on the way of 'customer\.x'; there are: region"):
        Loader(source, (CUSTOMER,), LoadConfig(required=("customer.x",)))


@pytest.mark.parametrize(
    ("relation", "words"),
    [
        ({"local": ("customr_id",)}, "did you mean 'customer_id'?"),
        ({"table": "custmers"}, "did you mean 'customers'?"),
        ({"foreign": ("idd",)}, "did you mean 'id'?"),
        ({"name": "amount"}, "has the name of a column"),
        ({"foreign": ("name",), "local": ("id",), "kind": "belongs_to", "table": "lines2"}, "no table"),
    ],
)
def test_loader_mistakes_are_refused(shop: FaultySource, relation: dict[str, Any], words: str) -> None:
    whole = {"name": "customer", "kind": "belongs_to", "table": "customers", "local": ("customer_id",), "foreign": ("id",), **relation}

    async def work(frame: pl.DataFrame) -> None:
        with pytest.raises(QueryRefusedError) as raised:
            await Loader(shop, (Relation(**whole),)).load(frame)
        assert words in str(raised.value)

    run(shop, work)


def test_loader_keys_of_different_kinds_are_refused_and_not_left_unmatched(shop: FaultySource) -> None:
    wrong = Relation(name="line", kind="has_many", table="sales", local=("code",), foreign=("id",))

    async def work(frame: pl.DataFrame) -> None:
        with pytest.raises(QueryRefusedError, match=r"compares code .*cast one of them"):
            await Loader(shop, (wrong,)).load(frame)

    run(shop, work, Query(sql="SELECT '5' AS code"))


def test_loader_more_rows_than_allowed_are_refused_and_not_cut_off(shop: FaultySource) -> None:
    def lines(rows_limit: int) -> Relation:
        return Relation(name="lines", kind="has_many", table="lines", local=("id",), foreign=("sale_id",), rows_limit=rows_limit)

    async def work(frame: pl.DataFrame) -> pl.DataFrame:
        with pytest.raises(QueryRefusedError, match="brings more than 14 rows to a chunk of 10 keys"):
            await Loader(shop, (lines(14),)).load(frame)
        return await Loader(shop, (lines(15),)).load(frame)

    frame = run(shop, work)

    assert frame["lines"].list.len().sum() == 15


def test_loader_too_many_keys_are_refused(shop: FaultySource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floodmark.systems.pipeline.relations.KEYS_MAX", 9)

    async def work(frame: pl.DataFrame) -> None:
        with pytest.raises(QueryRefusedError, match="10 different keys in one chunk"):
            await Loader(shop, (LINES,)).load(frame)

    run(shop, work)
