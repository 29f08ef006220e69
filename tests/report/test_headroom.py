"""The share of a limit that was used: what counts as near, and what cannot be near."""

from __future__ import annotations

import pytest

from floodmark.model.result import CriterionResult
from floodmark.model.verdict import Verdict
from floodmark.report import headroom
from tests.report import made


def judged(text: str, observed: float | None, verdict: Verdict = Verdict.PASS) -> CriterionResult:
    """One criterion as it was judged."""
    return CriterionResult(text=text, observed=observed, verdict=verdict)


@pytest.mark.parametrize(
    ("text", "observed", "used"),
    [
        ("latency_p99 < 100ms", 0.08, 0.8),
        ("latency_p99 < 100ms", 0.25, 2.5),
        ("rss_peak <= 2GiB", 2.0**30, 0.5),
        ("error_ratio < 0.5%", 0.0, 0.0),
        ("delivery_ratio >= 99%", 0.995, 0.5),
        ("throughput >= 1000/s", 1250.0, 0.8),
        ("rss_growth < 1.1x", 1.045, 0.95),
    ],
)
def test_used_ratio_of_a_limit_is_the_share_that_was_used(text: str, observed: float, used: float) -> None:
    assert headroom.used_ratio(judged(text, observed)) == pytest.approx(used)


@pytest.mark.parametrize(
    ("text", "observed", "verdict"),
    [
        ("lost == 0", 0.0, Verdict.PASS),
        ("refused <= 0", 0.0, Verdict.PASS),
        ("delivered >= 1000", 1000.0, Verdict.PASS),
        ("recovered_ratio >= 100%", 1.0, Verdict.PASS),
        ("latency_p99 @ after < 2x before", 0.1, Verdict.PASS),
        ("latency_p99 < 100ms", None, Verdict.UNKNOWN),
        ("latency_p99 < 100ms", 0.05, Verdict.UNKNOWN),
        ("the honest twin passes", 1.0, Verdict.PASS),
        ("metric_of_tomorrow < 3", 1.0, Verdict.PASS),
    ],
)
def test_used_ratio_of_what_cannot_be_near_is_nothing(text: str, observed: float | None, verdict: Verdict) -> None:
    assert headroom.used_ratio(judged(text, observed, verdict)) is None


def test_uses_over_scenarios_come_fullest_first_and_without_liars() -> None:
    tight = made.passed(1, criteria=(judged("latency_p99 < 100ms", 0.09),))
    broken = made.passed(2, criteria=(judged("latency_p99 < 100ms", 0.9, Verdict.FAIL), judged("rss_peak < 1GiB", 2.0**29)))
    liar = made.passed(3, id="liars.stall", criteria=(judged("latency_max < 1s", 5.0, Verdict.FAIL),))

    found = headroom.uses([tight, broken, liar])

    assert [(use.scenario.id, round(use.used_ratio, 3)) for use in found] == [
        ("subscriptions.case-2", 9.0),
        ("subscriptions.case-1", 0.9),
        ("subscriptions.case-2", 0.5),
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("lost == 0", "== 0"), ("latency_p99 @ after <= 2x before", "<= 2x before"), ("the lying system fails", "–")],
)
def test_wanted_is_what_stands_behind_the_metric(text: str, wanted: str) -> None:
    assert headroom.wanted(judged(text, None)) == wanted
