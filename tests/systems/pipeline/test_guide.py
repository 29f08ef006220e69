"""The guide to the pipeline is true: its tables name what there is. That its commands and examples run is tried in tests/docs."""

from __future__ import annotations

import re
from pathlib import Path

from floodmark.systems import pipeline
from floodmark.systems.pipeline import Status, StreamSettings, errors
from floodmark.systems.pipeline.telemetry import EVENTS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "systems" / "pipeline.md").read_text(encoding="utf-8")


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
