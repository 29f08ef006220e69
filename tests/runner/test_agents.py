"""The generator's own failures: a dead agent, a generator that is late, a fault or a load that touched nothing. Never a PASS."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.runner.played import Played, holders, play, playing, server, wait_for, write_scenario

LONG = 'arrival = { kind = "constant", rate_hz = 500 }\nduration_s = 30'


def agents(run: Played) -> list[int]:
    """The agents' process ids, oldest first."""
    return sorted(int(line.split(":")[0]) for line in holders(run.mark) if "floodmark.runner.agent" in line)


@pytest.mark.parametrize("which", [0, 1])
def test_agent_killed_in_the_load_is_noticed_at_once_and_named(tmp_path: Path, which: int) -> None:
    scenario = write_scenario(tmp_path, command=server(), top="warmup = false", phase=LONG)

    with playing(tmp_path, "run", str(scenario), "--agents", "2") as played:
        wait_for(lambda: "published 100" in played.log(), "load")
        os.kill(agents(played)[which], signal.SIGKILL)
        played.wait(20)  # the phase would last 30 s

    assert played.code == 11, played.stderr
    assert f"load agent {which} ended by itself (killed by SIGKILL)" in played.result["note"]
    assert played.document["interrupted"] is False
    assert {"report.md", "report.html", "junit.xml", "run.json"} <= {path.name for path in played.run.iterdir()}


def test_agent_that_crashes_leaves_its_traceback_in_its_log_and_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "broken_driver.py").write_text(
        "from floodmark.drivers.websocket import WebSocketDriver\n"
        "class Broken(WebSocketDriver):\n"
        "    async def connect(self, *args, **more):\n"
        "        raise LookupError('no such thing as a socket')\n"
    )
    scenario = write_scenario(tmp_path, command=server())
    text = scenario.read_text().replace('driver = "websocket"', 'driver = "broken_driver:Broken"')
    scenario.write_text(text)

    played = play(tmp_path, "run", str(scenario), PYTHONPATH=str(tmp_path))

    assert played.code == 11, played.stderr
    assert "load agent 0 ended by itself (exit code 1, last words: LookupError: no such thing as a socket)" in played.result["note"]
    log = (played.run / "logs" / "tried-agent-0.log").read_text()
    assert "Traceback" in log
    assert "broken_driver.py" in log


def test_generator_that_is_late_is_unknown_although_every_criterion_holds(tmp_path: Path) -> None:
    scenario = write_scenario(
        tmp_path, command=server(), lag_limit_s=0.000001, phase='arrival = { kind = "constant", rate_hz = 2000 }\nmessages = 400'
    )

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 11, played.stderr
    told = {criterion["text"]: criterion for criterion in played.result["criteria"]}
    assert told["lost == 0"]["verdict"] == "PASS"
    assert told["generator_lag_p99 <= 0.001ms"]["verdict"] == "UNKNOWN"
    assert "the generator itself was late" in told["generator_lag_p99 <= 0.001ms"]["note"]


def test_fault_that_touches_nothing_is_unknown(tmp_path: Path) -> None:
    tail = '[[faults]]\nkind = "disconnect"\nratio = 0\noptions = { resume = false }'
    scenario = write_scenario(tmp_path, command=server(), tail=tail)

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 11, played.stderr
    told = {criterion["text"]: criterion["verdict"] for criterion in played.result["criteria"]}
    assert told["fault_hits > 0"] == "UNKNOWN"
    assert played.result["delivery"]["delivered"] == 400  # and changed nothing
    assert played.result["metrics"]["disconnects"] == 0


def test_fault_that_hits_its_share_counts_exactly(tmp_path: Path) -> None:
    tail = '[[faults]]\nkind = "disconnect"\nratio = 0.5\nat_s = 0.1\noptions = { resume = false }'
    scenario = write_scenario(tmp_path, command=server(), tail=tail, criteria=("fault_hits == 2", "recovered_ratio == 100%"))

    played = play(tmp_path, "run", str(scenario), "--agents", "2")

    assert played.code == 0, played.stderr
    assert played.result["metrics"]["fault_hits"] == 2


def test_fault_that_drops_sockets_does_not_accuse_the_target_of_what_was_in_them(tmp_path: Path) -> None:
    tail = '[[faults]]\nkind = "disconnect"\nat_s = 0.3\nrepeat = 3\nevery_s = 0.31\noptions = { resume = false }'
    scenario = write_scenario(
        tmp_path,
        command=server("delivers-late"),  # acknowledges at once, so that a message is always on its way
        population="connections = 4",
        phase='arrival = { kind = "constant", rate_hz = 20 }\nduration_s = 1.2',
        tail=tail,
    )

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 0, played.stderr
    assert played.result["metrics"]["fault_hits"] == 12
    assert played.result["delivery"]["lost"] == 0


def test_run_that_delivers_nothing_is_unknown(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server("refuses"), top="warmup = false", criteria=("disconnects == 0", "refused >= 0"))

    played = play(tmp_path, "run", str(scenario))

    assert played.result["delivery"]["delivered"] == 0
    assert played.code != 0, played.stderr
    told = {criterion["text"]: criterion["verdict"] for criterion in played.result["criteria"]}
    assert told["delivered > 0"] == "UNKNOWN"


def test_run_folder_that_is_removed_meanwhile_is_told_in_one_sentence(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server(), top="warmup = false")

    with playing(tmp_path, "run", str(scenario)) as played:
        wait_for(lambda: "published 1" in played.log(), "load")
        for path in sorted(played.run.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        played.run.rmdir()
        played.wait()

    assert played.code == 2, played.stderr
    assert "cannot write" in played.sentence
    assert "choose another place with --out" in played.sentence
