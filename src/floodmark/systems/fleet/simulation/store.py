"""The store as one simulated node sees it: the contract of `store.base`, with a `Link` between the node and the server.

Left to others: what goes wrong and when (`network.py`, `director.py`). A watch that broke raises StoreUnavailableError at its reader, who
opens another: that is the re-listing.
"""

from __future__ import annotations

import functools

from floodmark.systems.fleet.simulation.network import Act, Link, T
from floodmark.systems.fleet.store.base import Entry
from floodmark.systems.fleet.store.memory import MemoryBucket
from floodmark.systems.fleet.store.queued import QueuedWatch


class SimulatedStore:
    """One node's connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._open = True

    @property
    def connected(self) -> bool:
        """Whether the node has noticed no break."""
        return self._open and self._link.connected

    async def bucket(self, name: str, *, ttl_s: float = 0.0, history: int = 1, memory: bool = False) -> SimulatedBucket:
        """Open a bucket, made if there is none."""
        backend = self._link.server.backend

        async def opened() -> MemoryBucket:
            return backend.bucket(name, ttl_s=ttl_s, history=history)

        return SimulatedBucket(self._link, await self._link.ask(f"open {name}", opened))

    async def aclose(self) -> None:
        """Let go of the connection."""
        self._open = False


class SimulatedBucket:
    """A bucket on the other side of a link."""

    def __init__(self, link: Link, bucket: MemoryBucket) -> None:
        self.name = bucket.name
        self.ttl_s = bucket.ttl_s
        self._link = link
        self._bucket = bucket

    async def get(self, key: str) -> Entry | None:
        """The live entry."""
        entry = await self._ask("get", functools.partial(self._bucket.get, key))
        return None if entry is None else self._link.seen(entry)

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that is not alive."""
        return await self._write("create", functools.partial(self._bucket.create, key, value))

    async def put(self, key: str, value: bytes) -> int:
        """Write, whatever is there."""
        return await self._write("put", functools.partial(self._bucket.put, key, value))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write if the live revision is this one."""
        return await self._write("update", functools.partial(self._bucket.update, key, value, revision))

    async def delete(self, key: str, revision: int | None = None) -> None:
        """End a key."""
        await self._write("delete", functools.partial(self._bucket.delete, key, revision))

    async def entries(self, prefix: str = "") -> list[Entry]:
        """The live entries."""
        return [self._link.seen(entry) for entry in await self._ask("list", functools.partial(self._bucket.entries, prefix))]

    async def history(self, key: str) -> list[Entry]:
        """The versions that are kept."""
        return [self._link.seen(entry) for entry in await self._ask("history", functools.partial(self._bucket.history, key))]

    async def watch(self, prefix: str = "") -> SimulatedWatch:
        """Begin to watch."""
        watch = SimulatedWatch(self._link, self._bucket.name, prefix)

        async def begin() -> None:
            watch.begin(await self._bucket.entries(prefix))

        try:
            await self._ask("watch", begin)
        except BaseException:
            await watch.aclose()  # it may have begun, and nobody would read it
            raise
        return watch

    async def _ask(self, operation: str, act: Act[T]) -> T:
        return await self._link.ask(operation, act)

    async def _write(self, operation: str, act: Act[T]) -> T:
        return await self._link.ask(operation, act, bucket=self.name)


class SimulatedWatch(QueuedWatch):
    """What one reader has not taken yet, and what is on its way to it."""

    def __init__(self, link: Link, bucket: str, prefix: str) -> None:
        super().__init__(bucket)
        self.link = link
        self._bucket = bucket
        self._prefix = prefix
        self._last_s = 0.0  # when the last event on its way arrives
        self._last_s_by_key: dict[str, float] = {}

    def begin(self, alive: list[Entry]) -> None:
        """Listen from now on; at the server."""
        if self._closed:  # its reader gave up while the request was on its way
            return
        self._list(self.link.seen(entry) for entry in alive)
        self.link.watches[self] = None
        self.link.server.listen(self._bucket, self._prefix, self)

    def feed(self, entry: Entry) -> None:
        """Send an event on its way: in the order of writing, or per key only."""
        link = self.link
        loop = link.server.loop
        at_s = loop.now_s + link.event_delay_s()
        if link.weather.in_order:
            at_s = self._last_s = max(at_s, self._last_s)
        else:
            at_s = self._last_s_by_key[entry.key] = max(at_s, self._last_s_by_key.get(entry.key, 0.0))
        loop.call_when(link.node, at_s, self._arrive, entry)

    def _arrive(self, entry: Entry) -> None:
        if not (self._closed or self._lost or self.link.holds(self, entry)):
            self.tell(self.link.seen(entry))

    def _leave(self) -> None:
        self.link.watches.pop(self, None)
        self.link.server.forget(self._bucket, self._prefix, self)
