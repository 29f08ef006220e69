"""A comparison: what is worse is said to be, the same only where it is proved, and what is not the same thing is not compared."""

from __future__ import annotations

import math

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.judge.compare import compare, holm
from floodmark.judge.comparison import VERDICT, Change, Compared, Comparison, Wish
from floodmark.judge.repetitions import Gathered, KeptOut
from floodmark.model.baseline import Host, Subject
from floodmark.model.verdict import Verdict
from tests.judge.repeated import CALM, HOST, ONE, figure, held, measured, scaled, subject

FIGURES = {"throughput": scaled(1000.0), "latency_p50": scaled(0.02), "cpu_per_delivery": scaled(1e-5), "rss_peak": scaled(5e7)}


def before() -> Subject:
    """A scenario in which all is calm."""
    return subject(FIGURES)


def now(**changes: tuple[float, ...]) -> Subject:
    """The same a little later, but for these figures."""
    return subject({name: changes.get(name, scaled(1.002, values)) for name, values in FIGURES.items()}, runs="n")


def compared(after: Subject, wish: Wish | None = None, *kept_out: KeptOut, host: Host = HOST) -> Compared:
    """Compare one scenario."""
    return compare(held({ONE: before()}), measured({ONE: after}, *kept_out, host=host), wish or Wish())


def row(found: Compared, metric: str, scenario: str = ONE) -> Comparison:
    """One comparison of many."""
    (one,) = [one for one in found.comparisons if (one.scenario, one.metric) == (scenario, metric)]
    return one


def kept(verdict: Verdict, *, scenario: str = ONE, trial: bool = False) -> KeptOut:
    """A scenario that is no repetition."""
    return KeptOut(scenario=scenario, run="n9", verdict=verdict, why=f"it ended {verdict.value}: lost == 0", is_trial=trial)


def test_compare_of_repetitions_alike_is_the_same_in_every_figure_and_passes() -> None:
    found = compared(now())

    assert found.verdict is Verdict.PASS
    assert {one.metric for one in found.comparisons} == {VERDICT, *FIGURES}
    assert {one.verdict for one in found.comparisons} == {Change.SAME}


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        pytest.param("throughput", scaled(700.0), id="slower"),
        pytest.param("latency_p50", scaled(0.04), id="later"),
        pytest.param("cpu_per_delivery", scaled(1.3e-5), id="dearer"),
        pytest.param("rss_peak", scaled(6e7), id="larger"),
    ],
)
def test_compare_of_a_planted_regression_fails_on_just_that_figure(metric: str, values: tuple[float, ...]) -> None:
    found = compared(now(**{metric: values}))

    assert found.verdict is Verdict.FAIL
    assert [one.metric for one in found.comparisons if one.verdict is Change.WORSE] == [metric]


def test_compare_of_an_improvement_passes_and_says_so() -> None:
    found = compared(now(throughput=scaled(2000.0), latency_p50=scaled(0.005)))

    assert found.verdict is Verdict.PASS
    assert {one.metric for one in found.comparisons if one.verdict is Change.BETTER} == {"throughput", "latency_p50"}
    assert row(found, "throughput").ratio == pytest.approx(2.0, rel=0.02)


def test_compare_of_a_change_below_its_tolerance_is_the_same() -> None:
    found = compared(now(latency_p50=scaled(0.02 * 1.12)))

    assert row(found, "latency_p50").verdict is Change.SAME


def test_compare_with_another_tolerance_judges_the_same_change_differently() -> None:
    after = now(latency_p50=scaled(0.02 * 1.12))

    strict = compared(after, Wish(tolerances={"latency_p50": 0.05}))

    assert row(strict, "latency_p50").verdict is Change.WORSE
    assert row(strict, "latency_p50").tolerance_ratio == pytest.approx(0.05)
    assert row(compared(now(rss_peak=scaled(6e7)), Wish(tolerance_ratio=0.5)), "rss_peak").verdict is Change.SAME


def test_compare_of_noise_too_large_is_unknown_and_says_how_many_repetitions_would_tell() -> None:
    wild = (0.01, 0.04, 0.02, 0.03, 0.015, 0.05, 0.018, 0.022)

    one = row(compared(now(latency_p50=wild)), "latency_p50")

    assert one.verdict is Change.UNKNOWN
    assert one.settled_by is not None
    assert one.settled_by > 8
    assert f"until there are {one.settled_by}" in one.reason


