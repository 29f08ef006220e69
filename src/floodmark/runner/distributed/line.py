"""One slice of a run as its runner sees it: who plays it now, the stream to there, and the steps it was asked to take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from floodmark.core.errors import SystemUnderTestError
from floodmark.ledger.histogram import Histogram
from floodmark.runner import wire
from floodmark.runner.agents import Line
from floodmark.runner.distributed.carrier import Carrier
from floodmark.runner.distributed.takeover import Steps
from floodmark.runner.distributed.words import Claim, Last
from floodmark.runner.remains import Reported
from floodmark.runner.wire import Do, Progress


class AgentLostError(SystemUnderTestError):
    """An agent on another machine is gone, or one of its processes."""

    def __init__(self, name: str, host: str, index: int, why: str) -> None:
        super().__init__(name, host, index, why)
        self.name, self.host, self.index, self.why = name, host, index, why

    def __str__(self) -> str:
        return f"agent {self.name} on {self.host}, which played slice {self.index}, is lost: {self.why}"


class Away(Line):
    """One slice of the run, and whoever plays it now."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        self.life = 0
        self.claim: Claim | None = None
        self.carrier: Carrier | None = None
        self.sending: asyncio.Task[None] | None = None
        self.buffer = bytearray()
        self.ended = False
        self.steps = Steps()
        self.reported: Reported | None = None
        """What the agent has reported, kept where another may replace it."""
        self.claimed = asyncio.Event()
        self.lost_s = 0.0
        self.between = False
        """Whether it waits for another agent to take it over."""

    def send(self, message: wire.Message) -> None:
        if isinstance(message, Do):
            self.steps.asked(message)
        if not self.between:
            self.tell(message)

    def tell(self, message: wire.Message) -> None:
        """Send at once, also what the runner did not ask for."""
        super().send(message)

    def taken(self, data: bytes) -> Iterator[wire.Message]:
        """Take the next bytes that it sent; yields the messages that are whole with them."""
        buffer = self.buffer
        buffer += data
        while len(buffer) >= wire.HEAD_BYTES:
            end = wire.HEAD_BYTES + wire.length(bytes(buffer[: wire.HEAD_BYTES]))
            if len(buffer) < end:
                return
            message = wire.unpack(bytes(buffer[wire.HEAD_BYTES : end]))
            del buffer[:end]
            yield message

    def carry(self, frame: bytes) -> None:
        if self.carrier is not None and not self.ended:
            self.carrier.write(frame)


def how_it_ended(last: Last) -> str:
    """Say it in words."""
    if last.code is None:
        return "it was asked to end"
    said = f", last words: {last.words}" if last.words else ""
    return f"its process ended by itself (exit code {last.code}{said})"


def without_connections(progress: Progress) -> Progress:
    """The last report of an agent whose connections are gone with it."""
    none = Histogram().to_wire()
    return msgspec.structs.replace(progress, connections=0, pending=0, response=none, service=none, lag=none)
