"""Whole runs against systems that do not come back from a fault as they should: FAIL with the exact count, and never a word against the
honest one under the same fault.

Half of four subscribers are cut off and come back after 0.4 s, asking for what they missed: some forty messages each.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.result import FaultResult, ScenarioResult
from floodmark.model.scenario import Fault, Phase
from floodmark.model.verdict import Verdict
from tests.verdict.played import CLEAN, broken, counts, failed, play, scenario

RATE_HZ = 200.0
AWAY = Fault(
    kind="disconnect", at_s=0.5, ratio=0.5, options={"resume": True, "back_after_s": 0.4, "backoff_s": 0.01, "backoff_max_s": 0.02}
)
LATE = msgspec.structs.replace(AWAY, at_s=1.5, options={"resume": True})
PATIENT_S = 20.0
CRITERIA = ("recovered_ratio == 100%", "lost@during == 0", "lost@after == 0")


def play_with(
    folder: Path,
    trick: str,
    *criteria: str,
    fault: Fault = AWAY,
    load_s: float = 1.5,
    driver: str = "websocket",
    drain_limit_s: float = 1.5,
) -> ScenarioResult:
    """Play one trick under one fault."""
    wanted = scenario(
        trick,
        driver=driver,
        phases=(Phase(arrival=Constant(rate_hz=RATE_HZ), messages=int(RATE_HZ * load_s)),),
        faults=(fault,),
        criteria=tuple(parse(text) for text in criteria),
        drain_limit_s=drain_limit_s,
    )
    return play(folder, wanted)


def the_fault(result: ScenarioResult) -> FaultResult:
    (told,) = result.faults
    return told


def flawless(load_s: float) -> dict[str, int]:
    """The account of a run in which every message reached both subscriptions of its channel."""
    deliveries = int(RATE_HZ * load_s) * 2
    return {"attempted": deliveries, "acknowledged": deliveries, "delivered": deliveries, **CLEAN}


@pytest.mark.parametrize("driver", ["websocket", "graphql-ws"])
def test_recovery_of_an_honest_system_is_pass_and_told_in_full(driver: str, tmp_path: Path) -> None:
    result = play_with(tmp_path, "Honest", *CRITERIA, "recovery < 20s", driver=driver, drain_limit_s=PATIENT_S)

    told = the_fault(result)
    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert counts(result) == flawless(1.5)
    assert (told.kind, told.index, told.occasion, told.hits, told.back) == ("disconnect", 0, 0, 2, 2)
    assert (told.lost, told.duplicated, told.reordered, told.unplaced) == (0, 0, 0, 0)
    assert told.struck_s > 0.499
    assert told.struck_s + 0.399 <= told.lifted_s
    assert told.recovery_s is not None
    assert told.recovery_s > 0.399


def test_recovery_with_messages_skipped_on_resume_is_fail_by_the_exact_count(tmp_path: Path) -> None:
    result = play_with(tmp_path, "SkipOnResume", *CRITERIA)

    told = the_fault(result)
    assert failed(result) == {"lost@during == 0", "lost == 0"}
    assert result.delivery.lost == told.lost == 10
    assert result.delivery.duplicated == told.duplicated == 0


def test_recovery_with_messages_repeated_on_resume_is_fail_by_the_exact_count(tmp_path: Path) -> None:
    result = play_with(tmp_path, "TwiceOnResume", *CRITERIA, drain_limit_s=PATIENT_S)

    told = the_fault(result)
    assert failed(result) == {"duplicated == 0"}
    assert result.delivery.duplicated == told.duplicated == 10
    assert result.delivery.lost == told.lost == 0


def test_recovery_that_is_refused_is_fail(tmp_path: Path) -> None:
    result = play_with(tmp_path, "NeverBack", "recovered_ratio == 100%", "recovery < 1s", "latency_p99 < 60s")

    told = the_fault(result)
    assert {"recovered_ratio == 100%", "lost == 0"} <= failed(result)
    assert (told.hits, told.back, told.recovery_s) == (2, 0, None)
    assert broken(result)["recovery < 1s"] == "UNKNOWN"
    assert result.metrics["recovered_ratio"] == 0.0


def test_recovery_with_true_statistics_is_pass(tmp_path: Path) -> None:
    """What was in a socket when that was dropped was sent and never seen, hence the margin."""
    result = play_with(tmp_path, "LivePages", "stats_error <= 5%", driver="graphql-ws", drain_limit_s=PATIENT_S)

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})


def test_recovery_after_which_statistics_are_lower_is_fail(tmp_path: Path) -> None:
    result = play_with(tmp_path, "ForgetfulPages", "stats_error <= 5%", driver="graphql-ws", drain_limit_s=PATIENT_S)

    assert (result.verdict, broken(result)) == (Verdict.FAIL, {"stats_error <= 5%": "FAIL"})


def test_recovery_of_a_system_that_stays_slow_while_the_load_goes_on_is_fail(tmp_path: Path) -> None:
    """It delivers every message once and in order; only its rate tells that it never came back."""
    result = play_with(tmp_path, "SlowAfterCut", "degraded == 0", "full_rate < 2s", fault=LATE, load_s=6.0, drain_limit_s=PATIENT_S)

    told = the_fault(result)
    assert (result.verdict, broken(result)) == (Verdict.FAIL, {"degraded == 0": "FAIL", "full_rate < 2s": "FAIL"})
    assert counts(result) == flawless(6.0)
    assert (told.degraded, told.full_rate_s) == (True, None)
    assert told.after.delivered_hz is not None
    assert told.before.delivered_hz is not None
    assert told.after.delivered_hz < 0.5 * told.before.delivered_hz


def test_recovery_of_an_honest_system_is_not_degraded(tmp_path: Path) -> None:
    result = play_with(tmp_path, "Honest", "degraded == 0", "full_rate < 4s", fault=LATE, load_s=6.0, drain_limit_s=PATIENT_S)

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert the_fault(result).degraded is False


def test_recovery_of_a_system_that_stays_slow_is_unknown_when_the_load_ends_too_early(tmp_path: Path) -> None:
    result = play_with(tmp_path, "SlowAfterCut", "degraded == 0", "full_rate < 60s", fault=LATE, load_s=3.5, drain_limit_s=PATIENT_S)

    assert (result.verdict, broken(result)) == (Verdict.UNKNOWN, {"degraded == 0": "UNKNOWN", "full_rate < 60s": "UNKNOWN"})
    assert the_fault(result).degraded is None
