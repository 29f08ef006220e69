"""Run floodmark's own command line from a live test, as a user would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SERVERS = Path(__file__).parent / "servers"
RUN_LIMIT_S = 60


def server(name: str, *arguments: str) -> str:
    """The command line of one of our servers, quoted for TOML."""
    return json.dumps(" ".join([sys.executable, str(SERVERS / name), *arguments]))


def run(folder: Path, scenario: str) -> tuple[int, dict[str, Any]]:
    """Run one scenario given as TOML; gives the exit code and its result. What it printed is shown when the test fails."""
    path = folder / "scenario.toml"
    path.write_text(scenario, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "floodmark", "run", str(path), "--json", "--seed", "7", "--out", str(folder / "runs")],
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    print(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)["scenarios"][0] if done.stdout else {}
    return done.returncode, result
