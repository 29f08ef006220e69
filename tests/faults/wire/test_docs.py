"""docs/proxy.md names what exists: every fault, every option, and examples that parse."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from floodmark.faults.wire import WIRE_FAULTS
from floodmark.faults.wire.control import NewFault
from floodmark.faults.wire.parse import parse_fault, wire_fault

TEXT = (Path(__file__).parents[3] / "docs" / "proxy.md").read_text()


@pytest.mark.parametrize("kind", list(WIRE_FAULTS))
def test_docs_name_every_fault_with_all_its_options(kind: str) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{kind}` |"))

    own = set(WIRE_FAULTS[kind][0].__struct_fields__) - {"share", "direction"}

    assert own <= set(re.findall(r"`(\w+)`", row))


def test_docs_examples_of_the_control_endpoint_are_faults() -> None:
    bodies = [msgspec.json.decode(body, type=NewFault) for body in re.findall(r"-d '(.+?)'", TEXT)]

    assert len(bodies) == 3
    for body in bodies:
        parsed = parse_fault(body.fault) if body.fault is not None else wire_fault(body.kind or "", body.options)
        assert parsed.kind in WIRE_FAULTS
