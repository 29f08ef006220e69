"""Ctrl-C, SIGTERM and SIGKILL at each moment of a run: the exit code, what is kept, and that everything the run started is gone."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.runner.played import playing, server, wait_for, write_scenario

LONG = 'arrival = { kind = "constant", rate_hz = 500 }\nduration_s = 30'
UNWARMED = "warmup = false"
MOMENTS: dict[str, tuple[dict[str, Any], str, str]] = {  # the scenario, the target's line that says it is due, how the note begins
    "starting": ({"command": "sh -c 'echo loading; sleep 60'"}, "loading", "interrupted before the load"),
    "connecting": ({"command": server("never-confirms")}, "asked for a subscription", "interrupted while connecting"),
    "warm-up": ({"command": server("swallows")}, "published 1", "interrupted in the warm-up"),
    "load": ({"command": server(), "top": UNWARMED, "phase": LONG}, "published 100", "interrupted in the phase 'steady'"),
    "drain": ({"command": server("swallows"), "top": UNWARMED, "drain_limit_s": 30.0}, "published 200", "interrupted in the"),
}
SIGNALS = {"ctrl-c": (signal.SIGINT, True), "int-runner-alone": (signal.SIGINT, False), "term": (signal.SIGTERM, False)}


@pytest.mark.parametrize(
    ("moment", "how"), [*((moment, "ctrl-c") for moment in MOMENTS), ("starting", "term"), ("load", "int-runner-alone"), ("load", "term")]
)
def test_interrupt_at_any_moment_keeps_what_was_measured_and_ends_everything(tmp_path: Path, moment: str, how: str) -> None:
    settings, due, begins = MOMENTS[moment]
    number, group = SIGNALS[how]
    scenario = write_scenario(tmp_path, **settings)

    with playing(tmp_path, "run", str(scenario)) as played:
        wait_for(lambda: due in played.log(), f"line {due!r} of the target")
        played.signal(number, group=group)
        played.wait()

    assert played.code == 130, played.stderr
    assert played.document["interrupted"] is True
    assert played.document["verdict"] == "UNKNOWN"
    assert played.result["note"].startswith(begins)
    assert {"report.md", "report.html", "junit.xml"} <= {path.name for path in played.run.iterdir()}
    assert "run it again" in played.stderr
    if moment in ("load", "drain"):
        assert played.result["delivery"]["attempted"] >= 100
        assert played.result["delivery"]["lost"] == 0  # what was on its way is no loss
    if moment == "load":
        assert played.result["delivery"]["delivered"] >= 100
        assert played.result["throughput_hz"] > 0


def test_interrupt_while_reports_are_made_leaves_them_whole(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server())

    with playing(tmp_path, "run", str(scenario)) as played:
        wait_for(lambda: (played.run / "run.json").is_file(), "result")
        played.signal(signal.SIGINT)
        played.wait()

    assert played.code == 130, played.stderr
    assert played.document["interrupted"] is True
    assert played.result["verdict"] == "PASS"
    assert "interrupted" in (played.run / "report.md").read_text().lower()


def test_interrupt_twice_still_ends_in_order(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server(), top=UNWARMED, phase=LONG)

    with playing(tmp_path, "run", str(scenario)) as played:
        wait_for(lambda: "published 100" in played.log(), "load")
        played.signal(signal.SIGINT)
        played.signal(signal.SIGINT)
        played.signal(signal.SIGTERM)
        played.wait()

    assert played.code == 130, played.stderr
    assert played.result["delivery"]["delivered"] >= 100


def test_interrupt_in_the_second_scenario_keeps_the_first_and_leaves_out_the_third(tmp_path: Path) -> None:
    names = ("first", "second", "third")
    first = write_scenario(tmp_path, command=server(), name="first")
    others = [write_scenario(tmp_path, command=server(), phase=LONG, top=UNWARMED, name=name) for name in names[1:]]

    with playing(tmp_path, "run", str(first), *map(str, others)) as played:
        wait_for(lambda: "published 100" in played.log("second"), "load of the second")
        played.signal(signal.SIGINT, group=True)
        played.wait()

    assert played.code == 130, played.stderr
    assert [(one["id"], one["verdict"]) for one in played.document["scenarios"]] == [("first", "PASS"), ("second", "UNKNOWN")]


def test_kill_of_the_runner_takes_agents_and_target_with_it(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server(), top=UNWARMED, phase=LONG)

    with playing(tmp_path, "run", str(scenario), "--agents", "2") as played:
        wait_for(lambda: "published 100" in played.log(), "load")
        played.signal(signal.SIGKILL)
        played.wait()  # also looks whether anything has outlived it

    assert played.code == -signal.SIGKILL


def test_interrupt_while_the_command_line_loads_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import sys, time\nprint('loading', file=sys.stderr, flush=True)\ntime.sleep(60)\n")

    with playing(tmp_path, "version", PYTHONPATH=str(tmp_path)) as played:
        wait_for(lambda: "loading" in played.stderr, "import")
        played.signal(signal.SIGINT)
        played.process.wait(30)

    assert played.code == 130
    assert played.stderr.splitlines() == ["loading", "floodmark: interrupted"]
    assert not played.stdout
