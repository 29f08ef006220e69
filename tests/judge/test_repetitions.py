"""Runs as repetitions: what passed counts, what did not is kept out with a sentence, and what is no repetition is refused."""

from __future__ import annotations

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.judge.repetitions import Run, digest, gather
from floodmark.model.baseline import Host
from floodmark.model.verdict import Verdict
from tests.judge.repeated import HOST, ONE, result, run


def test_gather_keeps_the_value_and_the_spread_of_each_run_in_their_order() -> None:
    runs = [run(number, result(throughput=100.0 + number, cpu=2.0, delivered=1000.0), delivered_hz=0.01 * number) for number in (1, 2, 3)]

    found = gather("main", runs)

    subject = found.baseline.scenarios[ONE]
    assert subject.runs == ("run-1", "run-2", "run-3")
    assert subject.figures["throughput"].values == (101.0, 102.0, 103.0)
    assert subject.figures["throughput"].spreads == (0.01, 0.02, 0.03)
    assert subject.figures["cpu_per_delivery"].values == (0.002,) * 3
    assert subject.target == "hub -x"
    assert found.kept_out == ()


def test_gather_leaves_out_figures_that_were_not_measured_or_mean_nothing() -> None:
    found = gather("main", [run(1, result(throughput=float("inf"), cpu=2.0, delivered=0.0, rss_peak=5.0))])

    assert set(found.baseline.scenarios[ONE].figures) == {"rss_peak", "cpu"}


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNKNOWN])
def test_gather_keeps_a_scenario_that_did_not_pass_out_and_says_why(verdict: Verdict) -> None:
    found = gather("main", [run(1, result(throughput=1.0), result("other", verdict=verdict, throughput=1.0))])

    assert set(found.baseline.scenarios) == {ONE}
    (kept,) = found.kept_out
    assert (kept.scenario, kept.run, kept.verdict) == ("other", "run-1", verdict)
    assert kept.why == f"it ended {verdict.value}: lost == 0 (3 lost)"


def test_gather_keeps_a_trial_of_the_harness_out_although_it_passed() -> None:
    one = run(1, result("liars.drop", throughput=1.0))
    trial = msgspec.structs.replace(one, configuration=(*one.configuration, {"id": "liars.drop.honest-twin"}))

    (kept,) = gather("main", [trial]).kept_out

    assert kept.is_trial
    assert "lies on purpose" in kept.why


def test_gather_keeps_a_scenario_without_its_configuration_out() -> None:
    found = gather("main", [msgspec.structs.replace(run(1, result(throughput=1.0)), configuration=())])

    assert found.baseline.scenarios == {}
    assert "does not hold its configuration" in found.kept_out[0].why


def test_gather_onto_a_baseline_adds_repetitions_and_keeps_what_is_there() -> None:
    first = gather("main", [run(1, result(throughput=1.0), result("other", throughput=5.0))]).baseline

    found = gather("main", [run(2, result(throughput=2.0))], onto=first).baseline

    assert found.scenarios[ONE].figures["throughput"].values == (1.0, 2.0)
    assert found.scenarios["other"] == first.scenarios["other"]
    assert [one.run for one in found.runs] == ["run-1", "run-2"]
    assert first.scenarios[ONE].runs == ("run-1",)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        pytest.param(run(1, result(throughput=1.0)), "run-1 is there already", id="twice"),
        pytest.param(run(2, result(throughput=1.0), host=Host(cpu="Another", cores=2)), "2 x Another", id="machine"),
        pytest.param(run(2, result(throughput=1.0), load="burst"), "another configuration in run-2 than in run-1", id="load"),
        pytest.param(run(2, msgspec.structs.replace(result(throughput=1.0), scale=0.5)), "another scale", id="scale"),
    ],
)
def test_gather_of_runs_that_are_no_repetitions_of_each_other_is_refused(second: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        gather("main", [run(1, result(throughput=1.0)), second])  # type: ignore[list-item]


def test_gather_of_runs_against_two_targets_is_refused_unless_both_are_addresses() -> None:
    def against(number: int, **target: str) -> Run:
        one = run(number, result(throughput=1.0))
        return msgspec.structs.replace(one, configuration=({**one.configuration[0], "target": target},))

    moved = gather("main", [against(1, url="ws://127.0.0.1:1"), against(2, url="ws://127.0.0.1:2")])

    assert len(moved.baseline.scenarios[ONE].runs) == 2
    with pytest.raises(UsageError, match="another target in run-2"):
        gather("main", [against(1, command="serve"), against(2, command="serve --lie drop=1/2")])


def test_gather_of_no_run_is_refused() -> None:
    with pytest.raises(UsageError, match="no run given"):
        gather("main", [])


def test_gather_of_a_machine_with_another_kernel_is_the_same_machine() -> None:
    newer = msgspec.structs.replace(HOST, kernel="Linux 7.0")

    found = gather("main", [run(1, result(throughput=1.0)), run(2, result(throughput=2.0), host=newer)])

    assert len(found.baseline.runs) == 2


def test_digest_changes_with_the_load_and_not_with_title_target_criteria_or_the_order_of_keys() -> None:
    plain = {"id": "a", "title": "t", "target": {"system": "hub"}, "criteria": [], "phases": [{"rate_hz": 5, "name": "n"}], "driver": "d"}

    assert digest(plain) == digest({**plain, "title": "u", "target": {"url": "ws://x"}, "criteria": ["lost == 0"], "id": "b"})
    assert digest(plain) == digest({"driver": "d", "phases": [{"name": "n", "rate_hz": 5}], "id": "a"})
    assert digest(plain) != digest({**plain, "phases": [{"rate_hz": 6, "name": "n"}]})
