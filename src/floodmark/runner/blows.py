"""The faults of a scenario that the runner carries out itself: on the wire, through a proxy before the target, and on its processes.

Faults in the clients are the agents' to carry out; this module only tells them when. Every blow is recorded with its times and what it
touched, so that windows, recovery clocks and the verdict can be worked out afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from floodmark.core.errors import UsageError
from floodmark.faults import FaultPlan
from floodmark.faults.backoff import TRIES
from floodmark.faults.churn import Churn
from floodmark.faults.disconnect import Disconnect
from floodmark.faults.drop import Drop
from floodmark.faults.failure import Failure
from floodmark.faults.latency import Latency
from floodmark.faults.process import Kill, ProcessPlan, Restart, Terminate
from floodmark.faults.process.journal import Journal
from floodmark.faults.process.spec import Scene, inflict
from floodmark.faults.process.tree import Tree
from floodmark.faults.reader import Reader
from floodmark.faults.wire.active import ActiveFault
from floodmark.faults.wire.proxy import Proxy, running
from floodmark.faults.wire.spec import WireFault
from floodmark.model.checks import FAULT_WINDOWS
from floodmark.model.scenario import Fault, Phase, Scenario
from floodmark.runner.agents import Lines
from floodmark.runner.evidence import Blow, Evidence
from floodmark.runner.possible import NOT_OURS, ON_PROCESSES

SLACK_S = 180.0
PHASE_SLACK_S = 600.0
WINDOW_LIMIT_S = 60.0
MARKED_OCCASIONS = 10
_PORTS = {"nats": 4222}  # of URLs that name none


def phase_limit_s(phase: Phase) -> float:
    """No phase is waited for longer than its own length and a generous slack for a target that holds it up."""
    return (phase.duration_s or 0.0) + PHASE_SLACK_S


@asynccontextmanager
async def before(url: str, plans: list[FaultPlan], *, seed: int) -> AsyncIterator[tuple[str, Proxy | None]]:
    """Put a proxy before the target when the scenario has a fault on the wire; gives the URL that the clients use.

    Raises: UsageError for a URL without a port, or one that is encrypted: the certificate would not fit the proxy.
    """
    if not any(isinstance(plan, WireFault) for plan in plans):
        yield url, None
        return
    parts = urlsplit(url)
    if parts.scheme in ("wss", "https", "tls"):
        raise UsageError(f"faults on the wire need a target without TLS, got {url}; test it behind its TLS end")
    if parts.hostname is None:
        raise UsageError(f"faults on the wire need a target with a host and a port, got {url!r}")
    async with running(("127.0.0.1", 0), (parts.hostname, parts.port or _PORTS.get(parts.scheme, 80)), seed=seed) as proxy:
        yield urlunsplit(parts._replace(netloc=f"127.0.0.1:{proxy.port}")), proxy


class Blows:
    """Lets the faults of a scenario happen on time."""

    def __init__(
        self, scenario: Scenario, plans: list[FaultPlan], agents: Lines[Any], evidence: Evidence, proxy: Proxy | None, *, seed: int
    ) -> None:
        self._scenario = scenario
        self._plans = plans
        self._agents = agents
        self._evidence = evidence
        self._proxy = proxy
        self._seed = seed
        self._journal = Journal(time.monotonic)
        target = evidence.target
        self._tree = Tree.of(target.pid) if target is not None and target.pid is not None else None
        if target is not None:
            target.on_start.append(self._follow)
        self._under_way = 0
        self._standing: list[tuple[Blow, ActiveFault]] = []

    def _follow(self, pid: int) -> None:
        """The target was started again: faults from now on are about the new one."""
        self._tree = Tree.of(pid)

    def raise_standing(self) -> None:
        """Put to work the faults that hold from before the first connection."""
        for index, (fault, plan) in enumerate(zip(self._scenario.faults, self._plans, strict=True)):
            if fault.from_connect:
                if self._proxy is None or not isinstance(plan, WireFault):
                    raise UsageError(f"fault {fault.kind!r}: only a fault on the wire can hold from_connect")
                now_ns = time.monotonic_ns()
                blow = Blow(kind=fault.kind, struck_ns=now_ns, index=index, standing=True)
                self._evidence.blows.append(blow)
                self._standing.append((blow, self._proxy.add(plan)))

    def lift_standing(self) -> None:
        """Count what the standing faults touched. They stay to the end: the drain is part of what they disturb."""
        for blow, active in self._standing:
            blow.lifted_ns = time.monotonic_ns()
            blow.hits = active.hits
            self._evidence.fault_hits += active.hits

    def keep_journals(self) -> None:
        """Hand over what was written down by those who did it: it is read when the run is over, however it ended."""
        journals = {"wire": self._proxy.journal().entries() if self._proxy is not None else (), "process": self._journal.entries()}
        self._evidence.journals |= {name: entries for name, entries in journals.items() if entries}

    def timed(self) -> list[tuple[int, Fault, FaultPlan]]:
        """The faults that strike at a time of their own."""
        return [
            (index, fault, plan)
            for index, (fault, plan) in enumerate(zip(self._scenario.faults, self._plans, strict=True))
            if not fault.from_connect
        ]

    async def strike(self, index: int, fault: Fault, plan: FaultPlan, first_start_ns: int) -> None:
        """Let one fault strike on time, as often as it is to."""
        for occasion in range(fault.repeat):
            due_ns = first_start_ns + int((fault.at_s + occasion * fault.every_s) * 1e9)
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            blow = Blow(kind=fault.kind, struck_ns=time.monotonic_ns(), index=index, occasion=occasion)
            self._under_way += 1
            if occasion < MARKED_OCCASIONS:
                self._evidence.timeline.mark(fault.kind, blow.struck_ns)
            self._evidence.blows.append(blow)
            await self._window("during", blow.struck_ns)
            if isinstance(plan, WireFault):
                await self._on_the_wire(fault, plan, blow)
            elif isinstance(plan, ON_PROCESSES):
                await self._on_the_processes(fault, plan, blow, occasion)
            else:
                await self._in_the_clients(index, fault, plan, blow)
            blow.lifted_ns = time.monotonic_ns()
            blow.healed = True
            self._under_way -= 1
            if not self._under_way:
                await self._window("after", blow.lifted_ns)
            self._evidence.fault_hits += blow.hits
            self._evidence.fault_back += blow.back
            if blow.damages and self._scenario.reconnect is not None:
                await self._agents.ask("anew", at_ns=blow.lifted_ns, limit_s=WINDOW_LIMIT_S)

    async def _window(self, name: str, at_ns: int) -> None:
        await self._agents.ask("window", index=FAULT_WINDOWS.index(name), at_ns=at_ns, limit_s=WINDOW_LIMIT_S)

    async def begin(self) -> None:
        """The load is about to begin: what is sent from now on was sent before the faults, if any will strike."""
        if self.timed():
            await self._window("before", 0)

    async def _on_the_wire(self, fault: Fault, plan: WireFault, blow: Blow) -> None:
        proxy = self._proxy
        if proxy is None:
            raise UsageError(f"fault {fault.kind!r} needs the proxy, which was not started")
        blow.damages = plan.DAMAGES
        active = proxy.add(plan)
        try:
            await asyncio.sleep(fault.for_s)
        finally:
            proxy.remove(active)
        blow.hits = blow.back = active.hits
        self._evidence.timeline.mark(f"{fault.kind} lifted", time.monotonic_ns())

    async def _on_the_processes(self, fault: Fault, plan: ProcessPlan, blow: Blow, occasion: int) -> None:
        target, tree = self._evidence.target, self._tree
        if tree is None or target is None:
            raise UsageError(f"fault {fault.kind!r} {NOT_OURS}")
        scene = Scene(tree=tree, journal=self._journal, ratio=fault.ratio, seed=self._seed, occasion=occasion, restarter=target)
        if isinstance(plan, Kill | Terminate | Restart):
            if self._evidence.watch is not None:
                self._evidence.watch.sample_now(time.monotonic_ns())  # the last look at what is about to end
            with target.under_fire():
                entry = await inflict(plan, scene, for_s=fault.for_s)
                if not isinstance(plan, Restart) and tree.root.pid in entry.pids:
                    target.fell()
                    blow.ended_target = True
            if blow.ended_target and isinstance(plan, Kill) and not any(isinstance(each, Restart) for each in self._plans):
                await self._agents.ask("gone", limit_s=WINDOW_LIMIT_S)
        else:
            entry = await inflict(plan, scene, for_s=fault.for_s)
        blow.hits = blow.back = entry.hits
        if plan.LASTS:
            self._evidence.timeline.mark(f"{fault.kind} lifted", time.monotonic_ns())

    async def note_absence(self) -> None:
        """At the end of the course: say so when a fault has ended the target for good. One that was asked to end is given time to do so."""
        target = self._evidence.target
        blow = next((blow for blow in reversed(self._evidence.blows) if blow.ended_target), None)
        if blow is not None and target is not None and await target.seen_off():
            at_s = (blow.struck_ns - self._evidence.first_intended_ns) / 1e9
            self._evidence.target_gone = f"{blow.kind} ended it {at_s:.1f} s into the load, and nothing started it again"

    async def _in_the_clients(self, index: int, fault: Fault, plan: FaultPlan, blow: Blow) -> None:
        step = await self._agents.ask("fault", index=index, limit_s=self._limit_s(fault, plan))
        blow.hits = int(step.figures.get("fault_hits", 0))
        blow.back = int(step.figures.get("fault_back", 0))
        blow.victims = step.victims
        blow.clients = True
        blow.worst_s = step.worst_s if blow.back else None
        if isinstance(plan, Disconnect | Drop | Churn):
            blow.reconnects = blow.back
        self._evidence.fault_worst_s = max(self._evidence.fault_worst_s, step.worst_s)

    def _limit_s(self, fault: Fault, plan: FaultPlan) -> float:
        """No fault in the clients is waited for longer than it may last by its own settings, and some slack.

        A state without `for_s` lasts to the end of the load; a blow until the last victim has used up its tries.
        """
        scenario = self._scenario
        if isinstance(plan, Latency | Failure | Reader):
            return SLACK_S + (fault.for_s or sum(phase_limit_s(phase) for phase in scenario.phases))
        backoff_max_s, away_s, spread_s = (getattr(plan, name, 0.0) for name in ("backoff_max_s", "back_after_s", "spread_s"))
        return SLACK_S + away_s + spread_s + TRIES * (backoff_max_s + scenario.connect_limit_s)


def windows(evidence: Evidence, never_ns: int) -> list[tuple[str, int, int]]:
    """Before, during and after the faults that struck at a time of their own; nothing when none did.

    During is from the first blow to the last one lifted, victims brought back included.
    """
    timed = [blow for blow in evidence.blows if not blow.standing]
    if not timed:
        return []
    struck_ns = min(blow.struck_ns for blow in timed)
    lifted_ns = max(max(blow.lifted_ns for blow in timed), struck_ns + 1)
    return [("before", 0, struck_ns), ("during", struck_ns, lifted_ns), ("after", lifted_ns, never_ns)]
