"""A run folder with content, for the tests of what is made from one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from floodmark.model.result import ScenarioResult
from floodmark.report import RunFolder
from tests.report import made


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., RunFolder]:
    """Write a run of the given scenarios to a folder, each with samples and its findings."""

    def write(*scenarios: ScenarioResult, **changes: object) -> RunFolder:
        folder = RunFolder.create(tmp_path / "runs", "subscriptions", made.STARTED)
        for scenario in scenarios:
            folder.add_samples(scenario.id, *made.sampled())
            folder.add_findings(scenario.id, scenario.findings)
        result = made.run_of(*scenarios, **changes)
        folder.write_result(result, made.configuration_of(), made.MACHINE, command=made.COMMAND, started=made.STARTED)
        return folder

    return write
