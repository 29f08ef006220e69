"""Costs and advice: worked out from planted figures, and silent where the figures are missing."""

from __future__ import annotations

import msgspec
import pytest

from floodmark.model.result import Delivery, GeneratorUsage, LatencySummary, TargetUsage
from floodmark.report.advice import RULES, advice, threshold
from floodmark.report.costs import Costs, costs, phases_of
from floodmark.report.series import Timeline, timeline
from tests.report import made

PHASES = ("calm", "busy")


def two_phases() -> Timeline:
    """Ten seconds of calm, ten of twice the rate at four times the latency, and a drain that still delivers."""
    rows: list[tuple[float, str, float]] = [(0.0, "mark:calm", 1.0), (10.0, "mark:busy", 1.0), (20.0, "mark:drain", 1.0)]
    for second in range(-2, 22):
        busy = second >= 10
        rows += [
            (second + 0.5, "delivered_hz", 0.0 if second < 0 else 2_000.0 if busy else 1_000.0),
            (second + 0.5, "target_cpu_ratio", 0.9 if 0 <= second < 20 else 0.0),
            (second + 0.5, "target_rss_bytes", 50e6 + 1e6 * second),
        ]
        if second >= 0:
            rows.append((second + 0.5, "response_p99_ns", 8e6 if busy else 2e6))
    return timeline(rows)


def test_costs_of_a_scenario_follow_from_its_figures() -> None:
    scenario = made.passed(1, metrics={"rss_growth": 1.5, "rss_per_connection": 20_000.0, "leak_bytes_per_message": 12.0})

    spent = costs(scenario, two_phases(), PHASES)

    assert spent.target_cpu_s_per_million == pytest.approx((0.5 + 19) * 0.9 / scenario.delivery.delivered * 1e6)
    assert spent.harness_cpu_share == pytest.approx(8.71 / (8.71 + 11.42))
    assert spent.rss_peak_factor == pytest.approx(203_485_184 / 58_720_256)
    assert (spent.rss_kept_factor, spent.rss_bytes_per_connection, spent.leak_bytes_per_message) == (1.5, 20_000.0, 12.0)
    assert spent.target_cores == pytest.approx(0.9)
    assert spent.backlog_ratio == pytest.approx(4_000 / 34_000)
    assert spent.latency_growth_factor == pytest.approx(4.0)
    assert spent.waited_ns_p99 == pytest.approx(3_120_457 - 2_950_321)


def test_costs_of_an_unseen_target_are_unknown() -> None:
    scenario = made.unknown()

    spent = costs(scenario, None)

    assert spent == Costs()
    assert advice(spent) == []


def test_phases_of_a_timeline_end_where_the_next_begins() -> None:
    calm, busy = phases_of(two_phases(), PHASES)

    assert (calm.name, calm.from_s, calm.to_s, calm.delivered_hz, calm.response_ns_p99) == ("calm", 0.0, 10.0, 1_000.0, 2e6)
    assert (busy.name, busy.from_s, busy.to_s, busy.delivered_hz, busy.rss_bytes) == ("busy", 10.0, 20.0, 2_000.0, 69e6)


def test_costs_of_a_load_played_twice_take_the_second_for_no_backlog() -> None:
    seen = two_phases()
    again = [(22.0 + second, "delivered_hz", 5_000.0) for second in range(10)]
    rows = [(t_s, name, value) for name, curve in seen.curves.items() for t_s, value in zip(*curve, strict=True)]
    marks = [(mark.t_s, f"mark:{mark.text}", 1.0) for mark in seen.marks]

    twice = timeline([*rows, *again, *marks, (22.0, "mark:again", 1.0), (32.0, "mark:drain", 1.0)])

    assert costs(made.passed(1), twice, PHASES).backlog_ratio == pytest.approx(4_000 / 34_000)


def test_costs_of_an_interrupted_run_know_no_backlog() -> None:
    seen = two_phases()

    spent = costs(made.passed(1), Timeline(seen.curves, [mark for mark in seen.marks if mark.text != "drain"]), PHASES)

    assert spent.backlog_ratio is None
    assert spent.target_cores is None


@pytest.mark.parametrize("rule", RULES, ids=[rule.figure for rule in RULES])
def test_advice_beyond_a_threshold_is_given_and_at_it_is_not(rule: object) -> None:
    assert isinstance(rule, type(RULES[0]))
    beyond = msgspec.structs.replace(Costs(), **{rule.figure: rule.threshold + 0.01})
    at = msgspec.structs.replace(Costs(), **{rule.figure: rule.threshold})

    assert [(said.rule.figure, said.value) for said in advice(beyond)] == [(rule.figure, rule.threshold + 0.01)]
    assert advice(at) == []
    assert threshold(rule).startswith("> ")


def test_advice_names_every_figure_once() -> None:
    figures = [rule.figure for rule in RULES]

    assert len(figures) == len(set(figures))
    assert set(figures) <= set(Costs.__struct_fields__)


def test_costs_without_deliveries_divide_by_nothing() -> None:
    scenario = made.passed(
        1,
        delivery=Delivery(attempted=5),
        latency_ns=msgspec.structs.replace(made.passed(1).latency_ns, response=LatencySummary(), service=LatencySummary()),
        target=TargetUsage(cpu_s=1.0),
        generator=GeneratorUsage(cpu_s=1.0, lag_ns_p99=5),
    )

    spent = costs(scenario, None)

    assert (spent.target_cpu_s_per_million, spent.rss_peak_factor, spent.tail_factor, spent.lag_share) == (None, None, None, None)
    assert spent.harness_cpu_share == 0.5
