"""The decisions of a leader as tables: what was seen at which time, and what it did. One table per defect of the original."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.leader.decide import COALESCE_S, GATHER_S, SUSPENDED_LOOK_S, Lifecycle, Planner, Step
from floodmark.systems.fleet.settings import Settings

SETTINGS = Settings()  # grace 3 s, windows 30 and 10 s, cooldown 10 s
GRACE_S = SETTINGS.emergency_grace_s
STEP_S = 0.25  # how often these tests look


def workers(*names: str | int) -> frozenset[str]:
    """`workers(3)`: worker-0 to worker-2; names stand for themselves."""
    return frozenset(name for each in names for name in ([f"worker-{n}" for n in range(each)] if isinstance(each, int) else [each]))


class Leader:
    """A planner whose rounds all succeed, looked at every STEP_S; `rounds` has (time, reason, workers, kept)."""

    def __init__(self, known: frozenset[str] = frozenset(), *, settings: Settings = SETTINGS, asserted: bool = True) -> None:
        self.planner = Planner(settings, known)
        self.now_s = 0.0
        self.rounds: list[tuple[float, Lifecycle, frozenset[str], frozenset[str]]] = []
        if asserted and known:
            self.see(known, for_s=settings.rebalance_interval_s + STEP_S)
            self.rounds.clear()

    def see(self, present: frozenset[str], *, for_s: float = 0.0, may_judge: bool = True, uneven: bool = True) -> None:
        """These are present from now on, for so long."""
        until_s = self.now_s + for_s
        while True:
            self.look(present, may_judge=may_judge, uneven=uneven)
            if self.now_s + STEP_S > until_s:
                return
            self.now_s += STEP_S

    def look(self, present: frozenset[str], *, may_judge: bool = True, uneven: bool = True) -> Step:
        step = self.planner.check(self.now_s, present, may_judge=may_judge)
        if step.reason is None:
            return step
        if step.only_if_uneven and not uneven:
            self.planner.skipped()
            return step
        self.rounds.append((self.now_s, step.reason, step.workers, step.kept))
        self.planner.done(self.now_s, step)
        return step

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason, _, _ in self.rounds]


def test_planner_with_nobody_there_has_nothing_to_do() -> None:
    leader = Leader()

    leader.see(frozenset(), for_s=100.0)

    assert leader.rounds == []


def test_planner_at_a_cold_start_publishes_soon_and_again_when_the_window_ends() -> None:
    leader = Leader()

    leader.see(workers(1), for_s=5.0)
    leader.see(workers(3), for_s=40.0)

    assert [(at_s, reason, len(who)) for at_s, reason, who, _ in leader.rounds] == [
        (STEP_S, Lifecycle.COLD_START, 1),
        (STEP_S + SETTINGS.cold_start_s, Lifecycle.COLD_START, 3),
    ]


def test_planner_at_a_cold_start_takes_who_comes_together_into_the_first_round() -> None:
    planner, pause_s = Planner(SETTINGS), SETTINGS.watch_debounce_s

    waits = [planner.check(0.8 * number * pause_s, workers(1 + number)) for number in range(3)]
    first = planner.check(waits[-1].wake_s, workers(3))

    assert [step.reason for step in waits] == [None] * 3
    assert waits[0].wake_s == pause_s
    assert waits[-1].wake_s == pytest.approx(2.6 * pause_s)
    assert (first.reason, first.workers) == (Lifecycle.COLD_START, workers(3))


@pytest.mark.parametrize(("cold_start_s", "most_s"), [(30.0, GATHER_S), (0.6, 0.3)])
def test_planner_at_a_cold_start_waits_for_no_endless_row_of_newcomers(cold_start_s: float, most_s: float) -> None:
    planner = Planner(msgspec.structs.replace(SETTINGS, cold_start_s=cold_start_s, planned_scale_s=0.5, rebalance_interval_s=0.5))
    steps = [(0.01 * number, planner.check(0.01 * number, workers(1 + number))) for number in range(100)]

    first_s, first = next((at_s, step) for at_s, step in steps if step.reason is not None)

    assert first_s == pytest.approx(most_s)
    assert first.reason is Lifecycle.COLD_START


def test_planner_at_a_cold_start_leaves_out_who_has_gone_before_the_first_round() -> None:
    planner = Planner(SETTINGS)
    planner.check(0.0, workers(2))

    assert planner.check(SETTINGS.watch_debounce_s, workers(1)).workers == workers(1)


def test_planner_whose_first_round_failed_tries_it_again_at_once() -> None:
    planner = Planner(SETTINGS)
    planner.check(0.0, workers(1))
    planner.check(SETTINGS.watch_debounce_s, workers(1))

    assert planner.check(SETTINGS.watch_debounce_s + 0.01, workers(1)).reason is Lifecycle.COLD_START


def test_planner_at_a_cold_start_that_nobody_joins_publishes_no_second_time_if_the_load_is_even() -> None:
    leader = Leader()

    leader.see(workers(1), for_s=60.0, uneven=False)

    assert leader.reasons == [Lifecycle.COLD_START]


def test_planner_when_somebody_joins_waits_the_planned_window() -> None:
    leader = Leader(workers(3))
    joined_s = leader.now_s

    leader.see(workers(4), for_s=20.0)

    assert leader.rounds == [(joined_s + SETTINGS.planned_scale_s, Lifecycle.PLANNED_SCALE, workers(4), frozenset())]


def test_planner_in_the_cooldown_counts_the_window_at_the_same_time() -> None:
    leader = Leader(workers(3))
    leader.see(workers(4), for_s=SETTINGS.planned_scale_s)
    (first_s, *_) = leader.rounds[0]

    leader.see(workers(5), for_s=SETTINGS.planned_scale_s + STEP_S)

    second_s = leader.rounds[1][0]
    assert second_s - first_s == pytest.approx(max(SETTINGS.rebalance_interval_s, SETTINGS.planned_scale_s), abs=STEP_S)


def test_planner_after_an_emergency_at_the_end_of_a_cold_start_waits_for_the_cooldown_with_the_final_round() -> None:
    leader = Leader()
    leader.see(workers(3), for_s=25.0)
    leader.see(workers(2), for_s=GRACE_S)
    emergency_s = leader.now_s

    leader.see(workers(2) | {"worker-7"}, for_s=20.0)

    assert leader.reasons == [Lifecycle.COLD_START, Lifecycle.EMERGENCY, Lifecycle.COLD_START]
    assert leader.rounds[-1][0] == emergency_s + SETTINGS.rebalance_interval_s


def test_planner_when_a_joiner_leaves_in_the_window_skips_the_round_only_if_the_load_is_even() -> None:
    for uneven, expected in ((False, []), (True, [Lifecycle.PLANNED_SCALE])):
        leader = Leader(workers(3))
        leader.see(workers(4), for_s=2.0)

        leader.see(workers(3), for_s=20.0, uneven=uneven)

        assert leader.reasons == expected
        assert leader.planner.window is None


def test_d1_crash_together_with_a_join_is_an_emergency() -> None:
    leader = Leader(workers(5))
    crashed_s = leader.now_s

    leader.see(workers(4) | {"worker-9"}, for_s=GRACE_S)

    assert leader.rounds == [(crashed_s + GRACE_S, Lifecycle.EMERGENCY, workers(4) | {"worker-9"}, frozenset())]


def test_d1_crash_masked_by_two_joins_is_an_emergency() -> None:
    leader = Leader(workers(5))

    leader.see(workers(4) | {"worker-8", "worker-9"}, for_s=GRACE_S)

    assert leader.reasons == [Lifecycle.EMERGENCY]


def test_d2_worker_absent_twice_for_less_than_the_grace_is_never_given_up() -> None:
    leader = Leader(workers(3))

    for _ in range(2):
        leader.see(workers(2), for_s=GRACE_S - STEP_S)
        leader.see(workers(3), for_s=100.0)

    assert leader.rounds == []


def test_d2_worker_given_up_does_not_take_the_grace_from_the_next() -> None:
    leader = Leader(workers(5))
    leader.see(workers(4), for_s=GRACE_S)
    lost_s = leader.now_s

    leader.see(workers(3), for_s=GRACE_S)

    assert [at_s for at_s, *_ in leader.rounds] == [lost_s, lost_s + GRACE_S]
    assert leader.reasons == [Lifecycle.EMERGENCY] * 2


def test_d3_crash_right_after_a_round_waits_for_the_grace_alone() -> None:
    leader = Leader(workers(3))
    leader.see(workers(4), for_s=SETTINGS.planned_scale_s)
    crashed_s = leader.now_s

    leader.see(workers(3), for_s=GRACE_S)

    assert leader.rounds[-1] == (crashed_s + GRACE_S, Lifecycle.EMERGENCY, workers(3), frozenset())


def test_d4_crash_in_a_window_does_not_wait_for_its_end() -> None:
    leader = Leader(workers(5))
    leader.see(workers(6), for_s=1.0)
    crashed_s = leader.now_s
    left = workers(6) - {"worker-0"}

    leader.see(left, for_s=20.0)

    assert leader.rounds == [(crashed_s + GRACE_S, Lifecycle.EMERGENCY, left, frozenset())]
    assert leader.planner.window is None


def test_d4_crash_in_a_cold_start_leaves_the_window_open_for_those_still_to_come() -> None:
    leader = Leader()
    leader.see(workers(3), for_s=5.0)
    leader.see(workers(2), for_s=10.0)

    leader.see(workers(2) | {"worker-7"}, for_s=40.0)

    assert leader.reasons == [Lifecycle.COLD_START, Lifecycle.EMERGENCY, Lifecycle.COLD_START]
    assert leader.rounds[-1][0] == STEP_S + SETTINGS.cold_start_s


def test_d5_round_that_failed_is_decided_again() -> None:
    leader = Leader(workers(3))
    leader.see(workers(2), for_s=GRACE_S - STEP_S)
    leader.now_s += STEP_S

    steps = [leader.planner.check(leader.now_s + later_s, workers(2)) for later_s in (0.0, 0.5, 7.0)]

    assert [step.reason for step in steps] == [Lifecycle.EMERGENCY] * 3
    leader.planner.done(leader.now_s + 7.0, steps[-1])
    assert leader.planner.check(leader.now_s + 7.5, workers(2)).reason is None


@pytest.mark.parametrize(
    ("known_count", "left_count", "expected"),
    [
        (10, 4, [Lifecycle.RESTART]),
        (10, 5, [Lifecycle.EMERGENCY]),
        (9, 2, [Lifecycle.EMERGENCY]),
        (40, 3, [Lifecycle.RESTART]),
        (40, 10, [Lifecycle.EMERGENCY]),
    ],
)
def test_d9_mass_loss_in_a_large_fleet_is_a_restart(known_count: int, left_count: int, expected: list[Lifecycle]) -> None:
    leader = Leader(workers(known_count))

    leader.see(workers(left_count), for_s=GRACE_S + STEP_S)

    assert leader.reasons == expected
    assert (leader.planner.window is not None) is (expected == [Lifecycle.RESTART])


def test_d9_restart_heeds_the_ratio() -> None:
    leader = Leader(workers(10), settings=msgspec.structs.replace(SETTINGS, restart_ratio=0.2))

    leader.see(workers(4), for_s=GRACE_S)

    assert leader.reasons == [Lifecycle.EMERGENCY]


def test_d9_restart_takes_in_those_who_come_back_with_one_round_at_the_end_of_the_window() -> None:
    leader = Leader(workers(10))
    leader.see(workers(2), for_s=GRACE_S)
    restarted_s = leader.now_s

    for count in range(3, 11):
        leader.see(workers(count), for_s=2.0)
    leader.see(workers(10), for_s=30.0)

    assert leader.reasons == [Lifecycle.RESTART, Lifecycle.RESTART]
    assert leader.rounds[-1][0] == restarted_s + SETTINGS.cold_start_s
    assert leader.rounds[-1][2] == workers(10)


def test_planner_takes_losses_confirmed_together_in_one_round() -> None:
    leader = Leader(workers(6))
    leader.see(workers(5))
    leader.now_s += COALESCE_S / 2
    leader.see(workers(4), for_s=GRACE_S + COALESCE_S)

    assert [(reason, who) for _, reason, who, _ in leader.rounds] == [(Lifecycle.EMERGENCY, workers(4))]


def test_planner_keeps_what_an_unconfirmed_worker_has_when_another_is_given_up() -> None:
    leader = Leader(workers(6))
    leader.see(workers(5), for_s=2.0)

    leader.see(workers(4), for_s=GRACE_S - 2.0 + STEP_S)

    assert [(who, kept) for _, _, who, kept in leader.rounds] == [(workers(4), workers("worker-4"))]
    assert leader.planner.known == workers(5)


def test_planner_at_the_end_of_a_window_waits_for_somebody_who_is_missing_for_one_grace_at_most() -> None:
    leader = Leader(workers(3))
    leader.see(workers(4), for_s=SETTINGS.planned_scale_s - 1.0)
    missed_s = leader.now_s

    leader.see(workers(4) - {"worker-0"}, for_s=2.0)
    assert leader.rounds == []
    leader.see(workers(4) - {"worker-0"}, for_s=2.0)

    assert leader.rounds == [(missed_s + GRACE_S, Lifecycle.EMERGENCY, workers(4) - {"worker-0"}, frozenset())]


def test_planner_that_may_not_judge_gives_nobody_up_and_looks_often() -> None:
    leader = Leader(workers(3))

    leader.see(workers(2), for_s=60.0, may_judge=False)
    step = leader.look(workers(2), may_judge=False)

    assert leader.rounds == []
    assert step.wake_s == leader.now_s + SUSPENDED_LOOK_S


def test_planner_that_may_judge_again_gives_up_who_was_missing_all_the_time() -> None:
    leader = Leader(workers(3))
    leader.see(workers(2), for_s=60.0, may_judge=False)

    leader.look(workers(2))

    assert leader.reasons == [Lifecycle.EMERGENCY]


def test_planner_that_saw_nothing_itself_begins_the_absences_anew() -> None:
    leader = Leader(workers(3))
    leader.see(workers(2), for_s=GRACE_S - STEP_S)

    leader.planner.restart_absences(leader.now_s)
    leader.see(workers(2), for_s=GRACE_S - STEP_S)

    assert leader.rounds == []


def test_planner_asked_to_refresh_heeds_no_cooldown() -> None:
    leader = Leader(workers(3))
    leader.planner.ask_refresh()
    leader.look(workers(3))
    leader.now_s += 0.1

    leader.planner.ask_refresh()
    leader.look(workers(3))

    assert leader.reasons == [Lifecycle.MANUAL_REFRESH] * 2
    assert leader.planner.refresh_served_count == 2


def test_planner_whose_refreshes_were_dropped_publishes_for_none() -> None:
    leader = Leader(workers(3))
    leader.planner.ask_refresh()
    leader.planner.drop_refreshes()

    leader.see(workers(3), for_s=5.0)

    assert leader.rounds == []


def test_planner_of_a_new_term_asserts_it_and_moves_nobody_in_or_out() -> None:
    leader = Leader(workers(4), asserted=False)

    leader.see(workers(3) | {"worker-9"})

    assert leader.rounds == [(0.0, Lifecycle.TAKEOVER, workers(3), workers("worker-3"))]
    assert leader.planner.known == workers(4)


def test_planner_asked_to_assert_asserts_once() -> None:
    leader = Leader(workers(3))

    leader.planner.ask_assertion()
    leader.see(workers(3), for_s=5.0)

    assert leader.reasons == [Lifecycle.TAKEOVER]


class Sighting(msgspec.Struct, frozen=True):
    """One look of a random history: how long after the last, and who is there."""

    after_s: float
    present: frozenset[str]
    fails: bool


FLEET = workers(5)
histories = st.lists(
    st.builds(
        Sighting,
        after_s=st.floats(0.01, 4.0),
        present=st.frozensets(st.sampled_from(sorted(workers(7))), min_size=1),
        fails=st.booleans(),
    ),
    max_size=30,
)


@given(histories)
def test_planner_for_any_history_gives_up_nobody_before_the_grace_and_everybody_at_the_check_after_it(history: list[Sighting]) -> None:
    planner = Planner(SETTINGS, FLEET)
    planner.done(0.0, planner.check(0.0, FLEET))
    since_s: dict[str, float] = {}
    known, now_s = FLEET, 0.0
    for look in history:
        now_s += look.after_s
        since_s = {worker: since_s.get(worker, now_s) for worker in known - look.present}
        due = {worker for worker, began_s in since_s.items() if began_s + SETTINGS.emergency_grace_s <= now_s}
        coming = [began_s for worker, began_s in since_s.items() if worker not in due]

        step = planner.check(now_s, look.present)

        assert step.lost <= due
        if due and step.reason is None:  # only because another is to be confirmed within the time to coalesce
            assert coming
            assert min(coming) <= min(since_s[worker] for worker in due) + COALESCE_S + 1e-9
        elif due:
            assert step.lost == due
        if step.reason is not None:
            assert step.kept == since_s.keys() - due
            assert step.workers == look.present or step.reason is Lifecycle.TAKEOVER
            if not look.fails:
                planner.done(now_s, step)
                known = planner.known
                assert known == step.workers | step.kept
        else:
            assert step.wake_s > now_s
