"""Keep the chunks of queries that were fetched already: bounded by number, by bytes and by age; the least recently used goes first.

The key is a SHA-256 over everything that decides which rows come: source, query, relations, place, count. A value is a `Page`: a frame,
shared by all who read it and altered by nobody, and the place after it, so that a cursor can go on from a page it did not fetch. The size
of a page is what Polars estimates; buffers that two pages share count twice.

One event loop per cache. Time comes from outside, in seconds that never go back.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import msgspec
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import nearest
from floodmark.systems.pipeline.query import Query
from floodmark.systems.pipeline.relations import LoadConfig
from floodmark.systems.pipeline.source.base import Cursor, Pager, Source

MB = 1_000_000


class CacheProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a cache."""

    ttl_s: float = 300.0
    entries_max: int = 1000
    bytes_max: int = 100 * MB
    sweep_interval_s: float = 60.0

    def __post_init__(self) -> None:
        if self.entries_max < 1 or self.bytes_max < 1:
            raise UsageError(f"a cache holds at least 1 entry and 1 byte, got {self.entries_max} and {self.bytes_max}")
        for name in ("ttl_s", "sweep_interval_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UsageError(f"{name} must be finite and more than 0 s, got {value!r}")


PROFILES: Mapping[str, CacheProfile] = {
    "default": CacheProfile(),
    "production": CacheProfile(ttl_s=600.0, entries_max=5000, bytes_max=500 * MB),
    "development": CacheProfile(ttl_s=60.0, entries_max=100, bytes_max=50 * MB),
    "test": CacheProfile(ttl_s=30.0, entries_max=50, bytes_max=10 * MB),
}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk, and where the next one begins."""

    frame: pl.DataFrame
    next_position: Hashable
    total: int | None
    is_last: bool


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache did so far, and what it holds."""

    hits: int
    misses: int
    evictions: int  # for want of room; what became too old is not counted here
    size_bytes: int
    entry_count: int

    @property
    def hit_rate_percent(self) -> float:
        """Hits among all look-ups, to 2 decimals; 0 before the first."""
        asked_count = self.hits + self.misses
        return round(100 * self.hits / asked_count, 2) if asked_count else 0.0

    @property
    def size_mb(self) -> float:
        """The size in millions of bytes, to 2 decimals."""
        return round(self.size_bytes / MB, 2)


class _Entry(msgspec.Struct, frozen=True):
    page: Page
    size_bytes: int
    until_s: float


class QueryCache:
    """Pages by key."""

    def __init__(self, profile: CacheProfile | str = "default", *, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Take bounds, or the name of a profile."""
        if isinstance(profile, str):
            if profile not in PROFILES:
                near = nearest(profile, PROFILES)
                hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(PROFILES)}"
                raise UsageError(f"no cache profile {profile!r}; {hint}")
            profile = PROFILES[profile]
        self.profile = profile
        self._clock_s = clock_s
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the least recently used one first
        self._size_bytes = 0
        self._hits = self._misses = self._evictions = 0

    def get(self, key: str) -> Page | None:
        """A page that is there and not too old."""
        entry = self._entries.get(key)
        if entry is None or entry.until_s <= self._clock_s():
            if entry is not None:
                self._drop(key)
            self._misses += 1
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return entry.page

    def put(self, key: str, page: Page) -> bool:
        """Keep a page, and make room for it; one that is larger than the whole cache is not kept."""
        size_bytes = int(page.frame.estimated_size())
        if key in self._entries:
            self._drop(key)
        if size_bytes > self.profile.bytes_max:
            return False
        while self._entries and (len(self._entries) >= self.profile.entries_max or self._size_bytes + size_bytes > self.profile.bytes_max):
            self._drop(next(iter(self._entries)))
            self._evictions += 1
        self._entries[key] = _Entry(page, size_bytes, self._clock_s() + self.profile.ttl_s)
        self._size_bytes += size_bytes
        return True

    def sweep(self) -> int:
        """Drop what is too old; say how many pages that were."""
        now_s = self._clock_s()
        old = [key for key, entry in self._entries.items() if entry.until_s <= now_s]
        for key in old:
            self._drop(key)
        return len(old)

    async def sweeping(self) -> None:
        """Sweep from time to time, until cancelled."""
        while True:
            await asyncio.sleep(self.profile.sweep_interval_s)
            self.sweep()

    def clear(self) -> None:
        """Drop everything; the counts stay."""
        self._entries.clear()
        self._size_bytes = 0

    def stats(self) -> CacheStats:
        """The counts and the size."""
        return CacheStats(
            hits=self._hits, misses=self._misses, evictions=self._evictions, size_bytes=self._size_bytes, entry_count=len(self._entries)
        )

    def _drop(self, key: str) -> None:
        self._size_bytes -= self._entries.pop(key).size_bytes


class CachedSource:
    """A source that looks into a cache before it asks. Queries for related rows that go through it are kept, too."""

    def __init__(self, source: Source, cache: QueryCache, *, load: LoadConfig | None = None) -> None:
        self._source = source
        self._cache = cache
        self._load = load

    @property
    def name(self) -> str:
        """The name of the source behind."""
        return self._source.name

    async def open(self, query: Query, *, pager: Pager = "keyset") -> Cursor:
        """Open the query behind, so that it is checked even if all of its pages are here."""
        cursor = await self._source.open(query, pager=pager)
        return CachedCursor(cursor, self._cache, key=partial(cache_key, f"{self.name} {pager}", query, self._load))

    async def close(self) -> None:
        """Close the source behind; what the cache holds stays."""
        await self._source.close()


class CachedCursor:
    """A cursor that looks into a cache before it asks."""

    def __init__(self, cursor: Cursor, cache: QueryCache, *, key: Callable[[Hashable, int], str]) -> None:
        self._cursor = cursor
        self._cache = cache
        self._key = key
        self._last: Page | None = None  # the page before this place, if it came from the cache

    @property
    def position(self) -> Hashable:
        """As behind."""
        return self._cursor.position

    @property
    def total(self) -> int | None:
        """As behind, or as it was known when the last page was fetched."""
        known = self._cursor.total
        return self._last.total if known is None and self._last is not None else known

    @property
    def exhausted(self) -> bool:
        """As behind, or as it was known when the last page was fetched."""
        return self._cursor.exhausted or (self._last is not None and self._last.is_last)

    async def fetch(self, count: int) -> pl.DataFrame:
        """Take the page from the cache, or fetch and keep it."""
        if self.exhausted:
            return self._last.frame.clear() if self._last is not None else await self._cursor.fetch(count)
        key = self._key(self._cursor.position, count)
        page = self._cache.get(key)
        if page is not None:
            self._cursor.seek(page.next_position)
            self._last = page
            return page.frame
        frame = await self._cursor.fetch(count)
        self._last = None
        position, total, is_last = self._cursor.position, self._cursor.total, self._cursor.exhausted
        self._cache.put(key, Page(frame=frame, next_position=position, total=total, is_last=is_last))
        return frame

    def seek(self, position: Hashable) -> None:
        """As behind."""
        self._last = None
        self._cursor.seek(position)

    async def close(self) -> None:
        """As behind; what the cache holds stays."""
        await self._cursor.close()


def cache_key(source: str, query: Query, load: LoadConfig | None, position: Hashable, count: int) -> str:
    """Name a page by everything that decides which rows are in it. Equal values of different types are different."""
    return hashlib.sha256(repr(_plain((source, query, load, position, count))).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A value whose text is the same whenever the value is, in every process."""
    if isinstance(value, msgspec.Struct):
        return type(value).__name__, [(name, _plain(getattr(value, name))) for name in value.__struct_fields__]
    if isinstance(value, Mapping):
        return "mapping", sorted((repr(name), _plain(item)) for name, item in value.items())
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [_plain(item) for item in value]
    return type(value).__name__, repr(value)
