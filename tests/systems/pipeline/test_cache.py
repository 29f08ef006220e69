"""The cache: its bounds, its counts, its keys, and cursors that read through it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.cache import MB, PROFILES, CachedSource, CacheProfile, Page, QueryCache, cache_key
from floodmark.systems.pipeline.query import Query, Relation
from floodmark.systems.pipeline.relations import LoadConfig, Loader
from floodmark.systems.pipeline.source.sqlite import SqliteSource
from floodmark.systems.pipeline.source.testing import Asked, FaultySource


class Now:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def page(rows_count: int = 1) -> Page:
    return Page(frame=pl.DataFrame({"a": range(rows_count)}), next_position=rows_count, total=None, is_last=False)


def size(rows_count: int) -> int:
    return int(page(rows_count).frame.estimated_size())


def test_cache_profiles_are_those_of_the_requirements() -> None:
    found = {name: (p.ttl_s, p.entries_max, p.bytes_max, p.sweep_interval_s) for name, p in PROFILES.items()}

    assert found == {
        "default": (300.0, 1000, 100 * MB, 60.0),
        "production": (600.0, 5000, 500 * MB, 60.0),
        "development": (60.0, 100, 50 * MB, 60.0),
        "test": (30.0, 50, 10 * MB, 60.0),
    }


@pytest.mark.parametrize(
    "wrong", [{"ttl_s": 0.0}, {"ttl_s": float("nan")}, {"entries_max": 0}, {"bytes_max": 0}, {"sweep_interval_s": float("inf")}]
)
def test_cache_bounds_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CacheProfile(**wrong)
    with pytest.raises(UsageError, match="did you mean 'production'"):
        QueryCache("prodution")


def test_cache_counts_hits_misses_and_their_rate() -> None:
    cache = QueryCache("test")
    assert cache.stats().hit_rate_percent == 0.0
    cache.put("a", page(1000))

    found = [cache.get("a"), cache.get("b"), cache.get("a")]

    stats = cache.stats()
    assert found[0] is found[2] is not None
    assert (stats.hits, stats.misses, stats.evictions, stats.entry_count, stats.size_bytes) == (2, 1, 0, 1, size(1000))
    assert (stats.hit_rate_percent, stats.size_mb) == (66.67, 0.01)


def test_cache_full_of_entries_drops_the_least_recently_used() -> None:
    cache = QueryCache(CacheProfile(entries_max=3))
    for key in "abc":
        cache.put(key, page())
    cache.get("a")

    cache.put("d", page())

    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
    assert cache.stats().evictions == 1


def test_cache_full_of_bytes_makes_room_and_takes_nothing_larger_than_itself() -> None:
    cache = QueryCache(CacheProfile(bytes_max=size(100)))
    kept = [cache.put("a", page(40)), cache.put("b", page(40)), cache.put("c", page(90)), cache.put("d", page(101))]

    stats = cache.stats()
    assert kept == [True, True, True, False]
    assert (stats.entry_count, stats.size_bytes, stats.evictions) == (1, size(90), 2)


def test_cache_entry_put_again_replaces_the_old_one() -> None:
    cache = QueryCache()
    cache.put("a", page(10))
    cache.put("a", page(20))

    assert (cache.stats().size_bytes, cache.stats().entry_count, cache.stats().evictions) == (size(20), 1, 0)


def test_cache_entry_too_old_is_a_miss_and_swept() -> None:
    now = Now()
    cache = QueryCache(CacheProfile(ttl_s=10), clock_s=now)
    cache.put("a", page())
    now.now_s = 5
    cache.put("b", page())
    cache.put("c", page())

    now.now_s = 9.999
    young = cache.get("a")
    now.now_s = 10
    old = cache.get("a")
    now.now_s = 15
    swept = cache.sweep()

    assert young is not None
    assert (old, swept) == (None, 2)
    assert (cache.stats().entry_count, cache.stats().size_bytes, cache.stats().evictions) == (0, 0, 0)


def test_cache_sweeps_by_itself_until_cancelled() -> None:
    now = Now()
    cache = QueryCache(CacheProfile(ttl_s=1, sweep_interval_s=0.001), clock_s=now)
    cache.put("a", page())
    now.now_s = 2

    async def work() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            sweeping = tasks.create_task(cache.sweeping())
            while cache.stats().entry_count:  # noqa: ASYNC110  # the cache tells nobody
                await asyncio.sleep(0)
            sweeping.cancel()

    asyncio.run(work())

    assert cache.stats().entry_count == 0


def test_cache_stays_within_its_bounds_whatever_comes() -> None:
    chance = random.Random(7)
    now = Now()
    profile = CacheProfile(entries_max=20, bytes_max=size(500), ttl_s=50)
    cache = QueryCache(profile, clock_s=now)
    held: dict[str, int] = {}
    for _ in range(3000):
        key = str(chance.randrange(60))
        if chance.random() < 0.5:
            rows_count = chance.randrange(120)
            cache.put(key, page(rows_count))
            held[key] = rows_count
        elif (found := cache.get(key)) is not None:
            assert found.frame.height == held[key]
        now.now_s += chance.random()
        assert cache.stats().entry_count <= 20
        assert cache.stats().size_bytes <= profile.bytes_max
    cache.sweep()
    assert cache.stats().size_bytes == sum(entry.size_bytes for entry in cache._entries.values())

    cache.clear()

    assert (cache.stats().size_bytes, cache.stats().entry_count) == (0, 0)


def test_cache_key_differs_with_everything_that_decides_which_rows_come() -> None:
    base: dict[str, Any] = {"source": "s", "query": Query(table="t"), "load": None, "position": 0, "count": 100}
    relation = Relation(name="r", kind="has_many", table="x", local=("a",), foreign=("b",))
    changes: list[dict[str, Any]] = [
        {},
        {"source": "s2"},
        {"position": 100},
        {"position": (0, None)},
        {"position": (0, ("1",))},
        {"position": (0, (1,))},
        {"position": (0, (1.0,))},
        {"position": (0, (b"1",))},
        {"count": 101},
        {"load": LoadConfig()},
        {"load": LoadConfig(max_depth=2)},
        *(
            {"query": Query(**given)}
            for given in (
                {"table": "t2"},
                {"sql": "t"},
                {"table": "t", "where": "a = :a", "parameters": {"a": 1}},
                {"table": "t", "where": "a = :a", "parameters": {"a": "1"}},
                {"table": "t", "order_by": ("a", "b")},
                {"table": "t", "order_by": ("a, b",)},
                {"table": "t", "columns": ("a",)},
                {"table": "t", "key": ("a",)},
                {"table": "t", "limit": 5},
                {"table": "t", "relations": (relation,)},
            )
        ),
    ]

    keys = [cache_key(**{**base, **change}) for change in changes]

    assert len(set(keys)) == len(changes)
    assert all(len(key) == 64 for key in keys)
    left, right = Query(table="t", parameters={"a": 1, "b": 2}), Query(table="t", parameters={"b": 2, "a": 1})
    assert cache_key("s", left, None, 0, 1) == cache_key("s", right, None, 0, 1)


@pytest.fixture
def shop(tmp_path: Path) -> FaultySource:
    path = tmp_path / "t.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, parent INT)")
    connection.executemany("INSERT INTO t VALUES (?, ?, ?)", [(number, str(number % 7), number // 2) for number in range(250)])
    connection.commit()
    connection.close()
    return FaultySource(SqliteSource(path))


async def walked(source: CachedSource, query: Query, pager: Any = "keyset") -> tuple[list[pl.DataFrame], int | None]:
    cursor = await source.open(query, pager=pager)
    frames: list[pl.DataFrame] = []
    while not cursor.exhausted:
        frames.append(await cursor.fetch(100))
    assert (await cursor.fetch(100)).height == 0
    total = cursor.total
    await cursor.close()
    return frames, total


@pytest.mark.parametrize("pager", ["keyset", "offset"])
def test_pr_17_cached_cursor_second_walk_asks_nothing_and_gives_the_same_frames(shop: FaultySource, pager: Any) -> None:
    source = CachedSource(shop, QueryCache())
    query = Query(table="t", columns=("id",), order_by=("-a",))

    async def work() -> list[tuple[list[pl.DataFrame], int | None]]:
        walks = [await walked(source, query, pager), await walked(source, query, pager)]
        await source.close()
        return walks

    first, second = asyncio.run(work())

    assert len(shop.asked) == 3
    assert [frame.height for frame in first[0]] == [100, 100, 50]
    assert all(left is right for left, right in zip(first[0], second[0], strict=True))  # shared, not copied
    assert first[1] == second[1] == 250


def test_pr_18_without_a_cache_the_same_chunk_is_asked_for_twice(shop: FaultySource) -> None:
    async def work() -> list[Asked]:
        for _ in range(2):
            cursor = await shop.open(Query(table="t"))
            await cursor.fetch(100)
            await cursor.close()
        await shop.close()
        return shop.asked

    assert [(asked.position, asked.rows) for asked in asyncio.run(work())] == [((0, None), 100)] * 2


def test_cached_cursor_goes_on_with_real_queries_where_the_cache_ends(shop: FaultySource) -> None:
    now = Now()
    cache = QueryCache(CacheProfile(entries_max=1), clock_s=now)
    source = CachedSource(shop, cache)

    async def work() -> list[int]:
        cursor = await source.open(Query(table="t"))
        await cursor.fetch(100)
        await cursor.close()
        frames, _ = await walked(source, Query(table="t"))
        await source.close()
        return [number for frame in frames for number in frame["id"]]

    assert asyncio.run(work()) == list(range(250))
    assert [asked.position for asked in shop.asked] == [(0, None), (100, (99,)), (200, (199,))]


def test_cached_source_keeps_related_rows_too(shop: FaultySource) -> None:
    source = CachedSource(shop, QueryCache())
    parent = Relation(name="up", kind="belongs_to", table="t", local=("parent",), foreign=("id",))

    async def work() -> None:
        loader = Loader(source, (parent,))
        for _ in range(2):
            frames, _ = await walked(source, Query(table="t"))
            related = await loader.load(frames[2])
            assert related["up"][49]["id"] == 124
        await source.close()

    asyncio.run(work())

    assert len(shop.asked) == 3 + 1
