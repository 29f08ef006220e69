"""Who leads: one key, created by who comes first, renewed by revision, gone when it is not renewed in time.

A lease is held by the leader's own clock: from the moment a renewal was asked for, minus a margin for clocks that run unevenly, so that
the old leader knows that it leads no more before the store lets the key go. A late answer cannot prolong it. The epoch is the revision with
which the key was created; revisions rise over expiry and re-creation. Should a bucket have been lost with its revisions, the epoch is
lifted above all that assignments and heartbeats still tell of. It stands in the key before it is used.
Followers watch the key and time its expiry themselves: a leader that leaves is followed at once, one that died when its time is over.
Not here: what a leader does (leader/).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from floodmark.systems.fleet.contact import Contact, Retry
from floodmark.systems.fleet.errors import DeleteError, ElectionError, WatcherError
from floodmark.systems.fleet.metrics import Metric, Metrics
from floodmark.systems.fleet.records import LEADER_KEY, LeaderRecord, RecordError, decode, encode
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.store.base import Bucket, Entry, KeyExistsError, StoreError, StoreUnavailableError, Watch, WrongRevisionError

RENEWALS: Final = 3  # per time-out
RUSH_RATIO: Final = 0.01  # of the time-out, over which those who saw the leader go are spread
MARGIN_RATIO: Final = 0.05  # of a lease that its holder does not use: two clocks may run apart by so much


class Lease:
    """The right to lead, as its holder sees it."""

    def __init__(self, *, epoch: int, limit_s: float, renewed_s: float) -> None:
        self.epoch = epoch
        self.lost = asyncio.Event()
        self._limit_s = limit_s * (1 - MARGIN_RATIO)
        self._renewed_s = renewed_s

    def held(self) -> bool:
        """Whether it was renewed in time, by our own clock."""
        return not self.lost.is_set() and asyncio.get_running_loop().time() < self.ends_s

    @property
    def ends_s(self) -> float:
        """When it ends unless it is renewed; time of the event loop."""
        return self._renewed_s + self._limit_s

    def renewed(self, asked_s: float) -> None:
        """It was renewed by an operation that began at `asked_s`."""
        self._renewed_s = asked_s


class Election:
    """One worker's part in finding a leader.

    `highest_epoch` looks for the highest epoch that anybody has told of. `leader` is who leads, as far as this worker knows.
    """

    def __init__(
        self,
        bucket: Bucket,
        contact: Contact,
        settings: Settings,
        *,
        worker_id: str,
        token: str,
        highest_epoch: Callable[[], Awaitable[int]],
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self.lease: Lease | None = None
        self.leader: LeaderRecord | None = None
        self.leader_since_s = 0.0
        self._bucket = bucket
        self._contact = contact
        self._timeout_s = settings.election_timeout_s
        self._worker_id = worker_id
        self._token = token
        self._highest_epoch = highest_epoch
        self._metrics = metrics
        self._draw = rng.random
        self._retry = Retry(rng.random, most_s=settings.election_timeout_s / RENEWALS)
        self._revision = 0

    @property
    def leading(self) -> bool:
        """Whether this worker leads now, by its own clock."""
        return self.lease is not None and self.lease.held()

    async def try_once(self) -> Lease | None:
        """Take the lead if nobody has it. Raises: StoreUnavailableError."""
        record = LeaderRecord(worker=self._worker_id, token=self._token)
        try:
            revision = await self._contact.ask("create", self._bucket.create(LEADER_KEY, encode(record)), limit_s=self._timeout_s)
        except KeyExistsError:
            entry = await self._contact.ask("get", self._bucket.get(LEADER_KEY))
            if entry is None or not self._is_ours(entry):
                return None
            revision = entry.revision  # of a try whose answer was lost: it has told nobody an epoch that was used
        seen = await self._highest_epoch()
        # Revisions rise for as long as the bucket lives. Where it was lost, what the next leader sees does not fall while revisions rise.
        epoch = revision if revision > seen else seen + revision
        record = LeaderRecord(worker=self._worker_id, token=self._token, epoch=epoch)
        asked_s = asyncio.get_running_loop().time()
        try:
            self._revision = await self._contact.ask(
                "update", self._bucket.update(LEADER_KEY, encode(record), revision), limit_s=self._timeout_s
            )
        except WrongRevisionError:
            return None
        lease = Lease(epoch=epoch, limit_s=self._timeout_s, renewed_s=asked_s)
        if not lease.held():
            return None
        self._know(record)
        self.lease = lease
        self._metrics.count(Metric.LEADERSHIP_CHANGES, label="won")
        return lease

    async def run(self, lead: Callable[[Lease], Awaitable[None]]) -> None:
        """Lead whenever possible, follow otherwise, until cancelled; `lead` is cancelled when the lease is lost.

        A `lead` that fails makes this worker give the lead up, and leave it to the others for one time-out.
        """
        while True:
            if self.lease is None:
                await self._follow()
            if self.lease is not None and not await self._lead(self.lease, lead):
                await self._give_up()
                await asyncio.sleep(self._timeout_s)

    async def release(self) -> None:
        """Leave the lead to the others, if it is ours. Raises: DeleteError when the store does not let us."""
        self._lose()
        try:
            entry = await self._contact.ask("get", self._bucket.get(LEADER_KEY))
            if entry is not None and self._is_ours(entry):
                await self._contact.ask("delete", self._bucket.delete(LEADER_KEY, entry.revision))
        except StoreError as exc:
            raise DeleteError(LEADER_KEY, str(exc)) from exc

    # --- leading ---

    async def _lead(self, lease: Lease, lead: Callable[[Lease], Awaitable[None]]) -> bool:
        """Lead until the lease is lost. Returns: whether it was the lease, and not `lead` that failed."""
        work = asyncio.ensure_future(lead(lease))
        renewal = asyncio.ensure_future(self._renew(lease))  # parent of both: this call, which ends them before it returns
        try:
            await asyncio.wait({work, renewal}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._lose()
            work.cancel()
            renewal.cancel()
            # gather: both are to end, however they do; what they raised is told below
            outcome, renewed = await asyncio.gather(work, renewal, return_exceptions=True)
        if isinstance(renewed, Exception):
            self._contact.tell(ElectionError(self._worker_id, f"the lease could not be renewed: {renewed!r}"))
        if isinstance(outcome, Exception):
            self._contact.tell(ElectionError(self._worker_id, repr(outcome)))
            return False
        return True

    async def _renew(self, lease: Lease) -> None:
        """Renew until the lease is lost."""
        loop = asyncio.get_running_loop()
        period_s = self._timeout_s / RENEWALS
        value = encode(LeaderRecord(worker=self._worker_id, token=self._token, epoch=lease.epoch))
        due_s = loop.time() + period_s
        while lease.held():
            await asyncio.sleep(max(0.0, min(due_s, lease.ends_s) - loop.time()))
            asked_s = loop.time()
            if not lease.held():
                return
            try:
                self._revision = await self._contact.ask(
                    "renew", self._bucket.update(LEADER_KEY, value, self._revision), limit_s=min(period_s, lease.ends_s - asked_s)
                )
                lease.renewed(asked_s)
                due_s = asked_s + period_s
                self._retry.reset()
            except WrongRevisionError:
                if not await self._is_still_ours(lease):
                    return
                due_s = loop.time()
            except StoreUnavailableError:
                due_s = loop.time() + self._retry.pause_s()

    async def _is_still_ours(self, lease: Lease) -> bool:
        """Find the revision of a renewal whose answer was lost."""
        try:
            entry = await self._contact.ask(
                "get", self._bucket.get(LEADER_KEY), limit_s=max(0.0, lease.ends_s - asyncio.get_running_loop().time())
            )
        except StoreUnavailableError:
            return True  # it is asked again, for as long as the lease holds
        if entry is None or not self._is_ours(entry) or decode(LeaderRecord, LEADER_KEY, entry.value).epoch != lease.epoch:
            return False
        self._revision = entry.revision
        return True

    def _lose(self) -> None:
        if self.lease is not None:
            self.lease.lost.set()
            self.lease = None
            self.leader = None
            self._metrics.count(Metric.LEADERSHIP_CHANGES, label="lost")

    async def _give_up(self) -> None:
        try:
            await self.release()
        except DeleteError as exc:
            self._contact.tell(exc)

    # --- following ---

    async def _follow(self) -> None:
        """Wait until nobody leads, try to take the lead, and wait again if somebody was faster."""
        while True:
            try:
                await self._wait_for_vacancy()
                await asyncio.sleep(self._draw() * RUSH_RATIO * self._timeout_s)
                if await self.try_once() is not None:
                    return
                self._retry.reset()
            except StoreUnavailableError as exc:
                self.leader = None
                self._contact.tell(WatcherError("the leader", str(exc)))
                await asyncio.sleep(self._retry.pause_s())

    async def _wait_for_vacancy(self) -> None:
        """Return when the leader's key is gone, or its time is over."""
        watch = await self._contact.ask("watch", self._bucket.watch(LEADER_KEY), limit_s=self._timeout_s)
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                await self._watch_leader(watch, limit)
        except TimeoutError:  # nobody renewed it, or the watch says nothing: trying tells
            if not limit.expired():
                raise
        finally:
            await watch.aclose()
        self.leader = None

    async def _watch_leader(self, watch: Watch, limit: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        listed = found = False
        async for entry in watch:
            if entry is None:
                listed = True
                if not found:
                    return
            elif entry.deleted or self._is_ours(entry):  # ours: of a try whose answer was lost
                return
            else:
                found = True
                # What is listed may be old already; what is told arrives later than it was written, which only makes us wait longer.
                now_s = loop.time()
                written_s = now_s if listed else min(max(entry.written_s, now_s - self._timeout_s), now_s)
                limit.reschedule(written_s + self._timeout_s)
                self._note(entry)
        raise StoreUnavailableError("watch the leader", "the watch ended")

    def _note(self, entry: Entry) -> None:
        try:
            self._know(decode(LeaderRecord, LEADER_KEY, entry.value))
        except RecordError as exc:
            self.leader = None
            self._contact.tell(exc)

    def _know(self, leader: LeaderRecord) -> None:
        if self.leader is None or self.leader.epoch != leader.epoch:
            self.leader_since_s = asyncio.get_running_loop().time()
        self.leader = leader if leader.epoch else None  # without an epoch it does not lead yet

    def _is_ours(self, entry: Entry) -> bool:
        try:
            return decode(LeaderRecord, LEADER_KEY, entry.value).token == self._token
        except RecordError:
            return False
