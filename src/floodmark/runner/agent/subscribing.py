"""Open an agent's subscriber connections, keep them, and bring them back.

Connections are opened by a fixed crew of tasks, so that ten thousand of them need no ten thousand tasks. Slots of the ledger are given
out when a subscription is asked for and never reused. A connection that the target drops unasked is counted; what it misses is the
target's loss, since nobody told the target to end the subscription. Where clients come back by themselves, see `lose` and `join` for what
is required across the gap.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from floodmark.core import tasks
from floodmark.core.errors import FloodmarkError, SystemUnderTestError
from floodmark.drivers.base import Connection, Driver, Sink, Wanted
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.inbox import NEVER_NS, Deliveries
from floodmark.load.consumers import wants_to_read
from floodmark.model.scenario import Consumer, Fast
from floodmark.runner.agent import clock
from floodmark.runner.agent.holding import Standing
from floodmark.runner.agent.reading import Reading
from floodmark.runner.plan import loopback_for

CREW = 256
CLOSE_LIMIT_S = 5.0
CONSUMER_TICK_S = 0.02
HOPELESS_COUNT = 3 * CREW
"""So many refusals in a row without one success, and the rest is not tried: it would only take time."""
ENDED_COUNT = 200_000
"""Of so many ended subscriptions it is remembered when that was; what is beyond is held against the target, whatever its time."""
IN_FLIGHT_NS = 1_000_000_000
"""What was acknowledged so shortly before a socket was lost may have been in it, so it is not required."""


class FailedByFaultError(FloodmarkError):
    """A fault made this client fail before it sent anything: nobody is to blame."""


class Member:
    """One subscriber connection: its number in the whole population, its open subscriptions, its channels, and whether it reads."""

    __slots__ = ("channels", "connection", "number", "reading", "slots")

    def __init__(self, number: int, channels: list[int]) -> None:
        self.number = number
        self.channels = channels
        self.slots: list[int] = []
        self.connection: Connection | None = None
        self.reading = Reading()

    def pause_reading(self) -> None:
        """Stop reading, where there is a connection."""
        if self.connection is not None:
            self.reading.pause(clock.now_ns())
            self.connection.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self.reading.resume(clock.now_ns())
        if self.connection is not None:
            self.connection.resume_reading()


class Crowd:
    """All subscriber connections of one agent."""

    def __init__(
        self,
        *,
        driver: Driver,
        url: str,
        host: str | None,
        accounts: Accounts,
        names: list[str],
        limit_s: float,
        flush: Callable[[], None],
        standing: Standing,
        in_order: bool,
    ) -> None:
        self.on_lost: Callable[[Member, str], None] = lambda member, reason: None
        """Told of each connection that was lost though nobody here left it."""
        self.members: dict[int, Member] = {}
        self.refusals: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.ended_ns: list[int] = []
        self.disconnects: Counter[str] = Counter()
        self.not_resumed: Counter[str] = Counter()
        self.last_frame: dict[int, bytes] = {}
        self.closed_count = 0
        self.close_worst_s = 0.0
        """How many connections were closed in the clean way, and how long the slowest of them took."""
        self._driver = driver
        self._url = url
        self._host = host
        self._accounts = accounts
        self._names = names
        self._limit_s = limit_s
        self._flush = flush
        self._standing = standing
        self._skew_ns = 0 if in_order and accounts.ranks == 1 else IN_FLIGHT_NS
        self._sent_ns = np.zeros(0, np.int64)
        """When the newest message seen on each subscription had been sent."""
        self._by_connection: dict[int, Member] = {}
        self._excused: set[int] = set()
        self._excused_slots: set[int] = set()
        self._doors = asyncio.Semaphore(CREW)

    @property
    def connected_count(self) -> int:
        """Connections open now."""
        return len(self._by_connection)

    async def open(self, members: Iterable[Member], sink: Sink) -> int:
        """Connect and subscribe these members; returns how many succeeded. Refusals are counted with their reasons."""
        queue = iter(list(members))
        done = [0]
        async with tasks.group() as crew:
            for _ in range(CREW):
                crew.create_task(self._work(queue, sink, done))
        return done[0]

    async def _work(self, queue: Iterator[Member], sink: Sink, done: list[int]) -> None:
        for member in queue:
            if not self.members and self.refusals.total() >= HOPELESS_COUNT:
                return
            try:
                await self.join(member, sink)
                self.members[member.number] = member
                done[0] += 1
            except SystemUnderTestError as exc:
                self.refusals[str(exc)] += 1
            except TimeoutError:
                self.refusals[f"{self._url} confirmed no subscription within {self._limit_s:g} s"] += 1

    async def join(self, member: Member, sink: Sink, *, resume: bool = False) -> None:
        """Connect one member and subscribe its channels, resuming after what it saw last where asked and possible.

        A subscription that never saw a message has no position to resume after, and one whose window was closed is over: both begin anew.
        Where the target refuses to resume one, it begins anew in the old window: all that was acknowledged meanwhile stays required.
        Raises: SystemUnderTestError when the target refuses, TimeoutError when it takes too long, FailedByFaultError when a fault here does
        not let it; the connection is closed then.
        """
        first = self._names[member.channels[0]]
        local_host = loopback_for(member.number, self._host)
        async with self._doors:
            connection = await self._driver.connect(self._url, first, sink, limit_s=self._limit_s, local_host=local_host)
        member.connection = connection
        member.reading.resume(clock.now_ns())  # a new socket is read, whatever was said to the one before
        self._by_connection[id(connection)] = member
        self._excused.add(id(connection))  # one that is lost before it is subscribed was refused, and is counted so
        if resume:
            self._flush()  # what has come in is seen before it is asked for again
        before = member.slots
        wanted = self._wanted(member, connection, resume=resume and len(before) == len(member.channels))
        try:
            try:
                await self._subscribe(member.number, connection, wanted)
            except SystemUnderTestError:
                if member.connection is not connection or all(want.after is None for want in wanted):
                    raise  # it was lost meanwhile, or there was nothing to resume that could have been refused
                await self._subscribe_one_by_one(connection, wanted)
        except BaseException:
            connection.abort()
            raise
        now_ns = clock.now_ns()
        for old, want in zip(before or member.slots, wanted, strict=False):
            if want.slot != old and self._accounts.missed_ns[old] == NEVER_NS:
                self._accounts.missed(old, now_ns)
            if want.after is None and self._accounts.active_ns[want.slot] == NEVER_NS:
                self._accounts.activate(want.slot, now_ns)
        self._excused.discard(id(connection))
        self._excused_slots.difference_update(member.slots)

    def _wanted(self, member: Member, connection: Connection, *, resume: bool) -> list[Wanted]:
        """What a member asks for: its subscriptions from where they were, or new ones, with slots of their own."""
        wanted: list[Wanted] = []
        for place, channel in enumerate(member.channels):
            slot = member.slots[place] if resume else None
            after = None
            if slot is not None and self._accounts.closed_ns[slot] == NEVER_NS:
                after = self._position(connection, slot)
            if slot is None or after is None:
                if slot is not None:
                    self._end_window(slot)
                slot = self._accounts.open(channel)
            wanted.append(Wanted(slot=slot, channel=self._names[channel], after=after))
        member.slots = [want.slot for want in wanted]
        return wanted

    async def _subscribe_one_by_one(self, connection: Connection, wanted: list[Wanted]) -> None:
        """The target would not resume some of these: each by itself, and anew where it is refused again."""
        async with asyncio.timeout(self._limit_s):
            await connection.unsubscribe([want.slot for want in wanted])
            self._flush()
            for want in wanted:
                after = self._position(connection, want.slot) if want.after is not None else None
                try:
                    await connection.subscribe([Wanted(slot=want.slot, channel=want.channel, after=after)])
                except SystemUnderTestError as exc:
                    if after is None:
                        raise
                    await connection.subscribe([Wanted(slot=want.slot, channel=want.channel)])
                    self.not_resumed[f"would not resume: {exc}"] += 1

    def lose(self, member: Member, *, resume: bool) -> None:
        """A lost member will come back: say what is required of the target until then.

        With `resume` everything, since the target has promised to replay it. Without, what was acknowledged before the newest message that
        a subscription saw was sent: that had come first. (Where nothing promises that order, what was acknowledged a second before.)
        Everything after it may have been in the socket: indeterminate, until the member is back.
        """
        self._flush()
        if not resume:
            for slot in member.slots:
                self._end_window(slot)

    def _end_window(self, slot: int) -> None:
        accounts = self._accounts
        if accounts.closed_ns[slot] != NEVER_NS:
            return
        now_ns = clock.now_ns()
        seen_ns = int(self._sent_ns[slot]) if slot < len(self._sent_ns) else 0
        accounts.close(slot, max(min(seen_ns, now_ns) - self._skew_ns, 0), dropped_ns=now_ns)
        accounts.missed(slot, NEVER_NS)

    def see(self, deliveries: Deliveries) -> None:
        """HOT: once per batch. Remember when the newest message of each subscription was sent."""
        if self._accounts.slots > len(self._sent_ns):
            grown = np.zeros(max(self._accounts.slots, 2 * len(self._sent_ns)), np.int64)
            grown[: len(self._sent_ns)] = self._sent_ns
            self._sent_ns = grown
        if not deliveries.intact.all():
            deliveries = deliveries.where(deliveries.intact)
        self._sent_ns[deliveries.slot] = deliveries.sent_ns  # the last of several to one slot stays

    async def subscribe_anew(self, member: Member) -> None:
        """Open new subscriptions, with windows of their own, on a connection that is still there."""
        connection = member.connection
        if connection is None:
            raise SystemUnderTestError(f"{self._url} closed the connection meanwhile")
        member.slots = [self._accounts.open(channel) for channel in member.channels]
        wanted = [Wanted(slot=slot, channel=self._names[channel]) for slot, channel in zip(member.slots, member.channels, strict=True)]
        await self._subscribe(member.number, connection, wanted)
        now_ns = clock.now_ns()
        for slot in member.slots:
            self._accounts.activate(slot, now_ns)

    async def _subscribe(self, number: int, connection: Connection, wanted: list[Wanted]) -> None:
        """Subscribe, unless a fault in this client delays or fails it."""
        delay_ns = sum(delays.draw_ns() for delays in self._standing.delays["subscribe"])
        if delay_ns:
            await asyncio.sleep(delay_ns / 1e9)
        if sum(failing.fails(number) for failing in self._standing.failing["subscribe"]):
            raise FailedByFaultError("a fault in the client failed this subscribe")
        async with asyncio.timeout(self._limit_s):
            await connection.subscribe(wanted)

    def excuse(self, member: Member) -> None:
        """Whatever happens from now on to this member's connection and subscriptions is our doing, until it has joined again."""
        if member.connection is not None:
            self._excused.add(id(member.connection))
        self.excuse_subscriptions(member)

    def excuse_subscriptions(self, member: Member) -> None:
        """These subscriptions end because we say so; the connection stays."""
        self._excused_slots.update(member.slots)

    def blame(self, member: Member) -> None:
        """Take the excuse back: the fault is healed and the member still there."""
        if member.connection is not None:
            self._excused.discard(id(member.connection))
            self._excused_slots.difference_update(member.slots)

    def end(self, slot: int, reason: str) -> None:
        """Note that the target ended a subscription; what a fault of ours brought about is not counted."""
        if slot not in self._excused_slots:
            self.ended[reason] += 1
            if len(self.ended_ns) < ENDED_COUNT:
                self.ended_ns.append(clock.now_ns())

    def _position(self, connection: Connection, slot: int) -> int | None:
        frame = self.last_frame.get(slot)
        return connection.resume_point(frame) if frame is not None else None

    def remember(self, batch: list[tuple[int, bytes, int]]) -> None:
        """Keep the last frame of each subscription, for resuming; switched on only when a fault needs it."""
        self.last_frame.update([(slot, frame) for slot, frame, _ in batch])

    def member_of(self, connection: Connection) -> Member | None:
        """Whose connection it is."""
        return self._by_connection.get(id(connection))

    def left(self, connection: Connection, reason: str) -> bool:
        """Note that a connection is gone; says whether it was one of ours."""
        member = self._by_connection.pop(id(connection), None)
        if member is None:
            return False
        if member.connection is connection:
            member.connection = None
        if id(connection) in self._excused:
            self._excused.discard(id(connection))
        else:
            self.disconnects[reason] += 1
            self.on_lost(member, reason)
        return True

    async def leave(self, member: Member) -> None:
        """Close a member's connection in the protocol's clean way."""
        if member.connection is not None:
            begun_ns = clock.now_ns()
            await member.connection.close()
            self._took(clock.now_ns() - begun_ns)

    def _took(self, close_ns: int) -> None:
        self.closed_count += 1
        self.close_worst_s = max(self.close_worst_s, close_ns / 1e9)

    async def close(self) -> None:
        """Leave in the protocol's clean way, all within a few seconds, then at once."""
        members = [member for member in self.members.values() if member.connection is not None]
        for member in members:
            self.excuse(member)
        queue = iter(members)

        async def leave() -> None:
            for member in queue:
                await self.leave(member)

        try:
            async with asyncio.timeout(CLOSE_LIMIT_S), tasks.group() as crew:
                for _ in range(CREW):
                    crew.create_task(leave())
        except TimeoutError:
            for member in members:
                if member.connection is not None:
                    member.connection.abort()
                    self._took(int(CLOSE_LIMIT_S * 1e9))


async def consume(
    consumer: Consumer,
    members: list[Member],
    *,
    start_ns: int,
    received_bytes: Callable[[int], int],
    stop: asyncio.Event,
    paused: set[int] | None = None,
) -> None:
    """Make these members read in the way of `consumer` until `stop` is set, then let them read again, also when cancelled.

    `received_bytes` tells what a member's connection has taken in so far, by its number. Whom the caller pauses himself between two looks
    stands in his `paused`.
    """
    if isinstance(consumer, Fast) or not members:
        return
    paused = paused if paused is not None else set()
    try:
        while not stop.is_set():
            elapsed_ns = clock.now_ns() - start_ns
            for member in members:
                if member.connection is None:
                    continue
                reads = wants_to_read(consumer, elapsed_ns=elapsed_ns, received_bytes=received_bytes(member.number))
                if reads and member.number in paused:
                    paused.discard(member.number)
                    member.resume_reading()
                elif not reads and member.number not in paused:
                    paused.add(member.number)
                    member.pause_reading()
            try:
                async with asyncio.timeout(CONSUMER_TICK_S):
                    await stop.wait()
            except TimeoutError:
                continue
    finally:
        for member in members:
            if member.number in paused:
                member.resume_reading()
