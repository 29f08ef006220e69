"""Play one scenario from start to verdict: target, agents, the course of the run (`course.py`), account, judge, clean up.

Whatever happens, what was measured is kept and nothing is left running. A target that cannot be measured makes the result UNKNOWN with
the reason; a broken promise is FAIL; a harness that was too late, or a fault that touched nothing, is UNKNOWN.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from floodmark import drivers
from floodmark.core import tasks
from floodmark.core.errors import FloodmarkError, HarnessBugError, SystemUnderTestError, UsageError
from floodmark.drivers.asking import asks_of
from floodmark.faults import plan as plan_fault
from floodmark.judge.verdict import Observations
from floodmark.ledger.inbox import NEVER_NS
from floodmark.ledger.orphans import adopt
from floodmark.ledger.reconcile import reconcile
from floodmark.ledger.wire import accounts_from_wire, merge_accounts, merge_publications, publications_from_wire
from floodmark.model.finding import Anomaly, Finding
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import AgentLoss, Scenario
from floodmark.monitor.watch import Watch
from floodmark.report.display import Display
from floodmark.report.folder import RunFolder
from floodmark.runner import aftermath, journal, leaks, losses, plan, profile, second, usage
from floodmark.runner.again import LaterStart
from floodmark.runner.agents import Agents, Lines
from floodmark.runner.blows import Blows, before, windows
from floodmark.runner.course import STEP_LIMIT_S, Course
from floodmark.runner.doctor import require_descriptors
from floodmark.runner.evidence import Evidence
from floodmark.runner.interrupted import in_flight
from floodmark.runner.possible import require_possible
from floodmark.runner.results import result_of
from floodmark.runner.showing import Showing
from floodmark.runner.target import RunningTarget, require_startable, running
from floodmark.runner.tidy import tidy
from floodmark.runner.wire import Setup

WATCH_S = 0.1
COLLECT_LIMIT_S = 120.0
LOOKED_AT = 1000  # findings, for those to be told at once
SALVAGE_LIMIT_S = 5.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to run, apart from what: the seed, the number of agents (None: as many as fit), how often memory is sampled, and whether the
    target is profiled (one of profile.KINDS). With `nats`, the URL of a server, agents that answer there are asked instead of processes of
    this machine; for enough of them a run waits `agents_limit_s`.
    """

    seed: int = 1
    agents: int | None = None
    watch_s: float = WATCH_S
    profile: str | None = None
    nats: str | None = None
    agents_limit_s: float = 30.0


