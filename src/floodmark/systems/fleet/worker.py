"""A worker of a fleet: the one class that a user of the library needs.

    async with Worker(settings, store, source, consumer=consumer) as worker: ...

Contract: `start` returns when the worker has its first assignment; failed or cancelled, it has taken back whatever it wrote. `stop` works
in every state, ends within shutdown_limit_s, and leaves to the others what they need to go on. A worker is started once in its life.
Its state is what its parts add up to, and changes by the steps of states.py only. One that lost its id takes another and goes on.
Not here: what the parts do (membership.py and what it names).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

from floodmark.core import tasks
from floodmark.systems.fleet.apply import Applier, Consumer
from floodmark.systems.fleet.assignment import Assignment
from floodmark.systems.fleet.contact import Contact, Retry
from floodmark.systems.fleet.election import Election
from floodmark.systems.fleet.errors import (
    AlreadyStartedError,
    AssignmentTimeoutError,
    ConnectivityError,
    IdClaimError,
    IdLostError,
    NotLeaderError,
    NotStartedError,
    StopTimeoutError,
)
from floodmark.systems.fleet.hooks import HookQueue, Hooks, StateChange
from floodmark.systems.fleet.membership import STOP_SHARE, Buckets, Elector, Membership, Parts
from floodmark.systems.fleet.metrics import Metrics, NullMetrics
from floodmark.systems.fleet.partition import Source
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.standing import Standing
from floodmark.systems.fleet.states import STATE_OF_LEADER, WorkerState
from floodmark.systems.fleet.store.base import Store, StoreUnavailableError

if TYPE_CHECKING:  # numpy comes with it
    from floodmark.systems.fleet.strategy.base import Strategy

CONSUMER_SHARE: Final = 0.5 - STOP_SHARE / 2  # of shutdown_limit_s, to finish what is in hand
HOOKS_SHARE: Final = STOP_SHARE / 2
_COMING: Final = (WorkerState.INIT, WorkerState.CLAIMING_ID, WorkerState.ELECTION)


class Worker:
    """One of the equal workers of a fleet."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        source: Source,
        strategy: Strategy | None = None,
        *,
        hooks: Hooks | None = None,
        metrics: Metrics | None = None,
        election: Callable[..., Elector] | None = None,
        consumer: Consumer | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Nothing happens before `start`.

        Args:
            settings: the same for all workers of a fleet.
            store: may be shared by all workers of a process; it stays open.
            source: asked while this worker leads.
            strategy: used while this worker leads; consistent hashing unless given.
            election: makes the elector, called as `Election` is.
            consumer: is told what to work on, one update after the other, and closed by `stop`.
            rng: draws tokens and pauses; a seeded one makes a simulation repeatable. Two workers of one fleet must never draw the same.
        """
        if strategy is None:
            from floodmark.systems.fleet.strategy import ConsistentHash

            strategy = ConsistentHash()
        rng = rng or random.Random()
        hooks, metrics = hooks or Hooks(), metrics or NullMetrics()
        self._settings = settings
        self._metrics = metrics
        self._queue = HookQueue(hooks, metrics)
        contact = Contact(settings, metrics, self._queue.tell)
        applier = Applier(consumer, hooks, settings, tell=self._queue.tell, on_applied=self._on_applied, metrics=metrics, rng=rng)
        self._parts = Parts(
            settings=settings,
            store=store,
            source=source,
            strategy=strategy,
            contact=contact,
            applier=applier,
            metrics=metrics,
            rng=rng,
            token=f"{rng.getrandbits(64):016x}",
            election=election or Election,
        )
        self._standing = Standing(metrics, self._on_step)
        self._membership: Membership | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopping = False
        self._abandoned = False
        self._raised = False
        self._first: asyncio.Future[None] | None = None  # done with the first assignment

    # --- what it is ---

    @property
    def worker_id(self) -> str:
        """Its stable id; empty while it has none."""
        return self._membership.identity.worker_id if self._membership is not None else ""

    @property
    def state(self) -> WorkerState:
        """What it is doing."""
        return self._standing.state

    @property
    def is_leader(self) -> bool:
        """Whether it leads, by its own clock."""
        return self._membership is not None and self._membership.leading

    @property
    def leader_id(self) -> str:
        """Who leads, as far as this worker knows; empty when nobody does."""
        election = self._membership.election if self._membership is not None else None
        return election.leader.worker if election is not None and election.leader is not None else ""

    @property
    def assignment(self) -> Assignment | None:
        """What it is to work on now; None when it must not work on anything."""
        receiver = self._membership.receiver if self._membership is not None else None
        return receiver.current if receiver is not None else None

    @property
    def cached_assignment(self) -> Assignment | None:
        """The last assignment it was given, also while it must not work: what is frozen in degraded mode."""
        receiver = self._membership.receiver if self._membership is not None else None
        return receiver.cached if receiver is not None else None

    @property
    def in_recovery_grace(self) -> bool:
        """Whether it leads and declares nobody lost, since a degraded time has only just ended."""
        return self._membership is not None and self._membership.leading and self._membership.in_recovery_grace

    @property
    def membership(self) -> Membership | None:
        """Its parts, for those who put it under stress."""
        return self._membership

    # --- its life ---

    async def start(self) -> None:
        """Start, and wait for the first assignment.

        Raises: AlreadyStartedError; IdClaimError when no id is free; AssignmentTimeoutError or ConnectivityError after startup_limit_s;
        StoreError when a bucket cannot be used; NotStartedError when it was stopped meanwhile. Failed or cancelled, it leaves no key.
        """
        if self._main is not None:
            raise AlreadyStartedError
        self._first = asyncio.get_running_loop().create_future()
        self._main = asyncio.create_task(self._run(), name="fleet worker")  # parent: this object; `stop` ends it
        try:
            async with asyncio.timeout(self._settings.startup_limit_s) as limit:
                await asyncio.wait({self._main, self._first}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException as exc:
            worker_id = self.worker_id
            await self.stop()
            if isinstance(exc, TimeoutError) and limit.expired():
                raise self._start_error(worker_id) from exc
            raise
        if self._main.done():
            self._raise_failure()
            raise NotStartedError("start, it was stopped")

    def _start_error(self, worker_id: str) -> Exception:
        if not self._parts.contact.health.answering:
            return ConnectivityError("start", f"no answer by the end of startup_limit_s = {self._settings.startup_limit_s:g} s")
        return AssignmentTimeoutError(worker_id, self._settings.startup_limit_s)

    async def stop(self) -> None:
        """Stop in order: stop working, take back the heartbeat, the lead and the id. Stopping twice is stopping once.

        Raises: NotStartedError; what made it end by itself. What cannot be done in time is told to `on_error`, and its keys expire.
        """
        if self._main is None:
            raise NotStartedError("stop")
        if not self._stopping and not self._main.done():
            self._stopping = True
            self._main.cancel()
        await asyncio.wait({self._main})  # and not the task itself: a caller that is cancelled does not break off the order
        self._raise_failure()

    def _raise_failure(self) -> None:
        """Raise what made it end by itself, once."""
        if self._main is not None and not self._main.cancelled() and (error := self._main.exception()) is not None and not self._raised:
            self._raised = True
            raise error

    async def wait_stopped(self) -> None:
        """Wait until it has stopped, whoever stopped it. Raises: NotStartedError; what made it end by itself, if nobody was told yet."""
        if self._main is None:
            raise NotStartedError("wait for its end")
        await asyncio.wait({self._main})
        self._raise_failure()

    async def abandon(self) -> None:
        """End as a crash would: without a word to anybody, every key left to expire. The consumer is left as it is."""
        self._abandoned = True
        await self.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def wait_state(self, state: WorkerState, limit_s: float) -> None:
        """Wait until it is in a state, or has passed through it. Raises: StateTimeoutError."""
        await self._standing.wait(state, limit_s)

    async def refresh_partitions(self) -> None:
        """Read the source anew and publish at once, whatever the cooldown says; returns when that is done.

        Raises: NotStartedError; NotLeaderError, also when the lead is lost on the way; what the source raised.
        """
        if self._main is None or self._main.done():
            raise NotStartedError("refresh partitions")
        calculator = self._membership.calculator if self._membership is not None else None
        if calculator is None or not self.is_leader:
            raise NotLeaderError(self.worker_id)
        await calculator.refresh()

    # --- inside ---

    async def _run(self) -> None:
        try:
            async with tasks.group() as group:
                group.create_task(self._parts.applier.run())
                if self._queue.needed:
                    group.create_task(self._queue.run())
                await self._take_part()
        except Exception as exc:
            self._queue.tell(exc)
            raise
        finally:
            self._stopping = True  # from here on a stop waits, and cancels nothing
            if not self._abandoned:
                await self._leave()
            self._enter(WorkerState.SHUTDOWN)
            await self._tell_the_rest()

    async def _take_part(self) -> None:
        """One membership after the other; there is a second one only if an id was lost."""
        buckets = await self._open()
        retry = Retry(self._parts.rng.random)
        while True:
            self._membership = Membership(self._parts, buckets, on_change=self._settle)
            try:
                await self._membership.join(self._enter)
                self._settle()
                retry.reset()
                await self._membership.run()
            except IdLostError as exc:
                self._queue.tell(exc)
                self._enter(WorkerState.WAITING_ASSIGNMENT)
                await self._parts.applier.wait_settled()
            except IdClaimError as exc:
                if self._first is not None and not self._first.done():
                    raise  # at the start that is the caller's to know
                self._queue.tell(exc)
                await asyncio.sleep(retry.pause_s())

    async def _open(self) -> Buckets:
        retry = Retry(self._parts.rng.random)
        while True:
            try:
                return await self._parts.contact.ask("open buckets", Buckets.open(self._parts.store, self._settings))
            except StoreUnavailableError:
                await asyncio.sleep(retry.pause_s())

    async def _leave(self) -> None:
        """Stop working first, so that nobody takes over what is still in hand; then tell the others."""
        limit_s = self._settings.shutdown_limit_s
        try:
            async with asyncio.timeout(CONSUMER_SHARE * limit_s):
                await self._parts.applier.finish()
        except TimeoutError:
            self._queue.tell(StopTimeoutError(self.worker_id, limit_s))
        except Exception as exc:
            self._queue.tell(exc)
        if self._membership is not None:
            await self._membership.leave()

    async def _tell_the_rest(self) -> None:
        try:
            async with asyncio.timeout(HOOKS_SHARE * self._settings.shutdown_limit_s):
                await self._queue.drain()
        except TimeoutError:
            pass  # the user's hook is slower than the user asked for

    def _on_applied(self) -> None:
        if self._membership is not None:
            self._membership.on_applied()
        self._settle()

    # --- its state ---

    def _settle(self) -> None:
        """Become what the parts add up to."""
        membership = self._membership
        if membership is None or self._stopping or self.state in _COMING or self.state is WorkerState.SHUTDOWN:
            return
        working = self.assignment is not None
        if self._parts.contact.health.degraded:
            self._enter(WorkerState.DEGRADED)
        elif (leading := STATE_OF_LEADER.get(membership.calculator_state)) is not None:
            self._enter(leading)
        else:
            self._enter(WorkerState.STABLE if working else WorkerState.WAITING_ASSIGNMENT)
        if working and self._first is not None and not self._first.done():
            self._first.set_result(None)

    def _enter(self, state: WorkerState) -> None:
        resting = WorkerState.WAITING_ASSIGNMENT if self.assignment is None else WorkerState.STABLE
        self._standing.enter(state, resting=resting)

    def _on_step(self, old: WorkerState, new: WorkerState) -> None:
        self._queue.tell(StateChange(worker_id=self.worker_id, old=old, new=new))
