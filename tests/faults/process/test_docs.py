"""docs/process-faults.md names what exists: every fault, every option with its default, and limits as they are in the code."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from floodmark.faults.process import PROCESS_FAULTS
from floodmark.faults.process.journal import ENTRIES_MAX, PIDS_MAX
from floodmark.faults.process.starve import BURNERS_MAX

TEXT = (Path(__file__).parents[3] / "docs" / "process-faults.md").read_text()


@pytest.mark.parametrize("kind", list(PROCESS_FAULTS))
def test_docs_name_every_fault_with_all_its_options_and_their_defaults(kind: str) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{kind}` |"))
    options = row.split("|")[2]

    wanted = {field.name: field.default for field in msgspec.structs.fields(PROCESS_FAULTS[kind][0])}

    assert dict(re.findall(r"`(\w+)` = \"?([\w.]*)", options)) == {name: str(value) for name, value in wanted.items()}


def test_docs_give_the_limits_that_hold() -> None:
    assert f"{ENTRIES_MAX:,} entries and {PIDS_MAX} PIDs" in TEXT.replace("\n  ", " ")
    assert f"At most {BURNERS_MAX} of them" in TEXT
