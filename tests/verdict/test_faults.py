"""Whole runs in which floodmark cuts off subscribers itself: that excuses the target for nothing it does to publishers.

What falls into the time between cut and return depends on the clock, so counts are exact only where a subscription is resumed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.model.arrival import Constant
from floodmark.model.finding import Guarantee
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Fault, Phase, Reconnect
from floodmark.model.verdict import Verdict
from tests.verdict.played import MESSAGES, account, broken, counts, failed, play, scenario

CUT = Fault(kind="disconnect", at_s=0.2, ratio=0.5, options={"resume": False, "back_after_s": 0.0})
CUT_AND_RESUME = Fault(kind="disconnect", at_s=0.2, ratio=0.5, options={"resume": True, "back_after_s": 0.0})
CHURN = Fault(kind="churn", at_s=0.1, repeat=2, every_s=0.1, ratio=0.5, options={"failure_ratio": 0.5})


def play_with(folder: Path, trick: str, fault: Fault, *, driver: str = "websocket", drain_limit_s: float = 1.5) -> ScenarioResult:
    """Half a second of load with a fault in the middle."""
    phases = (Phase(arrival=Constant(rate_hz=200.0), messages=MESSAGES),)
    wanted = scenario(trick, "recovered_ratio == 100%", driver=driver, phases=phases, faults=(fault,), drain_limit_s=drain_limit_s)
    return play(folder, wanted)


@pytest.mark.parametrize("trick", ["Honest", "ReplayToLateJoiners", "AckAtTheEnd"])
def test_verdict_of_an_honest_system_whose_subscribers_are_cut_off_is_pass(trick: str, tmp_path: Path) -> None:
    """One that gives newcomers the whole history delivers more than was asked for, but nothing twice to one subscription."""
    result = play_with(tmp_path, trick, CUT, drain_limit_s=20.0)

    seen = counts(result)
    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert seen["lost"] == seen["duplicated"] == seen["unexpected"] == 0


@pytest.mark.parametrize(
    ("trick", "criteria"),
    [
        ("Refuse99", "refused == 0"),
        ("AckNothing", "unanswered == 0"),
        ("AckHalf", "unanswered == 0"),
        ("ClosePublisher", "unanswered == 0, disconnects == 0"),
        ("LoseTenth", "lost == 0"),
        ("TwiceTenth", "duplicated == 0"),
    ],
)
def test_verdict_of_a_broken_system_is_not_excused_by_a_fault(trick: str, criteria: str, tmp_path: Path) -> None:
    result = play_with(tmp_path, trick, CUT)

    assert result.verdict is Verdict.FAIL
    assert failed(result) == set(criteria.split(", "))


@pytest.mark.parametrize(("trick", "criteria"), [("Honest", set()), ("Refuse99", {"refused == 0"})])
def test_verdict_under_churn_is_the_same(trick: str, criteria: set[str], tmp_path: Path) -> None:
    result = play_with(tmp_path, trick, CHURN, driver="graphql-ws", drain_limit_s=20.0)

    assert failed(result) == criteria
    assert result.verdict is (Verdict.FAIL if criteria else Verdict.PASS)


@pytest.mark.parametrize("driver", ["websocket", "graphql-ws"])
def test_verdict_of_a_system_that_resumes_where_it_was_is_pass_and_misses_nothing(driver: str, tmp_path: Path) -> None:
    result = play_with(tmp_path, "Honest", CUT_AND_RESUME, driver=driver, drain_limit_s=20.0)

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert counts(result) == account()


def test_verdict_of_a_system_that_replays_everything_on_resume_is_fail(tmp_path: Path) -> None:
    result = play_with(tmp_path, "ReplayToLateJoiners", CUT_AND_RESUME)

    seen = counts(result)
    assert failed(result) <= {"duplicated == 0", "lost == 0"}
    assert seen["duplicated"] > 0


WALL = Fault(kind="wire.partition", at_s=0.2, for_s=0.1)
BACK = Reconnect(backoff_s=0.02, backoff_max_s=0.1)


@pytest.mark.parametrize(
    ("trick", "criteria"),
    [("Honest", set()), ("CloseLater", {"disconnects == 0"}), ("EndLater", {"ended == 0"}), ("RefuseHalf", {"connect_failures == 0"})],
)
def test_verdict_on_what_a_target_does_long_after_a_fault_on_the_wire_is_not_excused_by_it(
    trick: str, criteria: set[str], tmp_path: Path
) -> None:
    """Clients that come back and a promise of at most once leave nothing but this to see it by. It is done 2.7 s after the lift."""
    wanted = scenario(
        trick,
        driver="graphql-ws",
        phases=(Phase(arrival=Constant(rate_hz=100.0), messages=4 * MESSAGES),),
        faults=(WALL,),
        reconnect=BACK,
        guarantee=Guarantee.AT_MOST_ONCE,
    )

    result = play(tmp_path, wanted)

    assert failed(result) == criteria
    assert result.verdict is (Verdict.FAIL if criteria else Verdict.PASS)
