"""Workers on a real nats-server: how soon they have work, and what they keep when the server goes and comes back."""

from __future__ import annotations

import asyncio
import functools
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec

import psutil
import pytest

from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet.partition import Partition, StaticSource
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.states import WorkerState
from floodmark.systems.fleet.store.base import Entry
from floodmark.systems.fleet.store.nats import NatsStore
from floodmark.systems.fleet.worker import Worker

ROOT = Path(__file__).parents[3]
FAST = profile("fast")
PATIENT = profile("fast", heartbeat_ttl_s=4.0, election_timeout_s=4.0, startup_limit_s=30.0)  # the machine may stand still for 2 s


P = ParamSpec("P")


def real(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an `async def` test one that pytest can call, in real time."""

    @functools.wraps(test)
    def in_real_time(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return in_real_time


async def until(condition: Callable[[], bool], limit_s: float) -> float:
    """Wait for a condition. Returns: how long it took; fails when it does not come."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < limit_s, f"did not come true within {limit_s:g} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began_s


def make(store: NatsStore, settings: Settings, number: int, *, partition_count: int = 30) -> Worker:
    source = StaticSource(Partition(keys=(f"p{partition}",)) for partition in range(partition_count))
    return Worker(settings, store, source, rng=random.Random(number))


def is_settled(workers: list[Worker], partition_count: int = 30) -> bool:
    """Everybody is stable under one version, and every partition has one worker."""
    held = [worker.assignment for worker in workers]
    if any(worker.state is not WorkerState.STABLE for worker in workers) or len({found.version for found in held if found}) != 1:
        return False
    names = [partition.id for found in held if found is not None for partition in found.partitions]
    return len(names) == len(set(names)) == partition_count


@asynccontextmanager
async def workers_on(
    store: NatsStore, count: int, settings: Settings, *, first: int = 0, partition_count: int = 30
) -> AsyncIterator[list[Worker]]:
    workers = [make(store, settings, first + number, partition_count=partition_count) for number in range(count)]
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.start())
        yield workers
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))


@pytest.mark.alone
@real
async def test_first_worker_with_the_defaults_has_work_within_a_second() -> None:
    async with EmbeddedNats() as server, await NatsStore.connect(server.url) as store:
        worker = make(store, Settings(), 0)
        began_s = time.monotonic()

        await worker.start()

        assert time.monotonic() - began_s < 1.0
        assert worker.assignment is not None
        assert len(worker.assignment.partitions) == 30
        await worker.stop()


@real
async def test_three_workers_settle_and_leave_nothing_but_their_records() -> None:
    async with EmbeddedNats() as server, await NatsStore.connect(server.url) as store:
        async with workers_on(store, 3, FAST) as workers:
            await until(lambda: is_settled(workers), 30.0)
            assert sum(worker.is_leader for worker in workers) == 1

        left = [entry.key for name in (FAST.id_bucket, FAST.election_bucket, FAST.heartbeat_bucket) for entry in await listed(store, name)]
        assert left == []


async def listed(store: NatsStore, name: str) -> list[Entry]:
    bucket = await store.bucket(name)
    return await bucket.entries()


@real
async def test_b32_workers_keep_their_ids_over_a_restart_of_a_server_that_keeps_its_store(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedNats(keep=True, store=str(tmp_path)))
        stores = [await stack.enter_async_context(await NatsStore.connect(server.url)) for _ in range(3)]
        workers = [make(store, PATIENT, number) for number, store in enumerate(stores)]
        try:
            for worker in workers:
                await worker.start()
            await until(lambda: is_settled(workers), 30.0)
            before = [(worker.worker_id, frozenset(held(worker))) for worker in workers]

            assert server.process is not None
            server.process.send_signal(signal.SIGKILL)
            await until(lambda: server.restart_count == 1, 20.0)
            await until(lambda: all(store.connected for store in stores), 30.0)
            await until(lambda: is_settled(workers), 30.0)

            assert [(worker.worker_id, frozenset(held(worker))) for worker in workers] == before
        finally:
            await asyncio.gather(*(worker.stop() for worker in workers))


def held(worker: Worker) -> set[str]:
    assignment = worker.assignment
    return {partition.id for partition in assignment.partitions} if assignment is not None else set()


@pytest.mark.alone
@real
async def test_fifty_workers_of_one_process_settle_within_ten_seconds_at_little_memory_each() -> None:
    patient = profile("fast", startup_limit_s=30.0)
    async with EmbeddedNats() as server, await NatsStore.connect(server.url) as store:
        process = psutil.Process()
        async with workers_on(store, 1, patient, partition_count=500) as first:
            await until(lambda: is_settled(first, 500), 10.0)
            before_bytes = process.memory_info().rss
            began_s = time.monotonic()

            async with workers_on(store, 49, patient, first=1, partition_count=500) as more:
                await until(lambda: is_settled(first + more, 500), 10.0)
                took_s = time.monotonic() - began_s
                each_mb = (process.memory_info().rss - before_bytes) / 49 / 1e6

                assert took_s < 10.0
                assert each_mb < 0.3


def test_example_runs_and_every_order_is_handled() -> None:
    done = subprocess.run([sys.executable, ROOT / "examples/fleet_worker.py"], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("600 orders handled, 0 of them twice; by worker: ")
    assert "worker-2, version" in done.stdout
