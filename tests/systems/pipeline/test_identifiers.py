"""Every scenario of the pipeline's requirements has a test that carries its identifier, and none of them is skipped.

A test is named after its scenario: test_pr_05_..., or test_ag_01_to_06_... for several that are one table.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
COUNTS = {"pr": 18, "pc": 22, "ag": 23, "ds": 11, "bp": 13, "er": 19, "in": 25}
NAMED = re.compile(r"test_([a-z]{2})_(\d\d)(?:_(to|and)_(\d\d))?_")
LEFT_OUT = {"skip", "skipif", "xfail", "live"}


def identifiers(name: str) -> set[str]:
    """The scenarios that a test is named after."""
    found = NAMED.match(name)
    if found is None:
        return set()
    area, first, joined, last = found[1], int(found[2]), found[3], int(found[4] or found[2])
    numbers = range(first, last + 1) if joined == "to" else {first, last}
    return {f"{area}_{number:02d}" for number in numbers}


def declared(folder: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every test function below a folder, with the name of its file."""
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield path.name, node


def leaves_out(node: ast.AST) -> set[str]:
    """What of a function may keep it from being run."""
    names = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    return names & LEFT_OUT


TESTS = list(declared(FOLDER))


@pytest.mark.parametrize("area", COUNTS)
def test_every_scenario_has_a_test_of_its_name(area: str) -> None:
    named = {identifier for _, node in TESTS for identifier in identifiers(node.name)}
    wanted = {f"{area}_{number:02d}" for number in range(1, COUNTS[area] + 1)}

    assert wanted - named == set()
    assert {each for each in named if each.startswith(f"{area}_")} - wanted == set()  # no scenario that the requirements do not know


def test_no_test_of_a_scenario_is_left_out() -> None:
    left_out = {f"{path}: {node.name}": found for path, node in TESTS if identifiers(node.name) and (found := leaves_out(node))}

    assert left_out == {}


def test_a_missing_scenario_and_a_skipped_test_are_found(tmp_path: Path) -> None:
    skipped, failing = "@pytest.mark.skip\ndef test_pr_02_to_04_x(): ...\n", "async def test_bp_03_and_05_y():\n    pytest.xfail()\n"
    source = f"{skipped}\n{failing}\ndef test_other(): ...\n"
    (tmp_path / "test_planted.py").write_text(source)

    found = {node.name: (identifiers(node.name), leaves_out(node)) for _, node in declared(tmp_path)}

    assert found == {
        "test_pr_02_to_04_x": ({"pr_02", "pr_03", "pr_04"}, {"skip"}),
        "test_bp_03_and_05_y": ({"bp_03", "bp_05"}, {"xfail"}),
        "test_other": (set(), set()),
    }
