"""A connection to a NATS server that asks and reads, beside the load: questions in JSON, and whole streams in one go.

A stream is read as the server pushes it to a consumer of our own, which is gone with the connection. What is read is held in memory: it
is for records of a run, not for its load. Not here: what subjects and messages mean.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from floodmark.drivers.base import Connection, RefusedError
from floodmark.drivers.nats_address import Address
from floodmark.drivers.nats_place import place_of_reply
from floodmark.drivers.nats_socket import Inlet, NatsSocket

CALL_LIMIT_S = 10.0
IDLE_NS = 5_000_000_000
INACTIVE_NS = 60_000_000_000
SHOWN_BYTES = 200  # of an answer that says nothing to us
_POLL_S = 0.05


class Message(NamedTuple):
    """One message of a stream."""

    subject: str
    headers: bytes
    payload: bytes
    sequence: int
    at_s: float


class NatsDesk(NatsSocket):
    """A connection without load, which tells nobody of its end. Open it with `open_nats`."""

    def __init__(self, address: Address) -> None:
        self._basket = Basket()
        super().__init__(address, self._basket, told=False)

    @property
    def lost(self) -> bool:
        """Whether it is gone."""
        return self._transport is None

    async def call(self, subject: str, body: object = None, *, limit_s: float = CALL_LIMIT_S) -> dict[str, Any]:
        """Ask the server or the host, in JSON. Raises: RefusedError, also when no answer comes in time, or one that is no JSON object."""
        try:
            async with asyncio.timeout(limit_s):
                answer = await self.request(subject, body)
        except TimeoutError as exc:
            raise RefusedError(self.url, f"gave no answer to {subject} within {limit_s:g} s") from exc
        try:
            said: dict[str, Any] = msgspec.json.decode(answer.payload, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:  # no UTF-8 inside, or nested too deeply
            shown = answer.payload[:SHOWN_BYTES].decode("utf-8", "replace")
            raise RefusedError(self.url, f"answered {subject} with what is no JSON object: {shown!r}") from exc
        return said

    async def stream(self, name: str) -> dict[str, Any] | None:
        """What the server says of a stream; None when there is none."""
        said = await self.call(f"$JS.API.STREAM.INFO.{name}")
        return None if "error" in said else said

    async def read(self, stream: str, *, headers_only: bool = False, limit_s: float) -> list[Message]:
        """Everything that a stream holds now, in its order. Raises: RefusedError when it does not come in time."""
        info = await self.stream(stream)
        if info is None or not info["state"]["messages"]:
            return []
        last = int(info["state"]["last_seq"])
        basket = self._basket
        basket.begin(last)
        name = await consume(self, stream, from_sequence=1, headers_only=headers_only)
        try:
            async with asyncio.timeout(limit_s):
                await basket.full.wait()
        except TimeoutError as exc:
            raise RefusedError(self.url, f"did not give the stream {stream} within {limit_s:g} s") from exc
        await self._stop(stream, name)
        return [message_of(frame) for frame in basket.frames]

    async def _stop(self, stream: str, name: str) -> None:
        """Read on no more."""
        self.send(b"UNSUB %b\r\n" % name.encode())
        self.inlets.pop(name.encode(), None)
        await self.call(f"$JS.API.CONSUMER.DELETE.{stream}.{name}")

    async def follow(self, stream: str, take: Callable[[Message], None], content: Callable[[], bool], *, limit_s: float) -> bool:
        """Read a stream from its beginning and as it grows until somebody is content; returns whether that was in time."""
        self._basket.watch = lambda frame: take(message_of(frame))
        name = await consume(self, stream, from_sequence=1)
        try:
            async with asyncio.timeout(limit_s):
                while not content():  # noqa: ASYNC110  # that nothing is written any more is told by nobody
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return False
        finally:
            self._basket.watch = None
            if not self.lost:
                await self._stop(stream, name)
        return True


async def consume(socket: NatsSocket, stream: str, *, from_sequence: int | None = None, headers_only: bool = False) -> str:
    """Have a stream pushed to a connection, from a sequence or from now on; returns the name of the consumer, which is that of its inlet.

    Raises: RefusedError.
    """
    name = f"fm{secrets.token_hex(6)}"
    inbox = f"{socket.inbox.decode()}.{name}"
    socket.listen(name.encode(), Inlet(0))
    socket.send(b"SUB %b %b\r\n" % (inbox.encode(), name.encode()))
    config: dict[str, Any] = {
        "name": name,
        "deliver_policy": "new" if from_sequence is None else "by_start_sequence",
        "ack_policy": "none",
        "deliver_subject": inbox,
        "replay_policy": "instant",
        "inactive_threshold": INACTIVE_NS,
        "num_replicas": 1,
        "mem_storage": True,
        "flow_control": True,
        "idle_heartbeat": IDLE_NS,
        "headers_only": headers_only,
    }
    if from_sequence is not None:
        config["opt_start_seq"] = from_sequence
    answer = await socket.request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config, "action": "create"})
    said = msgspec.json.decode(answer.payload, type=dict[str, Any])
    if "error" in said:
        raise RefusedError(socket.url, f"does not let anybody read the stream {stream}: {said['error'].get('description')}")
    return name


def message_of(frame: bytes) -> Message:
    """Read one message as it came: its line, headers and payload, and what its reply subject says about its place in the stream."""
    line, _, rest = frame.partition(b"\r\n")
    words = line.split(b" ")
    head_bytes = int(words[-2]) if words[0] == b"HMSG" else 0
    return Message(words[1].decode(), rest[:head_bytes], rest[head_bytes:], *place_of_reply(words[3]))


def header_of(headers: bytes, name: bytes) -> bytes | None:
    """One header's value."""
    for line in headers.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if colon and key == name:
            return value.strip()
    return None


class Basket:
    """The sink of a desk: keeps whole messages until the last one has come, or shows each to somebody."""

    takes_blocks = False

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.full = asyncio.Event()
        self.watch: Callable[[bytes], None] | None = None
        self.put: Callable[[tuple[int, bytes, int]], None] = self._put
        self._last = 0

    def begin(self, last: int) -> None:
        """Expect messages up to this sequence."""
        self.frames, self._last = [], last
        self.full.clear()

    def _put(self, frame: tuple[int, bytes, int]) -> None:
        """Take one message."""
        if self.watch is not None:
            self.watch(frame[1])
            return
        self.frames.append(frame[1])
        if place_of_reply(frame[1].partition(b"\r\n")[0].split(b" ")[3]).sequence >= self._last:
            self.full.set()

    def put_block(self, block: object) -> None:
        """Never called: it takes none."""

    def turn(self) -> None:
        """Everything was taken."""

    def acknowledged(self, token: int) -> None:
        """Nothing is published."""

    def refused(self, token: int, reason: str) -> None:
        """Nothing is published."""

    def ended(self, slot: int, reason: str) -> None:
        """Nothing ends."""

    def closed(self, connection: Connection, reason: str) -> None:
        """Whoever asks finds out by itself."""
        self.full.set()
