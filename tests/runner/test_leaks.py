"""From a run's evidence to the figures of its leak criteria: the deciding end, the slopes, the ceiling, and why there is none."""

from __future__ import annotations

import types
from typing import Any

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.judge.observe import Record, observe
from floodmark.judge.verdict import judge
from floodmark.model.criterion import parse
from floodmark.model.result import Delivery
from floodmark.model.scenario import Phase, Population, Scenario
from floodmark.model.verdict import Verdict
from floodmark.monitor.leak.synthetic import make
from floodmark.monitor.leak.trace import Trace
from floodmark.monitor.watch import Row
from floodmark.runner.evidence import Blow, Evidence
from floodmark.runner.leaks import figures_of, leak_of, require_limits

ALL = ("leak_bytes_per_message < 5B", "leak_descriptors_per_thousand < 0.5", "leak_threads_per_thousand < 0.5")


def scenario(*texts: str) -> Scenario:
    return Scenario(
        id="x", population=Population(connections=1), phases=(Phase(messages=1),), criteria=tuple(parse(text) for text in texts)
    )


def evidence_of(trace: Trace, *, swollen: tuple[int, int] | None = None, swollen_bytes: int = 0) -> Evidence:
    """What a run with this trace would have left; `swollen`: a fault's window in which memory was that much larger."""
    evidence = Evidence()
    evidence.first_intended_ns = trace.load.start_ns if trace.load is not None else trace.t_ns[0]
    evidence.load_end_ns = trace.load.end_ns if trace.load is not None else trace.t_ns[-1]
    evidence.drained_ns = trace.second_load.end_ns if trace.second_load is not None else evidence.load_end_ns
    if trace.second_load is not None:
        evidence.first_drained_ns = evidence.load_end_ns
        evidence.second_start_ns, evidence.second_end_ns = trace.second_load.start_ns, trace.second_load.end_ns
    rows = []
    for number, at_ns in enumerate(trace.t_ns):
        resident = trace.resident_bytes[number] or 0
        if swollen is not None and swollen[0] <= at_ns <= swollen[1]:
            resident += swollen_bytes
        rows.append(
            Row(
                tree="target",
                t_ns=at_ns,
                resident_bytes=resident,
                unique_bytes=None,
                high_water_bytes=None,
                cpu_s=0.0,
                descriptors=(trace.descriptors or ())[number],
                threads=8,
                processes=1,
            )
        )
    if swollen is not None:
        blow = Blow(kind="planted", struck_ns=swollen[0])
        blow.lifted_ns = swollen[1]
        evidence.blows.append(blow)
    stand_in: Any = types.SimpleNamespace
    evidence.watch = stand_in(rows=lambda: rows)
    evidence.target = stand_in(pid=1, starts_count=1)
    evidence.timeline = stand_in(progress=lambda: list(zip(trace.t_ns, trace.messages or (), strict=True)))
    return evidence


def verdicts(asked: Scenario, evidence: Evidence) -> dict[str, Verdict]:
    """What the judge makes of the criteria in the end."""
    values, missing = figures_of(asked, leak_of(asked, evidence))
    seen = observe(Record(delivery=Delivery(delivered=1), leaks=values, leaks_unknown=missing))
    return {result.text.split()[0]: result.verdict for result in judge(asked.criteria, seen)}


@pytest.mark.parametrize("second_load", [False, True])
def test_leaks_of_a_tidy_target_pass_in_every_column(second_load: bool) -> None:
    asked = scenario(*ALL)

    said = verdicts(asked, evidence_of(make("flat", seed=1, second_load=second_load)))

    assert set(said.values()) == {Verdict.PASS}


@pytest.mark.parametrize("second_load", [False, True])
def test_leaks_each_column_is_accused_for_itself(second_load: bool) -> None:
    asked = scenario(*ALL)
    trace = make("flat", seed=2, leak_bytes_per_message=10.0, descriptors_per_thousand=2.0, second_load=second_load)

    said = verdicts(asked, evidence_of(trace))

    assert said == {
        "leak_bytes_per_message": Verdict.FAIL,
        "leak_descriptors_per_thousand": Verdict.FAIL,
        "leak_threads_per_thousand": Verdict.PASS,
    }


def test_leaks_of_descriptors_do_not_accuse_memory() -> None:
    asked = scenario("leak_bytes_per_message < 5B")

    said = verdicts(asked, evidence_of(make("flat", seed=3, descriptors_per_thousand=2.0)))

    assert said == {"leak_bytes_per_message": Verdict.PASS}


def test_leaks_slopes_hold_the_truth_whatever_the_verdict() -> None:
    asked = scenario("leak_bytes_per_message < 10B", "leak_slope < 1GB")  # exactly at the limit: UNKNOWN

    values, missing = figures_of(asked, leak_of(asked, evidence_of(make("flat", seed=4, leak_bytes_per_message=10.0))))

    assert "leak_bytes_per_message" in missing
    assert values["leak_slope_lower"] < 10.0 < values["leak_slope_upper"]
    assert values["leak_slope"] == pytest.approx(10.0, abs=0.5)


def test_leaks_too_few_messages_are_unknown() -> None:
    asked = scenario(*ALL)

    said = verdicts(asked, evidence_of(make("flat", seed=5, messages_count=5_000)))

    assert set(said.values()) == {Verdict.UNKNOWN}


def test_leaks_unreadable_memory_is_unknown() -> None:
    asked = scenario("leak_bytes_per_message < 5B")
    trace = make("flat", seed=6)
    unread = msgspec.structs.replace(trace, resident_bytes=(None,) * len(trace.t_ns))

    assert verdicts(asked, evidence_of(unread)) == {"leak_bytes_per_message": Verdict.UNKNOWN}


def test_leaks_of_a_target_that_cannot_be_seen_are_missing_with_the_reason() -> None:
    asked = scenario(*ALL)
    evidence = evidence_of(make("flat", seed=7))
    evidence.target = None

    values, missing = figures_of(asked, leak_of(asked, evidence))

    assert not values
    assert set(missing) == {text.split()[0] for text in ALL}


def test_leaks_nobody_asks_for_are_not_worked_out() -> None:
    assert leak_of(scenario("lost == 0"), evidence_of(make("flat", seed=8))) is None


def test_leaks_in_a_fault_window_are_left_out_but_held_to_the_peak_that_the_scenario_allows() -> None:
    trace = make("flat", seed=9)
    third_ns = (trace.t_ns[-1] - trace.t_ns[0]) // 3
    blown = evidence_of(trace, swollen=(trace.t_ns[0] + third_ns, trace.t_ns[0] + 3 * third_ns // 2), swollen_bytes=2_000_000_000)
    calm, capped = scenario("leak_bytes_per_message < 5B"), scenario("leak_bytes_per_message < 5B", "rss_peak < 1GB")

    free, held = leak_of(calm, blown), leak_of(capped, blown)

    assert free is not None
    assert free.verdict is Verdict.PASS, free.reason
    assert held is not None
    assert held.verdict is Verdict.FAIL
    assert "peak of" in held.reason
    assert held.decided.verdict is Verdict.PASS  # the peak is accused by its own criterion, not as a leak
    assert figures_of(capped, held)[0]["leak_bytes_per_message"] < 5


def test_leaks_limit_that_nobody_can_keep_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a limit above 0"):
        require_limits(scenario("leak_threads_per_thousand == 0"))
