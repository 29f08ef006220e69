"""Mistakes of the caller: one sentence on stderr, exit code 2, nothing on stdout, no run folder, and no process started."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from floodmark import cli
from tests.runner.played import play, server, write_scenario

GOOD = """
id = "tried"
criteria = ["lost == 0"]
target = "hub"
[population]
connections = 2
[[phases]]
messages = 10
"""
FILES = {  # what is wrong: (the file, what the sentence must hold)
    "syntax": ("id = \n", ("scenario.toml:1:", "not valid TOML")),
    "unknown-key": (GOOD + 'payload = "2KB"\n', ("phases[0]: unknown key 'payload'", "did you mean 'payload_bytes'?")),
    "negative-rate": (GOOD + 'arrival = { kind = "constant", rate_hz = -5 }\n', ("rate_hz", "-5")),
    "unknown-metric": (GOOD.replace("lost == 0", "latency_p98 < 1s"), ("latency_p98", "latency_p9")),
    "wrong-unit": (GOOD.replace("lost == 0", "latency_p99 < 5MB"), ("'MB'", "a duration")),
    "unknown-driver": ('driver = "graphql-w"\n' + GOOD, ("unknown driver 'graphql-w'; did you mean 'graphql-ws'?",)),
    "unknown-fault": (GOOD + '[[faults]]\nkind = "disconect"\n', ("unknown fault 'disconect'; did you mean 'disconnect'?",)),
    "unknown-option": (GOOD + '[[faults]]\nkind = "churn"\noptions = { ratio = 1 }\n', ("fault 'churn' has no option 'ratio'",)),
    "unknown-system": (GOOD.replace('"hub"', '"hubb"'), ("unknown system 'hubb'; did you mean 'hub'?",)),
    "no-program": (GOOD.replace('"hub"', '"./no-such-server --now"'), ("there is no program './no-such-server'",)),
    "stray-quote": (GOOD.replace('"hub"', '"sh -c \'oops"'), ("is not a command line",)),
    "cannot-resume": (
        'driver = "websocket"\n' + GOOD + '[[faults]]\nkind = "disconnect"\n',
        ("with resume, but driver 'websocket' cannot resume",),
    ),
}
WORDS = {
    "unknown-scenario": (("run", "subscriptions.churm"), ("did you mean 'subscriptions.churn'?",)),
    "unknown-suite": (("run", "subscription"), ("did you mean 'subscriptions'?",)),
    "no-file": (("run", "nothing.toml"), ("there is no such file",)),
    "scale-zero": (("run", "--scale", "0"), ("--scale must be finite and greater than 0, got 0",)),
    "scale-nan": (("run", "--scale", "nan"), ("--scale must be finite and greater than 0, got nan",)),
    "agents-zero": (("run", "--agents", "0"), ("--agents must be at least 1, got 0",)),
    "seed-negative": (("run", "--seed", "-1"), ("--seed must be between 0",)),
    "liar-retargeted": (("run", "liars.drop", "--target", "ws://127.0.0.1:1"), ("--target does not go with it",)),
    "no-run": (("report", "nothing"), ("'nothing' is no run folder", "there are no runs in runs yet")),
    "unknown-format": (("report", ".", "--format", "doc"), ("unknown report format 'doc'; known are md, html, junit, json",)),
}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Run the command line in this process, in a folder of its own, and hold it to refusing in one sentence that has these parts."""
    monkeypatch.chdir(tmp_path)

    def run(arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
        monkeypatch.setattr(sys, "argv", ["floodmark", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert ended.value.code == 2, captured.err
        assert captured.out == ""
        head, sentence = ["", *captured.err.splitlines()][-2:]
        assert not head or "seed" in head, captured.err  # nothing but the line that names version and seed comes before
        assert sentence.startswith("floodmark: ")
        for part in parts:
            assert part in sentence
        assert not (tmp_path / "runs" / "latest").exists()

    return run


@pytest.mark.parametrize("wrong", FILES)
def test_run_a_wrong_scenario_file_is_refused_in_one_sentence(tmp_path: Path, refused: Callable[..., None], wrong: str) -> None:
    text, parts = FILES[wrong]
    (tmp_path / "scenario.toml").write_text(text)

    refused(("run", "scenario.toml"), parts)


@pytest.mark.parametrize("wrong", WORDS)
def test_command_line_a_wrong_word_is_refused_in_one_sentence(refused: Callable[..., None], wrong: str) -> None:
    arguments, parts = WORDS[wrong]

    refused(arguments, parts)


def test_init_does_not_overwrite(tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "mine.toml").write_text("precious")

    refused(("init", "mine.toml"), ("mine.toml exists already",))
    assert (tmp_path / "mine.toml").read_text() == "precious"


def test_run_too_few_descriptors_says_how_many_how_and_the_scale_that_fits(tmp_path: Path) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))

    played = play(tmp_path, "run", "subscriptions.connections-10k", "--scale", "0.1", before=lower)

    assert played.code == 2, played.stderr
    assert "1,001 connections need 1,101 open files in one process, but the limit is 400" in played.sentence
    assert "ulimit -n 1101" in played.sentence
    scale = float(played.sentence.split("--scale ")[1].split(",")[0])
    assert 0 < scale < 0.1
    again = play(tmp_path, "run", "subscriptions.connections-10k", "--scale", str(scale), before=lower)
    assert "open files" not in again.stderr
    assert again.code != 2, again.stderr  # it fits; how it fares is another matter


def test_run_output_folder_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    scenario = write_scenario(tmp_path, command=server())

    played = play(tmp_path, "run", str(scenario), "--out", "file/runs")

    assert played.code == 2, played.stderr
    assert "file/runs: the run folder cannot be written (Not a directory); choose another with --out" in played.sentence


def test_run_disk_that_is_full_is_told_with_what_was_kept(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server())

    played = play(tmp_path, "run", str(scenario), before=_little_room(20_000))

    assert played.code == 2, played.stderr
    assert "File too large" in played.sentence
    assert "--out" in played.sentence


def _little_room(limit_bytes: int) -> Callable[[], None]:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))  # Python ignores SIGXFSZ: writing then fails with EFBIG

    return lower


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_run_output_folder_without_permission_is_refused(tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)

    refused(("run", "subscriptions.churn"), ("the run folder cannot be written (Permission denied)",))


def test_serve_hub_on_a_taken_port_is_refused_in_one_sentence(tmp_path: Path, taken_port: int) -> None:
    played = play(tmp_path, "serve", "hub", "--port", str(taken_port))

    assert played.code == 2, played.stderr
    assert str(taken_port) in played.sentence
    assert len(played.stderr.splitlines()) == 1
