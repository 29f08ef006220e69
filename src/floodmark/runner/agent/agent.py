"""One agent: takes steps from the runner, plays its slice, reports.

The agent is the `Sink` of all its connections. Steps run as tasks of one group, because a fault happens while a phase plays; everything
they share lives on one event loop.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from floodmark.core.errors import FloodmarkError, HarnessBugError, SystemUnderTestError, UsageError
from floodmark.drivers import build
from floodmark.drivers.asking import asks_of
from floodmark.drivers.base import Connection
from floodmark.faults import FaultPlan
from floodmark.faults import plan as plan_fault
from floodmark.faults.disconnect import Disconnect
from floodmark.faults.drop import Drop
from floodmark.faults.failure import Failure
from floodmark.faults.latency import Latency
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.wire import accounts_to_wire, publications_to_wire
from floodmark.load.consumers import selected, wants_to_read
from floodmark.model.checks import FAULT_WINDOWS
from floodmark.model.finding import Order
from floodmark.model.scenario import Fast, Fault, Slow
from floodmark.runner import plan
from floodmark.runner.agent import clock
from floodmark.runner.agent.asking import Asker
from floodmark.runner.agent.dropping import Dropping
from floodmark.runner.agent.holding import LateInbox, Standing, Withheld
from floodmark.runner.agent.mishaps import Mishaps
from floodmark.runner.agent.publishing import Outlet, Publisher
from floodmark.runner.agent.receiving import Intake
from floodmark.runner.agent.returning import Returning
from floodmark.runner.agent.subscribing import Crowd, Member, consume
from floodmark.runner.wire import PROGRESS_S, Did, Do, Message, Outcome, Progress, Setup, Trouble

FLUSH_S = 0.005


class Agent:
    """Plays one slice of a scenario. `send` hands a message to the runner."""

    def __init__(self, setup: Setup, send: Callable[[Message], None]) -> None:
        scenario = setup.scenario
        population = scenario.population
        self._setup = setup
        clock.follow(setup.clock_shift_ns, error=setup.clock_error_ns)
        self._send = send
        self._population = population
        self._driver = build(scenario.driver, scenario.driver_options)
        names = plan.channel_names(setup.run, population)
        publishers = plan.publishers_in(population, setup.lives)
        self.accounts = Accounts(run=setup.run, warmup_run=setup.warmup_run, channels=population.channels, publishers=publishers)
        self.intake = Intake(self.accounts, self._driver.encoding, setup.run)
        self._standing = Standing()
        self._faults = [plan_fault(fault) for fault in scenario.faults]
        self._late = LateInbox(self.intake.put, self._standing)
        self.put = self._late.put if any(map(_delays_receiving, scenario.faults, self._faults)) else self.intake.put
        self.turn = self.intake.turn
        self.put_block = self.intake.put_block
        self._asker: Asker | None = None
        self.crowd = Crowd(
            driver=self._driver,
            url=setup.url,
            host=urlsplit(setup.url).hostname,
            accounts=self.accounts,
            names=names,
            limit_s=scenario.connect_limit_s,
            flush=self._flush,
            standing=self._standing,
            in_order=scenario.order is Order.PER_PUBLISHER,
        )
        self.publisher = self._made_publisher(names)
        self._reconnect = scenario.reconnect
        self._returning = Returning(scenario.reconnect, seed=setup.seed)
        self.crowd.on_lost = self._on_lost
        resumes = scenario.reconnect is not None and scenario.reconnect.resume
        if resumes or any(isinstance(fault, Disconnect | Drop) and fault.resume for fault in self._faults):
            self.intake.on_frames.append(self.crowd.remember)
        if scenario.reconnect is not None:
            self.intake.on_deliveries.append(self.crowd.see)
        self._dropping = Dropping(
            crowd=self.crowd,
            driver=self._driver,
            accounts=self.accounts,
            intake=self.intake,
            url=setup.url,
            names=names,
            warmup_run=setup.warmup_run,
            seed=setup.seed,
        )
        self._mishaps = Mishaps(
            crowd=self.crowd,
            sink=self,
            accounts=self.accounts,
            intake=self.intake,
            standing=self._standing,
            dropping=self._dropping,
            population=population,
            seed=setup.seed,
            agent=setup.agent,
        )
        self._mishaps.on_left = lambda member: self._on_lost(member, "ended while it read badly", ours=True)
        if self._asker is not None:
            self._asker.gone_for_good = self._mishaps.gone
        self._failed_publishes = 0
        if any(isinstance(fault, Latency | Failure) and fault.on == "publish" for fault in self._faults):
            self.publisher.withhold = lambda pacer: Withheld(pacer, standing=self._standing, drop=self._fail_publish)
        self._occasions: Counter[int] = Counter()
        self._names = names
        self._calm = asyncio.Event()
        self._received_bytes: Counter[int] = Counter()
        self._leaving_publishers = False
        self.publisher_losses: Counter[str] = Counter()

    def _made_publisher(self, names: list[str]) -> Publisher | Asker:
        """Who sends: what an answer tells goes to whoever asked for it."""
        setup, population, driver = self._setup, self._population, self._driver
        if not asks_of(driver):
            owned = plan.sources_of(population, setup.agent, setup.agents)
            publisher = Publisher(
                population=population,
                owned=owned,
                driver=driver,
                run=setup.run,
                seed=setup.seed,
                channel_names=names,
                life=setup.life,
                lives=setup.lives,
            )
            self.acknowledged = publisher.acknowledged
            self.refused = publisher.refuse
            return publisher
        asker = self._asker = Asker(
            population=population,
            owned=plan.asked_by(population, setup.agent, setup.agents),
            driver=driver,
            run=setup.run,
            seed=setup.seed,
            channel_names=names,
            members=self.crowd.members,
            accounts=self.accounts,
            intake=self.intake,
            reconnect=setup.scenario.reconnect,
        )
        asker.last_phase = setup.scenario.phases[-1].name
        answers = asker.answers
        self.accepted, self.text, self.chunks, self.turn = answers.accepted, answers.text, answers.chunks, answers.turn
        self.acknowledged, self.refused = answers.accepted, answers.failed  # as a driver may say it too
        self.finished, self.failed, self.odd = answers.finished, answers.failed, answers.odd
        return asker

    # -- Sink ------------------------------------------------------------------------------------------------------------------

    @property
    def takes_blocks(self) -> bool:
        """Whether deliveries may come in as blocks now."""
        return self.intake.takes_blocks and not self._late.holding

    def ended(self, slot: int, reason: str) -> None:
        """The target ended a subscription unasked."""
        self.crowd.end(slot, reason)

    def closed(self, connection: Connection, reason: str) -> None:
        """A connection is gone."""
        member, lost_before = self.crowd.member_of(connection), self.crowd.disconnects.total()
        if self.crowd.left(connection, reason):
            if self._asker is not None and member is not None:
                self._asker.gone(connection, member, reason, ours=self.crowd.disconnects.total() == lost_before)
            return
        publisher = self.publisher
        if isinstance(publisher, Asker):
            return
        lost = publisher.gone(connection, returning=self._returning.on and not self._leaving_publishers)
        if self._leaving_publishers:
            return
        self.publisher_losses[f"publisher: {reason}"] += 1
        number, unanswered = lost or (-1, 0)
        loss = self._returning.note(number, publisher=True, reason=reason, unanswered=unanswered)
        if lost is not None:
            self._returning.bring_back(loss, lambda: self._publish_again(number), lambda: publisher.away(number))

    def _on_lost(self, member: Member, reason: str, *, ours: bool = False) -> None:
        """A subscriber's connection was lost though nobody here left it."""
        loss = self._returning.note(member.number, publisher=False, reason=reason, ours=ours)
        if not self._returning.on or self._reconnect is None:
            return
        self.crowd.lose(member, resume=self._reconnect.resume)
        resume = self._reconnect.resume
        self._returning.bring_back(loss, lambda: self.crowd.join(member, self, resume=resume), lambda: None)

    async def _publish_again(self, number: int) -> None:
        """Open a lost publisher's connection anew."""
        setup = self._setup
        name = self._names[number % self._population.channels]
        connection = await self._driver.connect(setup.url, name, self, limit_s=setup.scenario.connect_limit_s)
        if isinstance(self.publisher, Publisher):
            self.publisher.back(number, connection)

    # -- steps -----------------------------------------------------------------------------------------------------------------

    async def run(self, receive: Callable[[], Awaitable[Message | None]]) -> None:
        """Take steps until `quit`, or until the runner is gone; then leave the target."""
        consuming = False
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._flush_often()), group.create_task(self._report())]
                self._returning.begin(group)
                while (message := await receive()) is not None:
                    if not isinstance(message, Do):
                        raise HarnessBugError(f"an agent cannot take {type(message).__name__}")
                    if message.step == "quit":
                        break
                    if message.step == "phase" and not consuming:
                        consuming = True
                        tasks.append(group.create_task(self._consume(message.at_ns)))
                    tasks = [task for task in tasks if not task.done()]
                    tasks.append(group.create_task(self._step(message)))
                self._returning.stop()
                for task in tasks:
                    task.cancel()
        finally:
            await self._leave()

    async def _step(self, do: Do) -> None:
        try:
            answer = await self._carry_out(do)
        except FloodmarkError as exc:
            kind = "usage" if isinstance(exc, UsageError) else "target" if isinstance(exc, SystemUnderTestError) else "bug"
            answer = Trouble(kind=kind, text=str(exc))
        self._send(answer)

    async def _carry_out(self, do: Do) -> Message:
        match do.step:
            case "connect":
                return await self._connect(do)
            case "probe":
                return Did(number=do.number, figures={"probes": await self.publisher.probe(self._setup.warmup_run)})
            case "phase":
                gc.collect()
                gc.freeze()  # connections live to the end; a collector that walks them all again and again would make us late
                phase = self._setup.scenario.phases[do.index]
                self.intake.phase(phase.name, do.at_ns)
                if do.index == 0 and not do.resume_ns:
                    self._mishaps.get_ready(self._setup.scenario.faults, self._faults)
                if isinstance(self.publisher, Publisher):
                    await self.publisher.play(phase, do.at_ns, resume_ns=do.resume_ns)
                else:
                    await self.publisher.play(phase, do.at_ns)
                if phase is self._setup.scenario.phases[-1]:
                    self._mishaps.load_over.set()
                return Did(number=do.number)
            case "fault":
                occasion = self._occasions[do.index]
                self._occasions[do.index] += 1
                fault = self._setup.scenario.faults[do.index]
                return await self._mishaps.strike(do.number, do.index, fault, self._faults[do.index], occasion)
            case "seen":
                self.intake.flush()
                figures: dict[str, float] = {
                    "seen": self.accounts.seen_count,
                    "received": self.accounts.received_count,
                    "pending": self.publisher.pending_count,
                    "returning": self._returning.under_way_count,
                }
                return Did(number=do.number, figures=figures)
            case "window":
                self.intake.flush()
                self.intake.window(FAULT_WINDOWS[do.index], do.at_ns)
                return Did(number=do.number)
            case "settle":
                self._calm.set()
                self._mishaps.load_over.set()
                return Did(number=do.number)
            case "anew":
                self._returning.try_anew(do.at_ns)
                return Did(number=do.number)
            case "gone":
                self._returning.stop()
                return Did(number=do.number)
            case "leave":
                await self.crowd.close()
                return Did(number=do.number, figures={"closed": self.crowd.closed_count}, worst_s=self.crowd.close_worst_s)
            case "break-off" | "give-up":
                if do.step == "break-off" and self._asker is not None:
                    self._asker.break_off()
                self.publisher.give_up()
                return Did(number=do.number)
            case "collect":
                return self._collect(do)
            case _:
                raise HarnessBugError(f"an agent knows no step {do.step!r}")

    async def _connect(self, do: Do) -> Did:
        setup, population = self._setup, self._population
        if do.index == 0 and isinstance(self.publisher, Publisher):
            for number in plan.publishers_of(population, setup.agent, setup.agents):
                connection = await self._driver.connect(
                    setup.url, self._names[number % population.channels], self, limit_s=setup.scenario.connect_limit_s
                )
                self.publisher.outlets[number] = Outlet(connection)
        wave = [
            Member(number, plan.channels_of(number, population))
            for number in plan.connections_of(population, setup.agent, setup.agents)
            if plan.wave_of(number, population) == do.index
        ]
        refused_before = self.crowd.refusals.copy()
        connected = await self.crowd.open(wave, self)
        return Did(
            number=do.number,
            figures={"connected": connected, "asked": len(wave)},
            reasons=dict((self.crowd.refusals - refused_before).most_common(20)),
        )

    async def _consume(self, start_ns: int) -> None:
        population = self._population
        if isinstance(population.consumer, Fast):
            return
        chosen = set(selected(population.connections, population.consumer_ratio, self._setup.seed).tolist())
        members = [member for number, member in self.crowd.members.items() if number in chosen]
        received_bytes, paused = self._received_bytes, set[int]()
        if isinstance(population.consumer, Slow):
            slow = population.consumer
            owner = {slot: member for member in members for slot in member.slots}

            def count(batch: list[tuple[int, bytes, int]]) -> None:
                """Count, and pause at once who has had too much: until the next look a fast target could send a second's worth."""
                for slot, frame, _ in batch:
                    if slot in owner:
                        received_bytes[owner[slot].number] += len(frame)
                elapsed_ns = clock.now_ns() - start_ns
                for member in {slot: owner[slot] for slot, _, _ in batch if slot in owner}.values():
                    reads = wants_to_read(slow, elapsed_ns=elapsed_ns, received_bytes=received_bytes[member.number])
                    if not reads and not self._calm.is_set() and member.number not in paused and member.connection is not None:
                        paused.add(member.number)
                        member.pause_reading()

            self.intake.on_frames.append(count)
        await consume(
            population.consumer, members, start_ns=start_ns, received_bytes=received_bytes.__getitem__, stop=self._calm, paused=paused
        )

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            if self._standing.delays["receive"]:
                self._late.release()
            else:
                self._late.release_all()
            self.intake.flush()

    def _flush(self) -> None:
        """Account for all that has come in, what a fault still holds back included."""
        self._late.release_all()
        self.intake.flush()

    def _fail_publish(self, source: int) -> None:
        """A fault of ours fails this publish: it takes a sequence, so that the journal has it, and is never sent."""
        publications = self.publisher.publications
        source += plan.source_offset(self._population, self._setup.life)
        publications.never_sent(source, publications.next_seq(source))  # one sequence, also where a request has many
        self._failed_publishes += 1

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            self.publisher.settle_times()
            publisher, intake = self.publisher, self.intake
            self._send(
                Progress(
                    at_ns=clock.now_ns(),
                    connections=self.crowd.connected_count,
                    seen=self.accounts.seen_count,
                    published=publisher.published_count,
                    acknowledged=publisher.publications.acknowledged_count,
                    pending=publisher.pending_count,
                    received=self.accounts.received_count,
                    disconnects=self.crowd.disconnects.total(),
                    last_received_ns=intake.last_received_ns,
                    response=intake.interval_response.take().to_wire(),
                    service=intake.interval_service.take().to_wire(),
                    lag=publisher.lag_interval.take().to_wire(),
                    held_up=publisher.held_up,
                )
            )

    def _collect(self, do: Do) -> Outcome:
        self.intake.flush()
        self.publisher.settle_times()
        crowd, publisher = self.crowd, self.publisher
        asker = self._asker
        excused = self._failed_publishes + (asker.excused_count if asker is not None else 0)
        reasons = asker.reasons if asker is not None else Counter[str]()
        reasons += crowd.ended + crowd.disconnects + crowd.not_resumed + publisher.refused
        reasons += self.publisher_losses + self._returning.refusals
        return Outcome(
            number=do.number,
            accounts=accounts_to_wire(self.accounts),
            publications=publications_to_wire(publisher.publications),
            response={name: histogram.to_wire() for name, histogram in self.intake.response.items()},
            window_response={name: histogram.to_wire() for name, histogram in self.intake.window_response.items()},
            service={name: histogram.to_wire() for name, histogram in self.intake.service.items()},
            ack=publisher.ack.to_wire(),
            lag=publisher.lag.to_wire(),
            figures={
                "refused": publisher.refused.total(),
                "ended": crowd.ended.total(),
                "disconnects": crowd.disconnects.total() + self.publisher_losses.total(),
                "published": publisher.published_count,
                "unanswered": publisher.unanswered_count,
                "not_resumed": crowd.not_resumed.total(),
                "losses_forgotten": self._returning.forgotten_count,
                "connections": crowd.connected_count,
                "frames": self.intake.frames_count,
                "fault_publishes": self._dropping.published_count,
                "failed_by_fault": excused,
                "dropped_unasked": publisher.publications.dropped_by_us_count - excused,
            },
            reasons=dict(reasons.most_common(20)),
            losses=self._returning.losses,
            answered=asker.answers.measures.close_up() if asker is not None else None,
            ended_ns=crowd.ended_ns,
            first_intended_ns=publisher.first_intended_ns,
            last_received_ns=self.intake.last_received_ns,
        )

    async def _leave(self) -> None:
        self._leaving_publishers = True
        if isinstance(self.publisher, Publisher):
            for outlet in self.publisher.outlets.values():
                if outlet.connection is not None:
                    outlet.connection.abort()
        await self.crowd.close()


def _delays_receiving(fault: Fault, plan: FaultPlan) -> bool:
    return isinstance(plan, Latency) and plan.on == "receive" and not plan.inert and fault.ratio > 0
