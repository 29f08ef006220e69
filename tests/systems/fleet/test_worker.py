"""The life of a worker: start, share, lead, stop; and what its user is told of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from floodmark.systems.fleet.errors import (
    AlreadyStartedError,
    AssignmentTimeoutError,
    ConnectivityError,
    ElectionError,
    IdClaimError,
    NotLeaderError,
    NotStartedError,
    StateTimeoutError,
)
from floodmark.systems.fleet.metrics import Metric
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.states import WorkerState
from tests.systems.fleet.crew import FAST, Crew, until

W = WorkerState


@virtual
async def test_worker_alone_with_the_defaults_has_everything_within_a_second() -> None:
    crew = Crew(settings=Settings())
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    mate = crew.hire()
    await mate.worker.start()

    assert loop.time() - began_s < 1.0
    assert mate.worker.assignment is not None
    assert len(mate.worker.assignment.partitions) == 10
    assert mate.worker.is_leader
    await crew.dismiss()


@virtual
async def test_worker_walks_the_required_states() -> None:
    crew = Crew()

    async with crew.at_work(1) as (mate,):
        pass

    assert mate.states[:3] == [W.CLAIMING_ID, W.ELECTION, W.WAITING_ASSIGNMENT]
    assert mate.states[-2:] == [W.STABLE, W.SHUTDOWN]
    assert mate.metrics.counted(Metric.STATE_TRANSITIONS) == len(mate.states)


@virtual
async def test_three_workers_share_everything_and_each_knows_who_leads() -> None:
    crew = Crew(partition_count=30)

    async with crew.at_work(3) as mates:
        assert crew.covered()
        assert {mate.worker.leader_id for mate in mates} == {crew.leader.worker.worker_id}
        assert sorted(mate.worker.worker_id for mate in mates) == ["worker-0", "worker-1", "worker-2"]


@virtual
async def test_worker_with_no_partitions_to_share_is_stable() -> None:
    crew = Crew(partition_count=0)

    async with crew.at_work(1) as (mate,):
        assert mate.worker.assignment is not None
        assert mate.worker.assignment.partitions == ()


@virtual
async def test_stop_leaves_no_key_but_the_records_of_what_was_assigned() -> None:
    crew = Crew()

    async with crew.at_work(2):
        pass

    assert [key for key in await crew.keys() if not key.startswith("assignment.")] == []


@virtual
async def test_stop_closes_the_consumer_and_tells_the_hook_that_all_is_removed() -> None:
    crew = Crew()

    async with crew.at_work(1) as (mate,):
        pass

    assert mate.consumer.closed
    assert len(mate.changes[-1].removed) == 10
    assert mate.changes[-1].added == ()


@virtual
async def test_hook_is_told_what_was_added_and_removed_and_the_version() -> None:
    crew = Crew(partition_count=12)

    async with crew.at_work(1) as (first,):
        second = crew.hire()
        await second.worker.start()
        await until(crew.settled, 5.0)

        change = first.changes[-1]
        assert second.worker.assignment is not None
        assert set(change.removed) == set(second.worker.assignment.partitions)
        assert change.added == ()
        assert (change.epoch, change.version) == second.worker.assignment.rank
        assert set(second.changes[-1].added) == set(change.removed)


@virtual
async def test_start_twice_is_refused() -> None:
    crew = Crew()

    async with crew.at_work(1) as (mate,):
        with pytest.raises(AlreadyStartedError):
            await mate.worker.start()

    with pytest.raises(AlreadyStartedError):
        await mate.worker.start()


@virtual
async def test_what_needs_a_running_worker_is_refused_before_the_start_and_after_the_stop() -> None:
    crew = Crew()
    mate = crew.hire()

    with pytest.raises(NotStartedError, match="cannot stop"):
        await mate.worker.stop()
    with pytest.raises(NotStartedError, match="cannot refresh partitions"):
        await mate.worker.refresh_partitions()
    await mate.worker.start()
    await mate.worker.stop()

    with pytest.raises(NotStartedError, match="cannot refresh partitions"):
        await mate.worker.refresh_partitions()
    await mate.worker.stop()  # once more is the same


@virtual
async def test_start_without_a_free_id_is_refused_at_once_with_what_to_do() -> None:
    crew = Crew(settings=profile("fast", id_max=1))

    async with crew.at_work(2):
        loop = asyncio.get_running_loop()
        began_s = loop.time()

        with pytest.raises(IdClaimError, match="all 2 of worker-0 to worker-1 are held; raise id_max"):
            await crew.hire().worker.start()

        assert loop.time() - began_s < 1.0


@virtual
async def test_start_without_a_store_ends_at_its_limit_and_says_so() -> None:
    crew = Crew()
    mate = crew.hire()
    mate.store.cut()
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    with pytest.raises(ConnectivityError, match="startup_limit_s = 5"):
        await mate.worker.start()

    assert loop.time() - began_s < FAST.startup_limit_s + FAST.shutdown_limit_s
    assert mate.worker.state is W.SHUTDOWN


@virtual
async def test_start_waits_for_a_store_that_comes_back() -> None:
    crew = Crew()
    mate = crew.hire()
    mate.store.cut()
    starting = asyncio.ensure_future(mate.worker.start())
    await asyncio.sleep(1.0)

    mate.store.heal()
    await starting

    assert mate.worker.assignment is not None
    await crew.dismiss()


@virtual
async def test_start_that_nobody_assigns_anything_ends_at_its_limit_and_leaves_nothing() -> None:
    async def fail() -> list[Partition]:
        raise ConnectionError("planted")

    crew = Crew()
    mate = crew.hire()
    mate.source.list_partitions = fail  # type: ignore[method-assign]

    with pytest.raises(AssignmentTimeoutError, match="worker-0 got no assignment within startup_limit_s = 5"):
        await mate.worker.start()

    assert await crew.keys() == []
    assert any("planted" in str(error) for error in mate.errors)


@virtual
async def test_wait_state_is_told_of_a_state_that_only_passes() -> None:
    crew = Crew()
    mate = crew.hire()
    waiting = asyncio.ensure_future(mate.worker.wait_state(W.REBALANCING, 3.0))
    await asyncio.sleep(0)

    await mate.worker.start()
    await waiting

    await mate.worker.wait_state(mate.worker.state, 0.0)
    with pytest.raises(StateTimeoutError, match="did not become Degraded within 1 s; it is"):
        await mate.worker.wait_state(W.DEGRADED, 1.0)
    await crew.dismiss()


@virtual
async def test_refresh_by_the_leader_shares_what_is_new_and_a_follower_refuses() -> None:
    crew = Crew()

    async with crew.at_work(2):
        crew.partitions.append(Partition(keys=("new",)))
        crew.leader.source.update(crew.partitions)

        await crew.leader.worker.refresh_partitions()
        await until(crew.settled, 2.0)

        assert len(crew.owners()["new"]) == 1
        with pytest.raises(NotLeaderError, match="only the leader calculates"):
            await crew.followers[0].worker.refresh_partitions()


@virtual
async def test_wait_stopped_returns_after_a_stop_and_raises_what_ended_a_worker_by_itself() -> None:
    crew = Crew()
    mate, broken = crew.hire(), crew.hire()
    with pytest.raises(NotStartedError, match="cannot wait for its end"):
        await mate.worker.wait_stopped()
    await mate.worker.start()
    await broken.worker.start()
    waiting = asyncio.ensure_future(mate.worker.wait_stopped())
    broken.worker._parts.contact.health.check = lambda _now_s: 1 / 0  # type: ignore[method-assign, assignment, return-value]

    with pytest.raises(ZeroDivisionError):
        await broken.worker.wait_stopped()
    assert broken.worker.state is W.SHUTDOWN
    assert any(isinstance(error, ZeroDivisionError) for error in broken.errors)
    assert not waiting.done()
    await crew.dismiss()
    await waiting

    assert [key for key in await crew.keys() if not key.startswith("assignment.")] == []


@virtual
async def test_election_of_the_users_own_is_used() -> None:
    made: list[str] = []

    class Nobody:
        leader = None
        leader_since_s = 0.0
        leading = False

        def __init__(self, *_: object, worker_id: str, **__: object) -> None:
            made.append(worker_id)

        async def try_once(self) -> None:
            return None

        async def run(self, _lead: object) -> None:
            await asyncio.get_running_loop().create_future()

        async def release(self) -> None:
            made.append("released")

    crew = Crew()
    mate = crew.hire(election=Nobody)

    with pytest.raises(AssignmentTimeoutError):
        await mate.worker.start()

    assert made == ["worker-0", "released"]


@virtual
async def test_worker_whose_leading_fails_tells_and_leaves_the_lead_to_another() -> None:
    crew = Crew()
    async with crew.at_work(1) as (first,):
        second = crew.hire()
        await second.worker.start()
        await until(crew.settled, 5.0)
        assert first.worker.membership is not None
        calculator = first.worker.membership.calculator
        assert calculator is not None

        calculator._lease = None  # type: ignore[assignment]  # as a bug of ours would: the loop itself breaks
        await until(lambda: second.worker.is_leader, 5.0)

        assert any(isinstance(error, ElectionError) for error in first.errors)
        assert crew.leader is second


def test_import_of_the_fleet_brings_neither_the_nats_client_nor_numpy() -> None:
    script = "import sys, floodmark.systems.fleet; print({'nats', 'numpy', 'msgspec'} & set(sys.modules))"

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert found.stdout == "{'msgspec'}\n"


@pytest.mark.alone
def test_import_of_the_fleet_costs_little_beyond_core() -> None:
    script = (
        "import time, asyncio, msgspec, floodmark.core.nats_server\n"
        "began_s = time.perf_counter()\nimport floodmark.systems.fleet\nprint(time.perf_counter() - began_s)"
    )

    tries_s = [float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout) for _ in range(5)]

    assert min(tries_s) < 0.15