class Session:
    """One scenario being played. Make one per scenario."""

    def __init__(self, scenario: Scenario, settings: Settings, folder: RunFolder | None, display: Display) -> None:
        self._scenario = second.unfolded(scenario)
        self._first_load = len(scenario.phases)
        self._settings = settings
        self._folder = folder
        self._display = display
        self._run = secrets.randbits(31) | 1
        self._warmup_run = self._run ^ 1
        self._evidence = Evidence()
        self._shown = Showing(display, self._evidence)
        self.observed = Observations()
        """The figures behind the newest result."""
        self._agents = self._lines()
        self._profiler = profile.profiler(settings.profile, scenario, folder)
        self._asks = False
        """Whether streams are answers to requests."""
        self._agent_count = settings.agents or plan.agents_for(scenario.population, os.cpu_count() or 1)

    def _lines(self) -> Lines[Any]:
        if self._settings.nats is None:
            return Agents(self._shown.heard)
        from floodmark.runner.distributed.agents import RemoteAgents  # here: only a run over several machines speaks to NATS

        return RemoteAgents(
            self._settings.nats,
            self._shown.heard,
            take_over=self._scenario.agent_loss is AgentLoss.TAKE_OVER,
            wait_limit_s=self._settings.agents_limit_s,
        )

    def _note_agents(self) -> None:
        """Keep what is to be said of agents on other machines."""
        self._evidence.agents = self._agents.results()
        self._evidence.clock_error_ns = self._agents.clock_error_ns()
        self._evidence.agents_lost = len(self._agents.gone)
        self._evidence.remains = tuple(self._agents.remains)
        self._evidence.notes += self._agents.notes

    async def play(self) -> ScenarioResult:
        """Run the scenario.

        Raises: UsageError for a scenario that cannot be run as it stands, HarnessBugError when an invariant of ours broke. When cancelled,
        everything is ended first; what was measured is then in `partial()`.
        """
        scenario = self._scenario
        self._display.scenario(scenario.id, scenario.title)
        self.check_feasible()
        self._evidence.started_ns = time.monotonic_ns()
        log_path = self._log_path()
        try:
            await self._agents.spawn(self._agent_count, log_path.parent, scenario.id)
            async with running(scenario.target, log_path, under=self._profiler.words) as target:
                self._evidence.target = target
                plans = [plan_fault(fault) for fault in scenario.faults]
                async with before(target.url, plans, seed=self._settings.seed) as (url, proxy):
                    blows = Blows(scenario, plans, self._agents, self._evidence, proxy, seed=self._settings.seed)
                    try:
                        await self._play_on(target, url, blows)
                    finally:
                        blows.keep_journals()
        except SystemUnderTestError as exc:
            self._evidence.notes.insert(0, str(exc))
        finally:
            await self._agents.close()
            await self._profiler.close()
        return self.result()

    def partial(self) -> ScenarioResult:
        """What is known of a scenario that was interrupted: never better than UNKNOWN."""
        evidence = self._evidence
        evidence.interrupted = True
        evidence.notes.insert(0, f"interrupted {evidence.where}")
        if evidence.reckoning is not None:
            evidence.reckoning = in_flight(evidence.reckoning)
        return self.result()

    def check_feasible(self) -> None:
        """Refuse now what would fail later. Raises: UsageError."""
        scenario = self._scenario
        population = scenario.population
        driver = drivers.build(scenario.driver, scenario.driver_options)
        self._asks = asks_of(driver)
        for fault in scenario.faults:
            if getattr(plan_fault(fault), "resume", False) and not driver.resumes:
                raise UsageError(
                    f"scenario {scenario.id!r}: fault {fault.kind!r} with resume, but driver {scenario.driver!r} cannot resume here; "
                    "set its option resume to false"
                )
        require_possible(scenario, driver)
        require_startable(scenario.target)
        self._profiler.require()
        leaks.require_limits(scenario)
        agents = self._agent_count
        local = scenario.target.url is None or scenario.target.command is not None
        if self._settings.nats is None:
            require_descriptors(population.connections + population.publishers, processes=1 if local else agents, scale=scenario.scale)
        elif self._asks and scenario.agent_loss is AgentLoss.TAKE_OVER:
            raise UsageError(
                f"scenario {scenario.id!r}: agent_loss = 'take-over' is for published streams; driver {scenario.driver!r} asks, "
                "and answers are lost with whoever asked; use 'unknown'"
            )

    # -- the course of a run ---------------------------------------------------------------------------------------------------

    async def _play_on(self, target: RunningTarget, url: str, blows: Blows) -> None:
        scenario = self._scenario
        trees: dict[str, int] = {"harness": os.getpid()}
        if target.pid is not None:
            trees["target"] = target.pid
        if (view := self._display.apart()) is not None:
            trees["view"] = view  # it only shows: what it costs is not the harness's
        self._evidence.watch = watch = Watch(trees, interval_s=self._settings.watch_s)
        target.on_start.append(lambda pid: watch.follow("target", LaterStart(pid, spent_s=_spent_s(watch))))
        async with tasks.group() as group:
            watching = group.create_task(watch.run())
            try:
                await self._agents.start(self._setups(url), group)
                await self._unless_it_dies(self._course(blows).follow(target), target)
                await self._account(final=True)
                await self._come_to_rest(watch)
            except asyncio.CancelledError:
                await self._salvage()
                raise
            except SystemUnderTestError:
                self._agents.go_on_without_lost()
                await self._salvage()
                if self._evidence.reckoning is not None:
                    self._evidence.reckoning = in_flight(self._evidence.reckoning)
                raise
            finally:
                self._note_agents()
                await self._agents.close()
                if not target.gone and not target.died.is_set():
                    names = plan.channel_names(self._run, scenario.population)
                    self._evidence.notes += filter(None, [await tidy(scenario, target.url, names)])
                watching.cancel()

    async def _come_to_rest(self, watch: Watch) -> None:
        """Take the last looks at the target's memory: once all is delivered and, where somebody asks, once the connections have left."""
        if self._evidence.second_start_ns:
            await second.rest(watch)
        watch.mark(usage.END, time.monotonic_ns())
        if self._asks:
            step = await self._agents.ask("leave", limit_s=STEP_LIMIT_S)
            self._evidence.close_worst_s = step.worst_s if step.figures.get("closed") else None
        if usage.asks_what_connections_leave(self._scenario):
            await self._agents.close()
            await second.rest(watch)
            watch.mark(usage.LEFT, time.monotonic_ns())

    def _log_path(self) -> Path:
        if self._folder is None:
            raise HarnessBugError("a session that is to be played needs a run folder")
        return self._folder.log_path(self._scenario.id)

    def _setups(self, url: str) -> list[Setup]:
        return [
            Setup(
                scenario=self._scenario,
                url=url,
                agent=agent,
                agents=self._agent_count,
                seed=self._settings.seed,
                run=self._run,
                warmup_run=self._warmup_run,
            )
            for agent in range(self._agent_count)
        ]

    def _course(self, blows: Blows) -> Course:
        return Course(
            self._scenario,
            self._evidence,
            agents=self._agents,
            blows=blows,
            profiler=self._profiler,
            shown=self._shown,
            account=lambda: self._account(final=False),
            first_load=self._first_load,
            asks=self._asks,
        )

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
        death = target.death(self._evidence.where)
        if death is None:
            return
        if not self._evidence.first_intended_ns:
            raise death
        self._evidence.target_exits = 1
        self._evidence.notes.append(str(death))

    async def _salvage(self) -> None:
        """After an interrupt: stop publishing and fetch what the agents know, unless they take too long over it.

        What could not be fetched is a note; what cannot be right, by an invariant of ours, is not kept.
        """
        if not self._evidence.loaded:
            return
        try:
            async with asyncio.timeout(SALVAGE_LIMIT_S):
                await self._agents.ask("break-off", limit_s=SALVAGE_LIMIT_S)
                await self._account(final=False)
        except (FloodmarkError, TimeoutError) as exc:
            why = str(exc) or f"not within {SALVAGE_LIMIT_S:g} s"
            self._evidence.notes.append(f"what the agents knew at the end could not be taken ({why})")
            if isinstance(exc, HarnessBugError):
                self._evidence.reckoning = None

    async def _account(self, *, final: bool) -> None:
        """Fetch what the agents know and reconcile it."""
        if final:
            self._evidence.drained_ns = time.monotonic_ns()
            await self._agents.ask("give-up", limit_s=STEP_LIMIT_S)
        self._evidence.outcomes = await self._agents.collect(limit_s=COLLECT_LIMIT_S)
        if not self._evidence.outcomes:
            return  # nobody is left who knows anything
        losses.settle(self._scenario, self._evidence)
        accounts = merge_accounts([accounts_from_wire(outcome.accounts) for outcome in self._evidence.outcomes])
        publications = merge_publications([publications_from_wire(outcome.publications) for outcome in self._evidence.outcomes])
        if not self._asks:  # who asks receives what it has sent for itself
            population = self._scenario.population
            for index, life in self._agents.gone:
                lost = plan.sources_of(population, index, self._agent_count) + plan.source_offset(population, life)
                adopt(publications, accounts, lost.tolist())
        self._evidence.reckoning = reconcile(
            publications,
            accounts,
            guarantee=self._scenario.guarantee,
            order=self._scenario.order,
            windows=[*windows(self._evidence, NEVER_NS), *aftermath.windows(self._evidence, NEVER_NS)],
        )
        self._display.found([one for one in self._evidence.reckoning.findings[:LOOKED_AT] if one.violation and _certain(one, final=final)])

    def result(self) -> ScenarioResult:
        """Judge what there is, and write samples and findings to the run folder."""
        scenario, evidence = self._scenario, self._evidence
        if self._folder is not None:
            origin_ns = evidence.first_intended_ns or evidence.started_ns
            rows = evidence.watch.rows() if evidence.watch is not None else []
            self._folder.add_samples(scenario.id, evidence.timeline.samples(origin_ns, rows), evidence.timeline.marks(origin_ns))
            self._folder.add_findings(scenario.id, evidence.reckoning.findings if evidence.reckoning is not None else ())
            self._folder.add_faults(scenario.id, journal.lines(evidence))
        result, self.observed = result_of(
            scenario, evidence, agents=self._agent_count, seed=self._settings.seed, now_ns=time.monotonic_ns()
        )
        return losses.with_the_missing(self._profiler.marked(result), scenario, evidence)


def _certain(finding: Finding, *, final: bool) -> bool:
    """Whether more waiting cannot undo it: what is missing may still come."""
    return final or finding.anomaly is not Anomaly.LOST


def _spent_s(watch: Watch) -> float:
    """Processor time of the target so far, all its starts together."""
    peak = watch.peak("target")
    return peak.cpu_s if peak is not None else 0.0
