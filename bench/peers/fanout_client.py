"""The clients of the fan-out benchmark, the same for every server: subscribers that count frames, and one publisher.

Arguments: URL, dialect (`plain` or `hub`), subscribers. Says {"ready": n} once all are subscribed. Then, per line
{"bursts": b, "burst": k} on stdin: publishes b bursts of k messages, each burst in one write and only after the one before has reached
every subscriber; a burst that does not within BURST_LIMIT_S ends the order. Answers {"least": n, "most": n, "gone": g}: what the
subscribers received, and how many the server has dropped. Frames shorter than a payload (answers, pings) are not counted. In the hub's
dialect subscribing and publishing are GraphQL operations, otherwise a message is the bare payload.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from floodmark.drivers.base import Wanted
from floodmark.drivers.graphql_ws import GraphQLDriver

PAYLOAD_BYTES = 100
PAYLOAD = b"x" * PAYLOAD_BYTES
CHANNEL = "bench"
STEP_LIMIT_S = 60.0
BURST_LIMIT_S = 10.0
CREW = 64


class Tally:
    """How many frames all subscribers together still wait for."""

    def __init__(self) -> None:
        self.left = 0
        self.complete = asyncio.Event()


class Subscriber(WSListener):
    """Counts the frames that carry a payload."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.received = 0
        self.gone = False
        self.answers: asyncio.Queue[bytes] = asyncio.Queue(8)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.payload_size >= PAYLOAD_BYTES:
            self.received += 1
            self._tally.left -= 1
            if not self._tally.left:
                self._tally.complete.set()
        elif frame.msg_type != WSMsgType.PING:
            self.answers.put_nowait(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone = True


class Publisher(WSListener):
    """Writes; what comes back (the hub's acknowledgements) is left alone, but for the first, which answers connection_init."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.answered.set()


class Dialect:
    """What is sent to subscribe and to publish."""

    def __init__(self, name: str) -> None:
        self._driver = GraphQLDriver({}) if name == "hub" else None
        self.headers = {"Sec-WebSocket-Protocol": "graphql-transport-ws"} if self._driver else {}
        self.path = "" if self._driver else "publish"

    async def subscribe(self, transport: WSTransport, subscriber: Subscriber) -> None:
        """Subscribe, and wait until the server has taken it."""
        if self._driver is None:
            transport.send_ping(b"there?")
        else:
            transport.send(WSMsgType.TEXT, self._driver.init_frame)
            await subscriber.answers.get()
            transport.send(WSMsgType.TEXT, self._driver.subscribe_frame("s0000000", Wanted(slot=0, channel=CHANNEL)))
            transport.send(WSMsgType.TEXT, b'{"type":"ping"}')
        await subscriber.answers.get()

    async def greet(self, transport: WSTransport, publisher: Publisher) -> None:
        """Do what a publisher must do first."""
        if self._driver is not None:
            transport.send(WSMsgType.TEXT, self._driver.init_frame)
            await publisher.answered.wait()

    def messages(self, first: int, count: int) -> list[bytes]:
        """Give one burst."""
        if self._driver is None:
            return [PAYLOAD] * count
        before, after = self._driver.publish_frame(CHANNEL)
        return [b'{"id":"p%d%b%b%b' % (token, before, PAYLOAD, after) for token in range(first, first + count)]


def masked(payload: bytes) -> bytes:
    """Frame a message as a client does; the mask of zeros is allowed and costs the server what any mask does."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


async def main(url: str, dialect_name: str, count: int) -> None:
    """Connect everything, then take commands until standard input ends."""
    dialect = Dialect(dialect_name)
    tally = Tally()
    subscribers: list[Subscriber] = []
    numbers = iter(range(count))

    async def connect() -> None:
        for _ in numbers:
            transport, made = await ws_connect(lambda: Subscriber(tally), url, extra_headers=dialect.headers, read_buffer_init_size=1024)
            assert isinstance(made, Subscriber)
            subscribers.append(made)
            await dialect.subscribe(transport, made)

    async with asyncio.timeout(STEP_LIMIT_S), asyncio.TaskGroup() as crew:
        for _ in range(CREW):
            crew.create_task(connect())
    transport, publisher = await ws_connect(Publisher, url + dialect.path, extra_headers=dialect.headers)
    assert isinstance(publisher, Publisher)
    await dialect.greet(transport, publisher)
    print(json.dumps({"ready": len(subscribers)}), flush=True)
    token = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        before = [subscriber.received for subscriber in subscribers]
        with contextlib.suppress(TimeoutError):  # what did not come shows in the account
            for _ in range(order["bursts"]):
                tally.left = count * order["burst"]
                tally.complete.clear()
                frames = b"".join(masked(message) for message in dialect.messages(token, order["burst"]))
                token += order["burst"]
                transport.underlying_transport.write(frames)
                async with asyncio.timeout(BURST_LIMIT_S):
                    await tally.complete.wait()
        received = [subscriber.received - seen for subscriber, seen in zip(subscribers, before, strict=True)]
        gone = sum(subscriber.gone for subscriber in subscribers)
        print(json.dumps({"least": min(received), "most": max(received), "gone": gone}), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
