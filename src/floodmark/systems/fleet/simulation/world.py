"""One run: the fleet of a plan on virtual time, what is done to it, and everybody who watches.

The world is outside of all nodes: it starts, crashes, freezes and cuts them by the plan, waits for quiet after each episode, and judges.
`run()` ends with the plan, or at the first violation. Nothing is left behind: whatever still lives is dropped and buried.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import zlib
from collections import deque
from typing import Any, Final

import msgspec

from floodmark.systems.fleet.partition import Partition, StaticSource
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.simulation.director import Director
from floodmark.systems.fleet.simulation.judge import Judge
from floodmark.systems.fleet.simulation.loop import VirtualLoop, VirtualTimeError
from floodmark.systems.fleet.simulation.losses import Losses
from floodmark.systems.fleet.simulation.member import Member
from floodmark.systems.fleet.simulation.network import Link, Server
from floodmark.systems.fleet.simulation.ownership import Ownership
from floodmark.systems.fleet.simulation.plan import Plan
from floodmark.systems.fleet.simulation.settled import unsettled
from floodmark.systems.fleet.simulation.weather import CALM
from floodmark.systems.fleet.store.base import Entry
from floodmark.systems.fleet.strategy import STRATEGIES

EVENTS_KEPT_COUNT: Final = 60
LOOK_S: Final = 0.2  # how often it is asked whether the fleet has settled
SLACK_S: Final = 15.0  # for starting anew, for backoffs, on the way to quiet


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """An invariant that did not hold."""

    at_s: float
    invariant: str
    sentence: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, for people who look for the reason of a violation."""

    at_s: float
    who: str
    what: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a seed."""

    seed: int
    violations: tuple[Violation, ...]
    events: tuple[Event, ...]
    trace_hash: int
    virtual_s: float
    steps_count: int
    writes_count: int
    rounds: dict[str, int]  # by lifecycle
    epochs_count: int
    losses_judged_count: int
    losses_hindered_count: int
    loss_late_s_most: float  # after TTL + grace; without those that had to wait for an election, or for a handover in two steps
    overlaps_count: int
    overlap_s_total: float
    overlap_s_longest: float


class World:
    """Everything that one run consists of."""

    def __init__(self, plan: Plan, *, trace: bool = False) -> None:
        self.plan = plan
        self.settings: Settings = plan.settings
        self.loop = VirtualLoop(seed=plan.seed)
        self.members: list[Member] = []
        self.partitions = [Partition(keys=(f"p{number}",), weight=1 + number % 5 * 50) for number in range(plan.partitions_count)]
        self.source = StaticSource(self.partitions)  # one for all: of many partitions, a list for each would be much
        self.violations: list[Violation] = []
        self.events: deque[Event] = deque(maxlen=None if trace else EVENTS_KEPT_COUNT)
        self.rng = random.Random(f"world {plan.seed}")
        self.calm = False  # the weather, between episodes
        self.server = Server(self.loop)
        self.tasks: set[asyncio.Task[None]] = set()
        self.ownership = Ownership(overlap_limit_s(plan), lambda sentence: self.report("OVERLAP", sentence))
        self.losses = Losses(plan.settings, self.loop, self.report, self.calm_since_s)
        self.judge = self.losses.judge = Judge(
            plan.settings,
            self.report,
            partitions_count=lambda: len(self.partitions),
            calm_since_s=self.calm_since_s,
            sight_since_s=self.sight_since_s,
            on_complete=self.losses.covered,
            bounded_moves=plan.strategy == "consistent-hash",
        )
        self.director = Director(self)
        self._start_s = self.loop.now_s
        self._over = False
        self._writes_count = 0
        self._content_hash = 0
        self._members_by_node: dict[str, Member] = {}
        self.server.backend.observers.append(self._wrote)
        self.loop.set_exception_handler(self._failed)

    def run(self) -> Outcome:
        """Play the plan."""
        collecting = gc.isenabled()
        gc.disable()  # a collection could run somebody's `finally` in the middle of somebody else's step
        asyncio.set_event_loop(self.loop)
        try:
            play = self.loop.create_task(self._play(), name="the play")
            play.add_done_callback(lambda _play: self.loop.stop())
            self.loop.run_forever()
            if play.done():
                play.result()
        except VirtualTimeError as exc:
            self.report("TIME", str(exc))
        finally:
            self._over = True
            self._bury_all()
            asyncio.set_event_loop(None)
            self.loop.close()
            if collecting:
                gc.enable()
        return self._outcome()

    async def _play(self) -> None:
        plan = self.plan
        for _ in range(plan.workers_count):
            self.loop.call_in(self.loop.world, self.rng.random() * plan.start_within_s, self.add_member)
        await asyncio.sleep(plan.start_within_s + LOOK_S)
        await self._settle("the start")
        for episode in plan.episodes:
            self.note("world", f"episode: {episode.name}")
            self._set_weather(calm=False)
            for act in episode.acts:
                self.loop.call_in(self.loop.world, act.at_s, self.director.perform, act)
            await asyncio.sleep(episode.lasts_s + LOOK_S)
            await self._settle(episode.name)

    async def _settle(self, after: str) -> None:
        """Let the weather be calm, and wait until all is as it must be, and stays so."""
        self.director.end_all()
        self._set_weather(calm=True)
        settings = self.settings
        until_s = self.loop.now_s + settle_limit_s(settings)
        while what := self._unsettled():
            if self.loop.now_s > until_s:
                self.report("SETTLED", f"{settle_limit_s(settings):g} s after {after}: {what}")
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(settings.heartbeat_ttl_s + settings.emergency_grace_s)
        until_s = self.loop.now_s + settings.planned_scale_s + settings.rebalance_interval_s + SLACK_S  # a window may end just now
        while what := self._unsettled():
            if self.loop.now_s > until_s:
                self.report("SETTLED", f"after {after} the fleet had settled, and did not stay so: {what}")
            await asyncio.sleep(LOOK_S)

    def _unsettled(self) -> str:
        self.director.repeat_refresh()
        lasting = self.ownership.lasting(self.loop.now_s)
        if lasting:
            owners = " and ".join(self.ownership.owners(lasting[0]))
            self.report("OVERLAP", f"{owners} both work on {lasting[0]}, for longer than {self.ownership.limit_s:.3f} s")
        return unsettled(self.members, self.judge.records, self.partitions, self.ownership)

    # --- members ---

    def add_member(self) -> None:
        """Start one more process."""
        plan, name = self.plan, f"n{len(self.members)}"
        node = self.loop.node(name, clock_rate=1.0 + plan.clock_skew_ratio * self.rng.uniform(-1, 1))
        weather = CALM if self.calm else plan.weather
        link = Link(self.server, node, weather, operation_s=plan.settings.operation_limit_s, rng=random.Random(f"link {plan.seed} {name}"))
        member = Member(
            name,
            node=node,
            link=link,
            settings=plan.settings,
            strategy=STRATEGIES[plan.strategy](),
            source=self.source,
            ownership=self.ownership,
            report=self.report,
            note=self.note,
            rng=random.Random(f"member {plan.seed} {name}"),
        )
        self.members.append(member)
        self._members_by_node[name] = member
        self.keep(member.start())

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task that runs in a node, and look at how it ended."""
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report("ERROR", f"{task.get_name()}: {type(error).__name__}: {error}")

    def live(self) -> list[Member]:
        """Who should take part, in the order of starting."""
        return [member for member in self.members if member.live]

    # --- what the judges ask ---

    def calm_since_s(self) -> float:
        """Since when nothing hinders anybody; inf: something does."""
        return max((self.sight_since_s(member.name) for member in self.live()), default=self._start_s)

    def sight_since_s(self, node: str) -> float:
        """Since when nothing hinders what one node sees."""
        member = self._members_by_node[node]
        if self.server.down or member.node.frozen or member.link.disturbed or member.link.weather is not CALM:
            return math.inf
        return max(member.link.disturbed_s, member.judging_since_s, self._start_s)

    # --- telling ---

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.report("ERROR", f"nobody caught it: {context['message']}: {context.get('exception')!r}")

    def note(self, who: str, what: str) -> None:
        """Remember an event."""
        self.events.append(Event(at_s=self.loop.now_s - self._start_s, who=who, what=what))

    def report(self, invariant: str, sentence: str) -> None:
        """Note a violation; the run ends with this step."""
        if self._over:
            return
        self.note("judge", f"{invariant}: {sentence}")
        self.violations.append(Violation(at_s=self.loop.now_s - self._start_s, invariant=invariant, sentence=sentence))
        self.loop.stop()

    def _wrote(self, bucket: str, entry: Entry) -> None:
        link = self.server.writer
        node = link.node.name if link is not None else ""
        self._writes_count += 1
        self._content_hash = zlib.crc32(entry.value, self._content_hash)
        if bucket != self.settings.heartbeat_bucket or entry.deleted:
            self.note(node, f"{'deletes' if entry.deleted else 'writes'} {entry.key} {entry.value[:90].decode()}")
        self.judge.wrote(self.loop.now_s, node, bucket, entry)
        if bucket == self.settings.assignment_bucket:
            self.director.saw_assignment(node)

    def _set_weather(self, *, calm: bool) -> None:
        self.calm = calm
        for member in self.members:
            if calm and member.link.weather is not CALM:
                member.link.disturbed_s = self.loop.now_s
            member.link.weather = CALM if calm else self.plan.weather

    def _bury_all(self) -> None:
        for member in self.members:
            if not member.node.dropped:
                self.loop.drop(member.node)
            self.loop.bury(member.node)
        for task in asyncio.all_tasks(self.loop):  # the world's own, when it was stopped
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            job = task.get_coro()
            assert job is not None
            job.close()

    def _outcome(self) -> Outcome:
        ownership, losses = self.ownership, self.losses
        return Outcome(
            seed=self.plan.seed,
            violations=tuple(self.violations),
            events=tuple(self.events),
            trace_hash=(self.loop.trace_hash * 1_000_003 + self._content_hash) & ((1 << 61) - 1),
            virtual_s=self.loop.now_s - self._start_s,
            steps_count=self.loop.steps_count,
            writes_count=self._writes_count,
            rounds=dict(sorted(self.judge.lifecycles.items())),
            epochs_count=self.judge.epochs_count,
            losses_judged_count=losses.judged_count,
            losses_hindered_count=losses.hindered_count,
            loss_late_s_most=losses.late_s_most,
            overlaps_count=ownership.overlaps_count,
            overlap_s_total=ownership.overlap_s_total,
            overlap_s_longest=ownership.overlap_s_longest,
        )


def overlap_limit_s(plan: Plan) -> float:
    """How long two may work on one partition: until the one that lost it must know, and its consumer has stopped.

    A leader that is lost within a round leaves records of two rounds until there is another leader.
    """
    weather = plan.weather
    trouble = 0.0 if weather is CALM else 5.0 + 2 * weather.limit_s  # a watch that broke is opened again, and tells late
    leaderless_s = plan.settings.election_timeout_s
    return leaderless_s + plan.settings.heartbeat_ttl_s * (1 + plan.clock_skew_ratio) + 4 * weather.consumer_limit_s + trouble + 0.5


def settle_limit_s(settings: Settings) -> float:
    """How long a fleet in peace may take until all is as it must be."""
    return (
        2 * settings.operation_limit_s
        + settings.degraded_exit_s
        + settings.recovery_grace_s
        + settings.heartbeat_ttl_s
        + settings.emergency_grace_s
        + settings.election_timeout_s
        + settings.cold_start_s
        + settings.rebalance_interval_s
        + 3 * settings.handover_limit_s
        + SLACK_S
    )
