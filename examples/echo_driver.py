"""A driver of one's own, for the made-up line protocol that `echo_server.py` speaks: copy it and put your protocol in its place.

    driver = "examples/echo_driver.py:EchoDriver"      in a scenario file; the path is from where floodmark is started

What goes over the wire, one line each:   SUB room · UNSUB room · PUB room token text      and back:   DONE · MSG room text · OK token
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from floodmark.drivers.base import Wanted
from floodmark.drivers.streams import LineConnection, LineDriver


class EchoConnection(LineConnection):
    """What one connection says and understands."""

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        for want in wanted:
            self.slots[want.channel.encode()] = want.slot
            self.send(b"SUB " + want.channel.encode())
        await self.confirmations(len(wanted))

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        leaving = [room for room, slot in self.slots.items() if slot in set(slots)]
        for room in leaving:
            self.send(b"UNSUB " + room)
        await self.confirmations(len(leaving))
        for room in leaving:
            del self.slots[room]

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        self.send(b"PUB %b %d %b" % (channel.encode(), token, payload))

    def on_line(self, line: bytes, received_ns: int) -> None:
        match line.split(b" ", 2):
            case [b"MSG", room, text]:
                self.sink.put((self.slots[room], text, received_ns))
            case [b"OK", token]:
                self.sink.acknowledged(int(token))
            case [b"DONE"]:
                self.confirm()
            case _:
                self.fail(f"sent {line[:60]!r}, which is none of MSG, OK and DONE")


class EchoDriver(LineDriver):
    """Named in the scenario file."""

    connection = EchoConnection
    acknowledges = True
