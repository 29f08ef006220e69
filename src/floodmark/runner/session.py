"""Play one scenario from start to verdict: target, agents, connect, warm up, load, faults, drain, account, judge, clean up.

Whatever happens, what was measured is kept and nothing is left running. A target that cannot be measured makes the result UNKNOWN with
the reason; a broken promise is FAIL; a harness that was too late, or a fault that touched nothing, is UNKNOWN.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from floodmark import drivers
from floodmark.core import tasks
from floodmark.core.errors import HarnessBugError, SystemUnderTestError
from floodmark.faults import plan as plan_fault
from floodmark.judge.observe import Memory, Record, observe
from floodmark.judge.verdict import Observations, judge, with_implied
from floodmark.ledger.histogram import Histogram
from floodmark.ledger.reconcile import Reckoning, reconcile
from floodmark.ledger.wire import accounts_from_wire, merge_accounts, merge_publications, publications_from_wire
from floodmark.model.arrival import Flood
from floodmark.model.criterion import Criterion, parse
from floodmark.model.finding import Finding
from floodmark.model.result import CriterionResult, Delivery, GeneratorUsage, Latencies, ScenarioResult, TargetUsage
from floodmark.model.scenario import Fault, Phase, Scenario
from floodmark.model.verdict import Verdict, worst
from floodmark.monitor.sample import ProcessSample
from floodmark.monitor.watch import Watch
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress as Display
from floodmark.runner import plan
from floodmark.runner.agents import Agents
from floodmark.runner.doctor import require_descriptors
from floodmark.runner.target import RunningTarget, running
from floodmark.runner.timeline import Timeline
from floodmark.runner.wire import Outcome, Progress, Setup

WATCH_S = 0.1
POLL_S = 0.02
QUIET_NS = 250_000_000
START_AHEAD_NS = 50_000_000
PROBE_AGAIN_S = 1.0
PHASE_SLACK_S = 600.0
FAULT_LIMIT_S = 120.0
STEP_LIMIT_S = 60.0
COLLECT_LIMIT_S = 120.0
FINDINGS_SHOWN = 50
MARKED_OCCASIONS = 10
MOMENTS = {"before_connect": "before-connect", "connected": "connected", "end": "end"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to run, apart from what: the seed, the number of agents (None: as many as fit), and how often memory is sampled."""

    seed: int = 1
    agents: int | None = None
    watch_s: float = WATCH_S


