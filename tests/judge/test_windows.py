"""Criteria about windows: a multiple of another window needs evidence in both, and a count is judged only when it is known which it is."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.units import Dimension
from floodmark.judge.verdict import Observations, judge, with_implied
from floodmark.model.criterion import OPERATORS, parse
from floodmark.model.finding import Guarantee, Order
from floodmark.model.metrics import METRICS, Metric
from floodmark.model.result import CriterionResult
from floodmark.model.verdict import Verdict

PLAIN = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def one(text: str, observations: Observations) -> CriterionResult:
    """Judge a single criterion."""
    (result,) = judge((parse(text),), observations)
    return result


def around(metric: str, before: float | None, after: float | None, *, unplaced: dict[str, float] | None = None) -> Observations:
    """Observe one metric before and after the faults, with deliveries in both; None where it was not observed."""
    figures = {"before": before, "after": after}
    phases = {window: {"delivered": 5.0} | ({} if figure is None else {metric: figure}) for window, figure in figures.items()}
    more = {window: {metric: count} for window, count in (unplaced or {}).items()}
    return Observations(phases=phases, delivered=10, unplaced=more)


@every_metric
def test_judge_a_multiple_of_another_window_passes_and_fails_on_its_figure(metric: Metric) -> None:
    text = f"{metric.name}@after <= 2x before"

    kept, broken = one(text, around(metric.name, 3.0, 6.0)), one(text, around(metric.name, 3.0, 7.0))

    assert (kept.verdict, kept.observed, kept.note) == (Verdict.PASS, 6.0, "")
    assert (broken.verdict, broken.observed) == (Verdict.FAIL, 7.0)
    assert broken.note.startswith(f"{metric.name} was ")
    assert broken.note.endswith(" before the faults)")


def test_judge_a_broken_multiple_says_what_it_was_a_multiple_of() -> None:
    result = one("latency_p99@after < 2x before", around("latency_p99", 0.1, 0.25))

    assert result.note == "latency_p99 was 250 ms, wanted < 200 ms (2x the 100 ms before the faults)"


def test_judge_a_multiple_of_a_phase_may_be_about_the_whole_run() -> None:
    observations = Observations(values={"latency_p99": 0.25}, delivered=9, phases={"calm": {"latency_p99": 0.1, "delivered": 4.0}})

    result = one("latency_p99 < 2x calm", observations)

    assert result.note == "latency_p99 was 250 ms, wanted < 200 ms (2x the 100 ms in the phase 'calm')"


@every_metric
@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("before", [None, math.nan, math.inf, -1.0])
def test_judge_a_multiple_of_no_figure_is_unknown(metric: Metric, sign: str, before: float | None) -> None:
    observations = around(metric.name, before, 1.0)
    if metric.name == "delivered" and before is None:
        observations = Observations(phases={"before": {}, "after": {"delivered": 1.0}}, delivered=1)

    result = one(f"{metric.name}@after {sign} 2x before", observations)

    assert (result.verdict, result.observed) == (Verdict.UNKNOWN, 1.0)
    assert result.note.startswith("nothing to compare with: ")
    assert metric.name in result.note


def test_judge_a_multiple_of_a_window_that_was_not_measured_is_unknown() -> None:
    result = one("latency_p99@after < 2x before", Observations(phases={"after": {"latency_p99": 0.1, "delivered": 1.0}}, delivered=1))

    assert (result.verdict, result.note) == (Verdict.UNKNOWN, "nothing to compare with: the time before the faults was not measured")


@every_metric
def test_judge_a_multiple_of_a_window_without_deliveries_is_unknown_where_the_metric_needs_them(metric: Metric) -> None:
    phases = {"before": {"delivered": 0.0, metric.name: 2.0}, "after": {"delivered": 5.0, metric.name: 3.0}}
    if metric.name == "delivered":
        phases["before"]["delivered"] = 2.0

    result = one(f"{metric.name}@after <= 2x before", Observations(phases=phases, delivered=5))

    assert result.verdict is (Verdict.UNKNOWN if metric.needs_delivery else Verdict.PASS)
    assert ("no delivery was seen before the faults" in result.note) == metric.needs_delivery


@every_metric
@pytest.mark.parametrize("sign", OPERATORS)
def test_judge_a_multiple_of_zero_is_judged_only_where_it_can_be_kept_and_broken(metric: Metric, sign: str) -> None:
    observations = around(metric.name, 0.0, 0.0)
    observations.phases["before"]["delivered"] = 0.0 if metric.name == "delivered" else 5.0
    sensible = metric.dimension in (Dimension.COUNT, Dimension.RATIO) and sign not in (">=", "<")

    result = one(f"{metric.name}@after {sign} 2x before", observations)

    if not sensible:
        assert result.verdict is Verdict.UNKNOWN
        assert result.note.startswith(f"nothing to compare with: {metric.name} was 0")
    elif metric.name != "delivered":
        assert result.verdict is (Verdict.PASS if PLAIN[sign](0, 0) else Verdict.FAIL)


def test_judge_losses_after_none_before_break_their_multiple() -> None:
    assert one("lost@after <= 1x before", around("lost", 0.0, 1.0)).verdict is Verdict.FAIL
    assert one("lost@after <= 1x before", around("lost", 0.0, 0.0)).verdict is Verdict.PASS


def test_judge_losses_in_a_window_without_deliveries_are_evidence() -> None:
    observations = Observations(delivered=9, phases={"during": {"delivered": 0.0, "lost": 7.0}})

    assert one("lost@during == 0", observations).verdict is Verdict.FAIL
    unknown = one("lost@during <= 7", observations)
    assert (unknown.verdict, unknown.note) == (Verdict.UNKNOWN, "no delivery was seen during the faults, so lost proves nothing")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("duplicated@after == 0", "UNKNOWN"),
        ("duplicated@after <= 4", "UNKNOWN"),
        ("duplicated@after <= 5", "PASS"),
        ("duplicated@after == 3", "UNKNOWN"),
        ("duplicated@after != 3", "UNKNOWN"),
        ("duplicated@after == 6", "FAIL"),
        ("duplicated@after > 5", "FAIL"),
        ("duplicated@after >= 0", "PASS"),
    ],
)
def test_judge_what_could_not_be_placed_makes_only_those_unknown_that_depend_on_it(text: str, verdict: str) -> None:
    result = one(text, around("duplicated", 0.0, 0.0, unplaced={"after": 5.0}))

    assert result.verdict is Verdict[verdict]
    if result.verdict is Verdict.UNKNOWN:
        assert result.note.startswith("duplicated was 0 after the faults, and up to 5 more may belong there")


def test_judge_a_reference_that_is_not_known_exactly_counts_too() -> None:
    observations = around("lost", 1.0, 3.0, unplaced={"before": 4.0})

    assert one("lost@after <= 3x before", observations).verdict is Verdict.PASS
    assert one("lost@after > 15x before", observations).verdict is Verdict.FAIL
    result = one("lost@after <= 1x before", observations)
    assert (result.verdict, result.note) == (
        Verdict.UNKNOWN,
        "how much lost was before the faults is not known exactly enough: when they were sent cannot be told",
    )


@given(low=st.integers(0, 6), more=st.integers(0, 3), base=st.integers(1, 3), base_more=st.integers(0, 2), sign=st.sampled_from(OPERATORS))
def test_judge_bounds_agree_with_trying_every_count(low: int, more: int, base: int, base_more: int, sign: str) -> None:
    observations = around("lost", base, low, unplaced={"after": more, "before": base_more})
    answers = {PLAIN[sign](a, 2 * b) for a in range(low, low + more + 1) for b in range(base, base + base_more + 1)}

    result = one(f"lost@after {sign} 2x before", observations)

    if result.verdict is not Verdict.UNKNOWN:
        assert answers == {result.verdict is Verdict.PASS}
    elif sign not in ("==", "!="):
        assert len(answers) == 2


def test_with_implied_a_comparison_with_a_window_does_not_replace_the_promise() -> None:
    texts = [criterion.text for criterion in with_implied((parse("lost <= 1x calm"),), Guarantee.AT_LEAST_ONCE, Order.NONE)]

    assert texts == ["lost <= 1x calm", "lost == 0", "corrupted == 0", "unexpected == 0"]
