"""Figures and sentences that all formats share."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core import units
from floodmark.core.units import Dimension
from floodmark.model.result import CriterionResult
from floodmark.model.verdict import Verdict
from floodmark.report import figures
from tests.report import made


@given(st.floats(min_value=1e-9, max_value=1e6))
def test_time_s_any_duration_reads_back_within_half_a_percent(seconds: float) -> None:
    text = figures.time_s(seconds)

    read = units.parse(text.replace(",", "").replace("µs", "us"), Dimension.TIME)

    assert read == pytest.approx(seconds, rel=0.0051, abs=0.51e-9)
    assert "e" not in text


@given(st.integers(min_value=1, max_value=2**45))
def test_size_any_size_reads_back_within_half_a_percent(count_bytes: int) -> None:
    text = figures.size(count_bytes)

    assert units.parse(text.replace(",", ""), Dimension.BYTES) == pytest.approx(count_bytes, rel=0.0051)


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("latency_p99 < 100ms", 0.0031204, "3.12 ms"),
        ("lost == 0", 33.0, "33"),
        ("success_ratio >= 99%", 0.98765, "98.765 %"),
        ("rss_growth < 1.5x", 1.4142, "1.41x"),
        ("throughput > 10000/s", 12_345.6, "12,346 /s"),
        ("rss_kept < 1MiB", 0.0, "0 B"),
        ("metric_of_tomorrow < 3 parsecs", 2.5, "2.5"),
    ],
)
def test_observed_carries_the_unit_of_its_metric(text: str, value: float, shown: str) -> None:
    assert figures.observed(CriterionResult(text=text, observed=value, verdict=Verdict.PASS)) == shown


def test_observed_without_evidence_is_a_dash() -> None:
    assert figures.observed(CriterionResult(text="lost == 0", observed=None, verdict=Verdict.UNKNOWN)) == figures.NONE


def test_headline_counts_what_did_not_pass() -> None:
    assert figures.headline(made.run_of(made.passed(), made.passed(2))) == "All 2 scenarios passed."
    assert (
        figures.headline(made.run_of(made.passed(), made.failed(), made.unknown())) == "Of 3 scenarios, 1 failed and 1 could not be judged."
    )
    assert figures.headline(made.run_of()) == "No scenario ran, so nothing is proved."
    assert "interrupted" in figures.headline(made.run_of(made.passed(), interrupted=True))


def test_first_anomaly_prefers_what_failed_and_skips_planted_lies() -> None:
    liar = made.failed(1, id="liars.lose-1-in-1000", verdict=Verdict.PASS)
    tolerated = made.failed(2, id="subscriptions.tolerant", verdict=Verdict.PASS)
    broken = made.failed(3, id="subscriptions.broken")

    found = figures.first_anomaly(made.run_of(liar, tolerated, broken))

    assert found == (broken, broken.findings[0])
    assert figures.first_anomaly(made.run_of(liar)) is None


def test_first_anomaly_ignores_what_the_guarantee_allows() -> None:
    allowed = tuple(msgspec.structs.replace(one, violation=False) for one in made.failed().findings)

    assert figures.first_anomaly(made.run_of(made.failed(findings=allowed))) is None


def test_remark_speaks_of_liars_only() -> None:
    assert figures.remark(made.passed()) == ""
    assert "told them apart" in figures.remark(made.passed(id="liars.stall"))
    assert "let a lie through" in figures.remark(made.failed(id="liars.stall"))


def test_delivered_of_nothing_attempted_is_a_dash() -> None:
    assert figures.delivered(made.unknown(), "lost") == figures.NONE
    assert figures.delivered(made.passed(), "lost") == "0"


def test_metrics_of_another_version_come_last() -> None:
    rows = figures.metrics(made.passed(metrics={"future": 1.5, "rss_peak": 2048.0, "lost": 0.0}))

    assert [tuple(row) for row in rows] == [("lost", "0"), ("rss_peak", "2.00 KiB"), ("future", "1.5")]
