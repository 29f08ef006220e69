"""Carry out the faults that happen in the clients. What they dropped is theirs, and the ledger's windows say so.

A strike lasts until its fault is healed: a blow (disconnect, drop, churn) until the last victim that comes back is back, a state (reader,
latency, failure) for `for_s`, or without it until the load is over. Whatever ends a strike, nothing of a state stays in place.
Not here: dropping in the midst of an operation (dropping.py), holding operations back (holding.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from floodmark.core import tasks
from floodmark.core.errors import HarnessBugError, SystemUnderTestError
from floodmark.drivers.base import Sink
from floodmark.faults import FaultPlan
from floodmark.faults.backoff import Backoff
from floodmark.faults.churn import Churn, failing
from floodmark.faults.disconnect import Disconnect, victims
from floodmark.faults.drop import Drop
from floodmark.faults.failure import Failing, Failure
from floodmark.faults.latency import Delays, Latency
from floodmark.faults.reader import Reader
from floodmark.ledger.accounts import Accounts
from floodmark.model.scenario import Fault, Population
from floodmark.runner.agent import clock
from floodmark.runner.agent.dropping import Dropping
from floodmark.runner.agent.holding import Standing
from floodmark.runner.agent.receiving import Intake
from floodmark.runner.agent.subscribing import IN_FLIGHT_NS, Crowd, FailedByFaultError, Member, consume
from floodmark.runner.wire import Did

AGAIN = Backoff()
"""How a victim of churn comes back when its first try fails."""


class Mishaps:
    """Faults of one agent. Every one reports what it hit, how much of that came back, and how long the last one took."""

    def __init__(
        self,
        *,
        crowd: Crowd,
        sink: Sink,
        accounts: Accounts,
        intake: Intake,
        standing: Standing,
        dropping: Dropping,
        population: Population,
        seed: int,
        agent: int,
    ) -> None:
        self.load_over = asyncio.Event()
        """Set by the agent when nothing more will be published: what has no end of its own ends then."""
        self.on_left: Callable[[Member], None] = lambda member: None
        """Told of members whose connection ended by our doing, and whom no fault brings back."""
        self.gone: set[int] = set()
        """Numbers of the clients that a fault has taken away for good, wherever they were."""
        self._crowd = crowd
        self._sink = sink
        self._accounts = accounts
        self._intake = intake
        self._standing = standing
        self._dropping = dropping
        self._population = population
        self._seed = seed
        self._agent = agent
        self._ready: dict[int, Delays | Failing] = {}

    async def strike(self, number: int, index: int, fault: Fault, plan: FaultPlan, occasion: int) -> Did:
        """Carry out one occasion of the fault slot `index`; `number` is the step that it answers."""
        start_ns = clock.now_ns()
        seed = (self._seed, index, occasion)
        match plan:
            case Latency() | Failure():
                ready = self._ready.pop(index, None) or self._put_in_place(fault, plan, seed)
                hits = back = await self._interfere(fault, ready)
                return Did(number=number, figures={"fault_hits": hits, "fault_back": back})
            case Disconnect() | Churn() | Drop() | Reader():
                chosen, mine = self._choose(fault, occasion)
            case _:
                raise HarnessBugError(f"the fault {fault.kind!r} is not one of the clients'")
        names = tuple(member.number for member in mine)
        match plan:
            case Disconnect():
                back = await self._disconnect(mine, plan)
            case Churn():
                back = await self._churn(mine, failing(chosen, plan.failure_ratio, seed=self._seed, occasion=occasion))
            case Drop():
                back = await self._drop(chosen, mine, plan)
            case Reader():
                await self._read_badly(mine, plan, fault.for_s)
                return Did(number=number, figures={"fault_hits": len(mine), "fault_back": len(mine)}, victims=names)
        worst_s = (clock.now_ns() - start_ns) / 1e9 if mine else 0.0
        return Did(number=number, figures={"fault_hits": len(mine), "fault_back": back}, worst_s=worst_s, victims=names)

    def _choose(self, fault: Fault, occasion: int) -> tuple[set[int], list[Member]]:
        """The victims among all connections, and those of them that are here and connected."""
        connections = self._population.connections
        chosen = victims(connections, fault.ratio, seed=self._seed, occasion=occasion, gone=self.gone)
        return chosen, [self._crowd.members[n] for n in sorted(chosen & set(self._crowd.members)) if self._crowd.members[n].connection]

    # -- states ----------------------------------------------------------------------------------------------------------------------

    def get_ready(self, faults: Sequence[Fault], plans: Sequence[FaultPlan]) -> None:
        """Put in place what holds from the first message on: its strike would come a moment after that, and an exact count be missed."""
        for index, (fault, plan) in enumerate(zip(faults, plans, strict=True)):
            if isinstance(plan, Latency | Failure) and fault.at_s == 0:
                self._ready[index] = self._put_in_place(fault, plan, (self._seed, index, 0))

    def _put_in_place(self, fault: Fault, plan: Latency | Failure, seed: tuple[int, ...]) -> Delays | Failing:
        standing = self._standing
        if isinstance(plan, Failure):
            lanes = self._population.sources if plan.on == "publish" else self._population.connections
            failing_ = Failing(plan, ratio=fault.ratio, seed=seed, lanes=lanes)
            standing.failing[plan.on].append(failing_)
            return failing_
        delays = Delays(plan, ratio=fault.ratio, seed=(*seed, self._agent))
        if not plan.inert and fault.ratio > 0:
            standing.delays[plan.on].append(delays)
        return delays

    async def _interfere(self, fault: Fault, placed: Delays | Failing) -> int:
        """Let a fault that is in place delay or fail operations for a while, and remove it; returns how many it touched."""
        try:
            await self._last(fault.for_s)
        finally:
            every: list[Any] = [*self._standing.delays.values(), *self._standing.failing.values()]
            for standing in every:
                if placed in standing:
                    standing.remove(placed)
        return placed.hits

    async def _read_badly(self, mine: list[Member], plan: Reader, for_s: float) -> None:
        owner = {slot: member.number for member in mine for slot in member.slots}
        received_bytes: Counter[int] = Counter()

        def count(batch: list[tuple[int, bytes, int]]) -> None:
            for slot, frame, _ in batch:
                if slot in owner:
                    received_bytes[owner[slot]] += len(frame)

        healed = asyncio.Event()
        if plan.rate_bytes_per_s and mine:
            self._intake.on_frames.append(count)
        for member in mine:
            self._crowd.excuse(member)
        try:
            async with tasks.group() as group:
                group.create_task(
                    consume(plan.consumer(), mine, start_ns=clock.now_ns(), received_bytes=received_bytes.__getitem__, stop=healed)
                )
                if mine:
                    await self._last(for_s)
                healed.set()
        finally:
            for member in mine:
                self._crowd.blame(member)
                if member.connection is None:
                    self.on_left(member)
            if count in self._intake.on_frames:
                self._intake.on_frames.remove(count)

    async def _last(self, for_s: float) -> None:
        """Wait for the end of a state: `for_s`, or the end of the load, whichever comes first."""
        try:
            async with asyncio.timeout(for_s or None):
                await self.load_over.wait()
        except TimeoutError:
            return

    # -- blows -----------------------------------------------------------------------------------------------------------------------

    async def _disconnect(self, mine: list[Member], plan: Disconnect) -> int:
        if not plan.resume:
            self._dropping.end_windows(mine, in_flight_ns=IN_FLIGHT_NS if plan.abrupt else 0)
        for member in mine:
            self._crowd.excuse(member)
        if plan.abrupt:
            for member in mine:
                if member.connection is not None:
                    member.connection.abort()
        else:
            async with tasks.group() as leaving:
                for member in mine:
                    leaving.create_task(self._crowd.leave(member))
        await asyncio.sleep(plan.back_after_s)
        return await self._bring_back(mine, plan, resume=plan.resume, spread_s=plan.spread_s)

    async def _drop(self, chosen: set[int], mine: list[Member], plan: Drop) -> int:
        if not plan.back:
            self.gone |= chosen
        await self._dropping.drop(mine, plan)
        if not plan.back:
            return 0
        await asyncio.sleep(plan.back_after_s)
        return await self._bring_back(mine, plan, resume=plan.resume)

    async def _churn(self, mine: list[Member], fails: set[int]) -> int:
        clean = [member for member in mine if member.number not in fails]
        dropped = [member for member in mine if member.number in fails]
        self._dropping.end_windows(clean, in_flight_ns=0)
        self._dropping.end_windows(dropped, in_flight_ns=IN_FLIGHT_NS)
        for member in dropped:
            self._crowd.excuse(member)
            if member.connection is not None:
                member.connection.abort()
        back = 0
        for member in clean:
            if member.connection is None:
                continue
            try:
                self._crowd.excuse_subscriptions(member)
                await member.connection.unsubscribe(member.slots)
                back += await self._subscribe_anew(member)
            except (SystemUnderTestError, TimeoutError) as exc:
                self._crowd.refusals[str(exc)] += 1
        return back + await self._bring_back(dropped, AGAIN, resume=False)

    async def _subscribe_anew(self, member: Member) -> bool:
        for wait_s in AGAIN.waits_s(self._chance(member)):
            await asyncio.sleep(wait_s)
            try:
                await self._crowd.subscribe_anew(member)
            except FailedByFaultError:
                continue
            return True
        return False

    async def _bring_back(self, members: list[Member], backoff: Backoff, *, resume: bool, spread_s: float = 0.0) -> int:
        """Let each member come back by itself; returns how many did."""
        back: list[Member] = []

        async def come_back(member: Member, after_s: float) -> None:
            await asyncio.sleep(after_s)
            if await self._rejoin(member, backoff, resume=resume):
                back.append(member)

        async with tasks.group() as returning:  # one task for each connection: each waits for its own time
            for place, member in enumerate(members):
                returning.create_task(come_back(member, spread_s * place / len(members)))
        return len(back)

    async def _rejoin(self, member: Member, backoff: Backoff, *, resume: bool) -> bool:
        reason = ""
        for wait_s in backoff.waits_s(self._chance(member)):
            await asyncio.sleep(wait_s)
            try:
                await self._crowd.join(member, self._sink, resume=resume)
            except FailedByFaultError:
                reason = ""
            except (SystemUnderTestError, TimeoutError) as exc:
                reason = str(exc)
            else:
                return True
        if reason:
            self._crowd.refusals[reason] += 1
        return False

    def _chance(self, member: Member) -> np.random.Generator:
        return np.random.default_rng((self._seed, member.number, 2))