def test_compare_where_only_better_or_same_is_open_passes_without_calling_it_either() -> None:
    found = compared(now(latency_p50=(0.012, 0.02, 0.012, 0.02, 0.013, 0.0205, 0.0121, 0.0199)))

    assert row(found, "latency_p50").verdict is Change.UNKNOWN
    assert row(found, "latency_p50").is_no_worse
    assert "no worse" in row(found, "latency_p50").reason
    assert found.verdict is Verdict.PASS


def test_compare_of_single_runs_is_unknown_with_the_repetitions_it_takes() -> None:
    lone = subject({name: values[:1] for name, values in FIGURES.items()})

    found = compare(held({ONE: lone}), measured({ONE: lone}))

    assert found.verdict is Verdict.UNKNOWN
    one = row(found, "rss_peak")
    assert one.settled_by == 5
    assert one.reason == "too few repetitions to tell (1 and 1); repeat the baseline and the runs until there are 5"


def test_compare_of_single_runs_of_many_scenarios_asks_for_what_all_of_them_take() -> None:
    lone = {name: subject({figure_: values[:1] for figure_, values in FIGURES.items()}) for name in "abcdef"}

    found = compare(held(lone), measured(lone))

    assert row(found, "rss_peak", "a").settled_by == 7  # 24 figures: with 2 / C(12, 6) six could not be sure of one
    assert "until there are 7" in row(found, "rss_peak", "a").reason


def test_compare_of_runs_that_moved_beyond_all_measure_has_an_end_at_infinity_and_is_unknown() -> None:
    was, is_ = (subject({"latency_p50": (0.02,)}, runs=runs, spread=30.0) for runs in "rn")

    one = row(compare(held({ONE: was}), measured({ONE: is_})), "latency_p50")

    assert one.verdict is Change.UNKNOWN
    assert one.ratio_interval is not None
    assert one.ratio_interval[1] == math.inf


def test_compare_of_a_lone_run_with_many_finds_what_is_far_beyond_and_clears_nothing() -> None:
    good = {name: values[:1] for name, values in FIGURES.items()}

    alike = compare(held({ONE: before()}), measured({ONE: subject(good, runs="n")}))
    tenfold = compare(held({ONE: before()}), measured({ONE: subject({**good, "latency_p50": (0.2,)}, runs="n")}))

    assert alike.verdict is Verdict.UNKNOWN
    assert not any(one.is_no_worse for one in alike.comparisons if one.metric != VERDICT)
    assert row(tenfold, "latency_p50").verdict is Change.WORSE


def test_compare_of_a_lone_run_does_not_clear_even_a_figure_that_never_moved() -> None:
    still, lone = subject({"fds_peak": (60.0,) * 8}), subject({"fds_peak": (60.0,)}, runs="n")

    one = row(compare(held({ONE: still}), measured({ONE: lone})), "fds_peak")

    assert one.ratio_interval is not None
    assert one.ratio_interval[1] < 1.05  # the borrowed interval lies within what is let pass, and is no evidence
    assert one.verdict is Change.UNKNOWN
    assert not one.is_no_worse


def test_compare_of_nothing_is_unknown() -> None:
    empty = held({})

    assert compare(empty, Gathered(baseline=held({}, runs="n"))).verdict is Verdict.UNKNOWN
    assert compare(held({ONE: before()}), Gathered(baseline=held({}, runs="n"))).verdict is Verdict.UNKNOWN


def test_compare_of_scenarios_without_a_single_figure_is_unknown_although_they_passed() -> None:
    bare = subject({})

    assert compare(held({ONE: bare}), measured({ONE: bare})).verdict is Verdict.UNKNOWN


def test_compare_where_it_passed_and_now_fails_is_worse_whatever_the_figures() -> None:
    alone = compare(held({ONE: before()}), measured({}, kept(Verdict.FAIL)))
    among = compared(now(), None, kept(Verdict.FAIL))

    for found in (alone, among):
        assert found.verdict is Verdict.FAIL
        assert row(found, VERDICT).verdict is Change.WORSE
        assert "it ended FAIL: lost == 0" in row(found, VERDICT).reason
    assert "1 of 9 runs" in row(among, VERDICT).reason


def test_compare_where_one_of_many_runs_is_unknown_does_not_pass() -> None:
    found = compared(now(), None, kept(Verdict.UNKNOWN))

    assert found.verdict is Verdict.UNKNOWN
    assert row(found, VERDICT).verdict is Change.UNKNOWN


