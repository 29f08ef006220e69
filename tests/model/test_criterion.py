"""Criteria as text: a window after the metric, a multiple of another window as the value, and one sentence for every mistake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.model import checks
from floodmark.model.criterion import OPERATORS, Criterion, parse
from floodmark.model.metrics import METRICS
from floodmark.model.read import read_text, to_toml
from floodmark.model.scenario import Phase, Population, Scenario

PHASES = ("calm", "storm")


@pytest.mark.parametrize(
    ("text", "phase", "limit", "reference"),
    [
        ("latency_p99@after < 2x before", "after", 2.0, "before"),
        ("latency_p99 @ after < 2 x before", "after", 2.0, "before"),
        ("throughput@after >= 0.9x  before", "after", 0.9, "before"),
        ("rss_growth@after < 1.5x during", "after", 1.5, "during"),
        ("rss_growth < 1.5x", "", 1.5, ""),
        ("latency_p50 <= 1e1x calm", "", 10.0, "calm"),
        ("lost@during == 0", "during", 0.0, ""),
        ("latency_p99@storm<3x x-ray", "storm", 3.0, "x-ray"),
    ],
)
def test_parse_a_window_and_a_multiple_are_read(text: str, phase: str, limit: float, reference: str) -> None:
    criterion = parse(text)

    assert (criterion.phase, criterion.limit, criterion.reference) == (phase, limit, reference)
    assert criterion.text == text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("latency_p99@after < 2x", "'2x' does not say of what; name the window it refers to, such as 2x before"),
        (
            "latency_p99@after < before",
            "'before' is no multiple of another window; write the factor, an x and the window, such as 2x before",
        ),
        ("latency_p99@after < 2 before", "'2 before' is no multiple"),
        ("latency_p99@after < 200% before", "'200% before' is no multiple"),
        ("rss_growth@after < before", "'before' is no multiple"),
        ("latency_p99@after < 0x before", "must be greater than 0x, got 0x"),
        ("latency_p99@after < -1x before", "must be greater than 0x, got -1x"),
        ("latency_p99@after < twox before", "'twox' is not a multiple"),
        ("latency_p99@after < 2x after", "compares latency_p99 in 'after' with itself; name two windows"),
        ("latency_p99@after < 100", "a duration takes one of"),
        ("latency_p98@after < 2x before", "unknown metric 'latency_p98'"),
        ("latency_p99@ < 2x before", "is not METRIC OPERATOR VALUE"),
    ],
)
def test_parse_a_wrong_multiple_is_told_in_one_sentence(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)

    assert part in str(caught.value)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    metric=st.sampled_from(list(METRICS)),
    sign=st.sampled_from(OPERATORS),
    factor=st.floats(1e-3, 1e6),
    windows=st.lists(st.sampled_from([*PHASES, *checks.FAULT_WINDOWS]), min_size=2, max_size=2, unique=True),
)
def test_parse_any_multiple_of_any_metric_keeps_its_factor(metric: str, sign: str, factor: float, windows: list[str]) -> None:
    criterion = parse(f"{metric} @ {windows[0]} {sign} {factor!r}x {windows[1]}")

    assert (criterion.metric, criterion.operator, criterion.limit) == (metric, sign, factor)
    assert [criterion.phase, criterion.reference] == windows
    assert parse(criterion.text) == criterion


def test_to_toml_keeps_a_multiple_of_another_window() -> None:
    scenario = Scenario(
        id="x",
        population=Population(connections=1),
        phases=tuple(Phase(name=name, messages=1) for name in PHASES),
        criteria=(parse("latency_p99 @ storm < 2x calm"), parse("throughput >= 0.9x calm")),
    )

    (read,) = read_text(to_toml(scenario), "x.toml")

    assert read == scenario
    assert [criterion.reference for criterion in read.criteria] == ["calm", "calm"]


def test_criterion_made_by_hand_refers_to_nothing() -> None:
    assert Criterion(text="lost == 0", metric="lost", operator="==", limit=0.0) == parse("lost == 0")


@pytest.mark.parametrize("name", checks.FAULT_WINDOWS)
def test_window_around_the_faults_needs_faults_and_is_no_name_for_a_phase(name: str) -> None:
    checks.window("criterion 'x'", name, phases=PHASES, has_faults=True)

    with pytest.raises(UsageError, match=f"criterion 'x' names the window '{name}', but the scenario has no faults for it to be {name}"):
        checks.window("criterion 'x'", name, phases=PHASES, has_faults=False)
    with pytest.raises(UsageError, match=f"phase.name must not be '{name}'"):
        checks.not_a_window("phase.name", name)


@pytest.mark.parametrize("has_faults", [False, True])
def test_window_of_load_must_be_one_of_the_phases(has_faults: bool) -> None:
    for name in ("", *PHASES):
        checks.window("criterion 'x'", name, phases=PHASES, has_faults=has_faults)
        checks.not_a_window("phase.name", name)

    with pytest.raises(UsageError, match="criterion 'x' names the phase 'strom', but the phases are: 'calm', 'storm'"):
        checks.window("criterion 'x'", "strom", phases=PHASES, has_faults=has_faults)
