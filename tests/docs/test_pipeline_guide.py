"""The guide to the pipeline does what it says: its commands and examples run in a folder as the page has one stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.docs.guide import follow, steps

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "systems" / "pipeline.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples in it, as the page has one stand."""
    shutil.copytree(ROOT / "examples" / "sales", tmp_path / "examples" / "sales", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_guide_commands_run_as_shown(folder: Path) -> None:
    shown = steps(PAGE)

    follow(shown, folder)

    assert len(shown) == 2
    assert (folder / "sales.pdf").read_bytes().startswith(b"%PDF-")
    assert "North" in (folder / "winter.html").read_text()


def test_guide_examples_run_one_after_the_other(folder: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "guide"}

    for block in blocks:
        exec(compile(block, "pipeline.md", "exec"), names)

    assert len(blocks) == 5
    assert (folder / "stock.pdf").read_bytes().startswith(b"%PDF-")
