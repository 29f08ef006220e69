"""Who is missing, and for how long: against a slow model that keeps the whole history."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.leader.absence import Absences

GRACE_S = 3.0
WORKERS = ("a", "b", "c")


def absences_after(*checks: tuple[float, str]) -> Absences:
    """Absences of a, b and c after checks at which the named workers were present."""
    absences = Absences(GRACE_S)
    for now_s, present in checks:
        absences.note(now_s, frozenset(WORKERS), frozenset(present))
    return absences


def test_absences_before_the_grace_is_over_confirm_nobody() -> None:
    absences = absences_after((0.0, "abc"), (1.0, "ab"))

    assert absences.confirmed(3.99) == frozenset()
    assert absences.confirmed(4.0) == {"c"}


def test_absences_of_a_worker_that_came_back_begin_anew() -> None:
    absences = absences_after((0.0, "ab"), (2.0, "abc"), (100.0, "ab"))

    assert absences.confirmed(102.9) == frozenset()
    assert absences.confirmed(103.0) == {"c"}


def test_absences_of_a_worker_no_longer_expected_are_forgotten() -> None:
    absences = absences_after((0.0, "ab"))

    absences.note(5.0, {"a", "b"}, {"a", "b"})

    assert absences.missing == frozenset()
    assert absences.next_s(5.0) is None


def test_absences_restarted_wait_a_whole_grace_again() -> None:
    absences = absences_after((0.0, "ab"))

    absences.restart(2.0)

    assert absences.next_s(2.0) == 5.0
    assert absences.confirmed(4.9) == frozenset()


checks = st.lists(st.tuples(st.floats(0.01, 2.0), st.frozensets(st.sampled_from(WORKERS))), max_size=40)


@given(checks)
def test_absences_for_any_history_are_those_of_the_last_unbroken_run(history: list[tuple[float, frozenset[str]]]) -> None:
    absences = Absences(GRACE_S)
    now_s = 0.0
    since_s: dict[str, float] = {}
    for pause_s, present in history:
        now_s += pause_s
        since_s = {worker: since_s.get(worker, now_s) for worker in WORKERS if worker not in present}

        absences.note(now_s, frozenset(WORKERS), present)

        assert absences.missing == since_s.keys()
        assert absences.confirmed(now_s) == {worker for worker, began_s in since_s.items() if now_s - began_s >= GRACE_S - 1e-9}


def test_absences_with_nobody_missing_have_no_first() -> None:
    with pytest.raises(ValueError, match="empty"):
        Absences(GRACE_S).first_s()
