"""What is fetched from the agents of a run that was broken off, and that it is told when it could not be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from floodmark.core.errors import HarnessBugError, SystemUnderTestError
from floodmark.ledger.reconcile import Reckoning
from floodmark.model.result import Delivery
from floodmark.model.verdict import Verdict
from floodmark.runner.agents import Line, Lines
from tests.runner import lost

SAID = "what the agents knew at the end could not be taken"


@pytest.mark.parametrize(
    ("error", "note", "kept"),
    [
        (SystemUnderTestError("agent 1 is gone"), f"{SAID} (agent 1 is gone)", True),
        (TimeoutError(), f"{SAID} (not within 5 s)", True),
        (HarnessBugError("counts do not add up"), f"{SAID} (counts do not add up)", False),
    ],
)
def test_salvage_that_fails_is_told_and_what_cannot_be_right_is_not_kept(tmp_path: Path, error: Exception, note: str, kept: bool) -> None:
    session = lost.session(tmp_path, lost.scenario())
    evidence = session._evidence
    evidence.first_intended_ns = 1
    evidence.reckoning = Reckoning(delivery=Delivery(delivered=3, duplicated=1), findings=(), truncated=False)

    async def ask(*_: object, **__: object) -> None:
        raise error

    session._agents = cast("Lines[Line]", SimpleNamespace(ask=ask))

    asyncio.run(session._salvage())

    assert evidence.notes == [note]
    assert (evidence.reckoning is not None) == kept
    evidence.interrupted = True
    assert session.result().verdict is (Verdict.FAIL if kept else Verdict.UNKNOWN)  # a duplicate that was seen stays one


def test_salvage_before_the_load_asks_nobody_and_says_nothing(tmp_path: Path) -> None:
    session = lost.session(tmp_path, lost.scenario())

    asyncio.run(session._salvage())

    assert session._evidence.notes == []
