"""The NATS JetStream bus: every hub process sees every event, per channel in one and the same order.

Publishing: the events of one channel that come up together travel as one message, of which one per channel is in flight; so order is
kept, and the acknowledgement of JetStream answers many publishes at once. A message is repeated under the same `Nats-Msg-Id`, which
JetStream drops if it had it already. A full stream is no failure: the publish waits, and so does the publisher.

Receiving: one push consumer per process. A message is acknowledged to JetStream when its events stand in this process's logs, and the
stream keeps it until every process has done so (interest retention); a process whose subscribers are slow holds back the publishers of
all. The offset of an event is the stream's sequence number times 4096 plus its place in the message: rising, not dense.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import random
import time
import uuid
from collections import deque
from typing import Any
from urllib.parse import urlsplit

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js import errors as js_errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from floodmark.systems.hub.bus.base import Retry
from floodmark.systems.hub.dispatch import Dispatcher
from floodmark.systems.hub.errors import EventBusError
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.intake import Intake, PublishJob

STREAM = "floodmark_hub"
SUBJECT_PREFIX = "floodmark.hub.events."
EVENTS_PER_MESSAGE = 4096  # INVARIANT: fits the offset's lower bits
_MESSAGE_BYTES = 512 * 1024  # a message is closed when it has this many bytes of data
_STREAM_EVENTS_MAX = 100_000  # messages that JetStream holds for slow processes before it refuses more
_STREAM_BYTES_MAX = 256 * 1024 * 1024
_BACKLOG_BYTES = 4 * 1024 * 1024  # of ours, not yet acknowledged, before publishers have to wait
_IN_FLIGHT_TO_US = 64  # messages that JetStream pushes ahead of our acknowledgement
_STREAM_FULL_PAUSE_S = 0.02
_ACK_LIMIT_S = 5.0
_CONNECT_LIMIT_S = 3.0
_STREAM_FULL_CODES = frozenset({10047, 10077, 10122, 10123, 10124})  # no room: the words of the server follow in the description


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


class _Batch:
    """One message on its way, and the jobs whose last event it carries."""

    __slots__ = ("body", "channel", "events", "finished", "message_id", "pauses", "sent_s", "size_bytes")

    def __init__(self, channel: str, events: list[Event], finished: list[PublishJob], message_id: str, pauses: Any) -> None:
        wire = [WireEvent(event.id, event.event_type, event.data, event.timestamp_s, event.correlation_id) for event in events]
        self.channel = channel
        self.events = events
        self.body = _encode(wire)
        self.finished = finished
        self.message_id = message_id
        self.pauses = pauses
        self.size_bytes = sum(len(event.data) for event in events)
        self.sent_s = 0.0


class JetStreamBus:
    """A bus over one NATS server or cluster."""

    def __init__(self, url: str, dispatcher: Dispatcher, *, retry: Retry | None = None, seed: int = 0) -> None:
        self._url = url
        self._retry = retry or Retry()
        self._rng = random.Random(seed)
        self._dispatcher = dispatcher
        self._intake = Intake(dispatcher, dispatcher.append)
        self._nc: Client | None = None
        self._js: JetStreamContext
        self._waiting: dict[str, deque[PublishJob]] = {}  # per channel, oldest first
        self._batches: dict[str, _Batch] = {}  # per channel, the one in flight or to be repeated
        self._ready: dict[str, None] = {}  # channels with something to send now
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._backlog_bytes = 0
        self._last_seq = 0
        self._ids = map("{}-{}".format, itertools.repeat(uuid.uuid4().hex), itertools.count())
        self.retried_count = 0

    mode = "nats-jetstream"
    takes_mixed = False  # a message of JetStream belongs to one channel

    @property
    def client(self) -> Client:
        """The connection, for what else the hub's processes say to each other."""
        assert self._nc is not None
        return self._nc

    @property
    def full(self) -> bool:
        """True when enough of ours waits for JetStream."""
        return self._backlog_bytes >= _BACKLOG_BYTES

    @property
    def waiting_count(self) -> int:
        """Publishes that JetStream has not answered."""
        return sum(map(len, self._waiting.values())) + sum(len(batch.finished) for batch in self._batches.values())

    async def start(self) -> None:
        """Connect, make the stream if there is none, and begin to receive.

        Raises: EventBusError after every retry.
        """
        pauses = self._retry.pauses(self._rng)
        while True:
            try:
                await self._connect()
                break
            except (OSError, TimeoutError, nats.errors.Error) as exc:
                await self._disconnect()
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise EventBusError(f"NATS at {self._url} cannot be used as a bus: {exc or type(exc).__name__}") from None
                await asyncio.sleep(pause_s)
        self._tasks = [asyncio.create_task(self._publish_all())]  # parent: this bus; stop() cancels and awaits it

    async def _connect(self) -> None:
        async with asyncio.timeout(_CONNECT_LIMIT_S):  # the client itself would try for ever, and hide why
            address = urlsplit(self._url)
            _, writer = await asyncio.open_connection(address.hostname, address.port or 4222)
            writer.close()
            self._nc = await nats.connect(
                self._url,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,
                error_cb=_quiet,
                pending_size=32 * 1024 * 1024,
            )
        self._js = self._nc.jetstream(timeout=_ACK_LIMIT_S)
        wanted = StreamConfig(
            name=STREAM,
            subjects=[SUBJECT_PREFIX + ">"],
            retention=RetentionPolicy.INTEREST,
            storage=StorageType.MEMORY,
            discard=DiscardPolicy.NEW,
            max_msgs=_STREAM_EVENTS_MAX,
            max_bytes=_STREAM_BYTES_MAX,
            duplicate_window=60.0,
        )
        try:
            await self._js.add_stream(wanted)
        except js_errors.BadRequestError:  # there is one with another configuration: use it as its owner made it
            await self._js.stream_info(STREAM)
        await self._js.subscribe(
            SUBJECT_PREFIX + ">",
            cb=self._received,
            manual_ack=True,
            stream=STREAM,
            pending_msgs_limit=_IN_FLIGHT_TO_US * 4,
            config=ConsumerConfig(
                deliver_policy=DeliverPolicy.NEW,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=3600.0,  # a message waits here as long as a subscriber is slow; it must not come twice for that
                max_ack_pending=_IN_FLIGHT_TO_US,
                inactive_threshold=30.0,  # the stream waits no longer for a process that has died
                mem_storage=True,
            ),
        )

    async def _disconnect(self) -> None:
        nc, self._nc = self._nc, None
        if nc is not None and not nc.is_closed:
            with contextlib.suppress(OSError):  # it may have gone before us
                await nc.close()

    async def stop(self) -> None:
        """Fail what is still pending and disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # gather: the cancellation is ours and is not news
        error = EventBusError("the bus was stopped")
        for batch in list(self._batches.values()):
            self._fail(batch.finished, error)
        for jobs in self._waiting.values():
            self._fail(list(jobs), error)
        self._batches.clear()
        self._waiting.clear()
        await self._disconnect()

    @staticmethod
    def _fail(jobs: list[PublishJob], error: EventBusError) -> None:
        for job in jobs:
            if not job.cancelled:
                job.done(job, error)

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
        channel = job.events[0].channel
        self._waiting.setdefault(channel, deque()).append(job)
        self._backlog_bytes += sum(len(event.data) for event in job.events)
        if channel not in self._batches:
            self._ready[channel] = None
            self._wake.set()
        return False

    async def _publish_all(self) -> None:
        """Send one message per ready channel, round after round; and repeat what was not answered in time."""
        while True:
            try:
                async with asyncio.timeout(1.0):
                    await self._wake.wait()
            except TimeoutError:
                self._repeat_unanswered()
            self._wake.clear()
            ready, self._ready = self._ready, {}
            for channel in ready:
                batch = self._batches.get(channel) or self._next_batch(channel)
                if batch is not None:
                    await self._send(batch)

    def _next_batch(self, channel: str) -> _Batch | None:
        """Take as many events of a channel as fit into one message."""
        jobs = self._waiting.get(channel)
        events: list[Event] = []
        finished: list[PublishJob] = []
        size_bytes = 0
        while jobs and len(events) < EVENTS_PER_MESSAGE and size_bytes < _MESSAGE_BYTES:
            job = jobs[0]
            while job.admitted_count < len(job.events) and len(events) < EVENTS_PER_MESSAGE and size_bytes < _MESSAGE_BYTES:
                event = job.events[job.admitted_count]
                if events and size_bytes + len(event.data) > _MESSAGE_BYTES:
                    size_bytes = _MESSAGE_BYTES
                    break
                events.append(event)
                size_bytes += len(event.data)
                job.admitted_count += 1
            if job.admitted_count == len(job.events):
                finished.append(jobs.popleft())
        if not jobs:
            self._waiting.pop(channel, None)
        if not events:
            return None
        batch = self._batches[channel] = _Batch(channel, events, finished, next(self._ids), self._retry.pauses(self._rng))
        return batch

    async def _send(self, batch: _Batch) -> None:
        batch.sent_s = time.monotonic()
        if not self.client.is_connected:  # the client would keep it for later and say nothing
            self._failed(batch, ConnectionError("not connected"))
            return
        try:
            future = await self._js.publish_async(
                subject_of(batch.channel), batch.body, wait_stall=_ACK_LIMIT_S, headers={"Nats-Msg-Id": batch.message_id}
            )
        except (nats.errors.Error, OSError) as exc:
            self._failed(batch, exc)
            return
        future.add_done_callback(lambda done: self._answered(batch, done))

    def _answered(self, batch: _Batch, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if self._batches.get(batch.channel) is not batch:
            return  # answered twice: the first answer counted
        if error is not None:
            self._failed(batch, error)
            return
        seq = future.result().seq
        for index, event in enumerate(batch.events):
            event.offset = seq * EVENTS_PER_MESSAGE + index
        self._finish(batch, None)

    def _finish(self, batch: _Batch, error: EventBusError | None) -> None:
        """Answer the jobs of a message and go on with the channel."""
        del self._batches[batch.channel]
        self._backlog_bytes -= batch.size_bytes
        if batch.channel in self._waiting:
            self._ready[batch.channel] = None
            self._wake.set()
        for job in batch.finished:
            if not job.cancelled:
                job.done(job, error)

    def _failed(self, batch: _Batch, error: BaseException) -> None:
        """Repeat a message after a pause: without end while the stream is full, a few times for anything else."""
        if isinstance(error, js_errors.APIError) and (
            error.err_code in _STREAM_FULL_CODES or "maximum" in (error.description or "") or "insufficient" in (error.description or "")
        ):
            self._again_in(_STREAM_FULL_PAUSE_S, batch)
            return
        pause_s = next(batch.pauses, None)
        if pause_s is None:
            self._finish(batch, EventBusError(f"the bus did not take the event: {error}"))
            return
        self.retried_count += 1
        self._again_in(pause_s, batch)

    def _again_in(self, pause_s: float, batch: _Batch) -> None:
        batch.sent_s = float("inf")

        def again() -> None:
            if self._batches.get(batch.channel) is batch:
                self._ready[batch.channel] = None
                self._wake.set()

        asyncio.get_running_loop().call_later(pause_s, again)

    def _repeat_unanswered(self) -> None:
        now_s = time.monotonic()
        for batch in list(self._batches.values()):
            if now_s - batch.sent_s > _ACK_LIMIT_S:
                self._failed(batch, TimeoutError(f"no answer within {_ACK_LIMIT_S:g} s"))

    # receiving

    async def _received(self, message: Msg) -> None:
        """Take a message into the logs, or let it wait for room; JetStream hears of it when it is in."""
        seq = int(message.metadata.sequence.stream)
        if seq <= self._last_seq:  # redelivered after a broken connection
            await message.ack()
            return
        self._last_seq = seq
        channel = channel_of(message.subject)
        now_ns = time.monotonic_ns()
        events = []
        for index, wire in enumerate(_decode(message.data)):
            event = Event(
                id=wire.id,
                event_type=wire.event_type,
                data=wire.data,
                channel=channel,
                timestamp_s=wire.timestamp_s,
                correlation_id=wire.correlation_id,
                received_ns=now_ns,
            )
            event.offset = seq * EVENTS_PER_MESSAGE + index
            events.append(event)
        admitted = asyncio.get_running_loop().create_future()
        self._intake.submit(PublishJob(events, lambda _job, _error: admitted.set_result(None)))
        await admitted  # the next message waits behind this one: order, and back-pressure as far as JetStream
        await message.ack()


async def _quiet(_error: Exception) -> None:
    """Errors of the connection show as publishes that fail and as an unhealthy bus; the client's own log adds nothing."""
