"""What a worker is to work on: follows its own record, and refuses what is old.

A record is taken only if its (epoch, version) is higher than that of every one taken before; an older leader's, or one told late, is
refused. The assignment is in force as long as the worker's heartbeat lease is held: `suspend` ends that without forgetting, `resume` reads
the record anew and puts it in force again. A record that is gone is given up when a leader is in office that could have meant it; during a
change of leaders it is kept, and judged when the next leader has had time to publish.
Not here: who does the work (apply.py), the worker's state (worker.py).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import msgspec

from floodmark.systems.fleet.contact import Contact, Retry
from floodmark.systems.fleet.errors import WatcherError
from floodmark.systems.fleet.metrics import Metric, Metrics
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.records import AssignmentRecord, RecordError, assignment_key, decode
from floodmark.systems.fleet.store.base import Bucket, Entry, StoreUnavailableError, Watch


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker works on, as of one round of one leader."""

    epoch: int
    version: int
    lifecycle: str
    partitions: tuple[Partition, ...]

    @property
    def rank(self) -> tuple[int, int]:
        """What is higher is newer."""
        return self.epoch, self.version


class Receiver:
    """Follows the record of one worker.

    `led_for_s` tells for how long the leader in office has been there, as far as is known, and None when there is none; `on_change` is
    called when what is in force has changed.
    """

    def __init__(
        self,
        bucket: Bucket,
        contact: Contact,
        worker_id: str,
        *,
        led_for_s: Callable[[], float | None],
        patience_s: float,
        on_change: Callable[[], None],
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self.cached: Assignment | None = None  # the newest taken, whether in force or not
        self.cached_s = 0.0  # when it was taken
        self.highest = (0, 0)  # of all records seen, refused ones too
        self.suspended = False
        self._revision = 0  # of the newest that was seen of the key
        self._gone = False  # it vanished while no leader was known
        self._bucket = bucket
        self._contact = contact
        self._key = assignment_key(worker_id)
        self._led_for_s = led_for_s
        self._patience_s = patience_s
        self._on_change = on_change
        self._metrics = metrics
        self._retry = Retry(rng.random)

    @property
    def current(self) -> Assignment | None:
        """What is in force."""
        return None if self.suspended else self.cached

    async def run(self) -> None:
        """Follow the record until cancelled; a watch that breaks off is opened again."""
        while True:
            try:
                watch = await self._contact.ask("watch", self._bucket.watch(self._key), limit_s=self._patience_s)
                try:
                    await self._follow(watch)
                finally:
                    await watch.aclose()
                reason = "it ended"
            except StoreUnavailableError as exc:
                reason = str(exc)
            self._contact.tell(WatcherError(self._key, reason))
            await asyncio.sleep(self._retry.pause_s())

    async def _follow(self, watch: Watch) -> None:
        listed = False
        found = False
        async for entry in watch:
            if entry is None:
                self._retry.reset()
                listed = True
                if not found:
                    self._vanished()
            elif not entry.deleted:
                found = True
                self._offer(entry)
            elif listed and entry.revision > self._revision:
                self._revision = entry.revision
                self._vanished()

    def _offer(self, entry: Entry) -> None:
        try:
            record = decode(AssignmentRecord, entry.key, entry.value)
        except RecordError as exc:
            self._contact.tell(exc)
            return
        if entry.revision < self._revision:
            return  # the watch tells late of what a look has found replaced
        self._revision, self._gone = entry.revision, False
        rank, highest = (record.epoch, record.version), self.highest
        if rank < highest:
            self._metrics.count(Metric.ASSIGNMENTS_REFUSED, label="older epoch" if rank[0] < highest[0] else "older version")
        if rank < highest or (self.cached is not None and rank == highest):
            return
        self.highest = rank
        self.cached = Assignment(
            epoch=record.epoch, version=record.version, lifecycle=record.lifecycle, partitions=tuple(record.partitions)
        )
        self.cached_s = asyncio.get_running_loop().time()
        if not self.suspended:
            self._on_change()

    # --- a record that is gone ---

    def _vanished(self) -> None:
        """It is not there: that is meant for us if somebody leads."""
        self._gone = self.cached is not None
        if self._led_for_s() is not None:
            self._give_up()

    def _give_up(self) -> None:
        if self._gone:
            self._gone = False
            self.cached = None
            if not self.suspended:
                self._on_change()

    async def check(self) -> None:
        """Judge a record that vanished during a change of leaders; to be called about once a second. Raises: StoreUnavailableError."""
        led_s = self._led_for_s()
        if self._gone and led_s is not None and led_s >= self._patience_s and await self._get() is None:
            self._give_up()

    async def _get(self) -> Entry | None:
        return await self._contact.ask("get", self._bucket.get(self._key), limit_s=self._patience_s)

    # --- our own lease ---

    def suspend(self) -> None:
        """What is held may belong to others by now: put it out of force."""
        if not self.suspended:
            self.suspended = True
            if self.cached is not None:
                self._on_change()

    async def resume(self) -> None:
        """Read the record anew, and put in force what it says. Raises: StoreUnavailableError; nothing is in force then."""
        held = self.cached
        entry = await self._get()
        if entry is not None:
            self._offer(entry)
        elif self.cached is held:
            self._vanished()
            if self.suspended:  # out of force, and gone meanwhile: it was given away, whether or not we know yet who leads
                self._give_up()
        if self.suspended:
            self.suspended = False
            self._on_change()
