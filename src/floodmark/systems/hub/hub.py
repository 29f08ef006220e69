"""The hub: one process, one loop, one port.

Owns the parts and their life: listens, admits connections, joins subscriptions to channel logs, runs the one sweep timer that looks after
every connection, answers `/metrics` and `/healthz`, drains. Use it as an async context manager, or `await start()` and `await stop()`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import msgspec
import picows
from graphql import ExecutionResult, execute

from floodmark.core.breaker import CircuitBreaker
from floodmark.core.errors import UsageError
from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.hub import endpoints, resolvers
from floodmark.systems.hub.bus.base import Bus
from floodmark.systems.hub.bus.guarded import GuardedBus
from floodmark.systems.hub.bus.memory import MemoryBus
from floodmark.systems.hub.conduct import Conduct
from floodmark.systems.hub.connection import Connection
from floodmark.systems.hub.credentials import Credentials
from floodmark.systems.hub.departures import Departures
from floodmark.systems.hub.dispatch import WILDCARD, Dispatcher
from floodmark.systems.hub.documents import Documents, EventsOperation, GeneralOperation, PublishEachOperation, PublishOperation, Variables
from floodmark.systems.hub.errors import InvalidMessage, RateLimitExceeded, SubscriptionRejected
from floodmark.systems.hub.event import Event, EventIds, encode_json
from floodmark.systems.hub.figures import snapshot_of
from floodmark.systems.hub.filters import Condition, compile_filter
from floodmark.systems.hub.intake import Intake, PublishJob
from floodmark.systems.hub.liar import Liar
from floodmark.systems.hub.limits import Limits, TokenBucket
from floodmark.systems.hub.metrics import Counters, Snapshot
from floodmark.systems.hub.misconduct import Misconduct
from floodmark.systems.hub.protocol import SubscriptionState
from floodmark.systems.hub.schema import SCHEMA
from floodmark.systems.hub.settings import OWN_NATS, HubSettings
from floodmark.systems.hub.streams import EventStream
from floodmark.systems.hub.subscription import Group, Subscription
from floodmark.systems.hub.sweep import Sweep
from floodmark.systems.hub.wire import CHANNEL_NAME_MAX, decode_inputs

if TYPE_CHECKING:  # the client of NATS takes a quarter of a second and 20 MB, which a hub on the memory bus does without
    from nats.aio.client import Client

    from floodmark.systems.hub.snapshots import Peers

_decode_conditions = msgspec.json.Decoder(list[Condition] | None).decode
_log = logging.LoggerAdapter(logging.getLogger("floodmark.hub"))  # an adapter: picows makes a Logger per connection out of a plain one

GENERAL_OPERATIONS_MAX = 1000  # at once: queries and mutations of several fields


class Hub:
    """A GraphQL subscription hub."""

    def __init__(self, settings: HubSettings | None = None) -> None:
        self.settings = settings or HubSettings()
        self.counters = Counters()
        self.limits = Limits(self.settings)
        self.credentials = Credentials(self.settings)
        self.documents = Documents(
            query_bytes_max=self.settings.query_bytes,
            selected_fields_max=self.settings.selected_fields_max,
            cached_max=self.settings.documents_cached,
        )
        self.connections: dict[Connection, None] = {}
        self.active_subscriptions = 0
        self.draining = False
        self.now_s = time.monotonic()  # the clock of everything slow; the sweep moves it
        self.port = 0
        self.conduct = Conduct()
        self.dispatcher: Dispatcher
        self.bus: Bus
        self.intake: Intake
        self._ids = EventIds()
        self._loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server | None = None
        self._peers: Peers | None = None
        self._nats: EmbeddedNats | None = None
        self.departures = Departures()
        self._sweep = Sweep(self)
        self._tasks: set[asyncio.Task[None]] = set()  # general operations under way; stop() cancels them
        self._streams: dict[EventStream, None] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect the bus and listen.

        Raises: UsageError when the port is taken or the host is not ours; EventBusError when there is no bus.
        """
        self._loop = asyncio.get_running_loop()
        if self.settings.lies:
            liar = self.dispatcher = Liar(self.settings, self.counters, self._loop)
            self.conduct = Misconduct(self.settings, liar, self.connections)
        else:
            self.dispatcher = Dispatcher(self.settings, self.counters, self._loop)
        try:
            self.bus = await self._make_bus(self.settings.bus)
            await self.bus.start()
            await self._listen()
        except BaseException:
            await self._stop_bus()
            raise
        self.departures.start(self._loop)
        self._sweep.start(self._loop)

    async def _make_bus(self, name: str) -> Bus:
        """Make the bus of that name: memory as it is, a stream behind a breaker and with the fallback that was asked for."""
        settings = self.settings
        if settings.bus_fallback not in ("", "memory"):
            raise UsageError(f"there is no fallback {settings.bus_fallback!r}; use memory")
        intake = self.intake = Intake(self.dispatcher)
        if name == "memory":
            return MemoryBus(self.dispatcher, intake)
        if name == OWN_NATS:
            self._nats = EmbeddedNats(keep=True, store=settings.bus_store)
            name = (await self._nats.__aenter__()).url
        if not name.startswith("nats://"):
            raise UsageError(f"there is no bus {name!r}; use memory, nats or nats://host:port")
        from floodmark.systems.hub.bus.jetstream import SLOTS, JetStreamBus

        stream_bus = JetStreamBus(name, self.dispatcher, intake, seed=settings.seed)
        stream_bus.on_up = self._meet_peers
        breaker = CircuitBreaker(
            failure_limit=settings.breaker_failures, success_limit=settings.breaker_successes, open_s=settings.breaker_open_s
        )
        fallback = MemoryBus(self.dispatcher, intake, offsets_apart=SLOTS) if settings.bus_fallback else None
        return GuardedBus(stream_bus, fallback, breaker)

    async def _meet_peers(self, client: Client) -> None:
        """The stream is there for the first time: sum up figures with the other processes on it from now on."""
        from floodmark.systems.hub.snapshots import Peers

        peers = Peers(client, self._own_snapshot)
        await peers.start()
        self._peers = peers
        if self.draining:  # we are leaving already
            await peers.stop()

    async def _stop_bus(self) -> None:
        if self._peers is not None:
            await self._peers.stop()
        if hasattr(self, "bus"):
            await self.bus.stop()
        if self._nats is not None:
            await self._nats.__aexit__()
            self._nats = None

    async def _listen(self) -> None:
        try:
            self._server = await picows.ws_create_server(
                lambda request: endpoints.route(self, request),
                self.settings.host,
                self.settings.port,
                max_frame_size=self.settings.message_bytes,
                read_buffer_init_size=2048,
                logger_name=_log,
                backlog=4096,
                reuse_port=self.settings.reuse_port,
            )
        except OSError as exc:
            where = f"{self.settings.host}:{self.settings.port}"
            raise UsageError(f"the hub cannot listen on {where} ({exc.strerror or exc}); choose another --port or --host") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drain: deliver what is queued, complete every operation, close every connection with 1001; cut what is left after the grace."""
        if self._server is None:
            return
        self.draining = True
        self._server.close()
        deadline_s = self._loop.time() + self.settings.shutdown_grace_s
        self.dispatcher.flush()
        await self._until(lambda: not self.dispatcher.has_unserved(), deadline_s - self.settings.shutdown_grace_s / 2)
        for stream in list(self._streams):
            stream.close()
        for connection in list(self.connections):
            connection.drain()
        await self._until(lambda: not self.connections, deadline_s)
        for connection in list(self.connections):
            connection.abort()
        await self._until(lambda: not self.connections, deadline_s + 1.0)
        for task in list(self._tasks):
            task.cancel()
        self._sweep.stop()
        self.departures.stop()
        await self._stop_bus()
        self._server = None

    async def _until(self, condition: Callable[[], bool], deadline_s: float) -> None:
        """Wait for something that many small events bring about, so it is looked at rather than signalled."""
        while not condition() and self._loop.time() < deadline_s:  # noqa: ASYNC110  no event marks the end of a drain
            await asyncio.sleep(0.01)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"ws://{self.settings.host}:{self.port}/graphql"

    # connections

    def opened(self, connection: Connection) -> None:
        """A handshake is done."""
        self.connections[connection] = None
        self.counters.accepted_connections += 1

    def closed(self, connection: Connection) -> None:
        """A socket is gone."""
        self.connections.pop(connection, None)
        if connection.user is not None:
            self.limits.leave(connection.user_name)
            connection.user = None
        self.counters.connection_uptime.observe(time.monotonic() - connection.opened_s)

    def admit(self, connection: Connection, payload: dict[str, Any]) -> None:
        """Check a connection_init.

        Raises: HubError; which one decides the close code.
        """
        connection.user_name, connection.credential = self.credentials.check(payload, str(id(connection)))
        connection.user = self.limits.join(connection.user_name, self.now_s)

    def flush_now(self, connection: Connection) -> None:
        """Write what is queued for a connection before its close frame."""
        if connection.out:
            connection.write_out()

    def later(self, call: Callable[[], None]) -> None:
        """Run something small after what runs now."""
        self._loop.call_soon(call)

    def count_close(self, code: int) -> None:
        """A connection is closed by us."""
        self.counters.closes[code] = self.counters.closes.get(code, 0) + 1

    def count_error(self, code: str) -> None:
        """An operation ends with an error."""
        self.counters.errors[code] = self.counters.errors.get(code, 0) + 1

    # subscriptions

    def subscribe(self, connection: Connection, operation_id: str, operation: EventsOperation, variables: Variables | None) -> None:
        """Join a subscription to its channel's log.

        Raises: HubError when it is refused; nothing is left behind then.
        """
        channel = operation.channel.scalar(str, variables)
        if not channel or len(channel) > CHANNEL_NAME_MAX:
            raise SubscriptionRejected(f"a channel has 1 to {CHANNEL_NAME_MAX} characters")
        after = operation.after.scalar(int, variables)
        filter_json = operation.filter.json(variables)
        user = connection.user
        assert user is not None
        self.limits.subscribe(user, connection.subscription_count, self.now_s)
        group = self._group(channel, connection, operation_id, operation, filter_json, after)
        log = group.log
        subscription = Subscription(operation_id, connection, group)
        if self.settings.subscription_lifetime_s:
            subscription.expires_s = time.monotonic() + self.settings.subscription_lifetime_s
        if self.settings.rate_limits and self.settings.events_per_subscription_hz:
            rate_hz = self.settings.events_per_subscription_hz
            subscription.bucket = TokenBucket(capacity=max(rate_hz, 1.0), refill_hz=rate_hz, now_s=self._loop.time())
        newest_offset = self.dispatcher.newest_offsets.get(channel, 0)
        cursor = log.head + 1 if after is None else self.conduct.resume_at(group, log.cursor_after(after, newest_offset))
        subscription.boundary = log.head
        subscription.boundary_bytes = log.end_bytes
        log.groups[group.key] = group
        group.member_count += 1
        connection.operations[operation_id] = subscription
        connection.subscription_count += 1
        user.subscription_count += 1
        self.active_subscriptions += 1
        self.counters.subscriptions += 1
        subscription.move(SubscriptionState.ACTIVE)
        if connection.paused or cursor <= log.flushed or log.head > log.flushed:
            self.dispatcher.fall_behind(subscription, cursor)
            self.dispatcher.can_take_more(connection)
        else:
            group.live[subscription] = connection

    def _group(
        self, channel: str, connection: Connection, operation_id: str, operation: EventsOperation, filter_json: bytes, after: int | None
    ) -> Group:
        """Find or make the group; a new one is not yet in its log."""
        if channel == WILDCARD and after is not None:
            raise SubscriptionRejected("after is an offset of one channel and cannot be used with the channel *")
        key = (operation_id, connection.dialect.name, operation.selection.key, filter_json)
        log = self.dispatcher.logs.get(channel)
        known = log.groups.get(key) if log is not None else None
        if known is not None:
            return known
        try:
            conditions = _decode_conditions(filter_json if filter_json[:1] != b"{" else b"[" + filter_json + b"]") or []
        except msgspec.DecodeError as exc:
            raise InvalidMessage(f"filter: {exc}") from None
        predicate = compile_filter(conditions, complexity_max=self.settings.filter_complexity_max)
        return Group(key, self.dispatcher.open_log(channel), connection.dialect, operation.selection, predicate)

    def unsubscribed(self, connection: Connection, subscription: Subscription) -> None:
        """A subscription ended, however it ended."""
        connection.subscription_count -= 1
        if connection.user is not None:
            connection.user.subscription_count -= 1
        self.active_subscriptions -= 1
        self.dispatcher.remove(subscription)

    # publishes

    def events_of(self, operation: PublishOperation | PublishEachOperation, variables: Variables | None) -> list[Event]:
        """Make the events of a publish.

        Raises: HubError for a missing channel or a payload beyond the limit.
        """
        if isinstance(operation, PublishEachOperation):
            return self._each(operation.events.json(variables))
        channel = operation.channel.scalar(str, variables)
        if not channel or channel == WILDCARD or len(channel) > CHANNEL_NAME_MAX:
            raise InvalidMessage(f"cannot publish to the channel {str(channel)[:40]!r}; name one channel")
        data = operation.data.json(variables)
        event_type = operation.event_type.scalar(str, variables) or "event"
        correlation_id = operation.correlation_id.scalar(str, variables)
        items = [bytes(raw) for raw in _decode_items(data)] if operation.many else [data]
        self._check_sizes(max(map(len, items), default=0))
        return [self._event(channel, item, event_type, correlation_id) for item in items]

    def _each(self, data: bytes) -> list[Event]:
        """HOT: make the events of a `publishEach`; one that cannot be used refuses them all."""
        try:
            inputs = decode_inputs(data)
        except msgspec.DecodeError as exc:
            raise InvalidMessage(f"events of publishEach: {exc}") from None
        next_id, timestamp_s, received_ns = self._ids.next, time.time(), time.monotonic_ns()
        events = [
            Event(next_id(), each.eventType or "event", bytes(each.data), each.channel, timestamp_s, each.correlationId, received_ns)
            for each in inputs
        ]
        self._check_sizes(max([len(event.data) for event in events], default=0))
        if any([event.channel == WILDCARD for event in events]):  # noqa: C419  a list is faster here
            raise InvalidMessage(f"cannot publish to the channel {WILDCARD!r}; name one channel")
        return events

    def _check_sizes(self, largest_bytes: int) -> None:
        limit = self.settings.event_payload_bytes
        if largest_bytes > limit:
            self.limits.violated("event_payload_bytes")
            raise InvalidMessage(f"an event's data may have {limit} bytes, this one has {largest_bytes}", {"limit": limit})

    def _event(self, channel: str, data: bytes, event_type: str, correlation_id: str | None) -> Event:
        return Event(self._ids.next(), event_type, data, channel, time.time(), correlation_id, time.monotonic_ns())

    def submit(self, job: PublishJob) -> bool:
        """Take a publish; True if it was acknowledged already."""
        if self.bus.takes_mixed or len({event.channel for event in job.events}) < 2:
            return self.bus.publish(job)
        return all([self.bus.publish(part) for part in job.split()])  # noqa: C419  every part must be published

    def count_published(self, job: PublishJob) -> None:
        """The events of a publish stand in the log."""
        counters = self.counters
        counters.published += len(job.events)
        if job.events:
            counters.acknowledge_latency.observe_since(job.events[0].received_ns, time.monotonic_ns())
            for event_type, times in Counter([event.event_type for event in job.events]).items():
                counters.count_type(event_type, times)
            for size_bytes, times in Counter([len(event.data) for event in job.events]).items():
                counters.event_bytes.observe(size_bytes, times)

    async def publish(self, channel: str, value: Any, *, event_type: str = "event", correlation_id: str | None = None) -> Event:
        """Publish from inside the process; returns when the event stands in the log.

        Args:
            value: anything msgspec can make JSON of; a `msgspec.Raw` passes through untouched.
        Raises: HubError when the bus refuses it. Cancelling leaves open whether it was published.
        """
        if not channel or channel == WILDCARD:
            raise InvalidMessage(f"cannot publish to the channel {channel!r}; name one channel")
        published: asyncio.Future[None] = self._loop.create_future()

        def done(job: PublishJob, error: Exception | None) -> None:
            if error is None:
                self.count_published(job)
            if not published.done():
                published.set_result(None) if error is None else published.set_exception(error)

        event = self._event(channel, encode_json(value), event_type, correlation_id)
        self.submit(PublishJob([event], done))
        await published
        return event

    def stream(self, *channels: str) -> EventStream:
        """Receive inside the process; every channel named, or `*` for all."""
        stream = EventStream(self.dispatcher, channels)
        self._streams = {known: None for known in self._streams if not known.closed}
        self._streams[stream] = None
        return stream

    # everything else

    def execute(self, connection: Connection, operation_id: str, operation: GeneralOperation, variables: Variables | None) -> None:
        """Run a query, or a mutation of several fields, through graphql-core, off the fast path."""
        if len(self._tasks) >= GENERAL_OPERATIONS_MAX:
            self.limits.violated("general_operations")
            raise RateLimitExceeded(f"{GENERAL_OPERATIONS_MAX} queries are under way, the limit")
        task = asyncio.create_task(self._execute(connection, operation_id, operation, variables))  # parent: the hub; see stop()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection.operations[operation_id] = task

    async def _execute(self, connection: Connection, operation_id: str, operation: GeneralOperation, variables: Variables | None) -> None:
        values = {name: msgspec.json.decode(raw) for name, raw in (variables or {}).items()}
        result = execute(SCHEMA, operation.document, resolvers.Root(self), variable_values=values, operation_name=operation.operation_name)
        answer = await result if inspect.isawaitable(result) else result
        assert isinstance(answer, ExecutionResult)
        connection.answered(operation_id, encode_json(answer.formatted))

    def expiring(self, within_s: float) -> list[Subscription]:
        """List the subscriptions whose life time ends within some seconds."""
        limit_s = self.now_s + within_s
        return [
            operation
            for connection in self.connections
            for operation in connection.operations.values()
            if isinstance(operation, Subscription) and 0 < operation.expires_s <= limit_s
        ]

    # figures

    def _own_snapshot(self) -> Snapshot:
        return snapshot_of(self)

    def snapshot(self) -> Snapshot:
        """The figures of all processes of this hub, as far as they are known at once."""
        return self._peers.total() if self._peers is not None else self._own_snapshot()

    def stats_now(self) -> dict[str, int | str]:
        """The figures of this process, at once."""
        return self._own_snapshot().stats()

    async def stats(self) -> dict[str, int | str]:
        """The figures of all processes of this hub, each asked for them."""
        return (await self._peers.ask() if self._peers is not None else self._own_snapshot()).stats()

    def planted(self) -> dict[str, dict[str, float]]:
        """What a lying hub has really done; empty for an honest one."""
        return self.conduct.planted()


_raw_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _decode_items(data: bytes) -> list[msgspec.Raw]:
    try:
        return _raw_items(data)
    except msgspec.DecodeError:
        raise InvalidMessage("data of publishMany must be a list") from None
