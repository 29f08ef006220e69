"""Degraded mode: the rules on their own, and workers whose store does not answer."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.degraded import AlertLevel, Change, Finding, Health
from floodmark.systems.fleet.errors import ConnectivityError, DegradedError
from floodmark.systems.fleet.metrics import Metric
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.states import WorkerState
from tests.systems.fleet.crew import Crew, Mate, until

QUICK = profile(
    "fast",
    degraded_enter_s=2.0,
    degraded_exit_s=1.0,
    degraded_errors_count=3,
    degraded_window_s=5.0,
    recovery_grace_s=6.0,
    alert_info_s=1.0,
    alert_warn_s=2.0,
    alert_error_s=4.0,
    alert_critical_s=8.0,
    alert_repeat_s=3.0,
    connection_check_s=0.1,
)
RARE_ERRORS = profile("fast", degraded_enter_s=2.0, degraded_exit_s=1.0, degraded_errors_count=1000, connection_check_s=0.1)

# --- the rules ---


def test_health_without_an_answer_is_degraded_after_the_limit_and_not_before() -> None:
    health = Health(Settings())

    health.disconnected(100.0)

    assert health.check(109.9) == []
    assert health.check(110.0) == [Finding(Change.ENTERED, AlertLevel.NONE, 0.0)]
    assert health.degraded


def test_health_whose_silence_is_broken_by_an_answer_begins_to_count_anew() -> None:
    health = Health(Settings())
    health.disconnected(100.0)

    health.answered(105.0)
    health.disconnected(106.0)

    assert health.check(115.9) == []
    assert health.check(116.0) != []


def test_health_with_many_errors_in_a_window_is_degraded_though_others_are_answered() -> None:
    health = Health(Settings())

    for at_s in (100.0, 107.0, 114.0, 121.0, 130.0):
        assert health.check(at_s) == []
        health.failed(at_s)
        health.answered(at_s)

    assert [finding.change for finding in health.check(130.0)] == [Change.ENTERED]


def test_health_counts_errors_within_one_heartbeat_as_one() -> None:
    health = Health(Settings())

    for tenth in range(75):  # 7.5 s, a retry every 0.1 s
        health.failed(100.0 + tenth / 10)

    assert health.check(107.5) == []
    health.failed(108.1)
    assert [finding.change for finding in health.check(108.1)] == [Change.ENTERED]


def test_health_with_errors_that_are_further_apart_than_the_window_is_not_degraded() -> None:
    health = Health(Settings())

    for at_s in (100.0, 107.0, 114.0, 121.0, 130.1):
        health.failed(at_s)
        health.answered(at_s)

    assert health.check(130.1) == []


def test_health_is_left_only_after_the_whole_time_without_an_error() -> None:
    health = Health(Settings())
    health.disconnected(100.0)
    health.check(110.0)

    health.answered(111.0)
    health.failed(114.0)
    health.answered(115.0)

    assert health.check(119.9) == []
    assert health.check(120.0) == [Finding(Change.LEFT, AlertLevel.NONE, 10.0)]
    assert not health.degraded


def test_alerts_become_graver_with_time_and_the_last_is_repeated() -> None:
    health = Health(Settings())
    health.disconnected(0.0)

    found = [(at_s, finding) for at_s in range(0, 800) for finding in health.check(float(at_s))]

    alerts = [(at_s - 10, finding.level.name) for at_s, finding in found if finding.change is Change.ALERT]
    firsts = {name: at_s for at_s, name in reversed(alerts)}
    assert firsts == {"INFO": 30, "WARN": 120, "ERROR": 300, "CRITICAL": 600}
    assert alerts[:4] == [(30, "INFO"), (90, "INFO"), (120, "WARN"), (180, "WARN")]
    assert [at_s for at_s, name in alerts if name == "CRITICAL"] == [600, 660, 720, 780]


def test_health_nobody_asked_anything_is_never_degraded() -> None:
    health = Health(Settings())

    assert [health.check(float(at_s)) for at_s in range(100)] == [[]] * 100


@given(st.lists(st.tuples(st.floats(0.01, 20.0), st.sampled_from(["answered", "failed", "disconnected"])), max_size=60))
def test_health_over_any_history_enters_and_leaves_in_turn(history: list[tuple[float, str]]) -> None:
    health, now_s, changes = Health(Settings()), 0.0, []

    for pause_s, what in history:
        now_s += pause_s
        getattr(health, what)(now_s)
        changes += [finding.change for finding in health.check(now_s) if finding.change is not Change.ALERT]

    assert changes == [Change.ENTERED, Change.LEFT] * (len(changes) // 2) + [Change.ENTERED] * (len(changes) % 2)
    assert health.degraded == (len(changes) % 2 == 1)


# --- workers ---


def cut_all(crew: Crew) -> None:
    for mate in crew.mates:
        mate.store.cut()


def heal_all(crew: Crew) -> None:
    for mate in crew.mates:
        mate.store.heal()


def emergencies(mates: list[Mate]) -> list[str]:
    shown = [state.value for mate in mates for state in mate.states if state is WorkerState.EMERGENCY]
    return shown + [change.lifecycle for mate in mates for change in mate.changes if change.lifecycle == "emergency"]


@virtual
async def test_b30_outage_freezes_the_assignments_and_afterwards_everybody_has_what_they_had() -> None:
    crew = Crew(partition_count=30, settings=QUICK)
    async with crew.at_work(3) as mates:
        had = [mate.consumer.working_on for mate in mates]

        cut_all(crew)
        await until(lambda: all(mate.worker.state is WorkerState.DEGRADED for mate in mates), 4.0)

        assert all(mate.worker.cached_assignment is not None for mate in mates)
        heal_all(crew)
        await until(crew.settled, 10.0)
        assert [mate.consumer.working_on for mate in mates] == had
        assert emergencies(mates) == []


@virtual
async def test_b30_outage_under_stop_pauses_the_work_and_under_go_on_does_not() -> None:
    for when_cut_off, paused in (("stop", True), ("go_on", False)):
        crew = Crew(settings=profile("fast", degraded_enter_s=2.0, connection_check_s=0.1, when_cut_off=when_cut_off))
        async with crew.at_work(2) as mates:
            had = [mate.consumer.working_on for mate in mates]

            cut_all(crew)
            for mate in mates:
                await mate.worker.wait_state(WorkerState.DEGRADED, 4.0)

            assert [mate.consumer.working_on == () for mate in mates] == [paused, paused]
            assert [mate.worker.assignment is None for mate in mates] == [paused, paused]
            heal_all(crew)
            await until(crew.settled, 10.0)
            assert [mate.consumer.working_on for mate in mates] == had


@virtual
async def test_b30_many_errors_among_answers_are_enough() -> None:
    crew = Crew(settings=QUICK)
    async with crew.at_work(1) as (mate,):
        for failures in (1, 2, 3):
            mate.store.losing = frozenset({"update"})
            await until(lambda: sum(isinstance(error, ConnectivityError) for error in mate.errors) == failures, 2.0)  # noqa: B023
            mate.store.losing = frozenset()
            await until(lambda: mate.worker.membership.heartbeats.held(), 1.0)  # type: ignore[union-attr]
            await asyncio.sleep(QUICK.heartbeat_s)

        await mate.worker.wait_state(WorkerState.DEGRADED, 1.0)

        assert mate.metrics.counted(Metric.CACHE_USED) == 1


@virtual
async def test_b30_leader_judges_nobody_while_degraded_nor_in_the_grace_after_it() -> None:
    crew = Crew(partition_count=30, settings=QUICK)
    async with crew.at_work(3) as mates:
        cut_all(crew)
        await until(lambda: all(mate.worker.state is WorkerState.DEGRADED for mate in mates), 4.0)
        lost = mates[2]
        await lost.worker.abandon()
        heal_all(crew)
        await until(lambda: any(mate.worker.in_recovery_grace for mate in mates), 5.0)
        leader = crew.leader

        grace_s = await until(lambda: not leader.worker.in_recovery_grace, QUICK.recovery_grace_s + 1.0)
        assert grace_s > QUICK.recovery_grace_s - 0.5
        assert emergencies(mates) == []

        await until(crew.settled, QUICK.heartbeat_ttl_s + QUICK.emergency_grace_s + 2.0)
        assert emergencies(mates) != []


@virtual
async def test_b30_worker_without_an_assignment_says_that_it_has_nothing_to_keep() -> None:
    crew = Crew(settings=profile("fast", degraded_enter_s=2.0, connection_check_s=0.1, startup_limit_s=20.0))
    mate = crew.hire()

    async def nothing() -> list[object]:
        raise ConnectionError("planted")

    mate.source.list_partitions = nothing  # type: ignore[method-assign, assignment]
    starting = asyncio.ensure_future(mate.worker.start())
    await mate.worker.wait_state(WorkerState.WAITING_ASSIGNMENT, 2.0)

    mate.store.cut()
    await mate.worker.wait_state(WorkerState.DEGRADED, 4.0)
    await until(lambda: any(isinstance(error, DegradedError) for error in mate.errors), 1.0)

    (told,) = [error for error in mate.errors if isinstance(error, DegradedError)]
    assert not told.cached
    assert "there is no assignment to keep" in str(told)
    assert mate.metrics.counted(Metric.CACHE_MISSED) == 1
    mate.store.heal()
    await mate.worker.stop()
    await asyncio.gather(starting, return_exceptions=True)


@virtual
async def test_b30_alerts_escalate_while_it_lasts_and_are_counted() -> None:
    crew = Crew(settings=QUICK)
    async with crew.at_work(1) as (mate,):
        mate.store.cut()
        await mate.worker.wait_state(WorkerState.DEGRADED, 4.0)
        await until(lambda: mate.metrics.counted(Metric.ALERTS, "critical") == 2, 15.0)

        told = [error.level for error in mate.errors if isinstance(error, DegradedError)]
        assert told == ["info", "warn", "error", "error", "critical", "critical"]
        assert mate.metrics.gauges[Metric.ALERT_LEVEL, ""] == AlertLevel.CRITICAL
        assert mate.metrics.gauges[Metric.CACHE_AGE_S, ""] > 8.0
        mate.store.heal()
        await until(lambda: mate.metrics.gauges[Metric.DEGRADED, ""] == 0, 5.0)
        assert mate.metrics.gauges[Metric.ALERT_LEVEL, ""] == AlertLevel.NONE
        assert mate.metrics.durations[Metric.DEGRADED_S, ""].max_s > 8.0


@virtual
async def test_outage_that_is_shorter_than_the_limit_degrades_nobody() -> None:
    crew = Crew(settings=RARE_ERRORS)
    async with crew.at_work(2) as mates:
        cut_all(crew)
        await until(lambda: all(mate.worker.assignment is None for mate in mates), 1.5)
        heal_all(crew)
        await until(crew.settled, 5.0)

        assert not any(WorkerState.DEGRADED in mate.states for mate in mates)
        assert emergencies(mates) == []


@virtual
async def test_store_that_fails_is_told_once_until_it_answers_again() -> None:
    crew = Crew(settings=RARE_ERRORS)
    async with crew.at_work(1) as (mate,):
        for outage in (1, 2):
            mate.store.cut()
            await until(lambda: mate.worker.assignment is None, 1.5)
            mate.store.heal()
            await until(crew.settled, 5.0)

            assert sum(isinstance(error, ConnectivityError) for error in mate.errors) == outage
