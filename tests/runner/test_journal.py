"""What was done to whom stands in the run folder: by number, by time, healed or not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.scenario import Fault, Phase, Population, Scenario, Target
from floodmark.report.folder import FAULTS, RunFolder
from floodmark.report.terminal import Progress as Display
from floodmark.runner.session import Session, Settings

CONNECTIONS = 20
FAULT = Fault(kind="disconnect", at_s=0.3, ratio=0.25, options={"resume": True})


def played(tmp_path: Path, *faults: Fault) -> list[dict[str, Any]]:
    scenario = Scenario(
        id="test.journal",
        target=Target(system="hub", args=("--no-rate-limits", "--history", "1000")),
        population=Population(connections=CONNECTIONS),
        phases=(Phase(arrival=Constant(rate_hz=50), duration_s=1.0),),
        faults=faults,
        criteria=(parse("lost == 0"),),
    )
    folder = RunFolder(tmp_path)
    asyncio.run(Session(scenario, Settings(seed=3), folder, Display(quiet=True)).play())
    file = tmp_path / FAULTS
    return msgspec.json.Decoder().decode_lines(file.read_bytes()) if file.exists() else []


def test_journal_names_the_connections_that_a_fault_took(tmp_path: Path) -> None:
    (line,) = played(tmp_path, FAULT)

    assert (line["scenario"], line["by"], line["kind"], line["hits"], line["back"], line["healed"]) == (
        "test.journal",
        "runner",
        "disconnect",
        5,
        5,
        True,
    )
    assert len(set(line["connections"])) == 5
    assert set(line["connections"]) <= set(range(CONNECTIONS))
    assert 0.299 < line["struck_t_s"] <= line["lifted_t_s"]


def test_journal_holds_what_the_proxy_and_the_processes_wrote_down(tmp_path: Path) -> None:
    lines = played(
        tmp_path,
        Fault(kind="wire.latency", at_s=0.1, for_s=0.2, options={"least_s": 0.01}),
        Fault(kind="process.pause", at_s=0.5, for_s=0.1),
    )

    assert [line["kind"] for line in lines if line["by"] == "runner"] == ["wire.latency", "process.pause"]
    assert {"added", "removed"} <= {line["action"] for line in lines if line["by"] == "wire"}
    assert [line["action"] for line in lines if line["by"] == "process"] == ["applied", "healed"]


def test_journal_of_a_run_without_faults_is_not_there(tmp_path: Path) -> None:
    assert played(tmp_path) == []
