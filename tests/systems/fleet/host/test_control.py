"""The host's answers: one that cannot get out ends nothing but itself."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import nats.errors
import pytest

from floodmark.systems.fleet.host.control import Control


class _Lost:
    """A link, its client and a message in one, whose server goes while an answer is on its way."""

    connected = True
    data = b'{"do": "status"}'

    def __init__(self, failing: str) -> None:
        self.client = self
        self.failing = failing
        self.answers: list[bytes] = []

    async def status(self, word: object) -> list[dict[str, Any]]:
        return []

    async def respond(self, answer: bytes) -> None:
        self.answers.append(answer)
        if self.failing == "respond":
            raise nats.errors.ConnectionClosedError

    async def flush(self) -> None:
        if self.failing == "flush":
            raise nats.errors.FlushTimeoutError


@pytest.mark.parametrize("failing", ["respond", "flush"])
def test_answer_that_does_not_get_out_does_not_end_the_host(failing: str) -> None:
    lost = cast("Any", _Lost(failing))

    asyncio.run(Control(lost, lost)._respond(lost))

    assert len(lost.answers) == 1
