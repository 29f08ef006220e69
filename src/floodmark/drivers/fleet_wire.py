"""What the fleet's driver says to NATS beside the load: the record's stream, notes in it, and whole streams read in one go.

All of it is JSON over the server's own subjects. The record is a stream that is fed by the streams of the fleet's buckets: the server
itself writes down every version of every key. It has to be made after those streams and before the first worker: a stream that did not
exist then is not found later. Every connection of a run that is played listens on a subject with the run's name, where nobody answers:
so another run learns from the server whether somebody is there, before it takes the record away. Not here: what the notes mean
(`fleet_record.py`), the load (`fleet.py`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from floodmark.drivers.base import Connection, RefusedError
from floodmark.drivers.fleet_record import BEGIN_MARK, BUCKETS, MARK, Note, decode
from floodmark.drivers.nats_address import Address
from floodmark.drivers.nats_place import place_of_reply
from floodmark.drivers.nats_socket import Answer, Inlet, NatsSocket, open_nats

RECORD, IN, OUT = "FM_RECORD", "FM_IN", "FM_OUT"
CONTROL, PLAYED = "fleet.control", "fleet.played"
CALL_LIMIT_S = 10.0
BUCKETS_LIMIT_S = 10.0
IDLE_NS = 5_000_000_000
INACTIVE_NS = 60_000_000_000
PLAYED_LIMIT_S = 1.0
PLAYED_LOOKS = 3  # whoever plays may be on the way back to a server that was started again
_NOBODY = 503
_POLL_S = 0.05


class Message(NamedTuple):
    """One message of a stream."""

    subject: str
    headers: bytes
    payload: bytes
    sequence: int
    at_s: float


class Desk(NatsSocket):
    """A connection that asks, notes and reads; it has no load and tells nobody of its end."""

    def __init__(self, address: Address) -> None:
        self.basket = Basket()
        super().__init__(address, self.basket, told=False)

    @property
    def lost(self) -> bool:
        """Whether it is gone."""
        return self._transport is None

    async def call(self, subject: str, body: object = None, *, limit_s: float = CALL_LIMIT_S) -> dict[str, Any]:
        """Ask the server or the host, in JSON. Raises: RefusedError, also when no answer comes in time."""
        try:
            async with asyncio.timeout(limit_s):
                answer = await self.request(subject, body)
        except TimeoutError as exc:
            raise RefusedError(self.url, f"gave no answer to {subject} within {limit_s:g} s") from exc
        said: dict[str, Any] = msgspec.json.decode(answer.payload, type=dict[str, Any])
        return said

    async def ask(self, subject: str, headers: bytes, payload: bytes) -> Answer:
        """As `request`, with headers; the caller limits the wait."""
        self.require_open()
        number = b"h%d" % next(self._request_numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._requests[number] = answer
        size = len(headers) + len(payload)
        self.send(b"HPUB %b %b.r.%b %d %d\r\n%b%b\r\n" % (subject.encode(), self.inbox, number, len(headers), size, headers, payload))
        try:
            return await answer
        finally:
            self._requests.pop(number, None)

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
        basket = self.basket
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

    # -- the record ----------------------------------------------------------------------------------------------------------------------

    async def make_record(self, run: str) -> None:
        """Make the record's stream, unless this run has it; one of an earlier run is deleted.

        Raises: RefusedError, also while the run whose record is there is being played.
        """
        await self._wait_for_buckets()
        there = await self.stream(RECORD)
        if there is not None and (other := str(there["config"].get("description", ""))) != run:
            if await self._is_played(other):
                raise RefusedError(self.url, f"is played by the run {other} now, whose record would be lost; wait for its end")
            await self.call(f"$JS.API.STREAM.DELETE.{RECORD}")
            there = None
        if there is None:
            config = {
                "name": RECORD,
                "description": run,
                "subjects": [f"{MARK}.>", "done.>"],
                "storage": "file",
                "retention": "limits",
                "max_msgs": -1,
                "max_bytes": -1,
                "max_consumers": -1,
                "num_replicas": 1,
                "sources": [{"name": f"KV_{bucket}"} for bucket in BUCKETS.values()],
            }
            begin = await self.newest()
            said = await self.call(f"$JS.API.STREAM.CREATE.{RECORD}", config)
            if "error" in said:
                raise RefusedError(self.url, f"does not make the stream {RECORD}: {said['error'].get('description')}")
            await self.note(BEGIN_MARK, begin, first=True)

    async def remove_record(self, run: str) -> None:
        """Delete the record's stream if it is this run's. Raises: RefusedError."""
        there = await self.stream(RECORD)
        if there is None or there["config"].get("description") != run:
            return
        said = await self.call(f"$JS.API.STREAM.DELETE.{RECORD}")
        if "error" in said:
            raise RefusedError(self.url, f"does not delete the stream {RECORD}: {said['error'].get('description')}")

    async def _is_played(self, run: str) -> bool:
        """Whether a connection of this run is there. The server says at once that nobody listens, and nothing when somebody does."""
        if not run.isalnum():
            return False  # no name of a run
        for look in range(PLAYED_LOOKS):
            if look:
                await asyncio.sleep(PLAYED_LIMIT_S / PLAYED_LOOKS)
            try:
                async with asyncio.timeout(PLAYED_LIMIT_S):
                    answer = await self.ask(f"{PLAYED}.{run}", b"NATS/1.0\r\n\r\n", b"")
            except TimeoutError:
                return True
            if answer.status != _NOBODY:
                return True
        return False

    async def newest(self) -> dict[str, int]:
        """Of each stream that feeds the record: the sequence of its newest entry. Raises: RefusedError."""
        found = {}
        for bucket in BUCKETS.values():
            there = await self.stream(f"KV_{bucket}")
            if there is None:
                raise RefusedError(self.url, f"has no stream KV_{bucket} any more")
            found[f"KV_{bucket}"] = int(there["state"]["last_seq"])
        return found

    async def _wait_for_buckets(self) -> None:
        waiting = [f"KV_{bucket}" for bucket in BUCKETS.values()]
        try:
            async with asyncio.timeout(BUCKETS_LIMIT_S):
                while waiting:
                    waiting = [name for name in waiting if await self.stream(name) is None]
                    if waiting:
                        await asyncio.sleep(_POLL_S)
        except TimeoutError as exc:
            raise RefusedError(self.url, f"has no stream {', '.join(waiting)}, so no fleet keeps its keys there") from exc

    async def note(self, key: str, value: object = None, *, first: bool = False) -> bool:
        """Put a mark into the record; with `first` only when nobody has put this one. Returns whether it was put."""
        head = b"NATS/1.0\r\n" + (b"Nats-Expected-Last-Subject-Sequence: 0\r\n" if first else b"") + b"\r\n"
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                answer = await self.ask(f"{MARK}.{key}", head, msgspec.json.encode(value or {}))
        except TimeoutError as exc:
            raise RefusedError(self.url, f"did not take a note within {CALL_LIMIT_S:g} s") from exc
        put = answer.status == 0 and b'"error"' not in answer.payload
        if not put and not (first and answer.status == 0):
            raise RefusedError(
                self.url, f"did not take a note: {answer.payload[:200].decode('utf-8', 'replace') or 'it has no stream for it'}"
            )
        return put

    async def noted(self, key: str) -> bool:
        """Whether somebody has put this mark."""
        said = await self.call(f"$JS.API.STREAM.MSG.GET.{RECORD}", {"last_by_subj": f"{MARK}.{key}"})
        return "error" not in said

    async def follow(self, take: Callable[[Note], None], content: Callable[[], bool], *, limit_s: float) -> bool:
        """Read the record as it grows until somebody is content; returns whether that was in time."""
        basket = self.basket

        def on_frame(frame: bytes) -> None:
            note = note_of(message_of(frame))
            if note is not None:
                take(note)

        basket.watch = on_frame
        name = await consume(self, RECORD, from_sequence=1)
        try:
            async with asyncio.timeout(limit_s):
                while not content():  # noqa: ASYNC110  # that nothing is written any more is told by nobody
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return False
        finally:
            basket.watch = None
            if not self.lost:
                await self._stop(RECORD, name)
        return True


async def open_desk(address: Address, *, limit_s: float) -> Desk:
    """Connect. Raises: RefusedError."""
    return await open_nats(lambda: Desk(address), address, name="floodmark fleet", limit_s=limit_s, local_host=None)


def show_played(socket: NatsSocket, run: str) -> None:
    """Listen where another run looks whether this one is played."""
    socket.send(f"SUB {PLAYED}.{run} played\r\n".encode())


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


def note_of(message: Message) -> Note | None:
    """What a message of the record says."""
    operation = header_of(message.headers, b"KV-Operation") or header_of(message.headers, b"Nats-Marker-Reason")
    return decode(message.subject, message.payload, operation, message.at_s)


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
