"""Runs to watch: a real one that passed, one with findings, and one whose lines stop in the middle."""

from __future__ import annotations

import pytest

from floodmark.report.folder import RunFolder
from tests.runner.played import play, server, write_scenario


@pytest.fixture(scope="session")
def recorded_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A small real run that is over: one scenario that passed, one that lost messages."""
    folder = tmp_path_factory.mktemp("recorded")
    good = write_scenario(folder, command=server(), top='title = "an honest server"', name="good")
    losing = write_scenario(folder, command=server("loses"), top="warmup = false", drain_limit_s=1.0, name="losing")
    played = play(folder, "run", str(good), str(losing), "--seed", "7")
    assert played.code == 10, played.stderr
    return RunFolder(played.run)
