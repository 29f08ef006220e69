"""The guide to the pipeline is true: its commands and examples run, and its tables name what there is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from floodmark.systems import pipeline
from floodmark.systems.pipeline import Status, StreamSettings, errors
from floodmark.systems.pipeline.telemetry import EVENTS
from tests.docs.guide import follow, steps

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "systems" / "pipeline.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples in it, as the page has one stand."""
    shutil.copytree(ROOT / "examples" / "sales", tmp_path / "examples" / "sales", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tables() -> list[list[list[str]]]:
    """The tables of the page as rows of cells, heads first."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", PAGE, re.MULTILINE):
        lines = [line for line in block.splitlines() if "|---" not in line]
        found.append([[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines])
    return found


def rows_under(head: str) -> list[list[str]]:
    """The rows of the table whose first head is this."""
    (table,) = [table for table in tables() if table[0][0].strip("| ") == head]
    return table[1:]


def names_in(text: str) -> list[str]:
    return re.findall(r"`([\w.]+)[^`]*`", text)


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


def test_guide_table_of_events_is_that_of_the_code() -> None:
    told = {names_in(row[0])[0]: (tuple(row[1].split(", ")), tuple(row[2].split(", "))) for row in rows_under("event")}

    assert told == {name: (event.measurements, event.metadata) for name, event in EVENTS.items()}


def test_guide_table_of_statuses_is_that_of_the_code() -> None:
    assert [names_in(row[0])[0] for row in rows_under("status")] == [status.value for status in Status]


def test_guide_names_options_calls_and_errors_that_exist() -> None:
    (options,) = [table for table in tables() if table[0] == ["option", "default", "is"]]

    assert {name for row in options[1:] for name in names_in(row[0])} <= set(StreamSettings.__struct_fields__)
    assert all(hasattr(pipeline, name) for row in rows_under("call") for name in names_in(row[0]) if "." not in name and name != "await")
    assert all(hasattr(errors, name) for row in rows_under("error") for name in names_in(row[0]))


def test_guide_defaults_are_those_of_the_code() -> None:
    plain = StreamSettings(source="sales.csv", query="sales")

    assert (plain.chunk_size, plain.max_demand, plain.buffer_size, plain.partition_count) == (1000, 500, 1000, 1)
    assert (plain.max_retries, plain.retry_delay_s, plain.memory_limit_bytes, plain.stall_timeout_s) == (3, 1.0, 500_000_000, 30.0)
    assert plain.enable_cache
