"""The guide to declaring reports is true: its examples run, one after the other, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from floodmark.systems.pipeline.report import BandKind, FormatType, format_named

PAGE = Path(__file__).parents[4] / "docs" / "systems" / "pipeline-reports.md"


def test_guide_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "guide"}

    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)

    assert len(blocks) == 6
    assert "north" in capsys.readouterr().out


def test_guide_tables_name_every_band_and_format() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in row}

    assert set(BandKind) <= named
    assert {entry.value for entry in FormatType} - {"auto"} <= named
    assert all(format_named(name) for name in named if ":" in name)
