"""How often a comparison is wrong, by simulated runs with noise of heavy tails; `python -m bench.compare` prints it of more cases."""

from __future__ import annotations

import pytest

from bench import compare as simulated
from floodmark.judge.comparison import Change
from floodmark.model.verdict import Verdict

PAIRS = 200
FEWER = 30


@pytest.mark.parametrize(
    ("noise", "repetitions", "pairs"),
    [
        pytest.param("calm", (5, 5), PAIRS, id="calm"),
        pytest.param("busy", (5, 5), PAIRS // 2, id="busy"),
        pytest.param("calm", (8, 1), PAIRS // 2, id="calm-lone"),
        pytest.param("busy", (8, 1), PAIRS // 2, id="busy-lone"),
    ],
)
def test_compare_of_runs_alike_accuses_in_at_most_one_of_twenty(noise: str, repetitions: tuple[int, int], pairs: int) -> None:
    found = simulated.trials(noise=noise, repetitions=repetitions, slowdown=1.0, pairs=pairs)

    assert simulated.tally(found)[Verdict.FAIL] <= pairs / 20
    assert any(row.ratio is not None for one in found for row in one.comparisons)


def test_compare_finds_a_slowdown_and_more_of_it_the_larger_it_is() -> None:
    shares = [
        simulated.tally(simulated.trials(noise="calm", repetitions=(8, 8), slowdown=slowdown, pairs=FEWER))[Verdict.FAIL] / FEWER
        for slowdown in (1.2, 1.5)
    ]

    assert shares[0] >= 0.4
    assert shares[1] >= 0.85


@pytest.mark.parametrize("noise", ["calm", "busy"])
def test_compare_hardly_ever_calls_a_slowdown_the_same(noise: str) -> None:
    found = simulated.trials(noise=noise, repetitions=(5, 5), slowdown=1.6, pairs=FEWER)

    assert simulated.false_same(found, slowdown=1.6) <= 0.05
    assert simulated.tally(found)[Verdict.PASS] == 0


def test_compare_of_a_lone_run_finds_what_is_three_times_slower() -> None:
    found = simulated.trials(noise="calm", repetitions=(8, 1), slowdown=3.0, pairs=FEWER)

    assert simulated.tally(found)[Verdict.FAIL] >= FEWER / 2
    assert not any(row.verdict is Change.WORSE and row.metric == "rss_peak" for one in found for row in one.comparisons)
