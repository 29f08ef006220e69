"""A driver for `asking_server.py`, as small as one can be: what a driver that asks has to tell its sink."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, cast

from floodmark.drivers.asking import ASKING_DEFAULTS, ERROR_EVENT, NO_TERMINAL, REFUSED, Ask, AskingSink, reason_of
from floodmark.drivers.base import Options, Sink, Wanted
from floodmark.drivers.streams import LineConnection, LineDriver


class LineAsking(LineConnection):
    """One connection; its channels ask as they like."""

    def __init__(self, url: str, sink: Sink) -> None:
        super().__init__(url, sink)
        self.answers = cast("AskingSink", sink)

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        for want in wanted:
            self.slots[want.channel.encode()] = want.slot
            self.send(b"OPEN " + want.channel.encode())
        await self.confirmations(len(wanted))

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        leaving = [name for name, slot in self.slots.items() if slot in set(slots)]
        for name in leaving:
            del self.slots[name]
            self.send(b"SHUT " + name)
        await self.confirmations(len(leaving))

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        raise AssertionError("nobody publishes here")

    def free(self, slot: int) -> bool:
        return slot in self.slots.values()

    def ask(self, ask: Ask) -> None:
        self.send(b"ASK %d %b" % (ask.token, ask.prompt.encode()))

    def on_line(self, line: bytes, received_ns: int) -> None:
        word, _, rest = line.partition(b" ")
        if word == b"DONE":
            self.confirm()
            return
        name, _, said = rest.partition(b" ")
        token = int(name)
        match word:
            case b"T":
                self.answers.text(token, said, 0, received_ns)
            case b"OK":
                self.answers.accepted(token)
            case b"END":
                self.answers.finished(token, int(said))
            case b"ERR":
                self.answers.failed(token, reason_of(ERROR_EVENT, said.decode()))
            case b"NO":
                self.answers.failed(token, reason_of(REFUSED, said.decode()))
            case b"CUT":
                self.answers.failed(token, NO_TERMINAL)
            case b"ODD":
                self.answers.odd(token, "an event that cannot be read")
            case _:
                self.fail(f"sent {line[:60]!r}")


class AskingLines(LineDriver):
    """Named in the scenarios of the tests."""

    connection = LineAsking
    asks: ClassVar[bool] = True
    acknowledges = True
    DEFAULTS: ClassVar[Options] = {**ASKING_DEFAULTS}
