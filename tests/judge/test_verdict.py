"""The judge, for every metric of the registry: it fails on a planted figure, passes on a good one, and says UNKNOWN without evidence.

The cases are generated over METRICS, so that a new metric is covered the moment it is added.
"""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.units import Dimension
from floodmark.judge.verdict import Observations, implied, judge, with_implied
from floodmark.model.criterion import OPERATORS, parse
from floodmark.model.finding import Guarantee, Order
from floodmark.model.metrics import METRICS, Metric
from floodmark.model.result import CriterionResult
from floodmark.model.verdict import Verdict

# A limit as people write it, a figure that keeps it and one that breaks it, per dimension.
CASES = {
    Dimension.TIME: ("<= 100ms", 0.1, 0.1000001),
    Dimension.BYTES: ("< 2GiB", 1024.0**3, 2 * 1024.0**3),
    Dimension.RATE: (">= 10k/s", 10_000.0, 9_999.99),
    Dimension.RATIO: ("== 57%", 57 / 100, 58 / 100),
    Dimension.COUNT: ("== 7", 7.0, 8.0),
    Dimension.FACTOR: ("< 1.5x", 1.0, 1.5),
}
PLAIN = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def one(text: str, observations: Observations) -> CriterionResult:
    """Judge a single criterion."""
    (result,) = judge((parse(text),), observations)
    return result


@every_metric
def test_judge_a_good_figure_passes(metric: Metric) -> None:
    wanted, good, _ = CASES[metric.dimension]

    result = one(f"{metric.name} {wanted}", Observations(values={metric.name: good}, delivered=1))

    assert (result.verdict, result.observed, result.note) == (Verdict.PASS, good, "")


@every_metric
def test_judge_a_planted_figure_fails_and_says_what_was_seen_and_wanted(metric: Metric) -> None:
    wanted, _, bad = CASES[metric.dimension]

    result = one(f"{metric.name} {wanted}", Observations(values={metric.name: bad}, delivered=1))

    assert (result.verdict, result.observed) == (Verdict.FAIL, bad)
    assert result.note.startswith(f"{metric.name} was ")
    assert f"wanted {wanted.split()[0]} " in result.note


@every_metric
def test_judge_a_missing_figure_is_unknown_with_the_reason(metric: Metric) -> None:
    wanted, _, _ = CASES[metric.dimension]

    result = one(f"{metric.name} {wanted}", Observations(missing={metric.name: "the target runs elsewhere"}, delivered=1))

    assert (result.verdict, result.observed) == (Verdict.UNKNOWN, None)
    assert metric.name in result.note
    assert "the target runs elsewhere" in result.note


@every_metric
def test_judge_an_empty_observation_is_unknown(metric: Metric) -> None:
    wanted, _, _ = CASES[metric.dimension]

    assert one(f"{metric.name} {wanted}", Observations()).verdict is Verdict.UNKNOWN


@every_metric
@pytest.mark.parametrize("sign", OPERATORS)
def test_judge_an_empty_run_proves_nothing_about_deliveries(metric: Metric, sign: str) -> None:
    zero = {Dimension.TIME: "0s", Dimension.BYTES: "0B", Dimension.RATE: "0/s", Dimension.FACTOR: "0x"}.get(metric.dimension, "0")
    empty_run = Observations(values=dict.fromkeys(METRICS, 0.0), delivered=0)

    result = one(f"{metric.name} {sign} {zero}", empty_run)

    if metric.needs_delivery:
        assert result.verdict is Verdict.UNKNOWN
        assert "no delivery was seen" in result.note
    else:
        assert result.verdict is (Verdict.PASS if "=" in sign and sign != "!=" else Verdict.FAIL)


@every_metric
def test_judge_no_number_is_unknown(metric: Metric) -> None:
    wanted, _, _ = CASES[metric.dimension]

    result = one(f"{metric.name} {wanted}", Observations(values={metric.name: math.nan}, delivered=1))

    assert (result.verdict, result.observed) == (Verdict.UNKNOWN, None)


@pytest.mark.parametrize("anomaly", ["lost", "duplicated", "reordered", "corrupted", "unexpected"])
def test_judge_anomalies_without_any_delivery_fail_their_criterion(anomaly: str) -> None:
    observations = Observations(values={anomaly: 100.0}, delivered=0)

    assert one(f"{anomaly} == 0", observations).verdict is Verdict.FAIL
    assert one(f"{anomaly} <= 100", observations).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("anomaly", ["lost", "corrupted"])
def test_judge_nothing_intact_fails_the_delivery_ratio_but_leaves_latency_unknown(anomaly: str) -> None:
    observations = Observations(values={anomaly: 100.0, "delivery_ratio": 0.0, "latency_p99": 0.0, "throughput": 0.0}, delivered=0)

    assert one("delivery_ratio >= 99%", observations).verdict is Verdict.FAIL
    assert one("latency_p99 < 100ms", observations).verdict is Verdict.UNKNOWN
    assert one("throughput > 1/s", observations).verdict is Verdict.UNKNOWN


def test_judge_infinity_may_break_a_criterion_but_never_keep_one() -> None:
    observations = Observations(values={"rss_growth": math.inf, "publish_rate": math.inf})

    assert one("rss_growth < 1.5x", observations).verdict is Verdict.FAIL
    assert one("publish_rate > 1/s", observations).verdict is Verdict.UNKNOWN


