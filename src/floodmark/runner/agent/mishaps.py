"""Carry out the faults that happen in the clients. What they dropped is theirs, and the ledger's windows say so."""

from __future__ import annotations

import asyncio
import time

from floodmark.core import tasks
from floodmark.core.errors import HarnessBugError, SystemUnderTestError
from floodmark.drivers.base import Sink
from floodmark.faults import FaultPlan
from floodmark.faults.churn import Churn, failing
from floodmark.faults.disconnect import Disconnect, victims
from floodmark.ledger.accounts import Accounts
from floodmark.model.scenario import Fault
from floodmark.runner.agent.subscribing import Crowd, Member
from floodmark.runner.wire import Did

CREW = 128
TRIES = 50
IN_FLIGHT_NS = 1_000_000_000
"""What was acknowledged so shortly before a socket was dropped may have been in it, so it is not required."""


class Mishaps:
    """Faults of one agent. Every one reports how many connections it hit, how many came back, and how long the last one took."""

    def __init__(self, *, crowd: Crowd, sink: Sink, accounts: Accounts, connections: int, seed: int) -> None:
        self._crowd = crowd
        self._sink = sink
        self._accounts = accounts
        self._connections = connections
        self._seed = seed

    async def strike(self, number: int, fault: Fault, plan: FaultPlan, occasion: int) -> Did:
        """Carry out one occasion of a fault on the members that it chose."""
        chosen = victims(self._connections, fault.ratio, seed=self._seed, occasion=occasion)
        mine = [member for number_, member in self._crowd.members.items() if number_ in chosen and member.connection is not None]
        start_ns = time.monotonic_ns()
        if isinstance(plan, Disconnect):
            back = await self._disconnect(mine, plan)
        elif isinstance(plan, Churn):
            back = await self._churn(mine, failing(chosen, plan.failure_ratio, seed=self._seed, occasion=occasion))
        else:
            raise HarnessBugError(f"the fault {fault.kind!r} is not one of the clients'")
        return Did(
            number=number,
            figures={"fault_hits": len(mine), "fault_back": back},
            worst_s=(time.monotonic_ns() - start_ns) / 1e9 if mine else 0.0,
        )

    async def _disconnect(self, mine: list[Member], plan: Disconnect) -> int:
        if not plan.resume:
            self._end_windows(mine, in_flight_ns=IN_FLIGHT_NS if plan.abrupt else 0)
        for member in mine:
            member.leaving = True
        if plan.abrupt:
            for member in mine:
                if member.connection is not None:
                    member.connection.abort()
        else:
            async with tasks.group() as leaving:
                for member in mine:
                    if member.connection is not None:
                        leaving.create_task(member.connection.close())
        await asyncio.sleep(plan.back_after_s)
        return await self._bring_back(mine, resume=plan.resume, spread_s=plan.spread_s)

    async def _churn(self, mine: list[Member], fails: set[int]) -> int:
        clean = [member for member in mine if member.number not in fails]
        dropped = [member for member in mine if member.number in fails]
        self._end_windows(clean, in_flight_ns=0)
        self._end_windows(dropped, in_flight_ns=IN_FLIGHT_NS)
        for member in dropped:
            member.leaving = True
            if member.connection is not None:
                member.connection.abort()
        back = 0
        for member in clean:
            connection = member.connection
            if connection is None:
                continue
            try:
                await connection.unsubscribe(member.slots)
                await self._crowd.subscribe_anew(member)
                back += 1
            except (SystemUnderTestError, TimeoutError) as exc:
                self._crowd.refusals[str(exc)] += 1
        return back + await self._bring_back(dropped, resume=False, spread_s=0.0)

    def _end_windows(self, members: list[Member], *, in_flight_ns: int) -> None:
        """Require nothing more. Whoever drops its socket throws away what is in it, though the target was right to acknowledge that."""
        end_ns = time.monotonic_ns() - in_flight_ns
        for member in members:
            for slot in member.slots:
                self._accounts.close(slot, end_ns)

    async def _bring_back(self, members: list[Member], *, resume: bool, spread_s: float) -> int:
        queue = iter(enumerate(members))
        start = time.monotonic()
        back = [0]

        async def work() -> None:
            for place, member in queue:
                await asyncio.sleep(max(0.0, start + spread_s * place / max(len(members), 1) - time.monotonic()))
                if await self._rejoin(member, resume=resume):
                    back[0] += 1

        async with tasks.group() as crew:
            for _ in range(min(CREW, max(len(members), 1))):
                crew.create_task(work())
        return back[0]

    async def _rejoin(self, member: Member, *, resume: bool) -> bool:
        for attempt in range(TRIES):
            member.leaving = False
            try:
                await self._crowd.join(member, self._sink, resume=resume)
            except (SystemUnderTestError, TimeoutError) as exc:
                if attempt == TRIES - 1:
                    self._crowd.refusals[str(exc)] += 1
                await asyncio.sleep(min(0.05 * 2**attempt, 1.0))
            else:
                return True
        return False