@pytest.mark.parametrize(("was", "is_"), [(("a", "b"), ("a",)), (("a",), ("a", "b"))])
def test_compare_of_a_scenario_that_one_side_lacks_is_unknown(was: tuple[str, ...], is_: tuple[str, ...]) -> None:
    found = compare(held({name: before() for name in was}), measured({name: now() for name in is_}))

    assert found.verdict is Verdict.UNKNOWN
    assert row(found, VERDICT, "b").verdict is Change.UNKNOWN
    assert row(found, "rss_peak", "a").verdict is Change.SAME


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"scale": 0.1}, "the scale is 0.1 and was 1"), ({"configuration": "decaf"}, "the load is configured in another way")],
)
def test_compare_of_another_scale_or_load_is_unknown_and_compares_no_figure(changes: dict[str, object], words: str) -> None:
    found = compared(msgspec.structs.replace(now(latency_p50=scaled(9.0)), **changes))

    assert found.verdict is Verdict.UNKNOWN
    assert words in row(found, "all figures").reason
    assert len(found.comparisons) == 2


def test_compare_with_another_machine_is_unknown_unless_it_is_asked_for() -> None:
    other = msgspec.structs.replace(HOST, cores=64)

    refused = compared(now(), host=other)
    asked = compared(now(latency_p50=scaled(9.0)), Wish(across_machines=True), host=other)
    larger = compared(now(rss_peak=scaled(6e7)), Wish(across_machines=True), host=other)

    assert refused.verdict is Verdict.UNKNOWN
    assert "64 x An Honest Processor" in row(refused, "all figures").reason
    assert {one.metric for one in asked.comparisons} == {VERDICT, "rss_peak"}
    assert asked.verdict is Verdict.PASS
    assert any("figures of the machine are not compared (throughput" in remark for remark in asked.remarks)
    assert larger.verdict is Verdict.FAIL


def test_compare_across_machines_by_a_chosen_figure_of_the_machine_does_not_pass_without_it() -> None:
    wish = Wish(metrics=("rss_peak", "latency_p50"), across_machines=True)

    found = compared(now(latency_p50=scaled(9.0)), wish, host=msgspec.structs.replace(HOST, cores=64))

    assert row(found, "rss_peak").verdict is Change.SAME
    assert row(found, "latency_p50").verdict is Change.UNKNOWN
    assert "hangs on the machine" in row(found, "latency_p50").reason
    assert found.verdict is Verdict.UNKNOWN


def test_compare_of_a_figure_that_one_side_lacks_is_unknown() -> None:
    less = msgspec.structs.replace(now(), figures={"throughput": figure("throughput", scaled(1000.0))})

    found = compared(less)

    assert row(found, "rss_peak").verdict is Change.UNKNOWN
    assert row(found, "rss_peak").reason == "these runs have no such figure"
    assert found.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("seen", [scaled(0.3), scaled(0.1)], ids=["alike", "quicker"])
def test_compare_of_a_figure_that_some_runs_lack_clears_nothing(seen: tuple[float, ...]) -> None:
    was = subject({"rss_peak": scaled(5e7), "recovery": scaled(0.3)})
    is_ = subject({"rss_peak": scaled(5e7), "recovery": seen[:6]}, runs="n")  # in two of the eight the stream did not recover

    found = compare(held({ONE: was}), measured({ONE: is_}))

    one = row(found, "recovery")
    assert (one.verdict, one.is_no_worse) == (Change.UNKNOWN, False)
    assert "2 of 8 runs lack it" in one.reason
    assert found.verdict is Verdict.UNKNOWN


def test_compare_of_a_figure_that_some_runs_lack_and_that_is_worse_in_the_others_is_worse() -> None:
    was = subject({"rss_peak": scaled(5e7), "recovery": scaled(3.0)})
    is_ = subject({"rss_peak": scaled(5e7), "recovery": scaled(9.0)[:6]}, runs="n")

    found = compare(held({ONE: was}), measured({ONE: is_}))

    assert row(found, "recovery").verdict is Change.WORSE


def test_compare_of_a_figure_that_some_runs_of_the_baseline_lack_is_as_of_any_other() -> None:
    was = subject({"rss_peak": scaled(5e7), "recovery": scaled(3.0)[:6]})
    is_ = subject({"rss_peak": scaled(5e7), "recovery": scaled(3.0)}, runs="n")

    assert compare(held({ONE: was}), measured({ONE: is_})).verdict is Verdict.PASS


