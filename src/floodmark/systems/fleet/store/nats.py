"""The store over NATS JetStream: each bucket is a key-value stream as NATS clients know them, `KV_{name}`, on disk unless said otherwise.

Written on the JetStream API itself. Every fence is the server's own: `Nats-Expected-Last-Subject-Sequence` on the write. Reads are answered
by the stream's leader and never by a replica that lags. The server sweeps expired keys a quarter of a second late at most; where that would
show (`create`, `get`, `entries`), the server's clock is asked and what is past its time is gone. An `update` in that quarter of a second
still finds its key. A lost connection is made again for ever; until then every operation fails at once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.store.base import (
    BucketMismatchError,
    Entry,
    KeyExistsError,
    KeyNotFoundError,
    StoreUnavailableError,
    WrongRevisionError,
)
from floodmark.systems.fleet.store.link import ApiError, Link
from floodmark.systems.fleet.store.versions import DELETE, entry_of, names_of
from floodmark.systems.fleet.store.watch import NatsWatch

KEY = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")
NO_STREAM, NAME_IN_USE, NO_MESSAGE = 10059, 10058, 10037
WRONG_SEQUENCE = (10071, 10164)
_LATE_S = 0.1  # so near to its end, a key is looked at by the server's clock
_CREATE_TRIES = 5
_LISTING_IDLE_S = 1.0


class _Config(msgspec.Struct, frozen=True):
    max_age: int = 0


class _Info(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    config: _Config = _Config()
    ts: datetime | None = None


class _Message(msgspec.Struct, frozen=True):
    seq: int
    time: datetime
    data: bytes = b""
    hdrs: bytes = b""


class _Got(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    message: _Message | None = None


class _Acknowledged(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    seq: int = 0


_acknowledged = msgspec.json.Decoder(_Acknowledged)
_got = msgspec.json.Decoder(_Got)


class NatsStore:
    """One connection, shared by as many workers as run in this process."""

    def __init__(self, link: Link, *, replicas: int, watch_idle_s: float) -> None:
        self.link = link
        self._replicas = replicas
        self._watch_idle_s = watch_idle_s

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        name: str = "",
        operation_s: float = 10.0,
        connect_s: float = 10.0,
        ping_s: float = 2.0,
        watch_idle_s: float = 5.0,
        replicas: int = 1,
        credentials: str = "",
    ) -> Self:
        """Connect to a server, or to one of several with commas between them.

        Args: operation_s: limit of each operation. ping_s: a server that leaves three of these unanswered is gone. watch_idle_s: period of
        the sign of life on a watch. replicas: of the buckets made. credentials: path of a NATS credentials file.
        Raises: StoreUnavailableError.
        """
        link = await Link.open(url, name=name, operation_s=operation_s, connect_s=connect_s, ping_s=ping_s, credentials=credentials)
        return cls(link, replicas=replicas, watch_idle_s=watch_idle_s)

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self.link.connected

    async def bucket(self, name: str, *, ttl_s: float = 0.0, history: int = 1, memory: bool = False) -> NatsBucket:
        """Open a bucket, made if there is none. Raises: BucketMismatchError, StoreUnavailableError."""
        bucket = NatsBucket(self.link, name, watch_idle_s=self._watch_idle_s)
        operation, ttl_ns = f"open bucket {name}", round(ttl_s * 1e9)
        found = await bucket._info()
        if found.error is not None and found.error.err_code == NO_STREAM:
            config = {
                "name": bucket.stream,
                "subjects": [f"$KV.{name}.>"],
                "max_msgs_per_subject": history,
                "max_age": ttl_ns,
                "duplicate_window": min(ttl_ns or 120_000_000_000, 120_000_000_000),
                "storage": "memory" if memory else "file",
                "num_replicas": self._replicas,
                "discard": "new",
                "deny_delete": True,
                "allow_rollup_hdrs": True,
                "allow_direct": False,  # a replica may answer a direct read with what is no longer so
            }
            found = await self.link.call(operation, f"STREAM.CREATE.{bucket.stream}", config, _Info)
            if found.error is not None and found.error.err_code == NAME_IN_USE:  # another worker was first, with other settings
                found = await bucket._info()
        if found.error is not None:
            raise StoreUnavailableError(operation, found.error.description)
        if ttl_s and found.config.max_age != ttl_ns:
            raise BucketMismatchError(name, found.config.max_age / 1e9, ttl_s)
        bucket.ttl_s = found.config.max_age / 1e9
        await bucket._info()  # a quiet round trip, to compare the clocks: the one that made the stream took its time
        return bucket

    async def aclose(self) -> None:
        """End the connection."""
        await self.link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


class NatsBucket:
    """One key-value stream."""

    def __init__(self, link: Link, name: str, *, watch_idle_s: float) -> None:
        self.name = name
        self.stream = f"KV_{name}"
        self.ttl_s = 0.0
        self._link = link
        self._start = f"$KV.{name}."
        self._watch_idle_s = watch_idle_s

    async def get(self, key: str) -> Entry | None:
        """The live entry, as the stream's leader has it."""
        entry = await self._last(key)
        if entry is None or entry.deleted:
            return None
        alive = await self._alive([entry])
        return alive[0] if alive else None

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that is not alive: over nothing, over its deletion, or over what has expired and was not swept yet."""
        fence = 0
        for _ in range(_CREATE_TRIES):
            revision = await self._write("create", key, value, fence)
            if revision:
                return revision
            last = await self._last(key)
            if last is None:
                fence = 0  # it went between the two questions
            elif last.deleted or not await self._alive([last]):
                fence = last.revision
            else:
                break
        raise KeyExistsError(self.name, key)

    async def put(self, key: str, value: bytes) -> int:
        """Write without a fence."""
        return await self._write("put", key, value, None)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write if the live revision is this one."""
        if revision == 0:
            try:
                return await self.create(key, value)
            except KeyExistsError:
                raise WrongRevisionError(self.name, key, revision) from None
        written = await self._write("update", key, value, revision)
        if written:
            return written
        if await self.get(key) is None:
            raise KeyNotFoundError(self.name, key, revision)
        raise WrongRevisionError(self.name, key, revision)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """End a key. A watch may be told twice of one end."""
        if await self._write("delete", key, b"", revision, DELETE):
            return
        if await self.get(key) is not None:
            raise WrongRevisionError(self.name, key, revision or 0)

    async def entries(self, prefix: str = "") -> list[Entry]:
        """The live entries, sorted by key."""
        async with self._listing(prefix) as found:
            return await self._alive(found)

    async def watch(self, prefix: str = "") -> NatsWatch:
        """Begin to watch. A key that expired less than a quarter of a second ago may still be listed: its `written_s` tells."""
        watch = NatsWatch(self._link, self.stream, self._start, idle_s=self._watch_idle_s)
        await watch.open(self._filters(prefix))
        return watch

    async def history(self, key: str) -> list[Entry]:
        """The versions that are kept, oldest first."""
        async with self._listing(key, all_versions=True) as found:
            return found

    @asynccontextmanager
    async def _listing(self, prefix: str, *, all_versions: bool = False) -> AsyncIterator[list[Entry]]:
        watch = NatsWatch(self._link, self.stream, self._start, idle_s=_LISTING_IDLE_S, all_versions=all_versions)
        filters = [self._subject(prefix)] if all_versions else self._filters(prefix)
        await watch.open(filters)
        try:
            found = []
            async for entry in watch:
                if entry is None:
                    break
                found.append(entry)
            yield found
        finally:
            await watch.aclose()

    async def _write(self, word: str, key: str, value: bytes, fence: int | None, headers: dict[str, str] | None = None) -> int:
        """One write. Returns: its revision; 0 when the fence held it off."""
        operation = f"{word} {key}"
        if fence is not None:
            headers = {**(headers or {}), "Nats-Expected-Last-Subject-Sequence": str(fence)}
        told = _acknowledged.decode((await self._link.ask(operation, self._subject(key), value, headers)).data)
        if told.error is None:
            return told.seq
        if told.error.err_code in WRONG_SEQUENCE:
            return 0
        raise StoreUnavailableError(operation, told.error.description)

    async def _last(self, key: str) -> Entry | None:
        """The last version of a key, whatever it is."""
        operation = f"get {key}"
        request = msgspec.json.encode({"last_by_subj": self._subject(key)})
        told = _got.decode((await self._link.ask(operation, f"$JS.API.STREAM.MSG.GET.{self.stream}", request)).data)
        if told.error is not None:
            if told.error.err_code == NO_MESSAGE:
                return None
            raise StoreUnavailableError(operation, told.error.description)
        assert told.message is not None
        message = told.message
        written_s = message.time.timestamp() - self._link.offset_s
        return entry_of(key, message.data, names_of(message.hdrs), revision=message.seq, written_s=written_s)

    async def _alive(self, entries: list[Entry]) -> list[Entry]:
        """Those whose time is not over, by the server's clock: it is asked only where ours says that an end is near."""
        near_s = asyncio.get_running_loop().time() + _LATE_S - self.ttl_s
        if not self.ttl_s or all(entry.written_s > near_s for entry in entries):
            return entries
        before_s = self._link.offset_s
        told = await self._info()
        if told.ts is None:
            raise StoreUnavailableError(f"read the clock of bucket {self.name}", told.error.description if told.error else "there is none")
        shift_s = before_s - self._link.offset_s  # what the new comparison of the clocks makes of the old
        oldest_s = told.ts.timestamp() - self._link.offset_s - self.ttl_s
        moved = (msgspec.structs.replace(entry, written_s=entry.written_s + shift_s) for entry in entries)
        return [entry for entry in moved if entry.written_s > oldest_s]

    async def _info(self) -> _Info:
        """The stream's state; on the way the server's clock is compared with ours."""
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        told = await self._link.call(f"look at bucket {self.name}", f"STREAM.INFO.{self.stream}", None, _Info)
        if told.ts is not None:
            self._link.offset_s = told.ts.timestamp() - (before_s + loop.time()) / 2
        return told

    def _subject(self, key: str) -> str:
        if KEY.fullmatch(key) is None:
            raise UsageError(f"{key!r} is no key of a bucket; words of letters, digits, '-', '_', '=', '/' with dots between them are")
        return self._start + key

    def _filters(self, prefix: str) -> list[str]:
        if not prefix:
            return [self._start + ">"]
        if prefix[-1] == ".":
            return [self._subject(prefix[:-1]) + ".>"]
        return [self._subject(prefix), self._subject(prefix) + ".>"]
