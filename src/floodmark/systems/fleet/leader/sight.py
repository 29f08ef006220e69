"""What the leader sees of the heartbeats: a watch, a list of all now and then, and a get for each that ought to have expired.

The watch brings refreshes and those who come or leave; the list repairs whatever a watch may have missed; the get tells an expiry to the
moment. `on_news` is called when somebody came or left, when a worker in `awaited` said something, and when the store was lost.
Contract: every question has a limit; one without an answer is StoreUnavailableError. `look` says when an outage is over that was long
enough to hide a refresh.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from floodmark.core import tasks
from floodmark.systems.fleet.errors import WatcherError
from floodmark.systems.fleet.leader.roster import Roster
from floodmark.systems.fleet.records import HEARTBEAT_PREFIX, heartbeat_key, worker_of
from floodmark.systems.fleet.settings import CutOff, Settings
from floodmark.systems.fleet.store.base import Bucket, Entry, StoreUnavailableError

POLLS_PER_TTL: Final = 2
BATCH_COUNT: Final = 32  # questions on their way at once

T = TypeVar("T")


async def answer(what: str, question: Awaitable[T], limit_s: float) -> T:
    """Await an operation of a bucket. Raises: StoreUnavailableError when it takes too long; it may have been done."""
    try:
        async with asyncio.timeout(limit_s) as limit:
            return await question
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise StoreUnavailableError(what, f"no answer within {limit_s:g} s") from exc


async def follow(
    bucket: Bucket,
    prefix: str,
    take: Callable[[Entry | None], None],
    *,
    on_lost: Callable[[WatcherError], None],
    pause_s: Callable[[], float],
    limit_s: float,
) -> None:
    """Watch a prefix until cancelled; a watch that is lost is told, and opened again."""
    while True:
        try:
            watch = await answer(f"watch {prefix}", bucket.watch(prefix), limit_s)
            async with contextlib.aclosing(watch):
                async for entry in watch:
                    take(entry)
            reason = "it ended"
        except StoreUnavailableError as exc:
            reason = str(exc)
        on_lost(WatcherError(prefix, reason))
        await asyncio.sleep(pause_s())


class Sight:
    """Who is there, kept up to date. `run` beside it; `look` before each decision."""

    def __init__(
        self,
        heartbeats: Bucket,
        settings: Settings,
        *,
        on_news: Callable[[], None],
        on_error: Callable[[Exception], object],
        pause_s: Callable[[], float],
    ) -> None:
        self.roster = Roster(heartbeat_s=settings.heartbeat_s, ttl_s=settings.heartbeat_ttl_s)
        self.awaited: frozenset[str] = frozenset()  # workers whose every heartbeat is news
        self.caught_up = asyncio.Event()  # the first watch has told who is there
        self._heartbeats = heartbeats
        self._settings = settings
        self._limit_s = settings.heartbeat_ttl_s / POLLS_PER_TTL
        self._on_news, self._on_error, self._pause_s = on_news, on_error, pause_s
        self._blind_since_s: float | None = None
        self._list_due_s = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        await follow(
            self._heartbeats,
            HEARTBEAT_PREFIX,
            self._take,
            on_lost=self._on_watch_lost,
            pause_s=self._pause_s,
            limit_s=self._settings.operation_limit_s,
        )

    def _take(self, entry: Entry | None) -> None:  # HOT: once per heartbeat of the fleet
        if entry is None:
            self.caught_up.set()
            self._on_news()
        elif self.roster.note(entry, asyncio.get_running_loop().time()) or (self.awaited and worker_of(entry.key) in self.awaited):
            self._on_news()

    def _on_watch_lost(self, error: WatcherError) -> None:
        self._on_error(error)
        self.lose()

    def lose(self) -> None:
        """The store did not answer: what is seen may be old, until all are listed again."""
        if self._blind_since_s is None:
            self._blind_since_s = asyncio.get_running_loop().time()
        self._list_due_s = 0.0
        self._on_news()

    async def look(self) -> bool:
        """Bring the roster up to date. Returns: whether an outage is over that could hide a refresh. Raises: StoreUnavailableError."""
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        outage = False
        if asked_s >= self._list_due_s:
            entries = await answer("list heartbeats", self._heartbeats.entries(HEARTBEAT_PREFIX), self._settings.operation_limit_s)
            self.roster.listed(entries, asked_s, loop.time())
            self._list_due_s = asked_s + self._settings.heartbeat_ttl_s / POLLS_PER_TTL
            outage = self._blind_since_s is not None and asked_s - self._blind_since_s > self._settings.heartbeat_s
            self._blind_since_s = None
        for worker, entry in await self._get_all(self.roster.overdue(loop.time())):
            self.roster.looked(worker, entry, loop.time())
        return outage

    async def is_back(self, lost: frozenset[str]) -> bool:
        """Look once more before these are given up: the watch may be late. Raises: StoreUnavailableError."""
        found = [entry for _, entry in await self._get_all(sorted(lost)) if entry is not None]
        now_s = asyncio.get_running_loop().time()
        return sum(self.roster.note(entry, now_s) for entry in found) > 0  # a sum: each of them is to be noted

    async def _get_all(self, workers: list[str]) -> list[tuple[str, Entry | None]]:
        found: list[tuple[str, Entry | None]] = []
        for at in range(0, len(workers), BATCH_COUNT):
            batch = workers[at : at + BATCH_COUNT]
            async with tasks.group() as group:
                asked = [group.create_task(self._get(worker)) for worker in batch]
            found += [(worker, task.result()) for worker, task in zip(batch, asked, strict=True)]
        return found

    async def _get(self, worker: str) -> Entry | None:
        return await answer("get a heartbeat", self._heartbeats.get(heartbeat_key(worker)), self._limit_s)

    def next_look_s(self) -> float:
        """When to look at the latest."""
        return min(self._list_due_s, self.roster.next_due_s())

    def applied(self, worker: str) -> tuple[int, int] | None:
        """The epoch and version that a worker works by; (0, 0): it has not said; None: it is not there, and so works on nothing."""
        if worker not in self.roster.present:
            return None if self._settings.when_cut_off == CutOff.STOP else (0, 0)
        heartbeat = self.roster.heartbeat(worker)
        return (heartbeat.epoch, heartbeat.version) if heartbeat is not None and heartbeat.applied else (0, 0)

    def highest_version(self) -> int:
        """The highest version that a worker who is there has ever seen."""
        seen = (self.roster.heartbeat(worker) for worker in self.roster.present)
        return max((max(told.version, told.seen_version) for told in seen if told is not None), default=0)
