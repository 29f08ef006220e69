"""A store with one planted failure: in a leader's n-th round, the k-th assignment that it writes is not written, once.

Everything else goes straight through. A round is known by the epoch and version in its records. Reads and other buckets are not touched.
"""

from __future__ import annotations

from collections.abc import Callable

from floodmark.systems.fleet.host.options import FailPut
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, AssignmentRecord, decode
from floodmark.systems.fleet.store.base import Bucket, Entry, Store, StoreUnavailableError, Watch

FELT = "fail_put"


class FaultyStore:
    """Around the store of one process, shared by its workers."""

    def __init__(self, inner: Store, bucket: str, at: FailPut, felt: Callable[[str], None]) -> None:
        self._inner = inner
        self._bucket = bucket
        self._at = at
        self._felt = felt
        self._rounds: dict[tuple[int, int], int] = {}  # records written in each round
        self._struck = False

    @property
    def connected(self) -> bool:
        """The inner one's."""
        return self._inner.connected

    async def bucket(self, name: str, *, ttl_s: float = 0.0, history: int = 1, memory: bool = False) -> Bucket:
        """The inner one's; that of the assignments with the failure in it."""
        inner = await self._inner.bucket(name, ttl_s=ttl_s, history=history, memory=memory)
        return FaultyBucket(inner, self._maybe_fail) if name == self._bucket else inner

    async def aclose(self) -> None:
        """Close the inner one."""
        await self._inner.aclose()

    def _maybe_fail(self, key: str, value: bytes) -> None:
        if self._struck or not key.startswith(ASSIGNMENT_PREFIX):
            return
        record = decode(AssignmentRecord, key, value)
        written = self._rounds.setdefault((record.epoch, record.version), 0) + 1
        self._rounds[record.epoch, record.version] = written
        if len(self._rounds) == self._at.round and written == self._at.k:
            self._struck = True
            self._felt(FELT)
            raise StoreUnavailableError(f"write {key}", "a failure that was planted")


class FaultyBucket:
    """The assignments."""

    def __init__(self, inner: Bucket, maybe_fail: Callable[[str, bytes], None]) -> None:
        self._inner = inner
        self._maybe_fail = maybe_fail

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
        """Fail, or as the inner one."""
        self._maybe_fail(key, value)
        return await self._inner.create(key, value)

    async def put(self, key: str, value: bytes) -> int:
        """Fail, or as the inner one."""
        self._maybe_fail(key, value)
        return await self._inner.put(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Fail, or as the inner one."""
        self._maybe_fail(key, value)
        return await self._inner.update(key, value, revision)

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
