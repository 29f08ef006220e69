"""The hub: one process, one loop, one port.

Owns the parts and their life: listens, admits connections, joins subscriptions to channel logs, runs the one sweep timer that looks after
every connection, answers `/metrics` and `/healthz`, drains. Use it as an async context manager, or `await start()` and `await stop()`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Self

import msgspec
import picows
from graphql import execute

from floodmark.core.errors import UsageError
from floodmark.systems.hub import endpoints
from floodmark.systems.hub.bus.memory import MemoryBus
from floodmark.systems.hub.connection import Connection
from floodmark.systems.hub.credentials import Credentials
from floodmark.systems.hub.dispatch import WILDCARD, Dispatcher
from floodmark.systems.hub.documents import Documents, EventsOperation, GeneralOperation, PublishOperation, Variables
from floodmark.systems.hub.errors import HubError, InternalError, InvalidMessage, SubscriptionRejected
from floodmark.systems.hub.event import Event, EventIds, encode_json
from floodmark.systems.hub.filters import Condition, compile_filter
from floodmark.systems.hub.intake import Intake, PublishJob
from floodmark.systems.hub.limits import Limits
from floodmark.systems.hub.metrics import Counters
from floodmark.systems.hub.protocol import Close, ConnectionState, SubscriptionState
from floodmark.systems.hub.schema import SCHEMA
from floodmark.systems.hub.settings import HubSettings
from floodmark.systems.hub.subscription import Group, Subscription
from floodmark.systems.hub.sweep import Sweep

_decode_conditions = msgspec.json.Decoder(list[Condition] | None).decode
_log = logging.LoggerAdapter(logging.getLogger("floodmark.hub"))  # an adapter: picows makes a Logger per connection out of a plain one


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
        self.parks_connections = True
        self.now_s = time.monotonic()  # the clock of everything slow; the sweep moves it
        self.port = 0
        self.dispatcher: Dispatcher
        self._intake: Intake
        self._ids = EventIds()
        self._loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server | None = None
        self._empty: asyncio.Event | None = None
        self._sweep: Sweep

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen.

        Raises: UsageError when the port is taken or the host is not ours.
        """
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self.dispatcher = Dispatcher(self.settings, self.counters, self._loop)
        self.bus = MemoryBus(self.dispatcher)
        self._intake = Intake(self.dispatcher, self.bus.append)
        self._sweep = Sweep(self)
        try:
            self._server = await picows.ws_create_server(
                lambda request: endpoints.route(self, request),
                self.settings.host,
                self.settings.port,
                max_frame_size=self.settings.message_bytes,
                read_buffer_init_size=2048,
                logger_name=_log,
                backlog=4096,
            )
        except OSError as exc:
            where = f"{self.settings.host}:{self.settings.port}"
            raise UsageError(f"the hub cannot listen on {where} ({exc.strerror or exc}); choose another --port or --host") from None
        self.port = self._server.sockets[0].getsockname()[1]
        self._sweep.start(self._loop)

    async def stop(self) -> None:
        """Drain: complete every operation, close every connection with 1001, and cut after the grace what has not gone by then."""
        if self._server is None:
            return
        self.draining = True
        self._server.close()
        self.dispatcher.flush()
        for connection in list(self.connections):
            connection.drain()
        assert self._empty is not None
        if self.connections:
            self._empty.clear()
            try:
                async with asyncio.timeout(self.settings.shutdown_grace_s):
                    await self._empty.wait()
            except TimeoutError:
                for connection in list(self.connections):
                    connection.abort()
                await self._empty.wait()
        self._sweep.stop()
        self._server = None

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
        if not self.connections and self._empty is not None:
            self._empty.set()

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
        if not channel:
            raise SubscriptionRejected("channel must not be empty")
        after = operation.after.scalar(int, variables)
        filter_json = operation.filter.json(variables)
        user = connection.user
        assert user is not None
        self.limits.subscribe(user, connection.subscription_count, self.now_s)
        group = self._group(channel, connection, operation_id, operation, filter_json, after)
        log = group.log
        subscription = Subscription(operation_id, connection, group)
        if self.settings.subscription_lifetime_s:
            subscription.expires_s = self.now_s + self.settings.subscription_lifetime_s
        if after is None:
            cursor = log.head + 1
        else:
            cursor = log.cursor_after(after, self.dispatcher.newest_offsets.get(channel, 0))
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

    def events_of(self, operation: PublishOperation, variables: Variables | None) -> list[Event]:
        """Make the events of a publish.

        Raises: HubError for a missing channel or a payload beyond the limit.
        """
        channel = operation.channel.scalar(str, variables)
        if not channel or channel == WILDCARD:
            raise InvalidMessage(f"cannot publish to the channel {channel!r}; name one channel")
        data = operation.data.json(variables)
        event_type = operation.event_type.scalar(str, variables) or "event"
        correlation_id = operation.correlation_id.scalar(str, variables)
        if operation.many:
            items = [bytes(raw) for raw in _decode_items(data)]
        else:
            items = [data]
        limit = self.settings.event_payload_bytes
        if max(map(len, items), default=0) > limit:
            self.limits.violated("event_payload_bytes")
            raise InvalidMessage(f"an event's data may have {limit} bytes, this one has {max(map(len, items))}", {"limit": limit})
        now_s, now_ns = time.time(), time.monotonic_ns()
        return [
            Event(
                id=self._ids.next(),
                event_type=event_type,
                data=item,
                channel=channel,
                timestamp_s=now_s,
                correlation_id=correlation_id,
                received_ns=now_ns,
            )
            for item in items
        ]

    def publish(self, job: PublishJob) -> bool:
        """Take a publish; True if it is in the log already."""
        self.counters.published += len(job.events)
        return self._intake.submit(job)

    # everything else

    def execute(self, connection: Connection, operation_id: str, operation: GeneralOperation, variables: Variables | None) -> None:
        """Run a query through graphql-core, off the fast path."""
        values = {name: msgspec.json.decode(raw) for name, raw in (variables or {}).items()}
        root = {"stats": lambda _info: self.stats()}
        result = execute(SCHEMA, operation.document, root, variable_values=values, operation_name=operation.operation_name)
        if not hasattr(result, "formatted"):
            raise InternalError("this operation cannot be run here")
        payload = encode_json(result.formatted)
        connection.remember(operation_id)
        connection.send(connection.dialect.next_frame(operation_id, payload) + connection.dialect.complete_frame(operation_id))

    def stats(self) -> dict[str, Any]:
        """The bus's live counters."""
        return {
            "totalEvents": self.counters.published,
            "totalDelivered": self.counters.delivered,
            "totalSubscriptions": self.counters.subscriptions,
            "activeSubscribers": self.active_subscriptions,
            "activeConnections": sum(1 for each in self.connections if each.state <= ConnectionState.CONNECTED),
            "mode": self.bus.mode,
        }

    def metrics_text(self) -> str:
        """The counters as Prometheus text."""
        stats = self.stats()
        return "".join(f"floodmark_hub_{name} {value}\n" for name, value in stats.items() if isinstance(value, int))


_raw_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _decode_items(data: bytes) -> list[msgspec.Raw]:
    try:
        return _raw_items(data)
    except msgspec.DecodeError:
        raise InvalidMessage("data of publishMany must be a list") from None


__all__ = ["Close", "Hub", "HubError"]
