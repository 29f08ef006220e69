"""`floodmark watch` without a screen: which run, plain lines, exit codes, one sentence for every mistake."""

from __future__ import annotations

import io
import signal
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.live import feed
from floodmark.live.command import Order, run
from floodmark.report.folder import RESULT, RunFolder
from floodmark.report.live import LIVE
from tests.live_view import made
from tests.runner.played import play, playing, server, wait_for, write_scenario

NO_TERMINAL = io.StringIO()


def test_watch_of_a_recorded_run_tells_it_in_plain_lines(recorded_run: RunFolder) -> None:
    watched = play(recorded_run.path.parents[1], "watch", recorded_run.id)

    assert watched.code == 0, watched.stderr
    assert watched.stdout == ""
    lines = watched.stderr.splitlines()
    assert lines[0].startswith(f"{recorded_run.id} · seed 7 · floodmark run")
    assert "good: an honest server" in lines
    assert any(line.startswith("✓ PASS     good") for line in lines)
    assert any(line.startswith("✗ FAIL     losing") for line in lines)


def test_watch_without_a_name_takes_the_newest_run(recorded_run: RunFolder) -> None:
    watched = play(recorded_run.path.parents[1], "watch")

    assert watched.code == 0
    assert watched.stderr.startswith(recorded_run.id)


def test_watch_of_a_run_that_goes_on_ends_with_it(tmp_path: Path) -> None:
    phase = 'arrival = { kind = "constant", rate_hz = 200 }\nduration_s = 3'
    scenario = write_scenario(tmp_path, command=server(), phase=phase)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    with playing(tmp_path, "run", str(scenario), "--seed", "7") as running:
        wait_for(lambda: (running.run / LIVE).exists(), "live.jsonl")
        watched = play(elsewhere, "watch", str(running.run))
        running.wait()

    assert watched.code == 0, watched.stderr
    assert "seed 7" in watched.stderr
    assert "✓ PASS     tried" in watched.stderr
    assert not (running.run / LIVE).exists()


@pytest.mark.parametrize("name", ["no-such-run", "latest"])
def test_watch_of_no_run_is_one_sentence_and_2(tmp_path: Path, name: str) -> None:
    watched = play(tmp_path, "watch", name)

    assert watched.code == 2
    assert watched.stdout == ""
    assert watched.stderr.count("\n") == 1
    assert "is no run folder" in watched.sentence
    assert "floodmark run makes one" in watched.sentence


def test_watch_of_a_folder_without_a_run_is_one_sentence_and_2(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    watched = play(tmp_path, "watch", "empty")

    assert watched.code == 2
    assert watched.stderr.count("\n") == 1
    assert "nothing to watch" in watched.sentence


def test_watch_of_a_result_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text("{")

    with pytest.raises(UsageError, match="not a result"):
        run(Order(run=str(tmp_path)), stdin=NO_TERMINAL, stdout=NO_TERMINAL)


def test_watch_of_a_run_that_was_killed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feed, "QUIET_S", 0.0)
    made.write(tmp_path, [made.opened(pid=2**22 + 1), *made.running()[1:]], end=b'{"kind": "fig')

    code = run(Order(run=str(tmp_path), plain=True), stdin=NO_TERMINAL, stdout=NO_TERMINAL)

    assert code == 0
    assert "the run ended early: its process has ended without a last word" in capsys.readouterr().err


def test_watch_of_a_file_with_a_broken_line_tells_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.write(tmp_path, [], end=b"{broken\n" + made.encoded(made.whole()))

    run(Order(run=str(tmp_path), plain=True), stdin=NO_TERMINAL, stdout=NO_TERMINAL)

    said = capsys.readouterr().err
    assert "1 line could not be read and left out" in said
    assert "FAIL     a.second" in said


def test_watch_interrupted_in_plain_lines_ends_with_130(tmp_path: Path) -> None:
    made.write(tmp_path / "run", made.running())  # its process is this one, which goes on

    with playing(tmp_path, "watch", "run") as watching:
        wait_for(lambda: "a.first" in watching.stderr, "first line")
        watching.signal(signal.SIGINT)
        watching.wait()

    assert watching.code == 130
    assert "Traceback" not in watching.stderr
