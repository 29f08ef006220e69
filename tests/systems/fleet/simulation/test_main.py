"""The command: what it prints, and its exit codes."""

from __future__ import annotations

import re

import pytest

from floodmark.systems.fleet.simulation.__main__ import main


def test_main_of_good_seeds_prints_one_line_and_returns_0(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--seeds", "0..3", "--processes", "1"])

    out = capsys.readouterr().out
    assert code == 0
    assert len(out.splitlines()) == 1
    assert out.startswith("3 seeds, 0 with a violation")


def test_main_of_a_failing_seed_tells_how_to_play_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--seeds", "0..10", "--processes", "1", "--defect", "D8", "--episode", "refresh"])

    out = capsys.readouterr().out
    assert code == 10
    assert "VIOLATION at" in out
    assert "ONE UPDATE: n" in out
    seed = re.findall(r"^seed (\d+):", out, re.MULTILINE)[0]
    assert f"play it again: python -m floodmark.systems.fleet.simulation --seed {seed} --episode refresh --defect D8 --trace" in out
    assert f"with a violation (seeds {seed}" in out.splitlines()[-1]


def test_main_with_trace_tells_every_event(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--seed", "1", "--workers", "2", "--partitions", "4", "--episode", "leave", "--trace"])

    out = capsys.readouterr().out
    assert code == 0
    assert "2 workers, 4 partitions" in out
    assert "episode: leave" in out


@pytest.mark.parametrize(
    "arguments", [["--seeds", "5..5"], ["--seeds", "a..b"], ["--defect", "D0"], ["--episode", "none"], ["--workers", "-1"]]
)
def test_main_with_a_wrong_option_returns_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
