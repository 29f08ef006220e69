"""A store that stands around another one, and changes how one of its buckets is written; all else goes straight through.

Not here: what is changed (`faulty`, `lying`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from floodmark.systems.fleet.store.base import Bucket, Entry, Store, Watch

Write = Callable[[bytes], Awaitable[int]]
"""Writes a value to the inner bucket, as it was asked for. Returns: the revision."""


class StoreAround:
    """Around the store of one process, shared by its workers; `around` is called for each time that the bucket is opened."""

    def __init__(self, inner: Store, bucket: str, around: Callable[[Bucket], Bucket]) -> None:
        self._inner = inner
        self._bucket = bucket
        self._around = around

    @property
    def connected(self) -> bool:
        """The inner one's."""
        return self._inner.connected

    async def bucket(self, name: str, *, ttl_s: float = 0.0, history: int = 1, memory: bool = False) -> Bucket:
        """The inner one's; that of the one name with something around it."""
        inner = await self._inner.bucket(name, ttl_s=ttl_s, history=history, memory=memory)
        return self._around(inner) if name == self._bucket else inner

    async def aclose(self) -> None:
        """Close the inner one."""
        await self._inner.aclose()


class BucketAround(ABC):
    """Around a bucket: `written` stands between every write and the inner one."""

    def __init__(self, inner: Bucket) -> None:
        self._inner = inner

    @abstractmethod
    async def written(self, key: str, value: bytes, write: Write) -> int:
        """Do what was asked for by `write`, or not quite. Returns: the revision."""

    @property
    def name(self) -> str:
        """The inner one's."""
        return self._inner.name

    @property
    def ttl_s(self) -> float:
        """The inner one's."""
        return self._inner.ttl_s

    async def get(self, key: str) -> Entry | None:
        """As the inner one."""
        return await self._inner.get(key)

    async def create(self, key: str, value: bytes) -> int:
        """As `written` has it."""
        return await self.written(key, value, lambda told: self._inner.create(key, told))

    async def put(self, key: str, value: bytes) -> int:
        """As `written` has it."""
        return await self.written(key, value, lambda told: self._inner.put(key, told))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """As `written` has it."""
        return await self.written(key, value, lambda told: self._inner.update(key, told, revision))

    async def delete(self, key: str, revision: int | None = None) -> None:
        """As the inner one."""
        await self._inner.delete(key, revision)

    async def entries(self, prefix: str = "") -> list[Entry]:
        """As the inner one."""
        return await self._inner.entries(prefix)

    async def watch(self, prefix: str = "") -> Watch:
        """As the inner one."""
        return await self._inner.watch(prefix)

    async def history(self, key: str) -> list[Entry]:
        """As the inner one."""
        return await self._inner.history(key)
