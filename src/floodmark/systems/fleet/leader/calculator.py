"""The leader's calculator: sees who is there, decides when to share anew, publishes, and repeats what failed.

The loop of one term: look who is there, ask the Planner what to do, publish a round, sleep until the Planner or a heartbeat needs a look,
or something comes in. Two watches feed it: of the heartbeats only news wake it, of the assignments what somebody else wrote makes it
publish.
Contract: `run` ends when the lease is lost; cancelled, it leaves at most an unfinished round, which the next leader repairs. A write that
fails is repeated within its round, and a round, with growing and jittered pauses, until it was published whole. Nobody is given up
without a last look at the heartbeat. An outage of the store for longer than a heartbeat begins all absences anew.
A new leader starts from what is published and moves nothing: it puts its epoch on every record, and places what nobody has.
Not here: who is there (sight.py), the decisions (decide.py), the layout (layout.py), the fence (publisher.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from floodmark.core import tasks
from floodmark.systems.fleet.errors import NotLeaderError, PublishError, WatcherError
from floodmark.systems.fleet.leader.decide import Lifecycle, Planner, Step
from floodmark.systems.fleet.leader.handover import Releases
from floodmark.systems.fleet.leader.layout import Layout, covered, imbalance_ratio, share
from floodmark.systems.fleet.leader.listing import Listing
from floodmark.systems.fleet.leader.publisher import Lease, LeaseLostError, Publisher
from floodmark.systems.fleet.leader.sight import Sight, follow
from floodmark.systems.fleet.metrics import Metric, Metrics, NullMetrics
from floodmark.systems.fleet.partition import Partition, Source
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX
from floodmark.systems.fleet.settings import Handover, Settings
from floodmark.systems.fleet.states import CALCULATOR_STEPS, CalculatorState
from floodmark.systems.fleet.store.base import Bucket, Entry, StoreError, StoreUnavailableError

if TYPE_CHECKING:  # numpy comes with it
    from floodmark.systems.fleet.strategy.base import Strategy

RETRY_FIRST_S: Final = 0.1
RETRY_MOST_S: Final = 1.0  # and half a heartbeat at most: a loss that is confirmed meanwhile must not wait for long
RENEWALS_PER_TTL: Final = 3  # of the records, where they have a time to live


class Calculator:
    """Runs while its worker leads; one per term."""

    def __init__(
        self,
        *,
        settings: Settings,
        worker_id: str,
        lease: Lease,
        heartbeats: Bucket,
        assignments: Bucket,
        source: Source,
        strategy: Strategy,
        on_state: Callable[[CalculatorState], object] = lambda _state: None,
        on_error: Callable[[Exception], object] = lambda _error: None,
        metrics: Metrics | None = None,
        may_judge: Callable[[], bool] = lambda: True,
        rng: random.Random | None = None,
    ) -> None:
        """`on_state` and `on_error` are called on the loop and must not raise. `may_judge`: False while no loss may be confirmed."""
        self.state = CalculatorState.IDLE
        self._settings, self._worker_id, self._lease = settings, worker_id, lease
        self._assignments = assignments
        self._listing = Listing(source, settings.operation_limit_s, on_error=on_error)
        self._strategy = strategy
        self._on_state, self._on_error, self._may_judge = on_state, on_error, may_judge
        self._metrics: Metrics = metrics or NullMetrics()
        self._rng = rng or random.Random(worker_id)
        self._news = asyncio.Event()
        self._sight = Sight(heartbeats, settings, on_news=self._news.set, on_error=on_error, pause_s=self._pause_s)
        self._publisher = Publisher(assignments, lease, settings, pause_s=self._pause_s, on_error=on_error)
        self._planner: Planner | None = None  # from when the published records were read
        self._releases = Releases(settings.handover_limit_s) if settings.handover == Handover.CONFIRMED else None
        self._target: Layout = {}  # the last layout that was decided, with what the handover holds back
        self._lifecycle = Lifecycle.COLD_START
        self._begun: frozenset[str] = frozenset()  # the workers of the last round that was begun
        self._renew_due_s = math.inf  # finite only if records have a time to live
        self._written: dict[str, Entry] = {}  # the newest that the watch told of each record, not looked at yet
        self._listed: set[str] | None = None  # the records that a watch which was opened again has told of, until it has caught up
        self._vanished = False  # a record of ours was not among them
        self._refreshes: dict[asyncio.Future[None], int] = {}  # who waits, and for which refresh; 0: asked before the term had begun
        self._ended = False

    async def run(self) -> None:
        """Lead until cancelled, or until the lease is lost."""
        try:
            async with tasks.group() as group:
                watch = follow(
                    self._assignments,
                    ASSIGNMENT_PREFIX,
                    self._see_assignments,
                    on_lost=self._on_assignments_lost,
                    pause_s=self._pause_s,
                    limit_s=self._settings.operation_limit_s,
                )
                watches = (group.create_task(self._sight.run()), group.create_task(watch))
                try:
                    await self._lead()
                finally:
                    for task in watches:
                        task.cancel()
        finally:
            self._ended = True
            for waiter in self._refreshes:
                if not waiter.done():
                    waiter.set_exception(NotLeaderError(self._worker_id))
            self._enter(CalculatorState.IDLE)

    async def refresh(self) -> None:
        """Read the source and publish at once, whatever the cooldown says; returns when that is done.

        Raises: NotLeaderError when the term ends before; what the source raised. Cancelled, the round comes all the same.
        """
        if self._ended:
            raise NotLeaderError(self._worker_id)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refreshes[waiter] = self._planner.ask_refresh() if self._planner else 0
        self._news.set()
        try:
            await waiter
        finally:
            del self._refreshes[waiter]

    def _see_assignments(self, entry: Entry | None) -> None:
        if entry is not None:
            self._written[entry.key] = entry
            if self._listed is not None:
                self._listed.add(entry.key)
        else:  # all that is there has been told; what was not, was deleted while nobody watched
            self._vanished = self._listed is not None and not self._publisher.record_keys() <= self._listed
            self._listed = None
        self._news.set()

    def _on_assignments_lost(self, error: WatcherError) -> None:
        self._listed = set()
        self._on_error(error)

    # --- the loop ---

    async def _lead(self) -> None:
        loop = asyncio.get_running_loop()
        await self._sight.caught_up.wait()
        failures_count = 0
        while self._lease.held():
            self._news.clear()
            try:
                wake_s = await self._turn()
                failures_count = 0
            except LeaseLostError:
                return
            except Exception as exc:  # of the store, the source or the strategy: the leader goes on, and tries again
                self._on_error(exc)
                if isinstance(exc, StoreUnavailableError):
                    self._sight.lose()
                await asyncio.sleep(self._pause_s(failures_count))
                failures_count += 1
                continue
            delay_s = wake_s - loop.time()
            if delay_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_s):
                        await self._news.wait()
                        await asyncio.sleep(self._settings.watch_debounce_s)  # what comes together is looked at together

    async def _turn(self) -> float:
        """One pass. Returns: when the next one is due if nothing comes in."""
        loop = asyncio.get_running_loop()
        outage = await self._sight.look()
        planner, roster = self._planner, self._sight.roster
        if planner is None:
            await self._publisher.load()
            planner = self._planner = Planner(self._settings, self._publisher.layout)
            self._publisher.version = max(self._publisher.version, self._sight.highest_version())  # should records have been lost
            for waiter in self._refreshes:
                self._refreshes[waiter] = planner.ask_refresh()
        if self._is_rule_broken():
            self._publisher.dirty = True  # until it was read: that may fail
            await self._publisher.load()
            planner.expect(self._begun & self._publisher.layout.keys())
            planner.ask_assertion()
        now_s = loop.time()
        if outage:
            planner.restart_absences(now_s)
        step = planner.check(now_s, roster.present, may_judge=self._may_judge())
        self._metrics.gauge(Metric.WORKERS_ACTIVE, len(roster.present))
        if step.reason is not None:
            if not await self._sight.is_back(step.lost):
                await self._rebalance(planner, step)
            return now_s
        handover_s = self._releases.ready_s(now_s, epoch=self._lease.epoch, applied=self._sight.applied) if self._releases else math.inf
        if handover_s <= now_s:
            self._enter(CalculatorState.REBALANCING)
            await self._publish(self._lifecycle, self._target)
            return now_s
        self._enter(CalculatorState.IDLE if planner.window is None else CalculatorState.SCALING)
        return min(step.wake_s, handover_s, self._renew_due_s, self._sight.next_look_s())

    def _is_rule_broken(self) -> bool:
        """Whether what is published is not one whole round of ours: one stayed unfinished, somebody else wrote, or records will expire."""
        written, self._written = self._written, {}
        vanished, self._vanished = self._vanished, False
        if self._publisher.dirty or vanished or any(self._publisher.is_foreign(entry) for entry in written.values()):
            return True
        return asyncio.get_running_loop().time() >= self._renew_due_s

    # --- a round ---

    async def _rebalance(self, planner: Planner, step: Step) -> None:
        assert step.reason is not None
        current = self._publisher.layout
        partitions = await self._listing.partitions(current, emergency=bool(step.lost))
        if self._listing.error is not None:
            self._fail_refreshes(planner, self._listing.error)
            if step.reason is Lifecycle.MANUAL_REFRESH:
                return
        if step.only_if_uneven and not self._is_uneven(partitions):
            planner.skipped()
            return
        target = share(
            self._strategy,
            workers=step.workers,
            partitions=partitions,
            current=current,
            kept=step.kept,
            stay=step.reason is Lifecycle.TAKEOVER,
        )
        if step.only_if_uneven and target == current:
            planner.skipped()
            return
        self._enter(CalculatorState.EMERGENCY if step.lost else CalculatorState.REBALANCING)
        added_count, removed_count = len(target.keys() - current.keys()), len(current.keys() - target.keys())
        self._begun = step.workers
        await self._publish(step.reason, target)
        planner.done(asyncio.get_running_loop().time(), step)
        self._metrics.count(Metric.EMERGENCY_WORKERS, len(step.lost))
        self._metrics.count(Metric.WORKERS_ADDED, added_count)
        self._metrics.count(Metric.WORKERS_REMOVED, removed_count)
        for waiter, number in self._refreshes.items():
            if 0 < number <= planner.refresh_served_count and not waiter.done():
                waiter.set_result(None)

    def _is_uneven(self, partitions: Sequence[Partition]) -> bool:
        """Whether the same workers are worth a round: theirs are not the partitions of the list, or one load is far from the mean."""
        current = self._publisher.layout
        listed = {partition.keys for partition in partitions}
        return covered(current) != listed or imbalance_ratio(current) >= self._settings.rebalance_threshold_ratio

    async def _publish(self, lifecycle: Lifecycle, target: Layout) -> None:
        loop = asyncio.get_running_loop()
        began_s, epoch = loop.time(), self._lease.epoch
        self._target, self._lifecycle = target, lifecycle
        self._metrics.count(Metric.REBALANCE_ATTEMPTS, label=lifecycle)
        layout = target
        if self._releases is not None:
            layout = self._releases.hold_back(target, self._publisher.layout, began_s, epoch=epoch, applied=self._sight.applied)
        try:
            version = await self._publisher.publish(lifecycle, layout)
        except StoreError as exc:
            if isinstance(exc, StoreUnavailableError):
                self._sight.lose()
            raise PublishError(self._publisher.version, str(exc)) from exc
        if self._releases is not None:
            self._releases.published(version, loop.time())
            self._sight.awaited = self._releases.owners
        if self._settings.assignment_ttl_s:
            self._renew_due_s = began_s + self._settings.assignment_ttl_s / RENEWALS_PER_TTL
        self._metrics.duration(Metric.REBALANCE_S, loop.time() - began_s, label=lifecycle)

    def _fail_refreshes(self, planner: Planner, error: Exception) -> None:
        """Tell who asked for a refresh that the source failed; it is theirs to ask again."""
        for waiter in self._refreshes:
            if not waiter.done():
                waiter.set_exception(error)
        planner.drop_refreshes()

    def _enter(self, state: CalculatorState) -> None:
        if state is self.state:
            return
        if not CALCULATOR_STEPS.allows(self.state, state):
            self.state = CalculatorState.IDLE  # the way from everywhere to everywhere
            self._on_state(self.state)
        if state is not self.state:
            self.state = state
            self._on_state(state)

    def _pause_s(self, failures_count: int = 0) -> float:
        """The pause before a repetition: longer after more failures, and drawn, so that leaders and workers do not come back together."""
        longest_s = min(RETRY_FIRST_S * 2.0 ** min(failures_count, 10), RETRY_MOST_S, self._settings.heartbeat_s / 2)
        return longest_s * self._rng.uniform(0.5, 1.0)