def test_judge_one_loss_in_a_million_million_still_shows() -> None:
    total = 10**12

    result = one("delivery_ratio == 100%", Observations(values={"delivery_ratio": (total - 1) / total}, delivered=total - 1))

    assert result.verdict is Verdict.FAIL
    assert "was 100 %" not in result.note


@pytest.mark.parametrize(
    ("sign", "verdict"), [("==", "PASS"), (">=", "PASS"), ("<=", "PASS"), ("!=", "FAIL"), ("<", "FAIL"), (">", "FAIL")]
)
def test_judge_figures_a_rounding_apart_count_as_equal(sign: str, verdict: str) -> None:
    observations = Observations(values={"delivery_ratio": 0.1 + 0.2}, delivered=1)

    assert one(f"delivery_ratio {sign} 30%", observations).verdict is Verdict[verdict]


def test_judge_counts_are_compared_exactly() -> None:
    observations = Observations(values={"delivered": 10.0**15 - 1}, delivered=1)

    assert one(f"delivered == {10**15}", observations).verdict is Verdict.FAIL


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from(OPERATORS))
def test_judge_agrees_with_plain_comparison_of_counts(value: int, limit: int, sign: str) -> None:
    result = one(f"delivered {sign} {limit}", Observations(values={"delivered": float(value)}))

    assert (result.verdict is Verdict.PASS) == PLAIN[sign](value, limit)


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 100), st.sampled_from(OPERATORS))
def test_judge_agrees_with_exact_fractions_of_counts(part: int, whole: int, percent: int, sign: str) -> None:
    result = one(f"error_ratio {sign} {percent}%", Observations(values={"error_ratio": part / whole}))

    assert (result.verdict is Verdict.PASS) == PLAIN[sign](part * 100, percent * whole)


def test_judge_a_criterion_of_a_phase_looks_there() -> None:
    observations = Observations(
        values={"latency_p99": 0.01},
        delivered=9,
        phases={"calm": {"latency_p99": 0.01, "delivered": 5}, "storm": {"latency_p99": 2, "delivered": 4}},
    )

    assert one("latency_p99 @ calm < 100ms", observations).verdict is Verdict.PASS
    assert one("latency_p99 @ storm < 100ms", observations).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("phases", "part"),
    [
        ({}, "the phase 'storm' was not measured"),
        ({"storm": {"delivered": 4.0}}, "not observed in the phase 'storm'"),
        ({"storm": {"latency_p99": 0.0, "delivered": 0.0}}, "no delivery was seen in the phase 'storm'"),
        ({"storm": {"latency_p99": 0.01}}, "no delivery was seen in the phase 'storm'"),
    ],
)
def test_judge_a_phase_without_evidence_is_unknown(phases: dict[str, dict[str, float]], part: str) -> None:
    result = one("latency_p99 @ storm < 100ms", Observations(values={"latency_p99": 0.01}, delivered=9, phases=phases))

    assert result.verdict is Verdict.UNKNOWN
    assert part in result.note


def test_judge_keeps_the_order_and_text_of_the_criteria() -> None:
    criteria = (parse(" lost == 0 "), parse("delivered > 1k"))

    assert [result.text for result in judge(criteria, Observations())] == ["lost == 0", "delivered > 1k"]


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("guarantee", Guarantee)
def test_implied_holds_what_the_guarantee_promises(guarantee: Guarantee, order: Order) -> None:
    metrics = {criterion.metric for criterion in implied(guarantee, order)}

    assert all((criterion.operator, criterion.limit, criterion.phase) == ("==", 0, "") for criterion in implied(guarantee, order))
    assert {"corrupted", "unexpected"} <= metrics
    assert ("lost" in metrics) == (guarantee != Guarantee.AT_MOST_ONCE)
    assert ("duplicated" in metrics) == (guarantee != Guarantee.AT_LEAST_ONCE)
    assert ("reordered" in metrics) == (order != Order.NONE)


def test_with_implied_a_stated_metric_is_not_repeated() -> None:
    stated = (parse("lost <= 5"), parse("duplicated @ storm == 0"))

    texts = [criterion.text for criterion in with_implied(stated, Guarantee.EXACTLY_ONCE, Order.NONE)]

    assert texts == ["lost <= 5", "duplicated @ storm == 0", "duplicated == 0", "corrupted == 0", "unexpected == 0"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("full_rate < 5s", "FAIL"),
        ("full_rate <= 6s", "UNKNOWN"),
        ("full_rate < 60s", "UNKNOWN"),
        ("full_rate == 6s", "UNKNOWN"),
        ("full_rate > 5s", "PASS"),
        ("full_rate >= 7s", "UNKNOWN"),
    ],
)
def test_judge_what_lasted_beyond_sight_breaks_a_lower_limit_and_proves_no_higher_one(text: str, verdict: str) -> None:
    seen = Observations(values={"full_rate": 6.0}, at_least={"full_rate": "nobody looked longer"}, delivered=1)

    (result,) = judge((parse(text),), seen)

    assert (result.verdict, result.observed) == (Verdict[verdict], 6.0)
    if verdict == "UNKNOWN":
        assert result.note == "full_rate was 6 s or more: nobody looked longer"
    if verdict == "FAIL":
        assert result.note == "full_rate was 6 s or more, wanted < 5 s"
