"""Ask what is due: the place of `Publisher` for drivers whose streams are answers to requests.

Each message of a phase is one request on the channel of its source; source, channel and subscription are one and the same number, and the
member that holds the subscription asks through its own connection, so there are no publisher connections. One answer at a time runs on a
channel; what is due meanwhile waits, and that wait is response latency, not the generator's lag. There is no warm-up: a subscription is
active once it is subscribed, and a request to see whether it is would cost the target what the load costs.

A request takes `tokens` sequences of its source at once. The last phase lasts until its answers have ended, the others until their last
request was sent; either is over when nothing has come for `PATIENCE_S` (or twice the driver's `stall_s`): requests that still wait then,
behind an answer that hangs, were never answered. Whoever is away (lost, dropped by a fault) asks when it is back; what has
waited for it longer than `AWAY_S`, or the time clients try to come back, is dropped by us; at once, where a fault took it away for good.
Memory: at most `BACKLOG_COUNT` requests wait, beside what `answers.py` holds.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Set
from typing import cast

import numpy as np

from floodmark.drivers.asking import Ask, AskingConnection
from floodmark.drivers.base import Connection, Driver
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.histogram import Histogram
from floodmark.ledger.inbox import NEVER_NS
from floodmark.ledger.publications import Publications
from floodmark.load.arrivals import schedule
from floodmark.load.pacing import Pacer
from floodmark.load.turns import turns
from floodmark.model.arrival import Flood
from floodmark.model.scenario import Phase, Population, Reconnect
from floodmark.runner.agent import clock
from floodmark.runner.agent.answer import Answer
from floodmark.runner.agent.answers import Answers
from floodmark.runner.agent.holding import Paced
from floodmark.runner.agent.receiving import Intake
from floodmark.runner.agent.subscribing import Member
from floodmark.runner.agent.terms import terms_of

BACKLOG_COUNT = 20_000
BATCH_COUNT = 512
TICK_S = 0.001
WAITING_S = 0.005
IDLE_S = 0.05
HELD_UP_NS = 1_000_000_000
PATIENCE_S = 3.0
AWAY_S = 10.0


class Channel:
    """One channel of this agent: who holds it, what waits for it, what runs on it."""

    __slots__ = ("answer", "away_ns", "backlog", "blocked_ns", "member", "number", "place", "requests_count", "share")

    def __init__(self, number: int, member: int, place: int) -> None:
        self.number, self.member, self.place = number, member, place
        self.backlog: deque[int] = deque()
        """Intended times."""
        self.answer: Answer | None = None
        self.blocked_ns = 0
        """When it last could not ask; what was meant to go out before that was held up by the target, not by us."""
        self.away_ns = 0
        """Since when nobody is there to ask."""
        self.requests_count = 0
        self.share: int | None = None
        """Requests left of a flood; None: as many as time allows."""


class Asker:
    """All asking of one agent; has what `agent.py` uses of a `Publisher`."""

    def __init__(
        self,
        *,
        population: Population,
        owned: np.ndarray,
        driver: Driver,
        run: int,
        seed: int,
        channel_names: list[str],
        members: Mapping[int, Member],
        accounts: Accounts,
        intake: Intake,
        reconnect: Reconnect | None,
    ) -> None:
        self.publications = Publications(publishers=population.sources)
        self.terms = terms_of(driver)
        self.answers = Answers(
            terms=self.terms,
            publications=self.publications,
            intake=intake,
            run=run,
            nobody=population.sources,
            forgiving=reconnect is not None,
        )
        self.answers.on_ended = self._ended
        intake.feeds.append(self.answers.flush)
        self.lag = Histogram()
        self.lag_interval = Histogram()
        self.published_count = 0
        self.excused_count = 0
        """Requests that nobody was there to send because a fault of ours had taken the client away."""
        self.gone_for_good: Set[int] = frozenset()
        """Members that a fault has taken away and will not bring back."""
        self.first_intended_ns = 0
        self.held_up = False
        self.last_phase = ""
        """The phase that lasts until its answers have ended."""
        self.withhold: Callable[[Paced], Paced] = lambda pacer: pacer
        self._population = population
        self._owned = owned
        self._turns = turns(population.sources, population.shares)
        self._seed = seed
        self._names = channel_names
        self._members = members
        self._accounts = accounts
        self._patience_ns = int(max(PATIENCE_S * 1e9, 2 * self.terms.stall_ns))
        self._comes_back = reconnect is not None
        self._away_limit_ns = int((reconnect.limit_s if reconnect is not None else AWAY_S) * 1e9)
        each = population.subscriptions_per_connection
        self._channels = {number: Channel(number, *divmod(number, each)) for number in owned.tolist()}
        self._busy: dict[int, Channel] = {}
        """Channels with something in their backlog."""
        self._waiting_count = 0
        self._taken_away: set[int] = set()
        """Members whose connection ended by our doing."""
        self._next_token = 1
        self._lag_ns: list[int] = []
        self._wake = asyncio.Event()
        self._over = False

    # -- what agent.py reads ------------------------------------------------------------------------------------------------------------

    @property
    def ack(self) -> Histogram:
        """Times from the request to its acceptance."""
        return self.answers.measures.ack

    @property
    def refused(self) -> Counter[str]:
        """Requests that were refused, by reason."""
        return self.answers.measures.refused

    @property
    def unanswered_count(self) -> int:
        """Requests that were neither accepted nor refused."""
        return self.answers.measures.unanswered_count

    @property
    def pending_count(self) -> int:
        """Answers under way."""
        return len(self.answers.live)

    @property
    def reasons(self) -> Counter[str]:
        """Why answers failed, and what was odd."""
        return self.answers.measures.failed_for + self.answers.measures.odd_for

    def gone(self, connection: Connection, member: Member, reason: str, *, ours: bool) -> None:
        """A member's connection is gone, by our doing or the target's."""
        if ours:
            self._taken_away.add(member.number)
        else:
            self._taken_away.discard(member.number)
        self.answers.gone(connection, reason, ours=ours)

    def break_off(self) -> None:
        """The run ends before its time, by our doing: so do its answers, and nobody owes what was not asked yet. Then comes `give_up`."""
        for channel in self._channels.values():
            channel.backlog.clear()
            channel.share = None
        for answer in list(self.answers.live.values()):
            self.answers.leave(answer)

    def give_up(self) -> None:
        """At the end of the drain, or of a run that is broken off: ask no more, and settle what has not ended."""
        self._over = True
        self._wake.set()
        for channel in self._channels.values():
            waiting_count = len(channel.backlog) + (channel.share or 0)
            self.answers.measures.never_came(waiting_count, "an earlier answer of the channel never ended")
            channel.backlog.clear()
            channel.share = None
        self._waiting_count = 0
        self.answers.give_up()

    def never_asked(self, source: int) -> None:
        """A fault of ours fails this request: it takes one sequence, so that the journal has it, and is never sent."""
        self.publications.never_sent(source, self.publications.next_seq(source))

    # -- playing ------------------------------------------------------------------------------------------------------------------------

    async def probe(self, warmup_run: int) -> int:
        """Nothing is asked to warm up."""
        return 0

    async def play(self, phase: Phase, start_ns: int) -> None:
        """Ask through one phase; see the module for when it ends."""
        if not self._channels:
            return
        await asyncio.sleep(max(0.0, (start_ns - clock.now_ns()) / 1e9))
        if self.first_intended_ns == 0:
            self.first_intended_ns = start_ns
        if isinstance(phase.arrival, Flood):
            await self._flood(phase, phase.arrival, start_ns)
        else:
            await self._pace(phase, start_ns)
        if phase.name == self.last_phase:
            await self._see_the_end()
        self.held_up = False
        self.settle_times()

    async def _pace(self, phase: Phase, start_ns: int) -> None:
        pacer = self.withhold(
            Pacer(
                schedule(phase.arrival, duration_s=phase.duration_s, seed=self._seed),
                turns=self._turns,
                owned=self._owned,
                messages=phase.messages,
                duration_s=phase.duration_s,
            )
        )
        while not self._over:
            room = min(BATCH_COUNT, BACKLOG_COUNT - self._waiting_count)
            taken = 0
            if room > 0:
                sources, offsets_ns = pacer.take(clock.now_ns() - start_ns, room)
                taken = len(sources)
                for source, offset_ns in zip(sources.tolist(), offsets_ns.tolist(), strict=True):
                    channel = self._channels[source]
                    channel.backlog.append(start_ns + offset_ns)
                    self._busy[source] = channel
                self._waiting_count += taken
            self._ask_waiting()
            if pacer.exhausted and (not self._waiting_count or self._stuck()):
                return
            self._look_whether_held_up(pacer.exhausted)
            due_ns = pacer.next_due_ns()
            if taken == BATCH_COUNT:
                await asyncio.sleep(0)
                continue
            pause_s = IDLE_S if due_ns is None else (start_ns + due_ns - clock.now_ns()) / 1e9
            await self._pause(min(pause_s, WAITING_S if self._waiting_count else IDLE_S))

    async def _flood(self, phase: Phase, arrival: Flood, start_ns: int) -> None:
        """Closed loop: as fast as answers end, with so many under way at once; intended is when there was room."""
        dealt = np.resize(self._turns, phase.messages) if phase.messages is not None else None
        shares = np.bincount(dealt, minlength=self._population.sources) if dealt is not None else None
        round_ = deque(self._channels.values())
        for channel in round_:
            channel.share = int(shares[channel.number]) if shares is not None else None
        end_ns = None if phase.duration_s is None else start_ns + int(phase.duration_s * 1e9)
        while round_ and not self._over and (end_ns is None or clock.now_ns() < end_ns):
            for _ in range(len(round_)):
                if self.pending_count >= arrival.in_flight:
                    break
                channel = round_.popleft()
                if channel.share == 0:
                    continue
                now_ns = clock.now_ns()
                if self._ask_on(channel, now_ns):
                    channel.share = channel.share - 1 if channel.share is not None else None
                elif self._gives_up_waiting(channel, now_ns):
                    for _ in range(channel.share or 0):
                        self._drop(channel)
                    continue
                round_.append(channel)
            if self._stuck():
                return
            self._look_whether_held_up(True)
            await self._pause(WAITING_S)
        for channel in self._channels.values():
            channel.share = channel.share if channel.share and end_ns is None else None

    async def _see_the_end(self) -> None:
        while self.answers.live and not self._over and not self._stuck():
            self._forsake()
            self._look_whether_held_up(True)
            await self._pause(IDLE_S)

    async def _pause(self, pause_s: float) -> None:
        """Until then, or until an answer has ended; at least a turn of the event loop."""
        self._wake.clear()
        if pause_s <= TICK_S:
            await asyncio.sleep(max(pause_s, 0))
            return
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _still_ns(self) -> int:
        return clock.now_ns() - max(self.answers.moved_ns, self.first_intended_ns)

    def _stuck(self) -> bool:
        """Whether nothing comes any more, and nobody is away for whom to wait. Clients that do not read have been made to long before."""
        return self._still_ns() > self._patience_ns and not any(channel.away_ns for channel in self._channels.values())

    def _look_whether_held_up(self, nothing_more_due: bool) -> None:
        self.held_up = nothing_more_due and bool(self.answers.live) and self._still_ns() > max(HELD_UP_NS, self.terms.stall_ns)

    # -- asking -------------------------------------------------------------------------------------------------------------------------

    def _ask_waiting(self) -> None:
        """Ask on every channel that has something waiting and can ask now."""
        for number, channel in list(self._busy.items()):
            now_ns = clock.now_ns()
            if self._ask_on(channel, channel.backlog[0]):
                channel.backlog.popleft()
                self._waiting_count -= 1
            elif self._gives_up_waiting(channel, now_ns):
                self._waiting_count -= len(channel.backlog)
                for _ in channel.backlog:
                    self._drop(channel)
                channel.backlog.clear()
            if channel.backlog:
                channel.blocked_ns = clock.now_ns()
            else:
                del self._busy[number]

    def _ask_on(self, channel: Channel, intended_ns: int) -> bool:
        """Send one request, if the channel can ask now."""
        member = self._members.get(channel.member)
        connection = cast("AskingConnection | None", member.connection) if member is not None else None
        if member is None or connection is None:
            return False
        slot = member.slots[channel.place]
        if self._accounts.active_ns[slot] == NEVER_NS or self._accounts.closed_ns[slot] != NEVER_NS:
            return False  # on its way in, or about to be left
        if channel.answer is not None and channel.answer.slot != slot:
            self.answers.leave(channel.answer)  # a fault of ours had the client subscribe anew
        if channel.answer is not None or not connection.writable or not connection.free(slot):
            return False
        self._send(channel, member, connection, slot, intended_ns)
        return True

    def _send(self, channel: Channel, member: Member, connection: AskingConnection, slot: int, intended_ns: int) -> None:
        number, terms, publications = channel.number, self.terms, self.publications
        count = terms.count_of(number)
        sequences = count if terms.numbered else 1
        first = publications.next_seqs(number, sequences)
        token = self._next_token
        self._next_token = token + 1
        answer = Answer(
            token=token,
            slot=slot,
            channel=number,
            connection=connection,
            reading=member.reading,
            first=first,
            end=first + sequences,
            count=count,
        )
        answer.intended_ns = intended_ns
        answer.sent_ns = sent_ns = clock.now_ns()
        answer.unread_ns = member.reading.unread_ns(sent_ns)
        publications.sent(number, first, sent_ns)
        prompt = terms.prompt_for(number, first, seed=self._seed, number=channel.requests_count)
        channel.requests_count += 1
        channel.away_ns = 0
        channel.answer = answer
        self.published_count += 1
        if intended_ns > channel.blocked_ns:
            self._lag_ns.append(sent_ns - intended_ns)
        self.answers.begin(answer)
        connection.ask(Ask(slot=slot, channel=self._names[number], prompt=prompt, token=token))

    def _ended(self, answer: Answer) -> None:
        channel = self._channels[answer.channel]
        if channel.answer is answer:
            channel.answer = None
        self._wake.set()

    def _gives_up_waiting(self, channel: Channel, now_ns: int) -> bool:
        """Whether nobody will be there to send what waits on this channel."""
        member = self._members.get(channel.member)
        if member is None:
            return True
        if member.connection is not None:
            channel.away_ns = 0
            return False
        if channel.member in self.gone_for_good or not (self._comes_back or channel.member in self._taken_away):
            return True
        channel.away_ns = channel.away_ns or now_ns
        return now_ns - channel.away_ns > self._away_limit_ns

    def _drop(self, channel: Channel) -> None:
        channel.away_ns = 0
        self.never_asked(channel.number)
        self.excused_count += channel.member in self._taken_away

    def _forsake(self) -> None:
        """Answers on subscriptions that their client has left end by our doing."""
        for channel in self._channels.values():
            member = self._members.get(channel.member)
            answer = channel.answer
            if answer is not None and member is not None and member.connection is not None and answer.slot != member.slots[channel.place]:
                self.answers.leave(answer)

    def settle_times(self) -> None:
        """Move collected times into the histograms; called at least every progress interval."""
        if self._lag_ns:
            lags_ns = np.array(self._lag_ns, np.int64)
            self.lag.record(lags_ns)
            self.lag_interval.record(lags_ns)
            self._lag_ns.clear()
