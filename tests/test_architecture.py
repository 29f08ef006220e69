"""The rooms and who may import whom: the contracts in pyproject.toml hold, and each kind of forbidden import is caught when planted.

One copy of the package gets a module with a forbidden import for every rule; import-linter, run once on it, must name every one of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# (who must not, import what): one line per rule, not one per pair of rooms
FORBIDDEN = [
    pytest.param("core", "floodmark.model", id="core-imports-nothing"),
    pytest.param("model", "floodmark.ledger", id="model-below-ledger"),
    pytest.param("ledger", "floodmark.load", id="ledger-below-load"),
    pytest.param("load", "floodmark.faults", id="siblings-load-faults"),
    pytest.param("judge", "floodmark.monitor", id="siblings-judge-monitor"),
    pytest.param("drivers", "floodmark.load", id="siblings-drivers-load"),
    pytest.param("monitor", "floodmark.runner", id="monitor-below-runner"),
    pytest.param("report", "floodmark.runner", id="report-below-runner"),
    pytest.param("ledger", "asyncio", id="ledger-no-event-loop"),
    pytest.param("ledger", "socket", id="ledger-no-socket"),
    pytest.param("ledger", "time", id="ledger-no-clock"),
    pytest.param("load", "floodmark.systems.hub", id="verdict-without-systems-load"),
    pytest.param("drivers", "floodmark.systems.fleet", id="verdict-without-systems-drivers"),
    pytest.param("judge", "floodmark.systems.pipeline", id="verdict-without-systems-judge"),
    pytest.param("runner", "floodmark.systems.hub", id="verdict-without-systems-runner"),
    pytest.param("systems.hub", "floodmark.ledger", id="systems-on-core-alone"),
    pytest.param("systems.hub", "floodmark.systems.pipeline", id="systems-apart"),
    pytest.param("report", "floodmark.systems.hub", id="report-not-hub"),
    pytest.param("live", "floodmark.systems.pipeline", id="live-not-pipeline"),
]
ALLOWED = [
    ("report", "floodmark.systems.pipeline"),
    ("live", "floodmark.systems.conductor"),
    ("live", "floodmark.systems.hub"),
    ("ledger", "floodmark.model"),
    ("runner", "floodmark.load"),
    ("runner", "floodmark.report"),
]
SYSTEMS = ("pipeline", "hub", "conductor", "fleet")
ROOMS = ("report", "live", "suites", "runner", "load", "faults", "monitor", "judge", "drivers", "ledger", "model", "core")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package under folder/src with the contracts of folder/pyproject.toml."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "400", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def bare_package(folder: Path) -> Path:
    """Lay out every room as an empty package beside the real contracts, so that only what a test plants is judged."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    package = folder / "src" / "floodmark"
    for name in ("", *ROOMS, "systems", *(f"systems/{system}" for system in SYSTEMS)):
        (package / name).mkdir(parents=True, exist_ok=True)
        (package / name / "__init__.py").touch()
    return package


def plant(package: Path, importer: str, imported: str) -> str:
    """Write a module into a room that imports something; return how import-linter names it."""
    name = f"planted_{imported.replace('.', '_')}"
    (package / importer.replace(".", "/") / f"{name}.py").write_text(f"import {imported}\n")
    return f"floodmark.{importer}.{name}"


@pytest.fixture(scope="module")
def planted_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What import-linter says about a package with every forbidden import in it at once."""
    folder = tmp_path_factory.mktemp("planted")
    package = bare_package(folder)
    for case in FORBIDDEN:
        importer, imported = case.values
        plant(package, str(importer), str(imported))
    outcome = lint(folder)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    return outcome.stdout


def test_contracts_package_as_it_is_keeps_all() -> None:
    outcome = lint(ROOT)

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "0 broken" in outcome.stdout


@pytest.mark.parametrize(("importer", "imported"), FORBIDDEN)
def test_contracts_planted_forbidden_import_is_named(planted_report: str, importer: str, imported: str) -> None:
    module = f"floodmark.{importer}.planted_{imported.replace('.', '_')}"

    assert f"{module} -> {imported}" in planted_report


def test_contracts_allowed_imports_pass(tmp_path: Path) -> None:
    package = bare_package(tmp_path)
    for importer, imported in ALLOWED:
        plant(package, importer, imported)
    (package / "runner" / "remote.py").write_text("import floodmark.systems.fleet\n")
    (package / "runner" / "local.py").write_text("import floodmark.runner.remote\n")

    outcome = lint(tmp_path)

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
