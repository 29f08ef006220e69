"""One connection to a NATS server: the client protocol, written so that a read is worked off in one go.

The library nats-py gives each subscription a queue and a task, which costs several times what checking a message does (measured in
`bench/jetstream.py`). Here the messages of a read go to the sink in one loop, or, where many alike follow each other, as a block.

What is on top: `listen` for subscriptions of the ledger, `answers` for everything else that is subscribed, `send`, `ask`, `request`
and `settled`, which waits until the server has worked off all that was sent (PING and PONG keep their place among the rest).
Memory: one message at most is held incomplete, bounded by the server's own limit.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from floodmark.core.errors import UsageError
from floodmark.drivers.base import RefusedError, Sink
from floodmark.drivers.nats_address import Address
from floodmark.drivers.nats_runs import LEAST_COUNT, Rows, run_at
from floodmark.drivers.sockets import network_reason
from floodmark.drivers.streams import TcpConnection
from floodmark.ledger.block import Block

MESSAGE_BYTES_MAX = 64 * 1024 * 1024  # the most that a NATS server can be set to
LINE_BYTES_MAX = 256 * 1024  # INFO of a large cluster
NOBODY = 503
"""The status with which the server answers for a subject on which nobody listens."""
_decode_info = msgspec.json.Decoder(dict[str, Any]).decode


class Answer(msgspec.Struct, frozen=True):
    """One message that is none of the ledger's: its subject, headers as they stand, and payload."""

    subject: bytes
    headers: bytes
    payload: bytes

    @property
    def status(self) -> int:
        """The status of a message of the server's own, such as 503; 0 for any other."""
        head = self.headers[9:12]
        return int(head) if head.isdigit() and self.headers[8:9] == b" " else 0


class Admission(Protocol):
    """Decides whether a delivery is one, from the reply subject; acknowledges where that is due."""

    def admit(self, reply: bytes) -> bool:
        """HOT: take one message."""

    def admit_run(self, replies: Rows) -> bool:
        """HOT: take a run of them; False to have them one by one."""

    def on_status(self, answer: Answer) -> None:
        """Take a message of the server's own."""


class Inlet:
    """A subscription: the ledger's slot of its messages, and who decides about them, if anybody."""

    __slots__ = ("admission", "slot")

    def __init__(self, slot: int, admission: Admission | None = None) -> None:
        self.slot = slot
        self.admission = admission


AnySocket = TypeVar("AnySocket", bound="NatsSocket")