def test_compare_by_a_chosen_figure_takes_no_other_and_is_unknown_where_there_is_none() -> None:
    chosen, absent = compared(now(), Wish(metrics=("rss_peak",))), compared(now(), Wish(metrics=("goodput",)))

    assert [one.metric for one in chosen.comparisons] == [VERDICT, "rss_peak"]
    assert absent.verdict is Verdict.UNKNOWN


def test_compare_with_a_run_of_the_baseline_itself_is_refused() -> None:
    same = held({ONE: before()})

    with pytest.raises(UsageError, match="r0 is part of the baseline 'main'"):
        compare(same, Gathered(baseline=same))


def test_compare_leaves_trials_of_the_harness_out_and_fails_to_ignore_one_that_did_not_pass() -> None:
    passed, failed = (compared(now(), None, kept(verdict, scenario="liars.drop", trial=True)) for verdict in (Verdict.PASS, Verdict.FAIL))

    assert passed.verdict is Verdict.PASS
    assert any("liars.drop" in remark for remark in passed.remarks)
    assert failed.verdict is Verdict.UNKNOWN


def test_compare_tells_of_another_target_and_another_version() -> None:
    after = measured({ONE: msgspec.structs.replace(now(), target="env X=1 hub")})
    newer = msgspec.structs.replace(
        after.baseline, runs=tuple(msgspec.structs.replace(one, version="0.2.0") for one in after.baseline.runs)
    )

    found = compare(held({ONE: before()}), Gathered(baseline=newer))

    assert f"{ONE}: the target was 'hub', and is 'env X=1 hub'" in found.remarks
    assert any("0.1.0, 0.2.0" in remark for remark in found.remarks)


def test_compare_of_many_at_once_takes_more_to_accuse_than_of_one() -> None:
    edge = (1.17, 1.15, 1.2, 1.13, 1.16)
    one = {"cpu_per_delivery": CALM[:5]}
    many = {f"s{number:02}": subject(one) for number in range(400)}
    worse = subject({"cpu_per_delivery": tuple(1.08 * value for value in edge)}, runs="n")

    alone = compare(held({"s00": subject(one)}), measured({"s00": worse}))
    crowded = compare(held(many), measured({**{name: subject(one, runs="n") for name in many}, "s00": worse}))

    assert row(alone, "cpu_per_delivery", "s00").verdict is Change.WORSE
    doubted = row(crowded, "cpu_per_delivery", "s00")
    assert doubted.verdict is Change.UNKNOWN
    assert "400 comparisons at once" in doubted.reason


def test_compare_of_what_lies_beyond_the_limit_and_is_short_of_sure_says_how_many_more_it_takes() -> None:
    """Wild enough that Welch's t is of no help, and ranks alone have 2 / C(10, 5), which is not below 0.05 / 9."""
    wild, wilder = (1.0, 1.01, 0.99, 1.02, 90.0), (120.0, 121.0, 122.0, 123.0, 3e6)
    figures = ("latency_p50", "latency_p99", "rss_peak", "fds_peak", "ttft_p50", "ttft_p99", "cpu_per_delivery", "goodput", "throughput")
    was = subject(dict.fromkeys(figures, CALM[:5]) | {"latency_p50": wild})
    is_ = subject(dict.fromkeys(figures, CALM[:5]) | {"latency_p50": wilder}, runs="n")

    one = row(compare(held({ONE: was}), measured({ONE: is_})), "latency_p50")

    assert (one.verdict, one.settled_by) == (Change.UNKNOWN, 6)
    assert one.reason.startswith("it lies beyond the limit, but 9 comparisons at once need more to be sure")


def test_holm_of_no_tests_and_of_equal_ones() -> None:
    assert holm([], 0.05) == []
    assert holm([0.02, 0.02, 0.02], 0.05) == [False, False, False]
    assert holm([0.016, 0.016, 0.016], 0.05) == [True, True, True]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"metrics": ("latency_p98",)}, "did you mean 'latency_p99'"),
        ({"tolerances": {"speed": 0.1}}, "there are: throughput"),
        ({"tolerance_ratio": 0.0}, "greater than 0"),
        ({"tolerances": {"rss_peak": float("nan")}}, "finite"),
    ],
)
def test_wish_for_what_is_not_there_is_refused(wish: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Wish(**wish)  # type: ignore[arg-type]
