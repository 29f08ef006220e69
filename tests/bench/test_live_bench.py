"""The bench of the live view: a figure that is missed is named, one that was never seen is missed, and a real run gives all of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.live import SCENARIO, Compared, Measured, compared, main, play

GOOD = Compared(cpu_s_per_minute=3.0, rss_bytes=7e7, written_hz=2e4, paced_ratio=1.0, flooded_ratio=0.98, verdicts=("PASS", "PASS"))
WITH = Measured(
    verdict="PASS", paced_hz=5000.0, flooded_hz=50_000.0, load_s=30.0, view_cpu_s=1.5, view_rss_bytes=7e7, written_bytes=600_000
)
WITHOUT = Measured(verdict="PASS", paced_hz=5000.0, flooded_hz=62_500.0, load_s=30.0)


def test_compared_good_rounds_miss_nothing() -> None:
    assert GOOD.missed() == []


def test_compared_no_rounds_miss_everything() -> None:
    figures = compared([], [])

    assert len(figures.missed()) == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cpu_s_per_minute": 16.0}, "processor time of the view: 16.0"),
        ({"cpu_s_per_minute": None}, "processor time of the view: None"),
        ({"paced_ratio": 0.5}, "paced: 0.5"),
        ({"flooded_ratio": 0.89}, "flooded: 0.89"),
        ({"flooded_ratio": None}, "flooded: None"),
        ({"verdicts": ("PASS", "FAIL")}, "PASS, FAIL"),
    ],
)
def test_compared_planted_fault_is_named(change: dict[str, object], named: str) -> None:
    missed = msgspec.structs.replace(GOOD, **change).missed()

    assert len(missed) == 1
    assert named in missed[0]


def test_compared_figures_are_medians_per_minute_and_per_second() -> None:
    figures = compared([WITH] * 3, [WITHOUT] * 3)

    assert figures.cpu_s_per_minute == pytest.approx(3.0)
    assert figures.written_hz == pytest.approx(20_000.0)
    assert (figures.paced_ratio, figures.flooded_ratio) == (1.0, 0.8)


def test_compared_run_without_a_view_in_it_has_no_cost_of_one() -> None:
    figures = compared([WITHOUT], [WITHOUT])

    assert figures.cpu_s_per_minute is None
    assert figures.rss_bytes is None


@pytest.mark.parametrize("view", [True, False])
def test_play_small_run_gives_every_figure(tmp_path: Path, view: bool) -> None:
    scenario = tmp_path / "live.toml"
    scenario.write_text(SCENARIO.format(rate_hz=100.0, seconds=3.0))

    measured = play(tmp_path, scenario, view=view)

    assert measured.paced_hz > 0
    assert measured.flooded_hz > measured.paced_hz
    assert measured.load_s == pytest.approx(6.0, abs=2.0)
    assert (measured.view_cpu_s is not None) is (measured.view_rss_bytes is not None) is view
    assert measured.written_bytes > 0


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--seconds", "1"], ["--rate", "0"]])
def test_main_option_that_cannot_be_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
