"""That a worker is alive, told to the store again and again; and, told to the worker, that it may count as dead by now.

A heartbeat is written over the one before it by revision, so that a process that stood still cannot write over the heartbeat of whoever has
its id by now. The worker's own lease runs from the moment a heartbeat was asked for, minus a margin: it lapses before anybody may
miss the worker, and then `on_lapse` is called, at once, by a timer that needs no answer of the store. The first heartbeat that gets through
after that calls `on_regain`, until it succeeds.
Under stress: `pace` makes the period longer, `muted` lets no heartbeat out while the worker goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from floodmark.systems.fleet.contact import Contact, Retry
from floodmark.systems.fleet.election import MARGIN_RATIO
from floodmark.systems.fleet.errors import DeleteError
from floodmark.systems.fleet.identity import Identity
from floodmark.systems.fleet.metrics import Metric, Metrics
from floodmark.systems.fleet.records import Heartbeat, encode, heartbeat_key
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.store.base import Bucket, StoreError, StoreUnavailableError, WrongRevisionError

TRIES: Final = 3  # of one heartbeat, when the revision was another
LIMIT_RATIO: Final = 0.5  # of the TTL, for the answer: so that another try is left


class Heartbeats:
    """The heartbeats of one worker under one id."""

    def __init__(
        self,
        bucket: Bucket,
        contact: Contact,
        settings: Settings,
        identity: Identity,
        *,
        content: Callable[[], Heartbeat],
        on_lapse: Callable[[], None],
        on_regain: Callable[[], Awaitable[None]],
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self.pace = 1.0
        self.muted = False
        self._bucket = bucket
        self._contact = contact
        self._settings = settings
        self._identity = identity
        self._content = content
        self._on_lapse = on_lapse
        self._on_regain = on_regain
        self._metrics = metrics
        self._retry = Retry(rng.random, most_s=settings.heartbeat_s / 2)
        self._key = heartbeat_key(identity.worker_id)
        self._revision = 0
        self._renewed_s = 0.0
        self._lapsed = False
        self._soon = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def held(self) -> bool:
        """Whether a heartbeat got through in time, by our own clock."""
        return not self._lapsed and asyncio.get_running_loop().time() < self._renewed_s + self._lease_s

    @property
    def _lease_s(self) -> float:
        return self._settings.heartbeat_ttl_s * (1 - MARGIN_RATIO)

    def soon(self) -> None:
        """Send the next heartbeat now: there is news in it."""
        self._soon.set()

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began_s = loop.time()
                pause_s = self._settings.heartbeat_s * self.pace
                if not await self._beat_and_recover():
                    pause_s = min(self._retry.pause_s(), pause_s)
                else:
                    self._retry.reset()
                await self._wait(began_s + pause_s)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _beat_and_recover(self) -> bool:
        if self.muted or not self._identity.held():
            return True  # whose id may be another's by now is silent; when it is ours again, it is renewed first
        try:
            await self.beat()
            if self._lapsed:
                await self._on_regain()
                self._lapsed = False
                if not self.held():  # that took longer than the lease
                    self.lapse()
        except StoreUnavailableError:
            self._metrics.count(Metric.HEARTBEATS, label="failed")
            return False
        self._metrics.count(Metric.HEARTBEATS, label="ok")
        return True

    async def _wait(self, until_s: float) -> None:
        try:
            async with asyncio.timeout_at(until_s):
                await self._soon.wait()
        except TimeoutError:
            pass
        self._soon.clear()

    async def beat(self) -> None:
        """Send one heartbeat. Raises: StoreUnavailableError."""
        limit_s = self._settings.heartbeat_ttl_s * LIMIT_RATIO
        for _ in range(TRIES):
            asked_s = asyncio.get_running_loop().time()
            value = encode(self._content())
            try:
                written = self._bucket.update(self._key, value, self._revision)
                self._revision = await self._contact.ask("heartbeat", written, limit_s=limit_s)
            except WrongRevisionError:
                entry = await self._contact.ask("get", self._bucket.get(self._key), limit_s=limit_s)
                # Ours with an answer that was lost, or of an earlier holder of our id. A later one cannot be: our id is held.
                if not self._identity.held():
                    raise StoreUnavailableError("heartbeat", "the id has to be renewed first") from None
                self._revision = entry.revision if entry else 0
                continue
            self._renew(asked_s)
            return
        raise StoreUnavailableError("heartbeat", f"another process wrote {self._key} in between, {TRIES} times")

    def _renew(self, asked_s: float) -> None:
        self._renewed_s = asked_s
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(asked_s + self._lease_s, self.lapse)

    def lapse(self) -> None:
        """Count as not heard in time, until the next heartbeat gets through and `on_regain` with it."""
        self._lapsed = True
        self._on_lapse()

    async def delete(self) -> None:
        """Leave: whoever leads sees at once that we go. Raises: DeleteError when the store does not let us."""
        try:
            if self._revision:
                await self._contact.ask("delete", self._bucket.delete(self._key, self._revision))
        except WrongRevisionError:
            await self._delete_what_is_ours()
        except StoreError as exc:
            raise DeleteError(self._key, str(exc)) from exc

    async def _delete_what_is_ours(self) -> None:
        """The answer to the last heartbeat may be lost; while the id is ours, what is there is ours."""
        try:
            entry = await self._contact.ask("get", self._bucket.get(self._key))
            if entry is not None and self._identity.held():
                await self._contact.ask("delete", self._bucket.delete(self._key, entry.revision))
        except StoreError as exc:
            raise DeleteError(self._key, str(exc)) from exc
