"""One worker's time under one id: it claims the id, takes part in the election, sends heartbeats, and follows its record, until it leaves.

Contract: `run` goes on until cancelled, or raises IdLostError when another worker has the id by now; nothing is in force any more then.
`leave` takes back everything that was written, in the order in which the others should learn of it. While the store does not answer, the
membership lives on: what that means is decided here (degraded mode), what the worker shows of it in worker.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from floodmark.core import tasks
from floodmark.systems.fleet.apply import Applier
from floodmark.systems.fleet.assignment import Receiver
from floodmark.systems.fleet.contact import Contact
from floodmark.systems.fleet.degraded import AlertLevel, Change, Finding
from floodmark.systems.fleet.election import Election, Lease
from floodmark.systems.fleet.errors import DegradedError, FleetError, IdLostError, StopTimeoutError
from floodmark.systems.fleet.heartbeat import Heartbeats
from floodmark.systems.fleet.identity import Identity
from floodmark.systems.fleet.metrics import Metric, Metrics
from floodmark.systems.fleet.partition import Source
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, HEARTBEAT_PREFIX, Heartbeat, LeaderRecord
from floodmark.systems.fleet.settings import CutOff, Handover, Settings
from floodmark.systems.fleet.states import CalculatorState, WorkerState
from floodmark.systems.fleet.store.base import Bucket, Store, StoreUnavailableError

if TYPE_CHECKING:  # numpy comes with these; a strategy brings it, and importing the fleet does not
    from floodmark.systems.fleet.leader import Calculator
    from floodmark.systems.fleet.strategy.base import Strategy

STOP_SHARE: Final = 1 / 6  # of shutdown_limit_s, for each key to be taken back; the consumer has the other half


class Elector(Protocol):
    """What a membership needs of an election; `election.Election` is the one that there is."""

    leader: LeaderRecord | None
    leader_since_s: float

    @property
    def leading(self) -> bool: ...

    async def try_once(self) -> Lease | None: ...

    async def run(self, lead: Callable[[Lease], Awaitable[None]]) -> None: ...

    async def release(self) -> None: ...


class Buckets(msgspec.Struct, frozen=True, kw_only=True):
    """The four buckets of a fleet."""

    ids: Bucket
    election: Bucket
    heartbeats: Bucket
    assignments: Bucket

    @classmethod
    async def open(cls, store: Store, settings: Settings, *, history: int = 1) -> Buckets:
        """Open them, made where there is none: with `history` versions of each key beside the assignments'. Raises: StoreError."""
        return cls(
            ids=await store.bucket(settings.id_bucket, ttl_s=settings.id_ttl_s, history=history),
            election=await store.bucket(settings.election_bucket, ttl_s=settings.election_timeout_s, history=history),
            heartbeats=await store.bucket(settings.heartbeat_bucket, ttl_s=settings.heartbeat_ttl_s, history=history),
            assignments=await store.bucket(
                settings.assignment_bucket, ttl_s=settings.assignment_ttl_s, history=settings.assignment_history_count
            ),
        )


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker is made of, the same for all its memberships."""

    settings: Settings
    store: Store
    source: Source
    strategy: Strategy
    contact: Contact
    applier: Applier
    metrics: Metrics
    rng: random.Random
    token: str
    election: Callable[..., Elector] = Election


class _Epochs(msgspec.Struct):
    """Of any record, the epochs."""

    epoch: int = 0
    seen_epoch: int = 0


_epochs = msgspec.json.Decoder(_Epochs)


class Membership:
    """A worker under one id. `on_change` is called when what the worker shows may have changed."""

    def __init__(self, parts: Parts, buckets: Buckets, *, on_change: Callable[[], None]) -> None:
        self.identity = Identity(buckets.ids, parts.contact, parts.settings, parts.token, parts.rng)
        self.election: Elector | None = None
        self.heartbeats: Heartbeats | None = None
        self.receiver: Receiver | None = None
        self.calculator: Calculator | None = None
        self.calculator_state = CalculatorState.IDLE
        self.recovered_until_s = 0.0
        self._parts = parts
        self._buckets = buckets
        self._on_change = on_change

    @property
    def leading(self) -> bool:
        """Whether this worker leads, by its own clock."""
        return self.election is not None and self.election.leading

    def may_judge(self) -> bool:
        """Whether the leader may declare workers lost: not while it cannot know, nor right after."""
        return not self._parts.contact.health.degraded and not self.in_recovery_grace

    @property
    def in_recovery_grace(self) -> bool:
        """Whether a degraded time has ended only now."""
        return asyncio.get_running_loop().time() < self.recovered_until_s

    # --- coming ---

    async def join(self, enter: Callable[[WorkerState], None]) -> None:
        """Claim an id, try to lead, and send the first heartbeat. Raises: IdClaimError. Cancelled, `leave` removes what it wrote."""
        parts, buckets = self._parts, self._buckets
        enter(WorkerState.CLAIMING_ID)
        worker_id = await self.identity.claim()
        parts.applier.worker_id = worker_id
        common: dict[str, Any] = {"metrics": parts.metrics, "rng": parts.rng}
        self.election = parts.election(
            buckets.election,
            parts.contact,
            parts.settings,
            worker_id=worker_id,
            token=parts.token,
            highest_epoch=self._highest_epoch,
            **common,
        )
        self.receiver = Receiver(
            buckets.assignments,
            parts.contact,
            worker_id,
            led_for_s=self._led_for_s,
            patience_s=parts.settings.heartbeat_ttl_s,
            on_change=self._on_assignment,
            **common,
        )
        self.heartbeats = Heartbeats(
            buckets.heartbeats,
            parts.contact,
            parts.settings,
            self.identity,
            content=self._heartbeat,
            on_lapse=self._on_lapse,
            on_regain=self.receiver.resume,
            **common,
        )
        enter(WorkerState.ELECTION)
        try:
            await self.election.try_once()
            await self.heartbeats.beat()
        except StoreUnavailableError:
            pass  # both are tried again by `run`
        enter(WorkerState.WAITING_ASSIGNMENT)

    async def run(self) -> None:
        """Take part until cancelled. Raises: IdLostError."""
        assert self.election is not None
        assert self.receiver is not None
        assert self.heartbeats is not None
        try:
            async with tasks.group() as group:
                group.create_task(self.identity.keep())
                group.create_task(self.heartbeats.run())
                group.create_task(self.election.run(self._lead))
                group.create_task(self.receiver.run())
                group.create_task(self._monitor())
        except IdLostError:
            self.receiver.suspend()
            raise

    async def _lead(self, lease: Lease) -> None:
        from floodmark.systems.fleet.leader import Calculator

        parts, buckets = self._parts, self._buckets
        self.calculator = Calculator(
            settings=parts.settings,
            worker_id=self.identity.worker_id,
            lease=lease,
            heartbeats=buckets.heartbeats,
            assignments=buckets.assignments,
            source=parts.source,
            strategy=parts.strategy,
            on_state=self._on_calculator,
            on_error=parts.contact.tell,
            metrics=parts.metrics,
            may_judge=self.may_judge,
            rng=parts.rng,
        )
        try:
            await self.calculator.run()
        finally:
            self.calculator = None
            self._on_calculator(CalculatorState.IDLE)

    # --- what the parts ask and tell ---

    def _on_calculator(self, state: CalculatorState) -> None:
        self.calculator_state = state
        self._on_change()

    def _on_assignment(self) -> None:
        assert self.receiver is not None
        self._parts.applier.want(self.receiver.current)
        self._on_change()

    def on_applied(self) -> None:
        """The consumer and the hook have done what was wanted; who waits for this worker's word is told at once."""
        if self._parts.settings.handover is Handover.CONFIRMED and self.heartbeats is not None:
            self.heartbeats.soon()

    def _on_lapse(self) -> None:
        assert self.receiver is not None
        cut_off = not (self._parts.contact.health.answering and self._parts.store.connected)
        if not (cut_off and self._parts.settings.when_cut_off is CutOff.GO_ON):
            self.receiver.suspend()

    def _heartbeat(self) -> Heartbeat:
        assert self.receiver is not None
        current, applier = self.receiver.current, self._parts.applier
        epoch, version = current.rank if current else (0, 0)
        seen_epoch, seen_version = self.receiver.highest
        return Heartbeat(
            worker=self.identity.worker_id,
            token=self._parts.token,
            epoch=epoch,
            version=version,
            applied=applier.settled and applier.applied is current,
            seen_epoch=seen_epoch,
            seen_version=seen_version,
        )

    def _led_for_s(self) -> float | None:
        if self.election is None or self.election.leader is None:
            return None
        return asyncio.get_running_loop().time() - self.election.leader_since_s

    async def _highest_epoch(self) -> int:
        """Look for the highest epoch that assignments and heartbeats tell of, and that we have seen ourselves."""
        assert self.receiver is not None
        found = [self.receiver.highest[0]]
        for bucket, prefix in ((self._buckets.assignments, ASSIGNMENT_PREFIX), (self._buckets.heartbeats, HEARTBEAT_PREFIX)):
            for entry in await self._parts.contact.ask("list", bucket.entries(prefix)):
                try:
                    epochs = _epochs.decode(entry.value)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # whoever reads it for what it says will tell
                    continue
                found.append(max(epochs.epoch, epochs.seen_epoch))
        return max(found)

    # --- health ---

    async def _monitor(self) -> None:
        """Look at the connection about once a second, and at what needs a look now and then."""
        assert self.receiver is not None
        parts = self._parts
        while True:
            await asyncio.sleep(parts.settings.connection_check_s)
            now_s = asyncio.get_running_loop().time()
            if not parts.store.connected:
                parts.contact.health.disconnected(now_s)
            for finding in parts.contact.health.check(now_s):
                await self._on_health(finding)
            if parts.contact.health.degraded and self.receiver.cached is not None:
                parts.metrics.gauge(Metric.CACHE_AGE_S, now_s - self.receiver.cached_s)
            with contextlib.suppress(StoreUnavailableError):  # the next check asks again
                await self.receiver.check()

    async def _on_health(self, finding: Finding) -> None:
        assert self.receiver is not None
        metrics, cached = self._parts.metrics, self.receiver.cached is not None
        metrics.gauge(Metric.ALERT_LEVEL, finding.level)
        match finding.change:
            case Change.ENTERED:
                metrics.gauge(Metric.DEGRADED, 1)
                metrics.count(Metric.CACHE_USED if cached else Metric.CACHE_MISSED)
                if not cached:
                    self._parts.contact.tell(DegradedError("error", 0.0, cached))
            case Change.ALERT:
                name = AlertLevel(finding.level).name.lower()
                metrics.count(Metric.ALERTS, label=name)
                self._parts.contact.tell(DegradedError(name, finding.degraded_s, cached))
            case Change.LEFT:
                metrics.gauge(Metric.DEGRADED, 0)
                metrics.duration(Metric.DEGRADED_S, finding.degraded_s)
                await self._recover()
        self._on_change()

    async def _recover(self) -> None:
        """Read the record anew first, then give the others time to come back, too."""
        assert self.receiver is not None
        assert self.heartbeats is not None
        try:
            if self.heartbeats.held():  # otherwise the next heartbeat does it
                await self.receiver.resume()
        except StoreUnavailableError:
            self.heartbeats.lapse()
        self.recovered_until_s = asyncio.get_running_loop().time() + self._parts.settings.recovery_grace_s

    # --- going ---

    async def leave(self) -> None:
        """Take back the heartbeat, the lead and the id. What cannot be taken back in time is told, and expires by itself."""
        for part in (self.heartbeats, self.election, self.identity):
            if isinstance(part, Heartbeats):
                await self._within(part.delete())
            elif part is not None:
                await self._within(part.release())

    async def _within(self, step: Awaitable[None]) -> None:
        settings = self._parts.settings
        try:
            async with asyncio.timeout(STOP_SHARE * settings.shutdown_limit_s):
                await step
        except TimeoutError:
            self._parts.contact.tell(StopTimeoutError(self.identity.worker_id, settings.shutdown_limit_s))
        except FleetError as exc:
            self._parts.contact.tell(exc)
