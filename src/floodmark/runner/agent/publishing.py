"""Publish what is due: one pacing loop per agent, batches, never a task or a timer per message.

Two times are stamped: when a message was meant to go out, and when it did. The difference is the generator's own lag, unless the target's
back-pressure held the message up: then it belongs to the response latency and is not held against the generator.

With a driver that batches, what is due for one connection goes out together, a turn of `BATCH_TICK_S` apart: a message then waits up to
that long for its batch, which counts as our lag. A flood is not batched: there every message waits for room of its own.
Memory: what is due and cannot be sent stays in the schedule; at most `BACKLOG_COUNT` messages wait for a connection that takes no more,
and at most `PENDING_COUNT` for their acknowledgement.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np

from floodmark.drivers.base import BatchConnection, Connection, Driver, batches_of
from floodmark.ledger.histogram import Histogram
from floodmark.ledger.publications import Publications
from floodmark.ledger.stamp import Stamper
from floodmark.load.arrivals import schedule
from floodmark.load.pacing import Pacer
from floodmark.load.turns import turns
from floodmark.model.arrival import Flood
from floodmark.model.scenario import Phase, Population
from floodmark.runner.agent import clock
from floodmark.runner.agent.holding import Paced
from floodmark.runner.plan import publishers_in, source_offset

BATCH_COUNT = 512
BACKLOG_COUNT = 20_000
PENDING_COUNT = 200_000
TICK_S = 0.001
BATCH_TICK_S = 0.01
BATCHED_COUNT = 256  # messages that go out in one piece, where the driver batches
BUSY_NS = 50_000_000
STUCK_NS = 30_000_000_000
HELD_UP_NS = 1_000_000_000


class Outlet:
    """One publisher connection and what waits for it."""

    __slots__ = ("backlog", "blocked_ns", "connection", "returning")

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection | None = connection
        self.returning = False
        """Whether it was lost and is on its way back: what is due waits for it."""
        self.backlog: deque[tuple[int, int]] = deque()
        self.blocked_ns = 0
        """When it last refused to take more; what was meant to go out before that was held up by the target, not by us."""


class Batch(NamedTuple):
    """Messages of one connection that went out in one piece and are answered together."""

    sources: list[int]
    seqs: list[int]
    sent_ns: int


class Publisher:
    """All publishing of one agent."""

    def __init__(
        self,
        *,
        population: Population,
        owned: np.ndarray,
        driver: Driver,
        run: int,
        seed: int,
        channel_names: list[str],
        life: int = 0,
        lives: int = 1,
    ) -> None:
        self.publications = Publications(publishers=publishers_in(population, lives))
        self._offset = source_offset(population, life)
        self.outlets: dict[int, Outlet] = {}
        self.ack = Histogram()
        self.lag = Histogram()
        self.lag_interval = Histogram()
        self.refused: Counter[str] = Counter()
        self.published_count = 0
        self.unanswered_count = 0
        self.first_intended_ns = 0
        self.held_up = False
        self.withhold: Callable[[Paced], Paced] = lambda pacer: pacer
        """Where faults in the client come in: what they delay or fail is taken out of the schedule."""
        self._over = False
        self._population = population
        self._owned = owned
        self._turns = turns(population.sources, population.shares)
        self._driver = driver
        self._run = run
        self._seed = seed
        self._names = channel_names
        self._batches = batches_of(driver)
        self._pending: dict[int, tuple[int, int, int]] = {}
        self._pending_batches: dict[int, Batch] = {}
        self._batched_count = 0
        """Messages in the pending batches."""
        self._next_token = 1
        self._ack_ns: list[int] = []
        self._lag_ns: list[int] = []
        self._stamper: Stamper | None = None

    @property
    def pending_count(self) -> int:
        """Messages sent and not yet answered."""
        return len(self._pending) + self._batched_count

    # -- answers (called by the connections) ------------------------------------------------------------------------------------------

    def acknowledged(self, token: int) -> None:
        """HOT: the target confirmed a message. Probes have no entry and pass by."""
        entry = self._pending.pop(token, None)
        if entry is not None:
            now_ns = clock.now_ns()
            source, seq, sent_ns = entry
            self.publications.acknowledged(source, seq, now_ns)
            self._ack_ns.append(now_ns - sent_ns)
        elif token in self._pending_batches:
            batch = self._taken_batch(token)
            now_ns = clock.now_ns()
            acknowledged = self.publications.acknowledged
            for source, seq in zip(batch.sources, batch.seqs, strict=True):
                acknowledged(source, seq, now_ns)
            self._ack_ns += [now_ns - batch.sent_ns] * len(batch.sources)

    def refuse(self, token: int, reason: str) -> None:
        """The target refused a message: whether it counts as attempted stands, whether it arrived is indeterminate."""
        entry = self._pending.pop(token, None)
        if entry is not None:
            self.publications.failed(entry[0], entry[1])
            self.refused[reason] += 1
        elif token in self._pending_batches:
            self.refused[reason] += self._fail_batch(token)

    def gone(self, connection: Connection, *, returning: bool) -> tuple[int, int] | None:
        """A publisher connection was lost: what it had not confirmed stays unanswered, and is indeterminate.

        Returns: its number and how many messages that were; None when it was none of ours.
        """
        for index, outlet in self.outlets.items():
            if outlet.connection is connection:
                outlet.connection = None
                outlet.returning = returning
                count = self._population.publishers
                unanswered = 0
                for token in [token for token, (source, _, _) in self._pending.items() if source % count == index]:
                    source, seq, _ = self._pending.pop(token)
                    self.publications.failed(source, seq)
                    unanswered += 1
                for token in [token for token, batch in self._pending_batches.items() if batch.sources[0] % count == index]:
                    unanswered += self._fail_batch(token)
                self.unanswered_count += unanswered
                return index, unanswered
        return None

    def back(self, number: int, connection: Connection) -> None:
        """A lost publisher is connected again. What waited for it is late by the target's doing, not by ours."""
        outlet = self.outlets[number]
        outlet.connection, outlet.returning = connection, False
        outlet.blocked_ns = clock.now_ns()

    def away(self, number: int) -> None:
        """A lost publisher does not come back: what waits for it has nobody to send it."""
        self.outlets[number].returning = False

    def give_up(self) -> None:
        """At the end of the drain, or of a run that is broken off: send no more; what was never answered is indeterminate."""
        self._over = True
        self.unanswered_count += len(self._pending)
        for source, seq, _ in self._pending.values():
            self.publications.failed(source, seq)
        self._pending.clear()
        for token in list(self._pending_batches):
            self.unanswered_count += self._fail_batch(token)

    def _taken_batch(self, token: int) -> Batch:
        batch = self._pending_batches.pop(token)
        self._batched_count -= len(batch.sources)
        return batch

    def _fail_batch(self, token: int) -> int:
        """Whether the messages of a batch arrived is indeterminate; returns how many they are."""
        batch = self._taken_batch(token)
        for source, seq in zip(batch.sources, batch.seqs, strict=True):
            self.publications.failed(source, seq)
        return len(batch.sources)

    # -- sending ------------------------------------------------------------------------------------------------------------------

    async def probe(self, warmup_run: int) -> int:
        """Send one warm-up message to every channel this agent publishes to; returns how many."""
        stamper = Stamper(warmup_run, self._driver.encoding, 128, self._seed)
        count = 0
        for source in self._owned[self._owned < self._population.channels].tolist():
            outlet = self.outlets[source % self._population.publishers]
            while outlet.connection is not None and not outlet.connection.writable:  # noqa: ASYNC110  # a transport has no event for it
                await asyncio.sleep(TICK_S)
            if outlet.connection is None:
                continue
            now_ns = clock.now_ns()
            outlet.connection.publish(self._names[source % self._population.channels], stamper.payload(source, 0, now_ns, now_ns), 0)
            count += 1
            if count % BATCH_COUNT == 0:
                await asyncio.sleep(0)
        return count

    async def play(self, phase: Phase, start_ns: int, *, resume_ns: int = 0) -> None:
        """Publish one phase; returns when its last message was sent or handed to a dead connection.

        With `resume_ns` what was due before then is left out: another agent had it.
        """
        self._stamper = Stamper(self._run, self._driver.encoding, phase.payload_bytes, self._seed)
        if not len(self._owned):
            return
        await asyncio.sleep(max(0.0, (start_ns - clock.now_ns()) / 1e9))
        if self.first_intended_ns == 0:
            self.first_intended_ns = start_ns
        if isinstance(phase.arrival, Flood):
            await self._flood(phase, phase.arrival, start_ns)
        else:
            await self._pace(phase, start_ns, resume_ns)
        self._settle_times()

    async def _pace(self, phase: Phase, start_ns: int, resume_ns: int) -> None:
        pacer = self.withhold(
            Pacer(
                schedule(phase.arrival, duration_s=phase.duration_s, seed=self._seed),
                turns=self._turns,
                owned=self._owned,
                messages=phase.messages,
                duration_s=phase.duration_s,
            )
        )
        while resume_ns > start_ns and len(pacer.take(resume_ns - start_ns, BATCH_COUNT)[0]):  # noqa: ASYNC110  # lets others run, waits for nothing
            await asyncio.sleep(0)
        waiting = 0
        yielded_ns = moved_ns = clock.now_ns()
        published = self.published_count
        tick_s = BATCH_TICK_S if self._batches else TICK_S
        while not self._over:
            now_ns = clock.now_ns()
            room = min(BATCH_COUNT, BACKLOG_COUNT - waiting, PENDING_COUNT - self.pending_count)
            taken = 0
            if room > 0:
                sources, offsets_ns = pacer.take(now_ns - start_ns, room)
                taken = len(sources)
                if taken:
                    self._deal(sources, offsets_ns, start_ns)
            waiting = self._send_waiting()
            if self.published_count != published or not waiting:
                published, moved_ns = self.published_count, now_ns
            if any(outlet.returning for outlet in self.outlets.values()):
                moved_ns = now_ns  # nobody holds us up: there is nobody
            self.held_up = pacer.exhausted and now_ns - moved_ns > HELD_UP_NS
            if not taken and pacer.exhausted and not waiting:
                return
            if taken == BATCH_COUNT:  # more is due: receiving waits for a moment, so that the generator is not late by its own doing
                if now_ns - yielded_ns > BUSY_NS:
                    await asyncio.sleep(0)
                    yielded_ns = clock.now_ns()
                continue
            due_ns = pacer.next_due_ns()
            pause_s = tick_s if waiting or due_ns is None else (start_ns + due_ns - clock.now_ns()) / 1e9
            await asyncio.sleep(min(max(pause_s, tick_s), 0.05))
            yielded_ns = clock.now_ns()

    def _deal(self, sources: np.ndarray, offsets_ns: np.ndarray, start_ns: int) -> None:
        publishers = self._population.publishers
        if self._offset:
            sources = sources + self._offset
        if publishers == 1:
            self.outlets[0].backlog.extend(zip(sources.tolist(), (offsets_ns + start_ns).tolist(), strict=True))
            return
        for source, intended_ns in zip(sources.tolist(), (offsets_ns + start_ns).tolist(), strict=True):
            self.outlets[source % publishers].backlog.append((source, intended_ns))

    def _send_waiting(self) -> int:
        """Send from every outlet's backlog what its connection takes; returns how many messages still wait."""
        waiting = 0
        for outlet in self.outlets.values():
            connection = outlet.connection
            backlog = outlet.backlog
            if connection is None and outlet.returning:
                waiting += len(backlog)
                continue
            if connection is None:
                while backlog:  # the harness has nobody to send it through: ours, not the target's loss
                    source, _ = backlog.popleft()
                    self.publications.never_sent(source, self.publications.next_seq(source))
                continue
            while self._batches and backlog and connection.writable:
                self._send_batch(cast("BatchConnection", connection), outlet)
            while backlog and connection.writable:
                source, intended_ns = backlog.popleft()
                self._send(connection, source, intended_ns, outlet.blocked_ns)
            if backlog:
                outlet.blocked_ns = clock.now_ns()
                waiting += len(backlog)
        return waiting

    def _send(self, connection: Connection, source: int, intended_ns: int, blocked_ns: int) -> None:  # HOT: once per message sent
        publications = self.publications
        seq = publications.next_seq(source)
        sent_ns = clock.now_ns()
        stamper = self._stamper
        assert stamper is not None
        payload = stamper.payload(source, seq, intended_ns, sent_ns)
        token = self._next_token
        self._next_token = token + 1
        publications.sent(source, seq, sent_ns)
        if self._driver.acknowledges:
            self._pending[token] = (source, seq, sent_ns)
        connection.publish(self._names[source % self._population.channels], payload, token)
        if not self._driver.acknowledges:
            publications.acknowledged(source, seq, sent_ns)
        self.published_count += 1
        if intended_ns > blocked_ns:
            self._lag_ns.append(sent_ns - intended_ns)

    def _send_batch(self, connection: BatchConnection, outlet: Outlet) -> None:  # HOT: once per batch; its loop once per message
        backlog, blocked_ns, names, channels = outlet.backlog, outlet.blocked_ns, self._names, self._population.channels
        next_seq, sent, stamper = self.publications.next_seq, self.publications.sent, self._stamper
        assert stamper is not None
        stamped = stamper.payload
        due = [backlog.popleft() for _ in range(min(BATCHED_COUNT, len(backlog)))]
        sources = [source for source, _ in due]
        seqs: list[int] = []
        items: list[tuple[str, bytes]] = []
        sent_ns = clock.now_ns()
        for source, intended_ns in due:
            seq = next_seq(source)
            sent(source, seq, sent_ns)
            seqs.append(seq)
            items.append((names[source % channels], stamped(source, seq, intended_ns, sent_ns)))
        token = self._next_token
        self._next_token = token + 1
        if self._driver.acknowledges:
            self._pending_batches[token] = Batch(sources, seqs, sent_ns)
            self._batched_count += len(sources)
        connection.publish_batch(items, token)
        if not self._driver.acknowledges:
            for source, seq in zip(sources, seqs, strict=True):
                self.publications.acknowledged(source, seq, sent_ns)
        self.published_count += len(sources)
        self._lag_ns += [sent_ns - intended_ns for _, intended_ns in due if intended_ns > blocked_ns]

    async def _flood(self, phase: Phase, arrival: Flood, start_ns: int) -> None:
        """Closed loop: as fast as possible with a bounded number in flight; intended is when there was room."""
        places = np.flatnonzero(np.isin(self._turns, self._owned))
        owned = (self._turns[places] + self._offset).tolist()
        share = phase.messages and _share(phase.messages, len(self._turns), places)
        end_ns = None if phase.duration_s is None else start_ns + int(phase.duration_s * 1e9)
        sent = 0
        progressed_ns = clock.now_ns()
        while not self._over and (share is None or sent < share) and (end_ns is None or clock.now_ns() < end_ns):
            room = min(arrival.in_flight - self.pending_count, BATCH_COUNT, (share - sent) if share is not None else BATCH_COUNT)
            progressed = False
            for _ in range(max(0, room)):
                source = owned[sent % len(owned)]
                outlet = self.outlets[source % self._population.publishers]
                connection = outlet.connection
                if connection is None and outlet.returning:
                    progressed_ns = clock.now_ns()
                    break
                if connection is None:
                    self.publications.never_sent(source, self.publications.next_seq(source))
                elif connection.writable:
                    self._send(connection, source, clock.now_ns(), 0)
                else:
                    break
                sent += 1
                progressed = True
            if progressed:
                progressed_ns = clock.now_ns()
            elif clock.now_ns() - progressed_ns > STUCK_NS:
                return  # nothing is answered any more: what is in flight counts as unanswered
            await asyncio.sleep(0 if progressed else TICK_S)

    def _settle_times(self) -> None:
        """Move collected times into the histograms; called at least every progress interval."""
        if self._ack_ns:
            self.ack.record(np.array(self._ack_ns, np.int64))
            self._ack_ns.clear()
        if self._lag_ns:
            lags_ns = np.array(self._lag_ns, np.int64)
            self.lag.record(lags_ns)
            self.lag_interval.record(lags_ns)
            self._lag_ns.clear()

    settle_times = _settle_times


def _share(messages: int, turns_count: int, places: np.ndarray) -> int:
    """How many of `messages`, dealt in rounds of so many turns, fall to the places of a round that are ours."""
    return int(messages // turns_count * len(places) + np.searchsorted(places, messages % turns_count))
