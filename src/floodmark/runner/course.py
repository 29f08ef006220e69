"""The course of a run, from the first connection to the end of the drain: each step asked of all agents, and waited for.

Connect, warm up, play the phases beside the faults, drain; after a rest the same once more where a scenario plays its load twice. What it
comes to is written into the evidence. Not here: starting and ending anything, and what becomes of a course that is broken off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from floodmark import drivers
from floodmark.core import tasks
from floodmark.core.errors import SystemUnderTestError
from floodmark.drivers.base import Doing
from floodmark.model.scenario import Scenario
from floodmark.runner import second, usage
from floodmark.runner.agents import Lines
from floodmark.runner.blows import Blows, phase_limit_s
from floodmark.runner.evidence import Evidence
from floodmark.runner.profile import Profiler
from floodmark.runner.showing import Showing
from floodmark.runner.target import RunningTarget
from floodmark.runner.wire import PROGRESS_S

POLL_S = 0.02
QUIET_NS = 250_000_000
PROBE_AGAIN_S = 1.0
STEP_LIMIT_S = 60.0


class Course:
    """One course. `account` reconciles what the agents know by now; `first_load`: how many phases are before the rest."""

    def __init__(
        self,
        scenario: Scenario,
        evidence: Evidence,
        *,
        agents: Lines[Any],
        blows: Blows,
        profiler: Profiler,
        shown: Showing,
        account: Callable[[], Awaitable[None]],
        first_load: int,
        asks: bool,
    ) -> None:
        self._scenario = scenario
        self._evidence = evidence
        self._agents = agents
        self._blows = blows
        self._profiler = profiler
        self._shown = shown
        self._account = account
        self._first_load = first_load
        self._asks = asks

    async def follow(self, target: RunningTarget) -> None:
        """Take the whole course, and ask the target what it says of itself. Raises: SystemUnderTestError."""
        scenario = self._scenario
        watch = self._evidence.watch
        assert watch is not None
        self._evidence.where = "while connecting"
        watch.mark(usage.BEFORE_CONNECT, time.monotonic_ns())
        blows = self._blows
        blows.raise_standing()
        await self._connect()
        if scenario.warmup:
            self._evidence.where = "in the warm-up"
            await self._warm_up()
        self._evidence.connect_s = (time.monotonic_ns() - self._evidence.first_connect_ns) / 1e9
        watch.mark(usage.CONNECTED, time.monotonic_ns())
        await blows.begin()
        await self._profiler.begin(target.pid)
        await self._agents.compare_clocks()
        async with tasks.group() as group:
            first_start_ns = time.monotonic_ns() + self._agents.start_ahead_ns
            for index, fault, plan in blows.timed():
                group.create_task(blows.strike(index, fault, plan, first_start_ns))
            await self._load(range(self._first_load), first_start_ns)
            self._evidence.load_end_ns = time.monotonic_ns()
        await self._drain()
        if self._first_load < len(scenario.phases):
            self._evidence.first_drained_ns = time.monotonic_ns()
            await second.rest(watch)
            await self._agents.compare_clocks()
            self._evidence.second_start_ns = time.monotonic_ns() + self._agents.start_ahead_ns
            await self._load(range(self._first_load, len(scenario.phases)), self._evidence.second_start_ns)
            self._evidence.second_end_ns = time.monotonic_ns()
            await self._drain()
        self._profiler.end()
        blows.lift_standing()
        await blows.note_absence()
        if not target.gone:
            await self._ask_statistics(target)

    async def _ask_statistics(self, target: RunningTarget) -> None:
        """Ask for the target's own figures. One that was started again has counted anew; what was not done to it is told all the same."""
        driver = drivers.build(self._scenario.driver, self._scenario.driver_options)
        counted_anew = target.starts_count > 1
        if counted_anew and not isinstance(driver, Doing):
            return
        told = await driver.statistics(target.url)
        self._evidence.statistics = None if counted_anew else told
        self._evidence.shortfall = driver.shortfall if isinstance(driver, Doing) else None

    async def _load(self, indices: range, first_start_ns: int) -> None:
        """Play the phases of one load, one after the other."""
        for index in indices:
            phase = self._scenario.phases[index]
            self._evidence.where = f"in the phase {phase.name!r}"
            start_ns = first_start_ns
            if index != indices[0]:
                await self._agents.compare_clocks()
                start_ns = time.monotonic_ns() + self._agents.start_ahead_ns
            self._evidence.first_intended_ns = self._evidence.first_intended_ns or start_ns
            self._evidence.timeline.mark(phase.name, start_ns)
            self._shown.begin(phase, start_ns)
            await self._phase(index, start_ns)
        self._shown.load_over()

    async def _phase(self, index: int, start_ns: int) -> None:
        """Play one phase. The last one ends also when stuck consumers hold the target up: nobody else would ever let them read again."""
        phases = self._scenario.phases
        async with tasks.group() as group:
            ask = self._agents.ask("phase", index=index, at_ns=start_ns, limit_s=phase_limit_s(phases[index]))
            playing = group.create_task(ask)
            calming = group.create_task(self._calm_when_held_up()) if index == len(phases) - 1 else None
            await asyncio.wait([playing])
            if calming is not None:
                calming.cancel()

    async def _calm_when_held_up(self) -> None:
        while not self._agents.held_up:  # noqa: ASYNC110  # it comes with the agents' reports, which have a beat of their own
            await asyncio.sleep(PROGRESS_S)
        await self._agents.ask("settle", limit_s=STEP_LIMIT_S)

    async def _connect(self) -> None:
        scenario = self._scenario
        population = scenario.population
        self._shown.step("connecting")
        self._evidence.first_connect_ns = time.monotonic_ns()
        for wave in range(population.waves):
            step = await self._agents.ask("connect", index=wave, limit_s=scenario.connect_limit_s * 2 + population.connections / 200)
            self._evidence.connected += int(step.figures.get("connected", 0))
            self._evidence.reasons.update(step.reasons)
        if not self._evidence.connected:
            why = self._evidence.reasons.most_common(1)
            raise SystemUnderTestError(f"not one connection could be opened: {why[0][0] if why else 'no reason was given'}")

    async def _warm_up(self) -> None:
        """Send probes until every subscription has seen one: the evidence that it is active. Who asks sees that by subscribing."""
        self._shown.step("warming up")
        wanted = self._evidence.connected * self._scenario.population.subscriptions_per_connection
        if self._asks:
            self._evidence.seen = wanted
            return
        deadline_ns = time.monotonic_ns() + int(self._scenario.connect_limit_s * 1e9)
        again_ns = 0
        while time.monotonic_ns() < deadline_ns:
            if time.monotonic_ns() >= again_ns:
                step = await self._agents.ask("probe", limit_s=self._scenario.connect_limit_s)
                self._evidence.probes += int(step.figures["probes"])
                again_ns = time.monotonic_ns() + int(PROBE_AGAIN_S * 1e9)
            step = await self._agents.ask("seen", limit_s=self._scenario.connect_limit_s)
            self._evidence.seen = int(step.figures["seen"])
            if self._evidence.seen >= wanted:
                return
            await asyncio.sleep(POLL_S)
        self._evidence.notes.append(f"only {self._evidence.seen:,} of {wanted:,} subscriptions saw a warm-up message")

    async def _drain(self) -> None:
        """Wait until nothing and nobody is missing, or until the drain limit: what is missing then is lost. Duplicates get a moment.

        Clients on their way back are waited for though nothing be required of the target meanwhile: on a busy machine they take longer.

        Where streams are answers, nothing more can come once all of them have ended.
        """
        self._evidence.where = "in the drain"
        self._evidence.timeline.mark("drain", time.monotonic_ns())
        self._shown.step("drain")
        limit_ns = time.monotonic_ns() + int(self._scenario.drain_limit_s * 1e9)
        await self._agents.ask("settle", limit_s=STEP_LIMIT_S)
        last: tuple[float, ...] = ()
        changed_ns = time.monotonic_ns()
        checked: tuple[float, ...] = ()
        while time.monotonic_ns() < limit_ns:
            step = await self._agents.ask("seen", limit_s=STEP_LIMIT_S)
            state = tuple(step.figures[name] for name in ("received", "pending", "returning"))
            now_ns = time.monotonic_ns()
            if state != last:
                last, changed_ns = state, now_ns
            elif now_ns - changed_ns > QUIET_NS and state != checked:
                checked = state
                await self._account()
                reckoning = self._evidence.reckoning
                if reckoning is not None and not any(state[1:]) and (self._asks or not reckoning.delivery.lost):
                    return
            await asyncio.sleep(POLL_S)
