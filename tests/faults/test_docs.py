"""docs/faults.md names what exists: every fault of the clients, every option of theirs that has words, and an example that builds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from floodmark.faults import CLIENT_FAULTS, plan
from floodmark.faults.drop import Drop
from floodmark.faults.latency import Latency
from floodmark.model.scenario import Fault

TEXT = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", CLIENT_FAULTS)
def test_docs_have_a_row_for_every_fault(kind: str) -> None:
    assert f"| `{kind}` |" in TEXT


@pytest.mark.parametrize(("fault", "option"), [(Drop, "during"), (Drop, "how"), (Latency, "on"), (Latency, "distribution")])
def test_docs_name_every_word_an_option_takes(fault: type, option: str) -> None:
    words = set(get_args(get_type_hints(fault)[option]))

    assert words
    assert words <= set(re.findall(r"`([\w-]+)`", TEXT))


def test_docs_example_is_a_fault_of_ours() -> None:
    found = re.search(r"^options = \{(.+)\}$", TEXT, re.MULTILINE)
    assert found is not None
    options = dict(re.findall(r"(\w+) = ([^,]+?)(?:,|\s*$)", found.group(1)))

    made = plan(Fault(kind="drop", options={name: _value(text) for name, text in options.items()}))

    assert isinstance(made, Drop)
    assert (made.during, made.how, made.resume, made.backoff_jitter) == ("publish", "reset", True, 0.5)


def _value(text: str) -> float | bool | str:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    return text.strip('"') if text.startswith('"') else float(text)
