"""What goes wrong around a worker: starts and stops that are broken off, leases that lapse, records that vanish, consumers that fail."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.systems.fleet.errors import AlreadyStartedError, ConsumerUpdateError, HookError, IdClaimError, IdLostError, NotStartedError
from floodmark.systems.fleet.hooks import AssignmentChange, Hooks
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.records import StableIdRecord, assignment_key, encode
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.states import WorkerState
from tests.systems.fleet.crew import FAST, Crew, until

W = WorkerState
LAPSE_S = FAST.heartbeat_ttl_s
SOON_S = 0.5


# --- starts and stops ---


@virtual
async def test_b29_ten_concurrent_starts_have_one_winner_and_nine_are_refused() -> None:
    crew = Crew()
    mate = crew.hire()

    outcomes = await asyncio.gather(*(mate.worker.start() for _ in range(10)), return_exceptions=True)

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, AlreadyStartedError) for outcome in outcomes) == 9
    await crew.dismiss()


@virtual
async def test_b29_ten_concurrent_stops_all_return_when_it_has_stopped() -> None:
    crew = Crew()
    mate = crew.hire()
    await mate.worker.start()

    outcomes = await asyncio.gather(*(mate.worker.stop() for _ in range(10)), return_exceptions=True)

    assert outcomes == [None] * 10
    assert mate.worker.state is W.SHUTDOWN
    assert mate.states.count(W.SHUTDOWN) == 1


@virtual
async def test_b29_start_that_is_cancelled_at_any_step_leaves_no_key_behind() -> None:
    settings = profile("fast", watch_debounce_s=0.0)  # the first round waits for nobody, so that a start is steps and no time
    for steps in range(60):
        crew = Crew(settings=settings)
        mate = crew.hire()
        starting = asyncio.ensure_future(mate.worker.start())
        for _ in range(steps):
            await asyncio.sleep(0)
        if starting.done():
            await crew.dismiss()
            assert steps > 5, "the start was too short to be broken off"
            return

        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

        left = [key for key in await crew.keys() if not key.startswith("assignment.")]
        assert left == [], f"after {steps} steps"
    pytest.fail("the start never came to its end")


@virtual
async def test_b29_start_whose_claim_was_done_but_never_answered_leaves_no_key_behind() -> None:
    crew = Crew()
    mate = crew.hire()
    mate.store.losing = frozenset({"create"})
    starting = asyncio.ensure_future(mate.worker.start())
    await until(lambda: mate.store.counts["create"] > 0, 2.0)

    mate.store.losing = frozenset()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert [key for key in await crew.keys() if not key.startswith("assignment.")] == []


@virtual
async def test_b29_stop_in_the_middle_of_a_start_ends_both_within_a_second() -> None:
    crew = Crew()
    mate = crew.hire()
    mate.store.silent = True
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(mate.worker.start())
    await asyncio.sleep(0.2)
    began_s = loop.time()

    mate.store.silent = False
    await mate.worker.stop()

    with pytest.raises(NotStartedError, match="it was stopped"):
        await starting
    assert loop.time() - began_s < 1.0
    assert await crew.keys() == []


@pytest.mark.parametrize("state", [W.SCALING, W.REBALANCING, W.EMERGENCY, W.DEGRADED, W.WAITING_ASSIGNMENT, W.STABLE])
def test_b29_stop_works_from_every_state(state: WorkerState) -> None:
    @virtual
    async def stop_there() -> None:
        crew = Crew(settings=profile("fast", degraded_enter_s=1.5, degraded_exit_s=0.5, connection_check_s=0.1))
        async with crew.at_work(3) as mates:
            leader = crew.leader
            if state is W.DEGRADED:
                leader.store.cut()
            elif state is W.WAITING_ASSIGNMENT:
                assert leader.worker.membership is not None
                assert leader.worker.membership.heartbeats is not None
                leader.worker.membership.heartbeats.muted = True
            elif state is W.EMERGENCY:
                await next(mate for mate in mates if mate is not leader).worker.abandon()
            waiting = asyncio.ensure_future(leader.worker.wait_state(state, 6.0))
            joining = asyncio.ensure_future(crew.hire().worker.start() if state in (W.SCALING, W.REBALANCING) else asyncio.sleep(0))
            loop = asyncio.get_running_loop()
            await waiting
            began_s = loop.time()

            await leader.worker.stop()

            assert leader.worker.state is W.SHUTDOWN
            assert loop.time() - began_s <= crew.settings.shutdown_limit_s
            await joining

    stop_there()


@virtual
async def test_b29_stop_with_a_store_that_never_answers_ends_within_the_limit() -> None:
    crew = Crew()
    async with crew.at_work(1) as (mate,):
        loop = asyncio.get_running_loop()
        mate.store.silent = True
        began_s = loop.time()

        await mate.worker.stop()

        assert loop.time() - began_s <= FAST.shutdown_limit_s
        assert any("its keys expire by themselves" in str(error) for error in mate.errors)


@virtual
async def test_stop_with_a_consumer_or_a_hook_that_never_returns_ends_within_the_limit() -> None:
    async def never(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    crew = Crew()
    told: list[Exception] = []

    async def note(error: Exception) -> None:
        told.append(error)

    for options in ({"consumer": None}, {"hooks": Hooks(on_state=never)}, {"hooks": Hooks(on_error=note)}):
        mate = crew.hire(**options)
        mate.consumer.aclose = never  # type: ignore[method-assign]
        await mate.worker.start()
        loop = asyncio.get_running_loop()
        began_s = loop.time()

        await mate.worker.stop()

        assert loop.time() - began_s <= FAST.shutdown_limit_s
        assert [key for key in await crew.keys() if not key.startswith("assignment.")] == []
    assert any("did not stop in order" in str(error) for error in told)


@virtual
async def test_stop_with_a_consumer_that_cannot_be_closed_tells_and_frees_the_keys() -> None:
    async def fail() -> None:
        raise ConnectionError("planted")

    crew = Crew()
    mate = crew.hire()
    mate.consumer.aclose = fail  # type: ignore[method-assign]
    async with mate.worker:
        pass

    assert any("planted" in str(error) for error in mate.errors)
    assert [key for key in await crew.keys() if not key.startswith("assignment.")] == []


@virtual
async def test_stop_of_a_worker_that_is_ending_by_itself_does_not_break_that_off() -> None:
    crew = Crew()
    mate = crew.hire()
    await mate.worker.start()
    mate.worker._parts.contact.health.check = lambda _now_s: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    closing = asyncio.Event()

    async def close() -> None:
        closing.set()
        await asyncio.sleep(0.5)

    mate.consumer.aclose = close  # type: ignore[method-assign]
    await closing.wait()

    with pytest.raises(ZeroDivisionError):
        await mate.worker.stop()

    assert [key for key in await crew.keys() if not key.startswith("assignment.")] == []


@virtual
async def test_stop_whose_caller_is_cancelled_goes_on() -> None:
    crew = Crew()
    mate = crew.hire()
    await mate.worker.start()
    stopping = asyncio.ensure_future(mate.worker.stop())
    await asyncio.sleep(0)

    stopping.cancel()
    await until(lambda: mate.worker.state is W.SHUTDOWN, 2.0)

    assert [key for key in await crew.keys() if not key.startswith("assignment.")] == []


# --- its own lease ---


@virtual
async def test_d7_worker_whose_heartbeats_do_not_get_out_stops_working_before_it_can_be_missed() -> None:
    crew = Crew()
    async with crew.at_work(3):
        zombie = crew.followers[0]
        assert zombie.worker.membership is not None
        assert zombie.worker.membership.heartbeats is not None
        loop = asyncio.get_running_loop()
        muted_s = loop.time()

        zombie.worker.membership.heartbeats.muted = True
        await until(lambda: zombie.consumer.working_on == (), LAPSE_S)

        assert loop.time() - muted_s < LAPSE_S
        assert zombie.worker.state is W.WAITING_ASSIGNMENT
        assert zombie.worker.assignment is None
        assert zombie.worker.cached_assignment is not None
        await until(lambda: all(len(owners) == 1 for owners in crew.owners().values()), 3.0)


@virtual
async def test_worker_that_is_heard_again_in_time_goes_on_with_the_same_version() -> None:
    crew = Crew(settings=profile("fast", emergency_grace_s=0.9))
    async with crew.at_work(3):
        (version,) = crew.versions
        mate = crew.followers[0]
        had = mate.consumer.working_on
        assert mate.worker.membership is not None
        assert mate.worker.membership.heartbeats is not None

        mate.worker.membership.heartbeats.muted = True
        await until(lambda: mate.worker.state is W.WAITING_ASSIGNMENT, LAPSE_S)
        mate.worker.membership.heartbeats.muted = False
        await until(crew.settled, 2.0)

        assert crew.versions == {version}
        assert mate.consumer.working_on == had


@virtual
async def test_worker_that_comes_back_after_it_was_given_up_works_only_on_what_is_new() -> None:
    crew = Crew()
    async with crew.at_work(3):
        mate = crew.followers[0]
        assert mate.worker.cached_assignment is not None
        old = mate.worker.cached_assignment.version

        mate.store.silent = True
        await until(lambda: len(crew.versions) == 1 and crew.versions != {old}, 5.0)
        mate.store.silent = False
        await until(crew.settled, 5.0)

        assert mate.worker.assignment is not None
        assert mate.worker.assignment.version > old
        assert old not in mate.consumer.versions[-1:]


@virtual
async def test_d7_worker_whose_record_is_deleted_under_a_leader_stops_at_once() -> None:
    crew = Crew()
    async with crew.at_work(2):
        mate = crew.followers[0]
        calculator = crew.leader.worker.membership.calculator  # type: ignore[union-attr]
        assert calculator is not None
        calculator._planner.ask_assertion = lambda: None  # type: ignore[union-attr, method-assign]  # it would write the record again
        bucket = crew.backend.bucket(FAST.assignment_bucket)

        await bucket.delete(assignment_key(mate.worker.worker_id))
        await until(lambda: mate.consumer.working_on == (), SOON_S)

        assert mate.worker.state is W.WAITING_ASSIGNMENT
        assert mate.worker.cached_assignment is None


@virtual
async def test_record_that_vanishes_while_nobody_leads_is_kept_and_judged_under_the_next_leader() -> None:
    crew = Crew(settings=profile("fast", election_timeout_s=3.0, startup_limit_s=10.0))
    async with crew.at_work(2):
        mate = crew.followers[0]
        held = mate.consumer.working_on
        assert mate.worker.membership is not None
        election = mate.worker.membership.election
        assert election is not None

        election.leader = None  # as between two leaders
        await crew.backend.bucket(FAST.assignment_bucket).delete(assignment_key(mate.worker.worker_id))
        await asyncio.sleep(SOON_S / 10)

        assert mate.consumer.working_on == held
        await until(crew.settled, 5.0)  # the leader writes it anew, and that is taken


@virtual
async def test_worker_that_lost_its_id_gives_everything_up_and_takes_another() -> None:
    crew = Crew(settings=profile("fast", id_ttl_s=2.0))
    async with crew.at_work(2):
        mate = crew.followers[0]
        name = mate.worker.worker_id
        ids = crew.backend.bucket(FAST.id_bucket)

        await ids.put(name, encode(StableIdRecord(worker=name, token="somebody else")))
        await until(lambda: mate.worker.worker_id not in ("", name), 5.0)
        await until(crew.settled, 5.0)

        assert any(isinstance(error, IdLostError) for error in mate.errors)
        assert mate.worker.worker_id == "worker-2"
        assert mate.consumer.updates[mate.consumer.ids.index("worker-2") - 1] == ()


@virtual
async def test_worker_that_lost_its_id_while_all_others_are_held_waits_for_one() -> None:
    crew = Crew(settings=profile("fast", id_ttl_s=2.0, id_max=1))
    async with crew.at_work(2):
        mate = crew.followers[0]
        name = mate.worker.worker_id
        ids = crew.backend.bucket(FAST.id_bucket)
        await ids.put(name, encode(StableIdRecord(worker=name, token="somebody else")))
        await until(lambda: any(isinstance(error, IdClaimError) for error in mate.errors), 5.0)

        await until(crew.settled, 5.0)  # nobody renews the other's claim

        assert mate.worker.worker_id == name
        assert mate.states.count(W.CLAIMING_ID) == 2


@virtual
async def test_worker_whose_id_has_expired_and_was_taken_by_nobody_keeps_it() -> None:
    crew = Crew(settings=profile("fast", id_ttl_s=2.0))
    async with crew.at_work(2):
        mate = crew.followers[0]
        name = mate.worker.worker_id

        await crew.backend.bucket(FAST.id_bucket).delete(name)
        await asyncio.sleep(3.0)

        assert mate.worker.worker_id == name
        assert name in await crew.keys()
        assert not any(isinstance(error, IdLostError) for error in mate.errors)


# --- the consumer and the hook ---


@virtual
async def test_d8_updates_are_one_after_the_other_and_only_the_newest_of_those_that_wait() -> None:
    crew = Crew()
    async with crew.at_work(2):
        mate, leader = crew.followers[0], crew.leader
        (version,) = crew.versions
        mate.consumer.hold.clear()

        for _ in range(4):
            await leader.worker.refresh_partitions()
            await asyncio.sleep(0.01)
        mate.consumer.hold.set()
        await until(lambda: mate.consumer.versions[-1] == version + 4, 2.0)

        assert mate.consumer.running_most == 1
        assert mate.consumer.versions[-2:] == [version + 1, version + 4]


@virtual
async def test_consumer_that_fails_is_told_of_and_tried_again() -> None:
    crew = Crew()
    async with crew.at_work(2):
        mate = crew.followers[0]
        (version,) = crew.versions
        mate.consumer.fail_count = 3

        await crew.leader.worker.refresh_partitions()
        await until(lambda: mate.consumer.versions[-1] == version + 1, 2.0)

        assert sum(isinstance(error, ConsumerUpdateError) for error in mate.errors) == 3
        assert "planted" in str(mate.errors[-1])


@virtual
async def test_consumer_that_failed_half_way_is_told_to_stop_even_if_nothing_was_applied() -> None:
    crew = Crew()
    mate = crew.hire()
    mate.consumer.fail_count = 1_000_000
    await mate.worker.start()
    assert mate.worker.membership is not None
    assert mate.worker.membership.heartbeats is not None

    mate.worker.membership.heartbeats.muted = True
    await until(lambda: mate.worker.assignment is None, LAPSE_S)
    mate.consumer.fail_count = 0
    await until(lambda: mate.consumer.updates != [], 5.0)

    assert mate.consumer.updates == [()]
    await crew.dismiss()


@virtual
async def test_hook_that_raises_is_told_of_and_stops_nothing() -> None:
    told: list[Exception] = []

    async def fail(_change: AssignmentChange) -> None:
        raise KeyError("planted")

    async def note(error: Exception) -> None:
        told.append(error)

    crew = Crew()
    async with crew.at_work(2, hooks=Hooks(on_assignment=fail, on_error=note)):
        assert crew.settled()

    assert told
    assert all(isinstance(error, HookError) for error in told)
    assert "on_assignment raised KeyError('planted')" in str(told[0])
