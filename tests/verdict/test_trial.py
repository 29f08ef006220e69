"""The judge on trial: criteria about what was planted may speak of the whole run and of any window of it."""

from __future__ import annotations

import msgspec
import pytest

from floodmark.judge.verdict import Observations
from floodmark.model.criterion import parse
from floodmark.model.result import CriterionResult, Delivery, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.runner.trial import verdict_on_trial

SEEN = Observations(
    values={"lost": 20.0},
    delivered=980,
    phases={"during": {"lost": 20.0, "delivered": 80.0}, "after": {"lost": 0.0, "delivered": 500.0}},
)


def result(verdict: Verdict) -> ScenarioResult:
    return ScenarioResult(id="t", plan="", verdict=verdict, scale=1.0, duration_s=1.0, delivery=Delivery(delivered=980, lost=20))


def trial(*caught: str, observed: Observations = SEEN, honest: Verdict = Verdict.PASS, lying: Verdict = Verdict.FAIL) -> ScenarioResult:
    criteria = tuple(parse(text) for text in caught)
    return verdict_on_trial("liars.t", "t", honest=result(honest), lying=result(lying), observed=observed, caught=criteria)


def last(made: ScenarioResult) -> CriterionResult:
    return made.criteria[-1]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("lost == 20", Verdict.PASS),
        ("lost == 19", Verdict.FAIL),
        ("lost@during == 20", Verdict.PASS),
        ("lost@during == 19", Verdict.FAIL),
        ("lost@after == 0", Verdict.PASS),
        ("lost@before == 0", Verdict.UNKNOWN),  # nobody looked there
        ("latency_max > 1s", Verdict.UNKNOWN),
    ],
)
def test_trial_judges_what_was_planted_in_the_whole_run_and_in_windows(text: str, verdict: Verdict) -> None:
    made = trial(text)

    assert (last(made).text, last(made).verdict, made.verdict) == (text, verdict, verdict)


def test_trial_of_a_liar_that_nothing_was_seen_of_is_unknown() -> None:
    assert trial("lost@during == 20", observed=Observations()).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("honest", "lying", "verdict"),
    [
        (Verdict.FAIL, Verdict.FAIL, Verdict.FAIL),
        (Verdict.UNKNOWN, Verdict.FAIL, Verdict.UNKNOWN),
        (Verdict.PASS, Verdict.PASS, Verdict.FAIL),
        (Verdict.PASS, Verdict.UNKNOWN, Verdict.UNKNOWN),
    ],
)
def test_trial_needs_an_honest_twin_that_passes_and_a_liar_that_fails(honest: Verdict, lying: Verdict, verdict: Verdict) -> None:
    assert trial("lost == 20", honest=honest, lying=lying).verdict is verdict


def test_trial_shows_the_account_of_the_liar() -> None:
    made = trial("lost == 20")

    assert msgspec.structs.asdict(made.delivery) == msgspec.structs.asdict(result(Verdict.FAIL).delivery)
