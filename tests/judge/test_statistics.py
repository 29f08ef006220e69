"""Criteria on the target's own numbers: `target.NAME`, its unit by the end of the name, UNKNOWN where the target does not say."""

from __future__ import annotations

import pytest

from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.judge.observe import Record, observe
from floodmark.judge.verdict import Observations, judge
from floodmark.model.criterion import parse
from floodmark.model.metrics import METRICS, metric_of
from floodmark.model.result import CriterionResult
from floodmark.model.verdict import Verdict


def judged(text: str, statistics: dict[str, float] | None) -> CriterionResult:
    return judge([parse(text)], Observations(statistics=statistics))[0]


@pytest.mark.parametrize(
    ("text", "value", "verdict"),
    [
        ("target.wrong == 0", 0.0, Verdict.PASS),
        ("target.wrong == 0", 1.0, Verdict.FAIL),
        ("target.first_record_s < 20ms", 0.019, Verdict.PASS),
        ("target.first_record_s < 20ms", 0.021, Verdict.FAIL),
        ("target.measured_hz > 1M/s", 1_000_001.0, Verdict.PASS),
        ("target.measured_hz > 1M/s", 999_999.0, Verdict.FAIL),
        ("target.held_bytes <= 1KiB", 1024.0, Verdict.PASS),
        ("target.hit_ratio >= 50%", 0.49, Verdict.FAIL),
        ("target.wrong == 0", float("nan"), Verdict.UNKNOWN),
    ],
)
def test_statistic_is_judged_in_the_unit_that_ends_its_name(text: str, value: float, verdict: Verdict) -> None:
    name = text.split()[0].removeprefix("target.")

    result = judged(text, {name: value, "other": 7.0})

    assert result.verdict is verdict
    assert bool(result.note) == (verdict is not Verdict.PASS)


def test_statistic_that_the_target_does_not_give_is_unknown_and_names_those_it_does() -> None:
    result = judged("target.wrnog == 0", {"wrong": 0.0})

    assert (result.verdict, result.observed) == (Verdict.UNKNOWN, None)
    assert "have: wrong" in result.note


def test_statistic_of_a_target_without_any_is_unknown() -> None:
    result = judged("target.wrong == 0", None)

    assert result.verdict is Verdict.UNKNOWN
    assert "knows no statistics" in result.note


def test_statistic_of_a_phase_is_unknown_since_it_is_taken_once() -> None:
    seen = Observations(statistics={"wrong": 0.0}, phases={"steady": {"delivered": 5.0}})

    result = judge([parse("target.wrong @ steady == 0")], seen)[0]

    assert result.verdict is Verdict.UNKNOWN
    assert "once at the end of the run" in result.note


def test_statistic_cannot_be_mistaken_for_a_metric_of_our_own() -> None:
    seen = observe(Record(statistics={"lost": 0.0, "delivered": 9.0}))

    assert seen.statistics == {"lost": 0.0, "delivered": 9.0}
    assert "target.lost" not in seen.values
    assert not any(name.startswith("target.") for name in METRICS)


@pytest.mark.parametrize("name", ["target.", "target.Wrong", "target.a.b", "target.1", "targets.wrong", "goal.wrong"])
def test_statistic_of_an_impossible_name_is_no_metric(name: str) -> None:
    assert metric_of(name) is None
    with pytest.raises(UsageError):
        parse(f"{name} == 0")


def test_statistic_in_a_wrong_unit_is_refused_as_for_any_metric() -> None:
    with pytest.raises(UsageError, match="a duration"):
        parse("target.first_record_s < 20MB")


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("s", Dimension.COUNT),
        ("wait_s", Dimension.TIME),
        ("items", Dimension.COUNT),
        ("queue_bytes", Dimension.BYTES),
        ("retries", Dimension.COUNT),
    ],
)
def test_statistic_has_the_dimension_of_its_ending(name: str, dimension: Dimension) -> None:
    metric = metric_of(f"target.{name}")

    assert metric is not None
    assert metric.dimension is dimension
