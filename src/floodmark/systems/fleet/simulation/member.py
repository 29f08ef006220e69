"""One simulated process of the fleet: a node with a link, a worker, the consumer that it points, and a supervisor that starts it anew.

The consumer stands for the user's work: it takes its time to change over, can fail to, and says at every moment what it works on. A worker
that changes it twice at once is reported.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from typing import Final

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.partition import Partition, Source
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.simulation.loop import Node, VirtualLoop
from floodmark.systems.fleet.simulation.network import Link
from floodmark.systems.fleet.simulation.ownership import Ownership
from floodmark.systems.fleet.simulation.store import SimulatedStore
from floodmark.systems.fleet.states import WorkerState
from floodmark.systems.fleet.store.base import StoreUnavailableError
from floodmark.systems.fleet.strategy.base import Strategy
from floodmark.systems.fleet.worker import Worker

RESTART_S: Final = 0.5  # how long the supervisor of a worker that could not start waits


class SimulatedConsumer:
    """What a worker points at its partitions."""

    def __init__(
        self, name: str, link: Link, loop: VirtualLoop, ownership: Ownership, report: Callable[[str, str], None], rng: random.Random
    ) -> None:
        self._name = name
        self._link = link
        self._loop = loop
        self._ownership = ownership
        self._report = report
        self._draw = rng.random
        self._busy = False

    async def update(self, worker_id: str, partitions: Sequence[Partition], *, epoch: int = 0, version: int = 0) -> None:
        """Change over, after a while."""
        if self._busy:
            self._report("ONE UPDATE", f"{self._name} changes its consumer to version {version} while another change is on its way")
        self._busy = True
        try:
            weather = self._link.weather
            await asyncio.sleep(self._draw() * weather.consumer_limit_s)
            if weather.consumer_fail_ratio and self._draw() < weather.consumer_fail_ratio:
                raise StoreUnavailableError("consumer update", "planted")
            self._ownership.take(self._loop.now_s, self._name, [partition.id for partition in partitions])
        finally:
            self._busy = False

    async def aclose(self) -> None:
        """Work on nothing more."""
        self._ownership.take(self._loop.now_s, self._name, ())


class Member:
    """One process. `crashed` and `left` are for good; a restart is another member."""

    def __init__(
        self,
        name: str,
        *,
        node: Node,
        link: Link,
        settings: Settings,
        strategy: Strategy,
        source: Source,
        ownership: Ownership,
        report: Callable[[str, str], None],
        note: Callable[[str, str], None],
        rng: random.Random,
    ) -> None:
        self.name = name
        self.node = node
        self.link = link
        self.worker: Worker | None = None
        self.crashed = False
        self.left = False
        self.leaving = False
        self._source = source
        self._settings = settings
        self._strategy = strategy
        self._note = note
        self._rng = rng
        self._ownership = ownership
        self._loop = link.server.loop
        self._consumer = SimulatedConsumer(name, link, self._loop, ownership, report, rng)
        self._store = SimulatedStore(link)

    @property
    def live(self) -> bool:
        """Whether it should take part."""
        return not (self.crashed or self.left or self.leaving)

    @property
    def worker_id(self) -> str:
        """The id it has, or an empty text."""
        return (self.worker.worker_id or "") if self.worker is not None else ""

    @property
    def is_leader(self) -> bool:
        """Whether it believes that it leads."""
        worker = self.worker
        return worker is not None and self._loop.ask_in(self.node, lambda: worker.is_leader)

    @property
    def judging_since_s(self) -> float:
        """Since when it would declare others lost, if it led; may be in the future, inf: it would not, and nobody knows when it will."""
        membership = self.worker.membership if self.worker is not None else None
        if membership is None:
            return 0.0
        if self.worker is not None and self.worker.state is WorkerState.DEGRADED:
            return math.inf
        return membership.recovered_until_s / self.node.clock_rate

    def start(self) -> asyncio.Task[None]:
        """Begin to live; the caller keeps the task."""
        return self._loop.start_in(self.node, self._live(), name=f"{self.name} lives")

    def leave(self) -> asyncio.Task[None]:
        """Stop in order."""
        self.leaving = True
        return self._loop.start_in(self.node, self._stop(), name=f"{self.name} leaves")

    def refresh(self) -> asyncio.Task[None]:
        """Ask for a round with the partitions as they are now."""
        return self._loop.start_in(self.node, self._refresh(), name=f"{self.name} refreshes")

    async def _live(self) -> None:
        while not self.leaving:
            worker = self.worker = Worker(
                self._settings, self._store, self._source, strategy=self._strategy, consumer=self._consumer, rng=self._rng
            )
            try:
                await worker.start()
            except FloodmarkError as exc:
                self._note(self.name, f"could not start: {exc}")
                await asyncio.sleep(RESTART_S)
            else:
                self._note(self.name, f"started as {worker.worker_id}")
                return

    async def _stop(self) -> None:
        if self.worker is not None:
            try:
                await self.worker.stop()
            except FloodmarkError as exc:
                self._note(self.name, f"stopped with {exc}")
        await self._consumer.aclose()
        self.left = True
        self._note(self.name, "left")

    async def _refresh(self) -> None:
        try:
            assert self.worker is not None
            await self.worker.refresh_partitions()
        except FloodmarkError as exc:
            self._note(self.name, f"could not refresh: {exc}")
