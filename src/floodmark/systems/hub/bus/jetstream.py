"""The NATS JetStream bus: every hub process sees every event, per channel in one and the same order.

Publishing is `outbox.py`: a publish is acknowledged when its message has come back and stands in this process's log. A full stream is no
failure: the publish waits, and so does the publisher.

Receiving: one push consumer per process. A message is acknowledged to JetStream when its events stand in this process's logs, and the
stream keeps it until every process has done so, and with history for longer (`past.py`); a process whose subscribers are slow holds back
the publishers of all. The offset of an event is the stream's sequence number times SLOTS plus its place in the message: rising, not dense.

A server that goes and comes back: stream and consumer are on its disk, so what was not acknowledged comes again, and what was in our log
already is known by its sequence number. If it has lost its disk too, both are made anew, with numbers that go on rising.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js import errors as js_errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from floodmark.core.nats_client import close_for_good, connect_for_good
from floodmark.systems.hub.bus.base import Retry, end, tell_failure
from floodmark.systems.hub.bus.outbox import EVENTS_PER_MESSAGE, Message, Outbox
from floodmark.systems.hub.bus.past import cut_past, read_past
from floodmark.systems.hub.dispatch import Dispatcher
from floodmark.systems.hub.errors import EventBusError
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.intake import Intake, PublishJob

STREAM = "floodmark_hub"
SUBJECT_PREFIX = "floodmark.hub.events."
SLOTS = 1 << 20  # offsets between two messages: for the events of one, and for those that go another way while the stream is not there
assert EVENTS_PER_MESSAGE < SLOTS
_STREAM_EVENTS_MAX = 100_000  # messages that JetStream holds for slow processes before it refuses more
_STREAM_BYTES_MAX = 256 * 1024 * 1024
_IN_FLIGHT_TO_US = 64  # messages that JetStream pushes ahead of our acknowledgement
_STREAM_FULL_PAUSE_S = 0.02
_ACK_LIMIT_S = 5.0
_CONNECT_LIMIT_S = 3.0
_RESTORE_PAUSE_S = 0.1
_STREAM_FULL_CODES = frozenset({10047, 10077, 10122, 10123, 10124})  # no room: the words of the server follow in the description
_MESSAGE_ID = "Nats-Msg-Id"


class WireEvent(msgspec.Struct, array_like=True):
    """An event between hub processes."""

    id: str
    event_type: str
    data: bytes
    timestamp_s: float
    correlation_id: str | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[WireEvent]).decode


def subject_of(channel: str) -> str:
    """Give the subject of a channel: any name becomes one safe token."""
    return SUBJECT_PREFIX + base64.urlsafe_b64encode(channel.encode()).decode().rstrip("=")


def channel_of(subject: str) -> str:
    """Give the channel of a subject."""
    token = subject.removeprefix(SUBJECT_PREFIX)
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()


class JetStreamBus:
    """A bus over one NATS server or cluster."""

    mode = "nats-jetstream"
    takes_mixed = False  # a message of JetStream belongs to one channel

    def __init__(self, url: str, dispatcher: Dispatcher, intake: Intake, *, retry: Retry | None = None, seed: int = 0) -> None:
        self._url = url
        self._retry = retry or Retry()
        self._rng = random.Random(seed)
        self._dispatcher = dispatcher
        self._intake = intake
        self._outbox = Outbox(self._transmit, retry=self._retry, rng=self._rng)
        self._history = dispatcher.settings.history_events > 0
        self._consumer = f"hub-{uuid.uuid4().hex}"
        self._nc: Client | None = None
        self._js: JetStreamContext
        self._listening: Subscription | None = None
        self._answers: dict[str, asyncio.Future[Any]] = {}  # per channel, what JetStream will say to the last message sent
        self._back = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._last_seq = 0
        self.on_up: Callable[[Client], Awaitable[None]] | None = None
        """Told of the connection once, when it has come up; others may speak over it too. Its failing is the bus's."""

    @property
    def client(self) -> Client:
        """The connection, for what else the hub's processes say to each other."""
        assert self._nc is not None
        return self._nc

    @property
    def full(self) -> bool:
        """True when enough of ours waits for JetStream."""
        return self._outbox.full

    @property
    def waiting_count(self) -> int:
        """Publishes that have not come back."""
        return self._outbox.waiting_count

    @property
    def retried_count(self) -> int:
        """Messages that were sent again."""
        return self._outbox.retried_count

    async def start(self) -> None:
        """Connect, make the stream if there is none, and begin to receive.

        Raises: EventBusError after every retry.
        """
        pauses = self._retry.pauses(self._rng)
        while True:
            try:
                async with asyncio.timeout(_CONNECT_LIMIT_S):  # the client itself would try for ever, and hide why
                    await self._connect()
                    if self.on_up is not None:
                        await self.on_up(self.client)
                break
            except (OSError, TimeoutError, nats.errors.Error) as exc:
                await self._disconnect()
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise EventBusError(f"NATS at {self._url} cannot be used as a bus: {exc or type(exc).__name__}") from None
                await asyncio.sleep(pause_s)
        jobs = [self._outbox.send_all(), self._restore_each_time()]
        if self._history:
            jobs.append(cut_past(self._js, STREAM))
        self._tasks = [asyncio.create_task(job) for job in jobs]  # parent: this bus; stop() cancels and awaits them
        for task in self._tasks:
            task.add_done_callback(tell_failure)

    async def _connect(self) -> None:
        address = urlsplit(self._url)
        _, writer = await asyncio.open_connection(address.hostname, address.port or 4222)
        writer.close()
        client = Client()
        await connect_for_good(
            client,
            self._url,
            limit_s=_CONNECT_LIMIT_S,
            reconnect_time_wait=0.1,
            error_cb=_quiet,
            disconnected_cb=self._lost_touch,
            reconnected_cb=self._came_back,
            pending_size=32 * 1024 * 1024,
        )
        self._nc = client
        self._js = client.jetstream(timeout=_ACK_LIMIT_S)
        await self._have_stream()
        if self._history:
            self._last_seq = await read_past(self._js, STREAM, SUBJECT_PREFIX + ">", self._remember)
        await self._listen()

    async def _have_stream(self) -> None:
        """Make the stream unless there is one; one of another configuration is used as its owner made it."""
        try:
            state = (await self._js.stream_info(STREAM)).state
        except js_errors.NotFoundError:
            wanted = StreamConfig(
                name=STREAM,
                subjects=[SUBJECT_PREFIX + ">"],
                retention=RetentionPolicy.LIMITS if self._history else RetentionPolicy.INTEREST,
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                max_msgs=_STREAM_EVENTS_MAX,
                max_bytes=_STREAM_BYTES_MAX,
                duplicate_window=60.0,
                first_seq=self._last_seq + 1,  # offsets must not fall
            )
            try:
                state = (await self._js.add_stream(wanted)).state
            except js_errors.BadRequestError:  # another process was faster
                state = (await self._js.stream_info(STREAM)).state
        self._last_seq = min(self._last_seq, state.last_seq)  # another's new stream: what it numbers again is not what we had

    async def _listen(self) -> None:
        """Make our consumer, which begins behind what we have, and subscribe to it."""
        known = self._last_seq
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if known else DeliverPolicy.NEW,
            opt_start_seq=known + 1 if known else None,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=3600.0,  # a message waits here as long as a subscriber is slow; it must not come twice for that
            max_ack_pending=_IN_FLIGHT_TO_US,
            inactive_threshold=30.0,  # the stream waits no longer for a process that has died
        )
        self._listening = await self._js.subscribe(
            SUBJECT_PREFIX + ">",
            cb=self._received,
            manual_ack=True,
            stream=STREAM,
            durable=self._consumer,
            pending_msgs_limit=_IN_FLIGHT_TO_US * 4,
            config=config,
        )

    async def _lost_touch(self) -> None:
        self._outbox.lost_touch(ConnectionError("the connection to NATS broke"))

    async def _came_back(self) -> None:
        self._back.set()

    async def _restore_each_time(self) -> None:
        """After each break: see that stream and consumer are there, then send again what has not come back."""
        while True:
            await self._back.wait()
            self._back.clear()
            try:
                await self._have_stream()
                try:
                    await self._js.consumer_info(STREAM, self._consumer)
                except js_errors.NotFoundError:
                    if self._listening is not None:
                        await self._listening.unsubscribe()
                    await self._listen()
                self._outbox.repeat_all()
            except (OSError, TimeoutError, nats.errors.Error):  # it is up, and not ready yet; or gone again
                await asyncio.sleep(_RESTORE_PAUSE_S)
                if self.client.is_connected:
                    self._back.set()

    async def _disconnect(self) -> None:
        nc, self._nc = self._nc, None
        if nc is not None and not nc.is_closed:
            with contextlib.suppress(OSError):  # it may have gone before us
                await close_for_good(nc)

    async def stop(self) -> None:
        """Fail what is still pending, say that nothing is kept for us, and disconnect."""
        await end(self._tasks)
        self.give_up(EventBusError("the bus was stopped"))
        if self._nc is not None and self._nc.is_connected:
            with contextlib.suppress(TimeoutError, OSError, nats.errors.Error):
                async with asyncio.timeout(1.0):
                    await self._js.delete_consumer(STREAM, self._consumer)
        await self._disconnect()

    def give_up(self, error: EventBusError) -> None:
        """Fail what is pending."""
        self._outbox.give_up_all(error)

    async def healthy(self) -> bool:
        """Tell if the stream answers."""
        try:
            return self._nc is not None and self._nc.is_connected and bool(await self._js.stream_info(STREAM))
        except (TimeoutError, nats.errors.Error):
            return False

    # publishing

    def publish(self, job: PublishJob) -> bool:
        """Queue the events of a job, which are all of one channel."""
        if not job.events:
            job.done(job, None)
            return True
        self._outbox.put(job)
        return False

    async def _transmit(self, message: Message) -> None:
        earlier = self._answers.pop(message.channel, None)
        if earlier is not None:
            earlier.cancel()  # the client counts what is not answered
        if not self.client.is_connected:  # the client would keep it for later and say nothing
            self._outbox.failed(message, ConnectionError("not connected"))
            return
        wire = [WireEvent(event.id, event.event_type, event.data, event.timestamp_s, event.correlation_id) for event in message.events]
        try:
            future = await self._js.publish_async(
                subject_of(message.channel), _encode(wire), wait_stall=_ACK_LIMIT_S, headers={_MESSAGE_ID: message.id}
            )
        except (nats.errors.Error, OSError) as exc:
            self._outbox.failed(message, exc)
            return
        self._answers[message.channel] = future
        future.add_done_callback(lambda done: self._answered(message, done))

    def _answered(self, message: Message, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        if self._answers.get(message.channel) is future:
            del self._answers[message.channel]
        error = future.exception()
        if error is None:
            self._outbox.answered(message)
        elif isinstance(error, js_errors.APIError) and _is_full(error):
            self._outbox.again_in(_STREAM_FULL_PAUSE_S, message)  # without end
        else:
            self._outbox.failed(message, error)

    # receiving

    async def _received(self, message: Msg) -> None:
        """Take a message into the logs, or let it wait for room; JetStream hears of it when it is in."""
        seq = int(message.metadata.sequence.stream)
        message_id = (message.headers or {}).get(_MESSAGE_ID, "")
        if seq <= self._last_seq or self._outbox.is_abandoned(message_id):  # had it, after a broken connection; or went another way
            await self._acknowledge(message)
            return
        self._last_seq = seq
        events = _events_of(message)
        ours = self._outbox.arrived(message_id, events)
        admitted = asyncio.get_running_loop().create_future()
        self._intake.submit(PublishJob(events, lambda _job, _error: admitted.set_result(None)), self._dispatcher.append)
        await admitted  # the next message waits behind this one: order, and back-pressure as far as JetStream
        self._outbox.landed(ours)
        await self._acknowledge(message)

    def _remember(self, message: Msg) -> None:
        """Put a message of the time before us into the logs; nobody is subscribed yet."""
        for event in _events_of(message):
            self._dispatcher.append(event)

    @staticmethod
    async def _acknowledge(message: Msg) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):  # it is told again when it comes again
            await message.ack()


def _events_of(message: Msg) -> list[Event]:
    seq, channel, received_ns = int(message.metadata.sequence.stream), channel_of(message.subject), time.monotonic_ns()
    return [
        Event(wire.id, wire.event_type, wire.data, channel, wire.timestamp_s, wire.correlation_id, received_ns, offset=seq * SLOTS + index)
        for index, wire in enumerate(_decode(message.data))
    ]


def _is_full(error: js_errors.APIError) -> bool:
    words = error.description or ""
    return error.err_code in _STREAM_FULL_CODES or "maximum" in words or "insufficient" in words


async def _quiet(_error: Exception) -> None:
    """Errors of the connection show as publishes that fail and as an unhealthy bus; the client's own log adds nothing."""
