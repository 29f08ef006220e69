"""What the command line prints: one JSON document of the promised shape, progress apart from it, reports again, and a replay that fits."""

from __future__ import annotations

import json
import shlex
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from floodmark import cli, suites
from floodmark.drivers import DRIVERS
from floodmark.faults import FAULTS
from floodmark.model.metrics import METRICS
from tests.runner.played import Played, play, server, write_scenario

COUNT, NUMBER, TEXT, LIST = int, (int, float), str, list
PERCENTILES = dict.fromkeys(("p50", "p90", "p99", "p999", "max", "count"), COUNT)
SHAPE: dict[str, Any] = {  # as docs and users know it: fields may be added, never renamed
    "schema": COUNT,
    "version": TEXT,
    "seed": COUNT,
    "scale": NUMBER,
    "verdict": TEXT,
    "run": TEXT,
    "scenarios": LIST,
}
SCENARIO: dict[str, Any] = {
    "id": TEXT,
    "plan": TEXT,
    "verdict": TEXT,
    "scale": NUMBER,
    "duration_s": NUMBER,
    "criteria": LIST,
    "delivery": dict.fromkeys(
        (
            *("attempted", "acknowledged", "delivered", "lost", "duplicated", "reordered", "corrupted", "unexpected"),
            *("indeterminate", "dropped_by_us"),
        ),
        COUNT,
    ),
    "latency_ns": {"response": PERCENTILES, "service": PERCENTILES},
    "throughput_hz": NUMBER,
    "target": {
        **dict.fromkeys(("rss_bytes_start", "rss_bytes_peak", "rss_bytes_end", "fds_peak", "threads_peak"), COUNT),
        "cpu_s": NUMBER,
    },
    "generator": {"rss_bytes_peak": COUNT, "cpu_s": NUMBER, "lag_ns_p99": COUNT, "processes": COUNT},
    "findings": LIST,
    "metrics": dict,
}


def differences(value: Any, shape: Any, place: str = "") -> list[str]:
    """Where a value is not of this shape."""
    if not isinstance(shape, dict):
        fits = isinstance(value, shape) and not isinstance(value, bool)
        return [] if fits else [f"{place}: {value!r}"]
    missing = [f"{place}.{name} is missing" for name in shape if name not in value]
    return missing + [line for name in shape if name in value for line in differences(value[name], shape[name], f"{place}.{name}")]


@pytest.fixture(scope="module")
def losing(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One run with findings and `--json`, for all to look at."""
    folder = tmp_path_factory.mktemp("losing")
    scenario = write_scenario(folder, command=server("loses"), top="warmup = false", drain_limit_s=1.0)
    return play(folder, "run", str(scenario), "--json", "--scale", "0.5")


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command line in this process and return its stdout; it must succeed."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["floodmark", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def test_json_is_one_document_of_the_promised_shape_and_alone_on_stdout(losing: Played) -> None:
    document = json.loads(losing.stdout)

    assert losing.code == 10, losing.stderr
    assert differences(document, SHAPE) == []
    (scenario,) = document["scenarios"]
    assert differences(scenario, SCENARIO) == []
    assert {"text", "observed", "verdict"} <= set(scenario["criteria"][0])
    assert {"anomaly", "subscription", "publisher", "count", "first_seq", "last_seq", "detail"} <= set(scenario["findings"][0])
    assert (document["verdict"], scenario["verdict"], scenario["generator"]["processes"]) == ("FAIL", "FAIL", 2)


def test_json_agrees_with_the_run_folder(losing: Played) -> None:
    document = json.loads(losing.stdout)

    assert {name: losing.document[name] for name in document} == document
    assert (losing.folder / document["run"]).resolve() == losing.run


def test_progress_is_on_stderr_first_the_seed_last_the_way_to_run_it_again(losing: Played) -> None:
    lines = losing.stderr.splitlines()

    seed = json.loads(losing.stdout)["seed"]
    assert f"seed {seed}" in lines[0]
    assert lines[-1].startswith("run it again")
    assert lines[-1].endswith(f"--json --scale 0.5 --seed {seed}")
    assert any(line.startswith("first anomaly") for line in lines)


def test_replay_command_runs_the_same_again_with_the_same_seed(losing: Played) -> None:
    command = shlex.split(losing.document["command"])

    again = play(losing.folder, *command[1:])

    assert command[0] == "floodmark"
    assert again.code == losing.code, again.stderr
    first, second = losing.document, again.document
    assert (first["run"], first["started"]) != (second["run"], second["started"])
    assert (first["seed"], first["command"], first["configuration"]) == (second["seed"], second["command"], second["configuration"])
    assert json.loads(losing.stdout)["scenarios"][0]["delivery"] == second["scenarios"][0]["delivery"]


def test_report_renders_every_format_again(losing: Played, say: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(losing.folder)

    markdown, html = say("report", losing.run.name, "--format", "md"), say("report", losing.run.name, "--format", "html")
    junit, document = say("report", losing.run.name, "--format", "junit"), say("report", losing.run.name, "--format", "json")

    assert markdown.rstrip() == (losing.run / "report.md").read_text().rstrip()
    assert html.rstrip() == (losing.run / "report.html").read_text().rstrip()
    assert ET.fromstring(junit.strip()).find(".//failure") is not None
    assert json.loads(document) == json.loads(losing.stdout)


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("suites", list(suites.SUITES)),
        ("scenarios", list(suites.entries())),
        ("drivers", list(DRIVERS)),
        ("faults", list(FAULTS)),
        ("metrics", list(METRICS)),
    ],
)
def test_list_shows_one_line_per_entry(say: Callable[..., str], what: str, names: list[str]) -> None:
    lines = say("list", what).splitlines()

    assert [line.split()[0] for line in lines] == names
    assert all(len(line.split()) > 1 for line in lines)


def test_init_writes_a_file_that_runs_and_passes(tmp_path: Path, say: Callable[..., str]) -> None:
    path = tmp_path / "mine.toml"

    said = say("init", str(path))

    assert f"floodmark run {path}" in said
    path.write_text(path.read_text().replace('duration_s = "10s"', 'duration_s = "1s"'))  # all else as it was written
    played = play(tmp_path, "run", str(path))

    told = {criterion["text"]: criterion["verdict"] for criterion in played.result["criteria"] if criterion["verdict"] != "PASS"}
    # On a machine so busy that the generator itself was late nothing is proven of latencies; that is all that may be left open.
    late = {text: verdict for text, verdict in told.items() if text == "latency_p99 < 500ms" or text.startswith("generator_lag_p99")}
    assert told == late, played.stderr
    assert set(told.values()) <= {"UNKNOWN"}, played.stderr
    assert played.code == (11 if told else 0), played.stderr


def test_version_is_the_one_in_the_document(losing: Played, say: Callable[..., str]) -> None:
    assert say("version").strip() == losing.document["version"]
