"""The two ways of handing over, with real workers whose consumers take their time: how long two of them work on one partition."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from floodmark.systems.fleet import Handover, MemoryBackend, MemoryStore, Partition, Settings, StaticSource, Worker, WorkerState, profile
from floodmark.systems.fleet.simulation.loop import run_virtual
from tests.systems.fleet.leader.acting import partitions

PARTITIONS = partitions(60)
SLOW_S = 0.25  # the most that an update takes


class Ownership:
    """Who works on what, and for how long in all two worked on the same."""

    def __init__(self) -> None:
        self.working: dict[int, set[str]] = {}
        self.overlap_s = 0.0
        self.uncovered_s = 0.0
        self._since_s = 0.0

    def change(self, consumer: int, working: set[str]) -> None:
        """From now on this one works on these."""
        now_s = asyncio.get_running_loop().time()
        counts = Counter(name for names in self.working.values() for name in names)
        self.overlap_s += (now_s - self._since_s) * sum(count > 1 for count in counts.values())
        if counts:
            self.uncovered_s += (now_s - self._since_s) * (len(PARTITIONS) - len(counts))
        self._since_s = now_s
        self.working[consumer] = working


class SlowConsumer:
    """Lets go of nothing before an update is done, and begins with what is new when it starts."""

    def __init__(self, number: int, ownership: Ownership) -> None:
        self._number = number
        self._ownership = ownership
        self._rng = random.Random(number)
        self._has: set[str] = set()

    async def update(self, worker_id: str, wanted: Sequence[Partition], *, epoch: int = 0, version: int = 0) -> None:
        new = {partition.id for partition in wanted}
        self._ownership.change(self._number, self._has | new)
        await asyncio.sleep(self._rng.uniform(0, SLOW_S))
        self._has = new
        self._ownership.change(self._number, new)

    async def aclose(self) -> None:
        self._ownership.change(self._number, set())


async def scaled(settings: Settings) -> Ownership:
    """Three workers at rest, then two more: what that did."""
    ownership, backend = Ownership(), MemoryBackend()
    workers: list[Worker] = []

    async def hire(count: int) -> None:
        ownership.overlap_s = ownership.uncovered_s = 0.0
        async with asyncio.TaskGroup() as group:
            for number in range(len(workers), len(workers) + count):
                consumer = SlowConsumer(number, ownership)
                worker = Worker(settings, MemoryStore(backend), StaticSource(PARTITIONS), consumer=consumer, rng=random.Random(number))
                workers.append(worker)
                group.create_task(worker.start())
        await asyncio.sleep(20.0)

    await hire(3)
    await hire(2)
    held = [name for names in ownership.working.values() for name in names]
    assert sorted(held) == [partition.id for partition in PARTITIONS]
    assert all(worker.state is WorkerState.STABLE for worker in workers)
    seen = Ownership()
    seen.overlap_s, seen.uncovered_s = ownership.overlap_s, ownership.uncovered_s
    for worker in workers:
        await worker.stop()
    return seen


@pytest.mark.parametrize("seed", range(5))
def test_handover_confirmed_never_has_two_workers_on_one_partition_and_pays_with_a_pause(seed: int) -> None:
    direct = run_virtual(scaled(profile("fast", handover=Handover.DIRECT)), seed=seed)
    confirmed = run_virtual(scaled(profile("fast", handover=Handover.CONFIRMED)), seed=seed)

    assert direct.overlap_s > 0
    assert confirmed.overlap_s == 0
    assert confirmed.uncovered_s > direct.uncovered_s