class Session:
    """One scenario being played. Make one per scenario."""

    def __init__(self, scenario: Scenario, settings: Settings, folder: RunFolder | None, display: Display) -> None:
        self._scenario = scenario
        self._settings = settings
        self._folder = folder
        self._display = display
        self._run = secrets.randbits(31) | 1
        self._warmup_run = self._run ^ 1
        self._facts = _Facts()
        self._timeline = Timeline()
        self._agents = Agents(self._on_progress)
        self._agent_count = settings.agents or plan.agents_for(scenario.population, os.cpu_count() or 1)
        self._watch: Watch | None = None
        self._target: RunningTarget | None = None
        self._reasons: Counter[str] = Counter()
        self._notes: list[str] = []
        self._reckoning: Reckoning | None = None
        self._outcomes: list[Outcome] = []
        self._started_ns = 0
        self._where = "before the load"
        self._target_exits = 0

    async def play(self) -> ScenarioResult:
        """Run the scenario.

        Raises: UsageError for a scenario that cannot be run as it stands, HarnessBugError when an invariant of ours broke. When cancelled,
        everything is ended first; what was measured is then in `partial()`.
        """
        scenario = self._scenario
        self._display.scenario(scenario.id, scenario.title)
        self.check_feasible()
        self._started_ns = time.monotonic_ns()
        try:
            async with running(scenario.target, self._log_path()) as target:
                self._target = target
                await self._play_on(target)
        except SystemUnderTestError as exc:
            self._notes.insert(0, str(exc))
        return self.result()

    def partial(self) -> ScenarioResult:
        """What is known of a scenario that was interrupted: never better than UNKNOWN."""
        self._notes.insert(0, f"interrupted {self._where}")
        return self.result()

    def check_feasible(self) -> None:
        """Refuse now what would fail later. Raises: UsageError."""
        scenario = self._scenario
        population = scenario.population
        drivers.build(scenario.driver, scenario.driver_options)
        for fault in scenario.faults:
            plan_fault(fault)
        agents = self._agent_count
        local = scenario.target.url is None or scenario.target.command is not None
        require_descriptors(population.connections + population.publishers, processes=1 if local else agents)

    # -- the course of a run ---------------------------------------------------------------------------------------------------

    async def _play_on(self, target: RunningTarget) -> None:
        trees: dict[str, int] = {"harness": os.getpid()}
        if target.pid is not None:
            trees["target"] = target.pid
        self._watch = watch = Watch(trees, interval_s=self._settings.watch_s)
        async with tasks.group() as group:
            watching = group.create_task(watch.run())
            try:
                await self._agents.start(self._setups(target), self._log_path().parent, group)
                await self._unless_it_dies(self._course(target), target)
                await self._account(final=True)
                watch.mark("end", time.monotonic_ns())
            finally:
                await self._agents.close()
                watching.cancel()

    def _log_path(self) -> Path:
        if self._folder is None:
            raise HarnessBugError("a session that is to be played needs a run folder")
        return self._folder.log_path(self._scenario.id)

    def _setups(self, target: RunningTarget) -> list[Setup]:
        return [
            Setup(
                scenario=self._scenario,
                url=target.url,
                agent=agent,
                agents=self._agent_count,
                seed=self._settings.seed,
                run=self._run,
                warmup_run=self._warmup_run,
            )
            for agent in range(self._agent_count)
        ]

    async def _unless_it_dies(self, course: Coroutine[None, None, None], target: RunningTarget) -> None:
        """Follow the course; a target that ends by itself breaks it off. Before the load that is UNKNOWN, during it a FAIL."""
        async with tasks.group() as group:
            playing = group.create_task(course)
            dying = group.create_task(target.died.wait())
            await asyncio.wait([playing, dying], return_when=asyncio.FIRST_COMPLETED)
            if not dying.done():
                dying.cancel()
                return
            playing.cancel()
        death = target.death(self._where)
        if death is None:
            return
        if not self._facts.first_intended_ns:
            raise death
        self._target_exits = 1
        self._notes.append(str(death))

    async def _course(self, target: RunningTarget) -> None:
        scenario = self._scenario
        watch = self._watch
        assert watch is not None
        self._where = "while connecting"
        watch.mark("before-connect", time.monotonic_ns())
        await self._connect()
        if scenario.warmup:
            self._where = "in the warm-up"
            await self._warm_up()
        self._facts.connect_s = (time.monotonic_ns() - self._facts.first_connect_ns) / 1e9
        watch.mark("connected", time.monotonic_ns())
        async with tasks.group() as group:
            first_start_ns = time.monotonic_ns() + START_AHEAD_NS
            for index, fault in enumerate(scenario.faults):
                group.create_task(self._strike(index, fault, first_start_ns))
            for index, phase in enumerate(scenario.phases):
                self._where = f"in the phase {phase.name!r}"
                start_ns = first_start_ns if index == 0 else time.monotonic_ns() + START_AHEAD_NS
                self._facts.first_intended_ns = self._facts.first_intended_ns or start_ns
                self._timeline.mark(phase.name, start_ns)
                self._display.update(phase=phase.name)
                await self._agents.ask("phase", index=index, at_ns=start_ns, limit_s=_phase_limit_s(phase))
        self._where = "in the drain"
        self._timeline.mark("drain", time.monotonic_ns())
        self._display.update(phase="drain")
        await self._drain()
        self._facts.statistics = await drivers.build(scenario.driver, scenario.driver_options).statistics(target.url)

    async def _connect(self) -> None:
        scenario = self._scenario
        population = scenario.population
        self._display.update(phase="connecting")
        self._facts.first_connect_ns = time.monotonic_ns()
        for wave in range(population.waves):
            step = await self._agents.ask("connect", index=wave, limit_s=scenario.connect_limit_s * 2 + population.connections / 200)
            self._facts.connected += int(step.figures.get("connected", 0))
            self._reasons.update(step.reasons)
        if not self._facts.connected:
            why = self._reasons.most_common(1)
            raise SystemUnderTestError(f"not one connection could be opened: {why[0][0] if why else 'no reason was given'}")

    async def _warm_up(self) -> None:
        """Send probes until every subscription has seen one: the evidence that it is active."""
        self._display.update(phase="warming up")
        wanted = self._facts.connected * self._scenario.population.subscriptions_per_connection
        deadline_ns = time.monotonic_ns() + int(self._scenario.connect_limit_s * 1e9)
        again_ns = 0
        while time.monotonic_ns() < deadline_ns:
            if time.monotonic_ns() >= again_ns:
                step = await self._agents.ask("probe", limit_s=self._scenario.connect_limit_s)
                self._facts.probes += int(step.figures["probes"])
                again_ns = time.monotonic_ns() + int(PROBE_AGAIN_S * 1e9)
            step = await self._agents.ask("seen", limit_s=self._scenario.connect_limit_s)
            self._facts.seen = int(step.figures["seen"])
            if self._facts.seen >= wanted:
                return
            await asyncio.sleep(POLL_S)
        self._notes.append(f"only {self._facts.seen:,} of {wanted:,} subscriptions saw a warm-up message")

    async def _strike(self, index: int, fault: Fault, first_start_ns: int) -> None:
        """Let a fault strike on time, as often as it is to."""
        for occasion in range(fault.repeat):
            due_ns = first_start_ns + int((fault.at_s + occasion * fault.every_s) * 1e9)
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            if occasion < MARKED_OCCASIONS:
                self._timeline.mark(fault.kind, time.monotonic_ns())
            step = await self._agents.ask("fault", index=index, limit_s=FAULT_LIMIT_S)
            self._facts.fault_hits += int(step.figures.get("fault_hits", 0))
            self._facts.fault_back += int(step.figures.get("fault_back", 0))
            self._facts.fault_worst_s = max(self._facts.fault_worst_s, step.worst_s)

    async def _drain(self) -> None:
        """Wait until nothing is missing, or until the drain limit: what is missing then is lost. A moment is left for duplicates."""
        limit_ns = time.monotonic_ns() + int(self._scenario.drain_limit_s * 1e9)
        await self._agents.ask("settle", limit_s=STEP_LIMIT_S)
        last: tuple[float, float] = (-1.0, -1.0)
        changed_ns = time.monotonic_ns()
        checked: tuple[float, float] | None = None
        while time.monotonic_ns() < limit_ns:
            step = await self._agents.ask("seen", limit_s=STEP_LIMIT_S)
            state = (step.figures["received"], step.figures["pending"])
            now_ns = time.monotonic_ns()
            if state != last:
                last, changed_ns = state, now_ns
            elif now_ns - changed_ns > QUIET_NS and state != checked:
                checked = state
                await self._account(final=False)
                reckoning = self._reckoning
                if reckoning is not None and not reckoning.delivery.lost and not state[1]:
                    return
            await asyncio.sleep(POLL_S)

    async def _account(self, *, final: bool) -> None:
        """Fetch what the agents know and reconcile it."""
        if final:
            self._facts.drained_ns = time.monotonic_ns()
            await self._agents.ask("give-up", limit_s=STEP_LIMIT_S)
        self._outcomes = await self._agents.collect(limit_s=COLLECT_LIMIT_S)
        accounts = merge_accounts([accounts_from_wire(outcome.accounts) for outcome in self._outcomes])
        publications = merge_publications([publications_from_wire(outcome.publications) for outcome in self._outcomes])
        self._reckoning = reconcile(publications, accounts, guarantee=self._scenario.guarantee, order=self._scenario.order)

    def _on_progress(self, agent: int, progress: Progress) -> None:
        totals = self._timeline.add(agent, progress)
        peak = self._watch.peak("target") if self._watch is not None else None
        self._display.update(
            connections=totals.connections,
            published=totals.published,
            delivered=totals.received,
            rate_hz=totals.rate_hz,
            p99_ns=totals.response_p99_ns or None,
            rss_bytes=peak.sampled_bytes if peak is not None else None,
        )

    # -- the result ------------------------------------------------------------------------------------------------------------

    def result(self) -> ScenarioResult:
        """Judge what there is, and write samples and findings to the run folder."""
        scenario = self._scenario
        record = self._record()
        criteria = with_implied(scenario.criteria, scenario.guarantee, scenario.order)
        if self._target is not None and self._target.pid is not None and not any(c.metric == "target_exits" for c in criteria):
            criteria = (*criteria, parse("target_exits == 0"))
        observations = observe(record) if self._facts.first_intended_ns else self._nothing(criteria)
        judged = (*judge(criteria, observations), *self._caveats(record))
        verdict = worst(criterion.verdict for criterion in judged)
        if verdict is Verdict.PASS and self._reckoning is None:
            verdict = Verdict.UNKNOWN
        findings = self._reckoning.findings if self._reckoning is not None else ()
        self._save(findings)
        reasons = [f"{count:,} x {reason}" for reason, count in self._all_reasons().most_common(5)]
        target = self._target
        return ScenarioResult(
            id=scenario.id,
            title=scenario.title,
            plan=scenario.plan,
            verdict=verdict,
            scale=scenario.scale,
            duration_s=(time.monotonic_ns() - self._started_ns) / 1e9 if self._started_ns else 0.0,
            criteria=judged,
            delivery=record.delivery,
            latency_ns=Latencies(response=record.response, service=record.service),
            throughput_hz=observations.values.get("throughput", 0.0),
            target=self._target_usage(),
            generator=self._generator_usage(record),
            findings=findings[:FINDINGS_SHOWN],
            metrics={name: value for name, value in sorted(observations.values.items()) if math.isfinite(value)},
            note="; ".join([*self._notes, *reasons]),
            log_tail=target.log_tail() if target is not None and verdict is not Verdict.PASS else (),
        )

    def _nothing(self, criteria: Sequence[Criterion]) -> Observations:
        """A run that never came to its load has measured nothing, whatever else was counted."""
        why = self._notes[0] if self._notes else "the load never began"
        return Observations(missing={criterion.metric: why for criterion in criteria})

    def _record(self) -> Record:
        facts, outcomes = self._facts, self._outcomes
        population = self._scenario.population
        response, service = _merged(outcome.response for outcome in outcomes), _merged(outcome.service for outcome in outcomes)
        figures: Counter[str] = Counter()
        for outcome in outcomes:
            figures.update(outcome.figures)
        phases = [phase.name for phase in self._scenario.phases]
        connected_subscriptions = facts.connected * population.subscriptions_per_connection
        return Record(
            delivery=self._reckoning.delivery if self._reckoning is not None else Delivery(),
            asked_connections=population.connections,
            connected=facts.connected,
            subscriptions_seen=facts.seen if self._scenario.warmup else connected_subscriptions,
            asked_subscriptions=population.subscriptions,
            connect_s=facts.connect_s,
            first_intended_ns=facts.first_intended_ns,
            last_received_ns=max((outcome.last_received_ns for outcome in outcomes), default=0),
            drained_ns=facts.drained_ns,
            first_connect_ns=facts.first_connect_ns,
            published=int(figures["published"]),
            refused=int(figures["refused"]),
            disconnects=int(figures["disconnects"]),
            response=_all(response).summary(),
            service=_all(service).summary(),
            ack=_all({str(number): outcome.ack for number, outcome in enumerate(outcomes)}).summary(),
            lag=_all({str(number): outcome.lag for number, outcome in enumerate(outcomes)}).summary(),
            phases={name: _all({name: response[name]}).summary() for name in phases if name in response},
            target=self._memory("target"),
            harness=self._memory("harness"),
            total_peak_bytes=self._total_peak(),
            target_cpu_s=self._cpu("target"),
            fds_peak=self._peak_of("descriptors"),
            threads_peak=self._peak_of("threads"),
            fault_hits=facts.fault_hits if self._scenario.faults else None,
            fault_back=facts.fault_back,
            fault_worst_s=facts.fault_worst_s,
            statistics=facts.statistics,
            statistics_wanted={
                "delivered": figures["frames"],
                "published": figures["published"] + facts.probes,
                "connections": figures["connections"] + population.publishers,
                "subscriptions": figures["connections"] * population.subscriptions_per_connection,
            },
            target_exits=self._target_exits if self._target is not None and self._target.pid is not None else None,
            closed_loop=all(isinstance(phase.arrival, Flood) for phase in self._scenario.phases),
        )

    def _caveats(self, record: Record) -> list[CriterionResult]:
        """What makes a run prove nothing, whatever its criteria say."""
        caveats: list[CriterionResult] = []
        limit_s = self._scenario.lag_limit_s
        if record.lag.count and record.lag.p99 > limit_s * 1e9:
            note = "the generator itself was late, so the figures say more about it than about the target; lower the rate or add agents"
            text = f"generator_lag_p99 <= {limit_s * 1000:g}ms"
            caveats.append(CriterionResult(text=text, observed=record.lag.p99 / 1e9, verdict=Verdict.UNKNOWN, note=note))
        if record.fault_hits == 0:
            note = "the fault touched nothing, so the run says nothing about it"
            caveats.append(CriterionResult(text="fault_hits > 0", observed=0.0, verdict=Verdict.UNKNOWN, note=note))
        if record.delivery.dropped_by_us:
            note = "the harness had no connection left to send these through, so the load was not the one asked for"
            text, observed = "dropped_by_us == 0", float(record.delivery.dropped_by_us)
            caveats.append(CriterionResult(text=text, observed=observed, verdict=Verdict.UNKNOWN, note=note))
        if not record.delivery.delivered:
            note = self._notes[0] if self._notes else "no delivery was seen, so the run proves nothing"
            caveats.append(CriterionResult(text="delivered > 0", observed=0.0, verdict=Verdict.UNKNOWN, note=note))
        if self._where_broken:
            caveats.append(CriterionResult(text="the run came to its end", observed=None, verdict=Verdict.UNKNOWN, note=self._notes[0]))
        return caveats

    @property
    def _where_broken(self) -> bool:
        """Whether the course was broken off before everything was accounted for."""
        return self._facts.drained_ns == 0 and bool(self._notes)

    def _all_reasons(self) -> Counter[str]:
        reasons = self._reasons.copy()
        for outcome in self._outcomes:
            reasons.update(outcome.reasons)
        return reasons

    def _save(self, findings: Sequence[Finding]) -> None:
        origin_ns = self._facts.first_intended_ns or self._started_ns
        rows = self._watch.rows() if self._watch is not None else []
        if self._folder is None:
            return
        self._folder.add_samples(self._scenario.id, self._timeline.samples(origin_ns, rows), self._timeline.marks(origin_ns))
        self._folder.add_findings(self._scenario.id, findings)

    # -- figures from the watch ------------------------------------------------------------------------------------------------

    def _at(self, label: str, tree: str) -> ProcessSample | None:
        mark = self._watch.at(label) if self._watch is not None else None
        return mark.samples.get(tree) if mark is not None else None

    def _memory(self, tree: str) -> Memory | None:
        if self._watch is None or (tree == "target" and (self._target is None or self._target.pid is None)):
            return None
        moments = {name: self._at(label, tree) for name, label in MOMENTS.items()}
        peak = self._watch.peak(tree)
        known = {name: sample.resident_bytes for name, sample in moments.items() if sample is not None}
        return Memory(
            before_connect=known.get("before_connect"),
            connected=known.get("connected"),
            end=known.get("end"),
            peak=peak.resident_bytes if peak is not None else None,
        )

    def _total_peak(self) -> int | None:
        """The largest sum of target and harness in one look."""
        sums: Counter[int] = Counter()
        trees: dict[int, int] = {}
        for row in self._watch.rows() if self._watch is not None else []:
            sums[row.t_ns] += row.resident_bytes
            trees[row.t_ns] = trees.get(row.t_ns, 0) + 1
        return max((total for at_ns, total in sums.items() if trees[at_ns] == 2), default=None)

    def _cpu(self, tree: str) -> float | None:
        peak = self._watch.peak(tree) if self._watch is not None else None
        return peak.cpu_s if peak is not None else None

    def _peak_of(self, name: str) -> int | None:
        peak = self._watch.peak("target") if self._watch is not None else None
        value = getattr(peak, name) if peak is not None else None
        return int(value) if value is not None else None

    def _target_usage(self) -> TargetUsage:
        memory = self._memory("target")
        if memory is None:
            return TargetUsage()
        return TargetUsage(
            rss_bytes_start=memory.before_connect or 0,
            rss_bytes_peak=memory.peak or 0,
            rss_bytes_end=memory.end or 0,
            cpu_s=self._cpu("target") or 0.0,
            fds_peak=self._peak_of("descriptors") or 0,
            threads_peak=self._peak_of("threads") or 0,
        )

    def _generator_usage(self, record: Record) -> GeneratorUsage:
        peak = self._watch.peak("harness") if self._watch is not None else None
        return GeneratorUsage(
            rss_bytes_peak=peak.sampled_bytes if peak is not None else 0,
            cpu_s=peak.cpu_s if peak is not None else 0.0,
            lag_ns_p99=record.lag.p99,
            processes=1 + self._agent_count,
        )


class _Facts:
    """What the course of a run has established so far."""

    def __init__(self) -> None:
        self.connected = 0
        self.seen = 0
        self.probes = 0
        self.first_connect_ns = 0
        self.connect_s: float | None = None
        self.first_intended_ns = 0
        self.drained_ns = 0
        self.fault_hits = 0
        self.fault_back = 0
        self.fault_worst_s = 0.0
        self.statistics: dict[str, float] | None = None


def _phase_limit_s(phase: Phase) -> float:
    """No phase is waited for longer than its own length and a generous slack for a target that holds it up."""
    return (phase.duration_s or 0.0) + PHASE_SLACK_S


def _merged(parts: Iterable[dict[str, bytes]]) -> dict[str, Histogram]:
    merged: dict[str, Histogram] = {}
    for part in parts:
        for name, data in part.items():
            merged.setdefault(name, Histogram()).merge(Histogram.from_wire(data))
    return merged


def _all(parts: Mapping[str, Histogram | bytes]) -> Histogram:
    whole = Histogram()
    for part in parts.values():
        whole.merge(part if isinstance(part, Histogram) else Histogram.from_wire(part))
    return whole
