"""The functional scenarios that need no server, on virtual time: the election race, leaders that come and go, the paths of the states."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, LEADER_KEY, AssignmentRecord, LeaderRecord, decode
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.states import WORKER_STEPS, WorkerState
from floodmark.systems.fleet.store.base import Entry
from tests.systems.fleet.crew import FAST, Crew, Mate, partitions, until

W = WorkerState
SETTLE_S = 10.0


class Log:
    """Everything that was written, as the store saw it."""

    def __init__(self, crew: Crew) -> None:
        self.written: list[tuple[str, tuple[int, int]]] = []
        self.leaders: dict[int, set[str]] = {}
        crew.backend.observers.append(self._note)

    def _note(self, _bucket: str, entry: Entry) -> None:
        if entry.deleted:
            return
        if entry.key.startswith(ASSIGNMENT_PREFIX):
            record = decode(AssignmentRecord, entry.key, entry.value)
            self.written.append((entry.key, (record.epoch, record.version)))
        elif entry.key == LEADER_KEY:
            leader = decode(LeaderRecord, entry.key, entry.value)
            self.leaders.setdefault(leader.epoch, set()).add(leader.token)

    def falls(self) -> Iterator[str]:
        """Records that were older than one written before them."""
        highest = (0, 0)
        for key, rank in self.written:
            if rank < highest:
                yield f"{key} {rank} after {highest}"
            highest = max(highest, rank)

    def ranks(self) -> list[tuple[int, int]]:
        return sorted({rank for _, rank in self.written})

    def check(self) -> None:
        assert self.written, "nothing was published"
        assert list(self.falls()) == []
        assert all(len(tokens) == 1 for epoch, tokens in self.leaders.items() if epoch), self.leaders


def illegal_steps(mate: Mate) -> list[tuple[WorkerState, WorkerState]]:
    path = [W.INIT, *mate.states]
    return [(old, new) for old, new in itertools.pairwise(path) if not WORKER_STEPS.allows(old, new)]


@virtual
async def test_b7_source_that_grows_and_empties_is_followed_and_a_copy_of_its_list_changes_nothing() -> None:
    crew = Crew(partition_count=3)
    async with crew.at_work(2):
        leader = crew.leader
        for count in (5, 0, 4):
            given = crew.partitions = partitions(count)
            leader.source.update(given)
            given.append(partitions(100)[99])  # the source has copied it
            await leader.worker.refresh_partitions()
            await until(lambda: all(mate.worker.state is W.STABLE for mate in crew.live), SETTLE_S)

            crew.partitions = partitions(count)
            assert crew.covered()
            assert sum(len(mate.consumer.working_on) for mate in crew.live) == count
            (await leader.source.list_partitions()).clear()  # and gives copies out
            assert len(await leader.source.list_partitions()) == count


@virtual
async def test_b7_source_that_gives_none_is_told_of_and_nobody_loses_anything() -> None:
    async def nothing() -> None:
        return None

    crew = Crew(partition_count=12)
    async with crew.at_work(2):
        leader = crew.leader
        honest = leader.source.list_partitions
        leader.source.list_partitions = nothing  # type: ignore[method-assign, assignment]
        refreshing = asyncio.ensure_future(leader.worker.refresh_partitions())
        await asyncio.sleep(2.0)

        assert crew.covered()
        assert leader.errors
        leader.source.list_partitions = honest  # type: ignore[method-assign]
        await asyncio.gather(refreshing, return_exceptions=True)
        await until(crew.settled, SETTLE_S)


@virtual
async def test_b22_five_simultaneous_starts_have_one_leader_and_all_are_stable() -> None:
    crew = Crew(partition_count=20)
    log = Log(crew)

    async with crew.at_work(5) as mates:
        assert sum(mate.worker.is_leader for mate in mates) == 1
        assert {mate.worker.state for mate in mates} == {W.STABLE}
        assert len({mate.worker.worker_id for mate in mates}) == 5
        log.check()


@virtual
async def test_b23_crash_of_the_leader_is_followed_within_eight_seconds() -> None:
    crew = Crew(partition_count=20)
    log = Log(crew)
    async with crew.at_work(4):
        old = crew.leader

        await old.worker.abandon()
        failover_s = await until(lambda: any(mate.worker.is_leader for mate in crew.live), 8.0)
        await until(crew.settled, SETTLE_S)

        assert failover_s < FAST.election_timeout_s + 0.5
        log.check()


@virtual
async def test_b23_lease_is_renewed_for_six_seconds_and_longer() -> None:
    crew = Crew()
    async with crew.at_work(3):
        leader, epochs = crew.leader, set[int]()

        for _ in range(12):
            await asyncio.sleep(0.5)
            assert crew.leader is leader
            assert leader.worker.assignment is not None
            epochs.add(leader.worker.assignment.epoch)

        assert len(epochs) == 1


@virtual
async def test_b23_followers_keep_their_assignment_while_the_leader_leaves_and_is_replaced() -> None:
    crew = Crew(partition_count=20)
    log = Log(crew)
    async with crew.at_work(3):
        old, followers = crew.leader, crew.followers
        had = [set(mate.consumer.working_on) for mate in followers]
        before = len(log.ranks())

        await old.worker.stop()
        await until(lambda: len(crew.live) == 2 and crew.settled(), SETTLE_S)

        assert all(held <= set(mate.consumer.working_on) for held, mate in zip(had, followers, strict=True))
        assert not any(() in mate.consumer.updates for mate in followers)
        assert len(log.ranks()) - before <= 2
        log.check()


@virtual
async def test_b23_three_rounds_of_leaders_that_crash_leave_no_orphan_and_no_duplicate() -> None:
    crew = Crew(partition_count=20)
    log = Log(crew)
    async with crew.at_work(4):
        for _ in range(3):
            await crew.leader.worker.abandon()
            await crew.hire().worker.start()
            await until(lambda: len(crew.live) == 4 and crew.settled(), SETTLE_S)

        log.check()


@virtual
async def test_b23_rapid_churn_of_leaders_settles() -> None:
    crew = Crew(partition_count=10)
    log = Log(crew)
    async with crew.at_work(3):
        for _ in range(3):
            await crew.leader.worker.stop()
            await crew.hire().worker.start()
        await until(lambda: len(crew.live) == 3 and crew.settled(), SETTLE_S)

        log.check()


@pytest.mark.parametrize("state", [W.REBALANCING, W.SCALING, W.EMERGENCY])
def test_b23_leader_that_stops_in_the_middle_of_it_is_replaced_and_all_is_covered(state: WorkerState) -> None:
    @virtual
    async def stop_there() -> None:
        crew = Crew(partition_count=20)
        log = Log(crew)
        async with crew.at_work(4):
            leader = crew.leader
            waiting = asyncio.ensure_future(leader.worker.wait_state(state, 5.0))
            if state is W.EMERGENCY:
                await crew.followers[0].worker.abandon()
                joining = asyncio.ensure_future(asyncio.sleep(0))
            else:
                joining = asyncio.ensure_future(crew.hire().worker.start())
            await waiting

            await leader.worker.stop()
            await joining
            await until(lambda: any(mate.worker.is_leader for mate in crew.live) and crew.settled(), SETTLE_S)

            log.check()

    stop_there()


@virtual
async def test_b26_two_that_are_cut_off_the_leader_among_them_write_nothing_and_there_is_one_leader_at_a_time() -> None:
    crew = Crew(partition_count=50)
    log = Log(crew)
    async with crew.at_work(4):
        minority = [crew.leader, crew.followers[0]]
        leaders: list[int] = []

        for mate in minority:
            mate.store.cut()
        for _ in range(10):
            await asyncio.sleep(0.5)
            leaders.append(sum(mate.worker.is_leader for mate in crew.live))
        assert all(mate.consumer.working_on == () for mate in minority)
        assert crew.covered()
        assert crew.leader not in minority
        for mate in minority:
            mate.store.heal()
        await until(crew.settled, SETTLE_S)

        assert max(leaders) == 1
        assert leaders[-1] == 1
        assert all(mate.consumer.working_on != () for mate in crew.mates)
        log.check()


@virtual
async def test_leader_that_lost_its_lease_and_won_it_back_leads_with_a_higher_epoch_and_moves_nothing() -> None:
    crew = Crew(partition_count=20)
    log = Log(crew)
    async with crew.at_work(1) as (mate,):
        had = set(mate.consumer.working_on)
        assert mate.worker.assignment is not None
        epoch = mate.worker.assignment.epoch

        def is_renewed() -> bool:
            return mate.worker.assignment is not None and mate.worker.assignment.epoch > epoch

        mate.store.cut()
        await until(lambda: not mate.worker.is_leader, FAST.election_timeout_s)
        mate.store.heal()
        await until(lambda: is_renewed() and crew.settled(), SETTLE_S)

        assert mate.worker.is_leader
        assert set(mate.consumer.working_on) == had
        log.check()


@virtual
async def test_b24_none_to_three_is_a_cold_start_with_a_round_at_once_and_one_at_the_end() -> None:
    crew = Crew(partition_count=10)
    log = Log(crew)

    await crew.hire().worker.start()
    async with crew.at_work(2):
        await asyncio.sleep(2 * FAST.cold_start_s)

        assert {change.lifecycle for mate in crew.mates for change in mate.changes} == {"cold_start"}
        assert len(log.ranks()) == 2
        assert crew.settled()


@virtual
async def test_b24_three_to_five_is_a_planned_scale() -> None:
    crew = Crew(partition_count=20)
    log = Log(crew)
    async with crew.at_work(3):
        await asyncio.sleep(2.0)
        before = len(log.ranks())

        await asyncio.gather(*(crew.hire().worker.start() for _ in range(2)))
        await until(lambda: len(crew.live) == 5 and crew.settled(), SETTLE_S)

        assert len(log.ranks()) - before == 1
        assert crew.leader.changes[-1].lifecycle == "planned_scale"
        assert W.SCALING in crew.leader.states
        log.check()


@virtual
async def test_b24_crash_is_an_emergency_and_everything_is_covered_again() -> None:
    crew = Crew(partition_count=20)
    log = Log(crew)
    async with crew.at_work(3):
        await asyncio.sleep(2.0)
        lost = crew.followers[0]
        had = set(lost.consumer.working_on)
        loop = asyncio.get_running_loop()
        crash_s = loop.time()

        await lost.worker.abandon()
        await until(lambda: len(crew.live) == 2 and crew.settled() and crew.covered(), SETTLE_S)

        assert loop.time() - crash_s < FAST.heartbeat_ttl_s + FAST.emergency_grace_s + 1.0
        assert W.EMERGENCY in crew.leader.states
        gained = {partition.id for mate in crew.live for partition in mate.changes[-1].added}
        assert gained == had
        log.check()


@virtual
async def test_b24_restart_of_ten_workers_is_covered_again_under_the_same_ids() -> None:
    crew = Crew(partition_count=100)
    log = Log(crew)
    async with crew.at_work(10) as mates:
        names = {mate.worker.worker_id for mate in mates}
        await asyncio.gather(*(mate.worker.stop() for mate in mates))

        again = [crew.hire() for _ in range(10)]
        await asyncio.gather(*(mate.worker.start() for mate in again))
        await until(lambda: len(crew.live) == 10 and crew.settled(), SETTLE_S)

        assert {mate.worker.worker_id for mate in again} == names
        assert sum(len(mate.consumer.working_on) for mate in again) == 100
        log.check()


@virtual
async def test_b24_every_worker_walks_a_valid_path() -> None:
    crew = Crew(partition_count=5, settings=profile("fast", degraded_enter_s=2.0, connection_check_s=0.1))
    async with crew.at_work(3) as mates:
        await crew.leader.worker.abandon()
        await crew.hire().worker.start()
        await until(crew.settled, SETTLE_S)
        crew.followers[0].store.cut()
        await asyncio.sleep(4.0)
        crew.followers[0].store.heal()
        await until(crew.settled, SETTLE_S)

    for mate in mates:
        assert illegal_steps(mate) == []
        assert mate.states[-1] is W.SHUTDOWN
    assert any(W.DEGRADED in mate.states for mate in mates)


def test_check_of_the_paths_finds_a_planted_step() -> None:
    mate = Mate.__new__(Mate)
    mate.states = [W.CLAIMING_ID, W.STABLE]

    assert illegal_steps(mate) == [(W.CLAIMING_ID, W.STABLE)]


@virtual
async def test_check_of_the_log_finds_a_planted_fall_two_leaders_and_silence() -> None:
    log = Log(Crew())
    with pytest.raises(AssertionError, match="nothing was published"):
        log.check()

    log.written = [("assignment.worker-0", (2, 5)), ("assignment.worker-1", (1, 6))]
    assert list(log.falls()) == ["assignment.worker-1 (1, 6) after (2, 5)"]

    log.written = [("assignment.worker-0", (2, 5))]
    log.leaders = {2: {"one", "another"}}
    with pytest.raises(AssertionError, match="another"):
        log.check()


@virtual
async def test_crash_with_the_defaults_is_reassigned_within_its_bound_at_twenty_phases() -> None:
    async def crash(phase: int) -> float:
        crew = Crew(partition_count=30, settings=settings)
        async with crew.at_work(3):
            await asyncio.sleep(45.0 + phase / 10)
            await crew.followers[0].worker.abandon()
            return await until(lambda: len(crew.live) == 2 and crew.settled(), 20.0)

    settings = Settings()

    took_s = [await crash(phase) for phase in range(20)]

    assert max(took_s) < settings.heartbeat_ttl_s + settings.emergency_grace_s + 1.0
    assert min(took_s) > settings.emergency_grace_s


@virtual
async def test_confirmed_handover_never_has_two_workers_on_one_partition() -> None:
    crew = Crew(partition_count=30, settings=profile("fast", handover="confirmed", handover_limit_s=2.0))
    async with crew.at_work(2):
        twice: list[str] = []
        slow = crew.followers[0]
        slow.consumer.hold.clear()  # it takes its time to let go

        async def look() -> None:
            while True:
                twice.extend(name for name, workers in crew.owners().items() if len(workers) > 1)
                await asyncio.sleep(0.001)

        looking = asyncio.ensure_future(look())
        joining = asyncio.ensure_future(crew.hire().worker.start())
        await asyncio.sleep(1.0)
        slow.consumer.hold.set()
        await joining
        confirmed_s = await until(lambda: len(crew.live) == 3 and crew.settled(), SETTLE_S)

        assert twice == []
        assert confirmed_s < 1.5  # by its word, and not by the limit
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
