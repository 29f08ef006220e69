"""`floodmark mark` as a person types it: against targets whose limit is known exactly, and one that has none.

Each trial is a whole run with processes of its own, so there are as few as show it. The limits are counts, not times: where they are does
not depend on how busy the machine is.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from floodmark import cli, mark_command
from floodmark.judge.mark import Search
from floodmark.judge.mark_words import conclude
from floodmark.model.mark import MarkTrial, Outcome
from floodmark.model.result import RunResult
from tests.runner.played import play, playing, wait_for, write_scenario

LIMITED = Path(__file__).parent / "runner" / "limited.py"
LOAD = 'arrival = { kind = "constant", rate_hz = 100 }\nduration_s = 0.5'


def limited(*words: str) -> str:
    """The command line of a service with a limit."""
    return shlex.join([sys.executable, str(LIMITED), *words])


def scenario(folder: Path, *words: str, top: str = "") -> Path:
    """Half a second of load on it, that must lose nothing."""
    return write_scenario(
        folder, command=limited(*words), phase=LOAD, criteria=["lost == 0", "success_ratio == 100%"], drain_limit_s=1.2, top=top
    )


def mark_of(folder: Path) -> dict[str, Any]:
    """What mark.json of the newest run holds."""
    mark: dict[str, Any] = json.loads((folder / "runs" / "latest" / "mark.json").read_bytes())
    return mark


def test_mark_of_a_known_limit_brackets_it_and_prints_one_document(tmp_path: Path) -> None:
    file = scenario(tmp_path, "--messages", "115")  # 230 a second for half a second

    played = play(tmp_path, "mark", str(file), "--vary", "rate_hz=150..400", "--precision", "50%", "--confirm", "0", "--json", limit_s=110)

    assert played.code == 0, played.stderr
    document = json.loads(played.stdout)
    mark = document["mark"]
    assert mark["held"] <= 230 < mark["broke"] <= mark["held"] * 1.5
    assert (mark["vary"], mark["unit"], mark["by"], mark["verdict"]) == ("rate_hz", "/s", "lost == 0", "PASS")
    assert document["verdict"] == "PASS"
    assert mark == mark_of(tmp_path) == played.document["mark"]
    assert {trial["outcome"] for trial in mark["trials"]} == {"held", "broke"}
    assert [one["id"] for one in document["scenarios"]] == [trial["scenario"] for trial in mark["trials"]]
    assert "✗ broke" in played.stderr
    assert "run it again   floodmark mark" in played.stderr
    broken = [one["delivery"] for one in document["scenarios"] if one["verdict"] == "FAIL"]
    assert broken
    assert all(one["lost"] == one["attempted"] - 2 * 115 for one in broken)  # every message beyond the limit, to two subscribers


def test_mark_of_connections_finds_the_exact_number_that_is_taken(tmp_path: Path) -> None:
    file = scenario(tmp_path, "--connections", "4")

    played = play(
        tmp_path, "mark", str(file), "--vary", "connections=3..4", "--confirm", "0", "--until", "success_ratio == 100%", limit_s=110
    )

    assert played.code == 0, played.stderr
    mark = mark_of(tmp_path)
    assert (mark["held"], mark["broke"], mark["by"]) == (3, 4, "success_ratio == 100%")  # one of the four publishes


def test_mark_of_an_honest_service_without_a_limit_is_at_least_hi_and_accuses_nobody(tmp_path: Path) -> None:
    file = scenario(tmp_path)

    played = play(tmp_path, "mark", str(file), "--vary", "rate_hz=50..100", "--confirm", "0", "--duration", "300ms", limit_s=110)

    assert played.code == 11, played.stderr
    mark = mark_of(tmp_path)
    assert (mark["held"], mark["broke"], mark["by"]) == (100, None, "")
    assert "held all the way to 100 /s" in played.stderr
    assert {one["duration_s"] for one in played.document["configuration"][0]["phases"]} == {0.3}


def test_mark_where_the_generator_is_the_limit_says_so_and_accuses_nobody(tmp_path: Path) -> None:
    file = write_scenario(
        tmp_path, command=limited("--messages", "1"), phase=LOAD, criteria=["lost == 0"], lag_limit_s=1e-9, drain_limit_s=0.5
    )

    played = play(tmp_path, "mark", str(file), "--vary", "rate_hz=50..100", "--duration", "300ms", limit_s=110)

    assert played.code == 11, played.stderr
    mark = mark_of(tmp_path)
    assert (mark["held"], mark["broke"]) == (None, None)
    assert "the load generator was the limit at 50 /s already" in mark["why"]
    assert all(trial["generator"] for trial in mark["trials"])


@pytest.mark.parametrize(
    ("outcomes", "interrupted", "code", "said"),
    [
        ("hb", False, 0, "held up to 50 /s, broke at 60 /s"),
        ("b", False, 10, "broke already at 50 /s"),
        ("h", False, 11, "not found"),
        ("uu", False, 11, "could not be judged at 50 /s already"),
        ("hb", True, 130, "held up to 50 /s"),
    ],
)
def test_mark_ends_with_the_exit_code_of_what_was_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcomes: str,
    interrupted: bool,
    code: int,
    said: str,
) -> None:
    values = [50.0, 50.0] if outcomes == "uu" else [50.0, 60.0]
    kinds = {"h": Outcome.HELD, "b": Outcome.BROKE, "u": Outcome.UNKNOWN}
    trials = [MarkTrial(value=value, outcome=kinds[letter], by="lost == 0") for value, letter in zip(values, outcomes, strict=False)]
    found = conclude(Search(lo=50, hi=60, precision=0.5, confirm=0), trials, vary="rate_hz", unit="/s")
    result = RunResult(version="", seed=7, scale=1.0, verdict=found.verdict, run=str(tmp_path), interrupted=interrupted, mark=found)
    monkeypatch.setattr(mark_command, "played", lambda *_, **__: result)
    monkeypatch.setattr(mark_command, "add_pdf", lambda _: False)
    monkeypatch.setattr(sys, "argv", ["floodmark", "mark", str(scenario(tmp_path)), "--vary", "rate_hz=50..60", "--json"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    out = capsys.readouterr()
    assert ended.value.code == code
    assert said in " ".join(out.err.split())
    assert json.loads(out.out)["mark"]["why"] == found.why


def test_mark_that_is_interrupted_prints_the_bracket_so_far_and_leaves_nothing(tmp_path: Path) -> None:
    file = scenario(tmp_path)

    with playing(tmp_path, "mark", str(file), "--vary", "rate_hz=50..5000") as played:
        wait_for(lambda: "✓ held" in played.stderr, "first trial")
        played.signal(signal.SIGINT)
        played.wait(60)

    assert played.code == 130, played.stderr
    mark = mark_of(tmp_path)
    assert mark["verdict"] == "UNKNOWN"
    assert mark["held"] >= 50
    assert "interrupted; so far it held up to" in " ".join(played.stderr.split())
    assert played.document["interrupted"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vary", "rate=1..2"], "did you mean 'rate_hz'?"),
        (["--vary", "rate_hz=2..1"], "LO must be greater than 0 and less than HI"),
        (["--vary", "rate_hz=1..2", "--until", "latency_p98 < 1s"], "--until: criterion 'latency_p98 < 1s': unknown metric"),
        (["--vary", "rate_hz=1..2", "--precision", "0%"], "--precision must be between 0.1% and 100%"),
        (["--vary", "rate_hz=1..2", "--confirm", "-1"], "--confirm must be between 0 and 10"),
        (["--vary", "rate_hz=1..2", "--trials", "0"], "--trials must be at least 1"),
        (["--vary", "rate_hz=1..2", "--limit", "5"], "--limit: '5' has the unit 'none'"),
        (["--vary", "rate_hz=1..2", "--duration", "0s"], "--duration must be greater than 0"),
        (["--vary", "rate_hz=1..2", "--agents", "0"], "--agents must be at least 1"),
        (["--vary", "rate_hz=1..2", "--scale", "nan"], "--scale must be finite"),
        (["--vary", "rate_hz=1..2", "--seed", "-1"], "--seed must be between"),
        (["--vary", "driver_options.bathc=1..2"], "has no option 'bathc'"),
        (["--vary", "rate_hz=1..2", "--driver", "websockt"], "did you mean 'websocket'?"),
    ],
)
def test_mark_with_a_wrong_option_is_one_sentence_and_starts_nothing(
    tmp_path: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["floodmark", "mark", str(scenario(tmp_path)), *arguments])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("name", "said"), [("subscriptions", "scenarios, and a search is for one"), ("liars.drop", "it has no mark")])
def test_mark_of_what_is_not_one_scenario_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["floodmark", "mark", name, "--vary", "rate_hz=1..2"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert said in capsys.readouterr().err
