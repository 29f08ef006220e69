"""A store in this process, for simulation and tests: `MemoryBackend` is the server that all share, `MemoryStore` one connection to it.

Time is the event loop's, so it runs on virtual time; nothing runs in the background: what has expired is found at the next look. An
operation takes no turn of the loop: delay, failure and partition are laid around it by who wants them. `MemoryBackend.observers` see every
write at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from floodmark.systems.fleet.store.base import (
    BucketMismatchError,
    Entry,
    KeyExistsError,
    KeyNotFoundError,
    StoreUnavailableError,
    WrongRevisionError,
    is_below,
)
from floodmark.systems.fleet.store.queued import QueuedWatch


class MemoryBackend:
    """The server: it outlives its stores."""

    def __init__(self) -> None:
        self.observers: list[Callable[[str, Entry], None]] = []  # bucket name and entry, inside of the write
        self._buckets: dict[str, MemoryBucket] = {}

    def bucket(self, name: str, *, ttl_s: float = 0.0, history: int = 1) -> MemoryBucket:
        """Open or make a bucket. Raises: BucketMismatchError."""
        found = self._buckets.get(name)
        if found is None:
            found = self._buckets[name] = MemoryBucket(self, name, ttl_s, history)
        elif ttl_s and ttl_s != found.ttl_s:
            raise BucketMismatchError(name, found.ttl_s, ttl_s)
        return found


class MemoryStore:
    """A connection that is never lost while it is open."""

    def __init__(self, backend: MemoryBackend | None = None) -> None:
        self.backend = backend or MemoryBackend()
        self.connected = True

    async def bucket(self, name: str, *, ttl_s: float = 0.0, history: int = 1, memory: bool = False) -> MemoryBucket:
        """As the protocol says; `memory` is what it always is."""
        if not self.connected:
            raise StoreUnavailableError(f"open bucket {name}", "the store was closed")
        return self.backend.bucket(name, ttl_s=ttl_s, history=history)

    async def aclose(self) -> None:
        """Let go; the backend keeps everything."""
        self.connected = False


class _Key:
    """One key: its last entry, when that ends, and the versions before it that are kept."""

    __slots__ = ("ends_s", "last", "past")

    def __init__(self, last: Entry, ends_s: float) -> None:
        self.last = last
        self.ends_s = ends_s
        self.past: deque[tuple[Entry, float]] | None = None


class MemoryBucket:
    """One bucket. INVARIANT: no operation awaits, so each is atomic."""

    def __init__(self, backend: MemoryBackend, name: str, ttl_s: float, history: int) -> None:
        self.name = name
        self.ttl_s = ttl_s
        self.revision = 0  # of the last write
        self._backend = backend
        self._history = history
        self._keys: dict[str, _Key] = {}
        self._watches: dict[str, list[MemoryWatch]] = {}
        self._now_s = asyncio.get_running_loop().time

    async def get(self, key: str) -> Entry | None:
        """The live entry."""
        return self._live(key)

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that is not alive."""
        if self._live(key) is not None:
            raise KeyExistsError(self.name, key)
        return self._write(key, value, deleted=False)

    async def put(self, key: str, value: bytes) -> int:
        """Write, whatever is there."""
        return self._write(key, value, deleted=False)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write if the live revision is this one."""
        live = self._live(key)
        if live is None and revision:
            raise KeyNotFoundError(self.name, key, revision)
        if live is not None and live.revision != revision:
            raise WrongRevisionError(self.name, key, revision)
        return self._write(key, value, deleted=False)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """End a key."""
        live = self._live(key)
        if live is None:
            return
        if revision is not None and live.revision != revision:
            raise WrongRevisionError(self.name, key, revision)
        self._write(key, b"", deleted=True)

    async def entries(self, prefix: str = "") -> list[Entry]:
        """The live entries, sorted by key."""
        return self._alive(prefix)

    async def watch(self, prefix: str = "") -> MemoryWatch:
        """Begin to watch."""
        watch = MemoryWatch(self, prefix, self._alive(prefix))
        self._watches.setdefault(prefix, []).append(watch)
        return watch

    async def history(self, key: str) -> list[Entry]:
        """The versions that are kept, oldest first."""
        record = self._keys.get(key)
        if record is None:
            return []
        now_s = self._now_s()
        past = [entry for entry, ends_s in record.past or () if ends_s > now_s]
        return [*past, record.last] if record.ends_s > now_s else past

    def _live(self, key: str) -> Entry | None:
        record = self._keys.get(key)
        if record is None or record.last.deleted:
            return None
        if record.ends_s <= self._now_s():
            del self._keys[key]
            return None
        return record.last

    def _alive(self, prefix: str) -> list[Entry]:
        now_s = self._now_s()
        found = [
            record.last for key, record in self._keys.items() if not record.last.deleted and record.ends_s > now_s and is_below(key, prefix)
        ]
        found.sort(key=lambda entry: entry.key)
        return found

    def _write(self, key: str, value: bytes, *, deleted: bool) -> int:
        self.revision += 1
        now_s = self._now_s()
        entry = Entry(key=key, value=value, revision=self.revision, deleted=deleted, written_s=now_s)
        ends_s = now_s + self.ttl_s if self.ttl_s else float("inf")
        record = self._keys.get(key)
        if record is None:
            record = self._keys[key] = _Key(entry, ends_s)
        else:
            if self._history > 1:
                if record.past is None:
                    record.past = deque(maxlen=self._history - 1)
                record.past.append((record.last, record.ends_s))
            record.last, record.ends_s = entry, ends_s
        if self._watches:
            self._tell(key, entry)
        for observer in self._backend.observers:
            observer(self.name, entry)
        return self.revision

    def _tell(self, key: str, entry: Entry) -> None:
        """Hand an entry to whoever watches it: looked up by each prefix of the key, as there may be a watch per worker."""
        watches = self._watches
        for watch in watches.get("", ()):
            watch.tell(entry)
        for watch in watches.get(key, ()):
            watch.tell(entry)
        at = key.find(".")
        while at >= 0:
            for prefix in (key[:at], key[: at + 1]):
                for watch in watches.get(prefix, ()):
                    watch.tell(entry)
            at = key.find(".", at + 1)

    def _forget(self, watch: MemoryWatch, prefix: str) -> None:
        others = [other for other in self._watches.get(prefix, ()) if other is not watch]
        if others:
            self._watches[prefix] = others
        else:
            self._watches.pop(prefix, None)


class MemoryWatch(QueuedWatch):
    """What one reader has not taken yet."""

    def __init__(self, bucket: MemoryBucket, prefix: str, alive: list[Entry]) -> None:
        super().__init__(bucket.name)
        self._bucket = bucket
        self._prefix = prefix
        self._list(alive)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _leave(self) -> None:
        self._bucket._forget(self, self._prefix)