class NatsSocket(TcpConnection):
    """One connection. Open it with `open_nats`."""

    def __init__(self, address: Address, sink: Sink, *, told: bool = True) -> None:
        super().__init__(address.shown, sink if told else None)
        self.sink = sink
        self.address = address
        self.info: dict[str, Any] = {}
        self.inbox = b"_INBOX.fm" + secrets.token_hex(8).encode()
        self.answers: dict[bytes, Callable[[Answer], None]] = {}
        self.inlets: dict[bytes, Inlet] = {}
        self._requests: dict[bytes, asyncio.Future[Answer]] = {}
        self._request_numbers = itertools.count(1)
        self._introduced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs: deque[Callable[[Exception | None], None]] = deque()
        self._settling: list[asyncio.Future[None]] = []
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._due_bytes = 0

    # -- opening -------------------------------------------------------------------------------------------------------------------------

    async def greet(self, name: str) -> None:
        """Introduce each other and log in. Raises: RefusedError."""
        await self._introduced
        if (context := self.address.tls) is not None:
            await self._encrypt(context)
        elif self.info.get("tls_required"):
            raise RefusedError(self.url, "wants TLS; give its URL as tls://...")
        words = self.address.connect_words(self.info, name)
        self.send(b"CONNECT " + msgspec.json.encode(words) + b"\r\n")
        await self.settled()
        self.answers[b"r"] = self._on_answer
        self.send(b"SUB %b.r.* r\r\n" % self.inbox)

    async def _encrypt(self, context: ssl.SSLContext) -> None:
        if not self.info.get("tls_required") and not self.info.get("tls_available"):
            raise RefusedError(self.url, "speaks no TLS; give its URL as nats://...")
        assert self._transport is not None
        try:
            self._transport = await asyncio.get_running_loop().start_tls(self._transport, self, context, server_hostname=self.address.host)
        except OSError as exc:  # an ssl.SSLError is one
            raise RefusedError(self.url, f"cannot be trusted or does not take our TLS: {exc}") from exc
        self.require_open()

    # -- what is on top calls ------------------------------------------------------------------------------------------------------------

    def send(self, words: bytes) -> None:
        """HOT: send; nothing happens on a connection that is lost."""
        if self._transport is not None:
            self._transport.write(words)

    def listen(self, sid: bytes, inlet: Inlet) -> None:
        """What comes for this subscription goes to the ledger."""
        self.inlets[sid] = inlet

    def ping(self, told: Callable[[Exception | None], None]) -> None:
        """HOT: be told once the server has worked off all that was sent up to now, or that the connection is lost."""
        if self._transport is None:
            told(RefusedError(self.url, self._failure or "closed the connection"))
            return
        self._pongs.append(told)
        self._transport.write(b"PING\r\n")

    async def settled(self) -> None:
        """Wait until the server has worked off all that was sent up to now. Raises: RefusedError when it refused, or is lost."""
        self.require_open()
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(error: Exception | None) -> None:
            if pong.done():
                return
            if error is not None:
                pong.set_exception(error)
            else:
                pong.set_result(None)

        self._settling.append(pong)
        try:
            self.ping(told)
            await pong
        finally:
            self._settling.remove(pong)

    async def request(self, subject: str, body: object = None) -> Answer:
        """Ask in JSON, and wait for the answer; the caller limits the wait. Raises: RefusedError when nobody answers, or it is lost."""
        got = await self.ask(subject, b"" if body is None else msgspec.json.encode(body))
        if got.status == NOBODY:
            raise RefusedError(self.url, f"has nobody that answers {subject}; is JetStream switched on, and for this account?")
        return got

    async def ask(self, subject: str, payload: bytes = b"", headers: bytes = b"") -> Answer:
        """Ask, and wait for the answer, which may be the server's own that there is NOBODY; the caller limits the wait.

        Raises: RefusedError when it is lost.
        """
        self.require_open()
        number = b"%d" % next(self._request_numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._requests[number] = answer
        verb = b"HPUB" if headers else b"PUB"
        sizes = b"%d %d" % (len(headers), len(headers) + len(payload)) if headers else b"%d" % len(payload)
        self.send(b"%b %b %b.r.%b %b\r\n%b%b\r\n" % (verb, subject.encode(), self.inbox, number, sizes, headers, payload))
        try:
            return await answer
        finally:
            self._requests.pop(number, None)

    def on_error(self, reason: str) -> bool:
        """The server complains of what we did; whether that was about something on top. What was not is held against the wait."""
        return False

    # -- the protocol --------------------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:  # HOT: once per read
        received_ns = time.monotonic_ns()
        if self._parts:
            self._parts.append(data)
            self._held_bytes += len(data)
            if self._held_bytes < self._due_bytes:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        try:
            used = self._work_off(data, received_ns)
        except (ValueError, IndexError, msgspec.MsgspecError) as exc:
            self.fail(f"broke the NATS protocol ({type(exc).__name__}: {exc})")
            return
        if used < len(data):
            self._parts.append(data[used:] if used else data)
            self._held_bytes = len(data) - used
        self.on_read()
        self.sink.turn()

    def on_read(self) -> None:
        """HOT: once per read, before the sink's turn."""

    def _work_off(self, data: bytes, received_ns: int) -> int:  # HOT: its loop once per message
        put, inlets = self.sink.put, self.inlets
        octets: Rows | None = None
        at, end = 0, len(data)
        self._due_bytes = 0
        while at < end:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                if end - at > LINE_BYTES_MAX:
                    self.fail(f"sent a line of more than {LINE_BYTES_MAX:,} bytes, so it speaks no NATS")
                break
            first = data[at]
            if first != 77 and first != 72:  # M, H
                self._on_word(data[at:line_end])
                at = line_end + 2
                continue
            words = data[at:line_end].split(b" ")
            payload_bytes = int(words[-1])
            if not 0 <= payload_bytes <= MESSAGE_BYTES_MAX:
                raise ValueError(f"a message of {payload_bytes} bytes")
            stop = line_end + 4 + payload_bytes
            if stop > end:
                self._due_bytes = stop - at
                break
            inlet = inlets.get(words[2])
            if inlet is None or (first == 72 and data[line_end + 10] == 32):  # the space after NATS/1.0: a status, no message
                self._on_answer_line(words, data, line_end, inlet)
                at = stop
                continue
            admission = inlet.admission
            has_reply = len(words) == (5 if first == 77 else 6)
            if stop - at < (end - at) // LEAST_COUNT and self.sink.takes_blocks:
                octets = np.frombuffer(data, np.uint8) if octets is None else octets
                head_bytes = int(words[-2]) if first == 72 else 0
                reply_at = at + len(words[0]) + len(words[1]) + len(words[2]) + 3
                reply_end = reply_at + len(words[3]) if has_reply else reply_at
                head_end = line_end + (11 if first == 72 else 2)  # NATS/1.0 and the byte behind it
                rows = run_at(octets, at, reply_at=reply_at, reply_end=reply_end, head_end=head_end, stop=stop)
                if rows is not None and (admission is None or admission.admit_run(rows[:, reply_at - at : reply_end - at])):
                    self.sink.put_block(Block(inlet.slot, rows.tobytes(), stop - at, line_end + 2 + head_bytes - at, received_ns))
                    at += rows.size
                    continue
            if admission is None or admission.admit(words[3] if has_reply else b""):
                put((inlet.slot, data[at : stop - 2], received_ns))
            at = stop
        return at

    def _on_answer_line(self, words: list[bytes], data: bytes, line_end: int, inlet: Inlet | None) -> None:
        begin, size = line_end + 2, int(words[-1])
        head_bytes = int(words[-2]) if words[0] == b"HMSG" else 0
        answer = Answer(words[1], data[begin : begin + head_bytes], data[begin + head_bytes : begin + size])
        if inlet is not None:
            if answer.status == 100 and len(words) == 6:  # flow control: it asks whether we keep up
                self.send(b"PUB %b 0\r\n\r\n" % words[3])
            elif inlet.admission is not None:
                inlet.admission.on_status(answer)
            return
        take = self.answers.get(words[2])
        if take is not None:
            take(answer)

    def _on_word(self, line: bytes) -> None:
        word = line[:4].upper()
        if word == b"PING":
            self.send(b"PONG\r\n")
        elif word == b"PONG":
            if self._pongs:
                self._pongs.popleft()(None)
        elif word == b"INFO":
            self.info = _decode_info(line[5:])
            if not self._introduced.done():
                self._introduced.set_result(None)
        elif word == b"-ERR":
            reason = line[4:].strip(b" '").decode("utf-8", "replace")
            if not self.on_error(reason):
                self._complain(reason)
        elif line != b"+OK":
            self.fail(f"does not speak NATS: it said {line[:60]!r}")

    def _complain(self, reason: str) -> None:
        """What the server says before it closes is the reason of that; what it says about a subscription ends the wait for it."""
        if reason.lower().startswith("permissions violation"):
            waiting = next((pong for pong in self._settling if not pong.done()), None)
            if waiting is not None:
                waiting.set_exception(RefusedError(self.url, f"refused: {reason}"))
            return
        self._failure = self._failure or f"closed the connection: {reason}"

    def on_lost(self, reason: str) -> None:
        """End every wait."""
        error = RefusedError(self.url, reason)
        self._parts.clear()
        if not self._introduced.done():
            self._introduced.set_exception(error)
        self._introduced.exception()  # taken note of, where nobody waits for it any more
        pongs, self._pongs = self._pongs, deque()
        for told in pongs:
            told(error)
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(error)
        self._requests.clear()

    def _on_answer(self, answer: Answer) -> None:
        waiting = self._requests.get(answer.subject.rpartition(b".")[2])
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


async def open_nats(make: Callable[[], AnySocket], address: Address, *, name: str, limit_s: float, local_host: str | None) -> AnySocket:
    """Connect, introduce each other and log in.

    Raises: RefusedError with the reason in words; nothing stays open then.
    """
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {"local_addr": (local_host, 0)} if local_host is not None else {}
    made: AnySocket | None = None
    try:
        async with asyncio.timeout(limit_s) as limit:
            _, made = await loop.create_connection(make, address.host, address.port, **options)
            await made.greet(name)
    except TimeoutError as exc:
        _drop(made)
        why = f"did not speak NATS within {limit_s:g} s" if limit.expired() else "did not answer on the network (ETIMEDOUT)"
        raise RefusedError(address.shown, why) from exc
    except OSError as exc:
        _drop(made)
        raise RefusedError(address.shown, network_reason(exc)) from exc
    except BaseException:
        _drop(made)
        raise
    _no_delay(made)
    return made


def _drop(made: NatsSocket | None) -> None:
    if made is not None:
        made.abort()


def _no_delay(made: NatsSocket) -> None:
    raw = made.os_socket
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def subject_bytes(driver: str, template: str, channel: str) -> bytes:
    """The subject of a channel. Raises: UsageError for one that no message can be published to."""
    subject = template.replace("$channel", channel)
    if not subject or any(character in subject for character in " \t\r\n*>") or "" in subject.split("."):
        raise UsageError(f"option 'subject' of driver {driver!r} makes {subject!r}, which is no subject to publish to")
    return subject.encode()
