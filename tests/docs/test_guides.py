"""The guides do what they say: each marked command of README.md and docs/own-system.md is typed in a fresh folder and held to its words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.guide import check, differs, follow, steps, unmarked

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN = (ROOT / "docs/own-system.md").read_text(encoding="utf-8")


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_readme_tour_typed_as_shown_comes_to_what_it_says(tmp_path: Path) -> None:
    tour = steps(README)

    follow(tour, tmp_path)

    assert len([step for step in tour if step.kind == "exit"]) >= 5


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_own_system_guide_typed_as_shown_comes_to_what_it_says(tmp_path: Path) -> None:
    guide = steps(OWN)

    follow(guide, tmp_path)

    assert [step.name for step in guide if step.kind == "file"] == ["server.py", "rooms.toml"]


def test_guides_leave_only_the_set_up_untyped() -> None:
    left = [*unmarked(README), *unmarked(OWN)]

    assert len(left) == 1
    assert left[0].startswith("make demo ")


def test_readme_set_up_names_targets_that_the_makefile_has() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(re.findall(r"^make ([a-z]+)", unmarked(README)[0], re.MULTILINE)) == {"demo", "test"}
    assert {"demo", "test", "bench"} <= set(targets)


def test_guide_a_command_that_ends_otherwise_is_an_error(tmp_path: Path) -> None:
    (step,) = steps("<!-- exit: 0 -->\n```sh\nexit 3\n```\n")

    with pytest.raises(AssertionError, match="exit 3"):
        check(step, tmp_path, "")


@pytest.mark.parametrize(
    ("expected", "said"),
    [({"lost": "25"}, "wanted lost 25, got 24"), ({"broken": "lost == 0"}, "wanted 'lost == 0' broken")],
)
def test_guide_a_run_that_comes_to_something_else_is_an_error(expected: dict[str, str], said: str) -> None:
    scenario = {"delivery": {"lost": 24}, "criteria": [{"text": "lost == 0", "verdict": "PASS"}]}

    with pytest.raises(AssertionError, match=said):
        differs(expected, scenario)
