"""The bench of the live view: a figure that is missed is named, one that was never seen is missed, and a real run gives all of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.live import SCENARIO, Measured, Turn, main, missed, play, ratio

GOOD = Measured(verdict="PASS", cpu_s_per_minute=3.0, rss_bytes=7e7, written_hz=2e4, ratio=0.98, turns=9)


def turns(*rates_hz: float, first: bool = True) -> list[Turn]:
    """Turns with and without the view."""
    return [Turn(view=(number % 2 == 0) is first, delivered_hz=rate_hz) for number, rate_hz in enumerate(rates_hz)]


def test_missed_good_rounds_miss_nothing() -> None:
    assert missed([GOOD] * 3) == []


def test_missed_no_rounds_miss_everything() -> None:
    assert len(missed([])) == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cpu_s_per_minute": 16.0}, "processor time of the view: 16.0"),
        ({"cpu_s_per_minute": None}, "processor time of the view: None"),
        ({"ratio": 0.89}, "throughput with the view: 0.89"),
        ({"ratio": None}, "throughput with the view: None"),
        ({"verdict": "FAIL"}, "FAIL"),
    ],
)
def test_missed_planted_fault_is_named(change: dict[str, object], named: str) -> None:
    found = missed([msgspec.structs.replace(GOOD, **change)])

    assert len(found) == 1
    assert named in found[0]


def test_ratio_view_that_takes_a_tenth_is_found_out_though_the_machine_slows_down() -> None:
    slowing = [100.0 - number for number in range(11)]

    assert ratio(turns(*(rate * (0.9 if number % 2 == 0 else 1.0) for number, rate in enumerate(slowing)))) == pytest.approx(0.9)
    assert ratio(turns(*slowing)) == pytest.approx(1.0)


def test_ratio_without_neighbours_is_unknown() -> None:
    assert ratio([]) is None
    assert ratio(turns(1.0, 1.0)) is None
    assert ratio(turns(1.0, 1.0, 1.0)) is None  # the one in the middle is without the view
    assert ratio(turns(0.0, 5.0, 0.0, first=False)) is None


def test_play_small_run_gives_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.live.TURN_S", 0.5)
    scenario = tmp_path / "live.toml"
    scenario.write_text(SCENARIO.format(rate_hz=100.0, seconds=4.0))

    measured = play(tmp_path, scenario)

    assert measured.cpu_s_per_minute
    assert measured.rss_bytes
    assert measured.written_hz > 0
    assert measured.ratio
    assert measured.turns >= 3


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--seconds", "1"], ["--rate", "0"]])
def test_main_option_that_cannot_be_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
