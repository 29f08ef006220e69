"""A store whose leader lies about assignments: what it writes is not what it decided, or is written once more as of a time that is over.

`lose=N` leaves the partitions p0 to pN-1 out of every record, `share=N` has them in every record; `stale=N` writes N records once more as
of the epoch before, `back=N` as of the version before, and then as they were. Everything else goes straight through.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from floodmark.systems.fleet.host.options import named
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, AssignmentRecord, decode, encode
from floodmark.systems.fleet.store.base import Bucket, Entry, Store, Watch

OF_LEADERS = ("lose", "share", "stale", "back")


class LyingStore:
    """Around the store of one process, shared by its workers."""

    def __init__(self, inner: Store, bucket: str, lies: Mapping[str, int]) -> None:
        self._inner = inner
        self._bucket = bucket
        self._lies = lies

    @property
    def connected(self) -> bool:
        """The inner one's."""
        return self._inner.connected

    async def bucket(self, name: str, *, ttl_s: float = 0.0, history: int = 1, memory: bool = False) -> Bucket:
        """The inner one's; that of the assignments with the lies in it."""
        inner = await self._inner.bucket(name, ttl_s=ttl_s, history=history, memory=memory)
        return LyingBucket(inner, self._lies) if name == self._bucket else inner

    async def aclose(self) -> None:
        """Close the inner one."""
        await self._inner.aclose()


class LyingBucket:
    """The assignments."""

    def __init__(self, inner: Bucket, lies: Mapping[str, int]) -> None:
        self._inner = inner
        self._lost = {named(number).id for number in range(lies.get("lose", 0))}
        self._shared = [named(number) for number in range(lies.get("share", 0))]
        self._again = {"epoch": lies.get("stale", 0), "version": lies.get("back", 0)}

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
        """Lie, then as the inner one."""
        value = self._told(key, value)
        return await self._once_more(key, value, await self._inner.create(key, value))

    async def put(self, key: str, value: bytes) -> int:
        """Lie, then as the inner one."""
        value = self._told(key, value)
        return await self._once_more(key, value, await self._inner.put(key, value))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Lie, then as the inner one."""
        value = self._told(key, value)
        return await self._once_more(key, value, await self._inner.update(key, value, revision))

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

    def _told(self, key: str, value: bytes) -> bytes:
        """What is written for what was decided."""
        if not key.startswith(ASSIGNMENT_PREFIX) or not (self._lost or self._shared):
            return value
        record = decode(AssignmentRecord, key, value)
        kept = [one for one in record.partitions if one.id not in self._lost]
        held = {one.id for one in kept}
        return encode(msgspec.structs.replace(record, partitions=[*kept, *(one for one in self._shared if one.id not in held)]))

    async def _once_more(self, key: str, value: bytes, revision: int) -> int:
        """Write it as of before, and again as it is, as long as there are lies left."""
        for name, left in self._again.items():
            if left and key.startswith(ASSIGNMENT_PREFIX):
                record = decode(AssignmentRecord, key, value)
                self._again[name] -= 1
                await self._inner.put(key, encode(msgspec.structs.replace(record, **{name: getattr(record, name) - 1})))
                revision = await self._inner.put(key, value)
        return revision
