"""One client: the protocol's state machine over one WebSocket.

Frames in, decoded and acted on at once; bytes out, collected in `out` by the dispatcher and written once per turn. No task and no timer
belongs to a connection: the hub's sweep looks at `opened_s`, `ping_sent_s` and `last_sign_s`. While a publish of this connection is
parked, nothing more is read from it and frames that were already read wait in `_held`.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from floodmark.systems.hub.departures import unacknowledged_bytes
from floodmark.systems.hub.documents import DocumentError, EventsOperation, PublishEachOperation, PublishOperation
from floodmark.systems.hub.errors import AuthenticationFailed, HubError, InternalError, RateLimitExceeded, ServerDraining
from floodmark.systems.hub.intake import PublishJob
from floodmark.systems.hub.protocol import CONNECTION_MOVES, Close, ConnectionState, SubscriptionState
from floodmark.systems.hub.subscription import Subscription
from floodmark.systems.hub.wire import (
    LEGACY,
    MODERN,
    Complete,
    ConnectionInit,
    Dialect,
    LegacyStart,
    LegacyStop,
    LegacyTerminate,
    Ping,
    Pong,
    Subscribe,
    SubscribePayload,
    decode_legacy,
    decode_modern,
    frame,
)

if TYPE_CHECKING:
    from floodmark.systems.hub.hub import Hub
    from floodmark.systems.hub.limits import User

OPERATIONS_MAX = 100_000  # under way at once on one connection, of every kind
_RECENT_IDS = 256  # operations that ended: a `complete` for one of them has crossed ours on the wire and is no mistake
_CONTROL_BACKLOG_BYTES = 64 * 1024  # answers that a client does not read, before we stop reading its questions


class Cancellable(Protocol):
    """An operation under way that is not a subscription."""

    def cancel(self) -> Any: ...


class Connection(WSListener):
    """A client of the hub."""

    __slots__ = (
        "_blocked_by",
        "_control_bytes",
        "_descriptor",
        "_fragments",
        "_held",
        "_hub",
        "_next_ping_s",
        "_paused_reading",
        "_recent_ids",
        "_transport",
        "_unsent_bytes",
        "_write",
        "_writelines",
        "closed_s",
        "credential",
        "dialect",
        "lagging",
        "last_sign_s",
        "offered",
        "opened_s",
        "operations",
        "out",
        "paused",
        "ping_sent_s",
        "state",
        "subscription_count",
        "user",
        "user_name",
    )

    def __init__(self, hub: Hub, dialect: Dialect | None) -> None:
        self._hub = hub
        self.dialect = dialect or MODERN
        self.offered = dialect is not None
        self.state = ConnectionState.WAITING
        self.operations: dict[str, Subscription | Cancellable] = {}
        self.out: list[bytes] = []
        self.lagging: dict[Subscription, None] = {}
        self.paused = False  # the socket is full
        self.subscription_count = 0
        self.user: User | None = None
        self.user_name = ""
        self.credential: str | None = None
        self.opened_s = time.monotonic()  # not hub.now_s, which lags by up to a tick: nobody is closed early
        self.last_sign_s = hub.now_s
        self.ping_sent_s: float | None = None
        self.closed_s = 0.0
        self._transport: WSTransport
        self._held: deque[str] | None = None
        self._fragments: bytearray | None = None
        self._recent_ids: deque[str] | None = None
        self._paused_reading = False
        self._blocked_by: PublishJob | None = None  # reading stopped for this publish
        self._descriptor = -1
        self._control_bytes = 0
        self._unsent_bytes = 0
        self._next_ping_s = 0.0  # the first one is due at once

    # picows calls these

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        underlying = transport.underlying_transport
        high = self._hub.settings.write_buffer_bytes
        underlying.set_write_buffer_limits(high=high, low=high // 4)
        raw = underlying.get_extra_info("socket")
        self._descriptor = raw.fileno()
        if self._hub.settings.socket_send_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._hub.settings.socket_send_bytes)
        if self._hub.settings.socket_receive_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._hub.settings.socket_receive_bytes)
        self._write = underlying.write
        self._writelines = underlying.writelines
        self._hub.opened(self)
        if not self.offered:
            self.close(Close.NO_SUBPROTOCOL, "speak graphql-transport-ws or graphql-ws")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame arrived."""
        if self.state >= ConnectionState.CLOSING:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            return
        kind = frame.msg_type
        if kind == WSMsgType.TEXT and frame.fin and self._fragments is None:
            try:
                text = frame.get_payload_as_utf8_text()
            except UnicodeDecodeError:
                self.close(Close.BAD_TEXT, "a text message must be UTF-8")
                return
            if self._held is not None:
                self._held.append(text)
            else:
                self._on_text(text)
        elif kind == WSMsgType.PONG:
            self.ping_sent_s = None
        elif kind == WSMsgType.CLOSE:
            self._move(ConnectionState.CLOSING)
            self.closed_s = self._hub.now_s
            self._hub.flush_now(self)
            code = frame.get_close_code()
            transport.send_close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code)
            transport.disconnect()
        else:
            self._on_fragment(frame)

    def _on_fragment(self, frame: WSFrame) -> None:
        """Put together a message that came in pieces; its whole length is bounded like that of a message in one piece."""
        if frame.msg_type == WSMsgType.BINARY:
            self.close(Close.MALFORMED, "binary messages are not part of the protocol")
            return
        starts = frame.msg_type == WSMsgType.TEXT
        if starts == (self._fragments is not None):
            self.close(Close.PROTOCOL, "fragments out of order")
            return
        if self._fragments is None:
            self._fragments = bytearray()
        self._fragments += frame.get_payload_as_bytes()
        if len(self._fragments) > self._hub.settings.message_bytes:
            self._hub.limits.violated("message_bytes")
            self.close(Close.TOO_BIG, f"a message may have {self._hub.settings.message_bytes} bytes")
        elif frame.fin:
            whole, self._fragments = self._fragments, None
            try:
                text = whole.decode()
            except UnicodeDecodeError:
                self.close(Close.BAD_TEXT, "a text message must be UTF-8")
                return
            if self._held is not None:
                self._held.append(text)
            else:
                self._on_text(text)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone, however it went."""
        if self.state < ConnectionState.CLOSING:
            self._hub.conduct.broke_off(self)
        self._move(ConnectionState.CLOSED)
        self._hub.departures.forget(self._descriptor)
        handshake = transport.close_handshake
        if handshake is not None and handshake.sent is not None and handshake.sent.code == WSCloseCode.MESSAGE_TOO_BIG:
            self._hub.limits.violated("message_bytes")
        self._end_operations()
        self.out.clear()
        self._held = None
        self._hub.closed(self)

    def pause_writing(self) -> None:
        """The socket is full: every subscription becomes a laggard, and is served when the socket drains."""
        self.paused = True
        for operation in self.operations.values():
            if isinstance(operation, Subscription) and not operation.lagging and operation.state is SubscriptionState.ACTIVE:
                self._hub.dispatcher.fall_behind(operation, operation.group.log.flushed + 1)

    def resume_writing(self) -> None:
        """The socket has drained, which is a sign of life as well."""
        self.paused = False
        self._control_bytes = 0
        self.last_sign_s = self._hub.now_s
        self._hub.dispatcher.can_take_more(self)
        if self._held is None:
            self._read(True)

    # bytes out

    def send(self, data: bytes) -> None:
        """Queue control bytes for the end of this turn."""
        if self.state < ConnectionState.CLOSING:
            self._hub.dispatcher.send(self, data)

    def write_out(self) -> None:
        """HOT: once per connection and turn."""
        out = self.out
        if self.state < ConnectionState.CLOSED:
            if self.paused:  # nothing but control bytes comes here while the socket is full
                self._control_bytes += sum(map(len, out))
                if self._control_bytes > _CONTROL_BACKLOG_BYTES:
                    self._read(False)
            if len(out) == 1:
                self._write(out[0])
            else:
                self._writelines(out)
        out.clear()

    def write_now(self, data: bytes) -> None:
        """Write bytes for a laggard; what was queued before has been written already."""
        if self.state < ConnectionState.CLOSING:
            if self.out:
                self.write_out()
            self._write(data)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame behind everything that is queued; the sweep cuts a client that does not answer it."""
        if self.state >= ConnectionState.CLOSING:
            return
        self._end_operations()
        self._hub.flush_now(self)
        self._move(ConnectionState.CLOSING)
        self.closed_s = self._hub.now_s
        self._hub.count_close(code)
        self._held = None
        self._read(True)
        self._transport.send_close(code, reason.encode()[:123])  # type: ignore[arg-type]  # any int; picows names only the standard ones

    def drain(self) -> None:
        """Complete every operation, tell the client so, and close with 1001; a publish that is still waiting is refused."""
        for operation_id, operation in list(self.operations.items()):
            if isinstance(operation, Subscription):
                self.complete_operation(operation, tell=True)
            else:
                operation.cancel()
                del self.operations[operation_id]
                self._refuse(operation_id, [ServerDraining("the hub is shutting down").as_graphql()])
        self.close(Close.GOING_AWAY, "the hub is shutting down")

    def beat(self, now_s: float, interval_s: float, limit_s: float) -> None:
        """Send the ping that is due, or close when the last one was not answered.

        An answer may be long in coming when much is unsent, so a socket that drains counts as a sign of life. While the hub does not read
        from this client it cannot hear it; then its machine must at least have taken all that was sent, the ping too.
        """
        if self.ping_sent_s is None:
            if self._next_ping_s <= now_s:
                self._next_ping_s = now_s + interval_s
                self.ping_sent_s = now_s
                self.send(self.dialect.ping_frame)
            return
        unsent_bytes = self._transport.underlying_transport.get_write_buffer_size() + unacknowledged_bytes(self._descriptor)
        if unsent_bytes < self._unsent_bytes or (self._paused_reading and not unsent_bytes):
            self.last_sign_s = now_s
        self._unsent_bytes = unsent_bytes
        if now_s - max(self.ping_sent_s, self.last_sign_s) >= limit_s:
            self.close(Close.PROTOCOL, "pong_timeout")
            self.closed_s = now_s - self._hub.settings.shutdown_grace_s  # nobody is there to answer: cut at the next look

    def end_expired(self, now_s: float) -> None:
        """Complete the subscriptions whose life time is over."""
        for operation in list(self.operations.values()):
            if isinstance(operation, Subscription) and 0 < operation.expires_s <= now_s:
                self.complete_operation(operation, tell=True)

    def abort(self) -> None:
        """Cut the connection now, whatever is still unsent."""
        self._transport.disconnect(False)

    def _read(self, wanted: bool) -> None:
        if wanted == self._paused_reading:
            self._paused_reading = not wanted
            if wanted:
                self._hub.departures.forget(self._descriptor)
                self._transport.underlying_transport.resume_reading()
            else:
                self._transport.underlying_transport.pause_reading()
                self._hub.departures.watch(self._descriptor, self.abort)

    @property
    def reading_paused(self) -> bool:
        """True while the hub does not read from this client, and so cannot hear it."""
        return self._paused_reading

    def _move(self, state: ConnectionState) -> None:
        if state != self.state:
            assert state in CONNECTION_MOVES[self.state], f"{self.state.name} -> {state.name}"
            self.state = state

    # messages in

    def _on_text(self, text: str) -> None:
        try:
            message = decode_modern(text) if self.dialect is MODERN else decode_legacy(text)
        except (msgspec.DecodeError, RecursionError) as exc:  # the latter: nested too deeply
            self.close(Close.MALFORMED, f"malformed message: {exc}")
            return
        match message:
            case Subscribe() | LegacyStart():
                if self.state is ConnectionState.WAITING:
                    self.close(Close.UNAUTHORIZED, "connection_init comes first")
                elif message.id in self.operations:
                    self.close(Close.DUPLICATE_ID, f"an operation with the id {message.id[:40]} is active")
                else:
                    self._start(message.id, message.payload)
            case Pong():
                self.ping_sent_s = None
            case Complete() | LegacyStop():
                self._stop(message.id)
            case Ping():
                body = b',"payload":' + raw if (raw := bytes(message.payload)) else b""
                self.send(frame(b'{"type":"pong"' + body + b"}"))
            case ConnectionInit():
                self._init(message.payload or {})
            case LegacyTerminate():
                self.close(Close.NORMAL, "terminated")

    def _init(self, payload: dict[str, Any]) -> None:
        if self.state is not ConnectionState.WAITING:
            self.close(Close.SECOND_INIT, "connection_init comes once")
            return
        try:
            self._hub.admit(self, payload)
        except AuthenticationFailed as exc:
            self.close(Close.UNAUTHORIZED, exc.message)
        except RateLimitExceeded as exc:
            self.close(Close.FORBIDDEN, exc.message)
        except HubError as exc:
            self.close(Close.MALFORMED, exc.message)
        else:
            self._move(ConnectionState.CONNECTED)
            self.send(self.dialect.ack_frame + self.dialect.ping_frame if self.dialect is LEGACY else self.dialect.ack_frame)

    def _start(self, operation_id: str, payload: SubscribePayload) -> None:
        hub = self._hub
        assert self.user is not None  # set by admit
        if len(self.operations) >= OPERATIONS_MAX:
            hub.limits.violated("pending_operations")
            self._refuse(operation_id, [RateLimitExceeded(f"{OPERATIONS_MAX} operations are under way, the limit").as_graphql()])
            return
        try:
            if hub.draining:
                raise ServerDraining("the hub is shutting down")
            hub.limits.operation(self.user, hub.now_s)
            operation = hub.documents.compile(payload.query, payload.operationName)
            if isinstance(operation, (PublishOperation, PublishEachOperation)):
                self._publish(operation_id, operation, payload.variables)
            elif isinstance(operation, EventsOperation):
                hub.subscribe(self, operation_id, operation, payload.variables)
            else:
                hub.execute(self, operation_id, operation, payload.variables)
        except DocumentError as exc:
            self._refuse(operation_id, exc.errors)
        except HubError as exc:
            self._refuse(operation_id, [exc.as_graphql()])

    def _refuse(self, operation_id: str, errors: list[dict[str, Any]]) -> None:
        self._hub.count_error(str(errors[0].get("extensions", {}).get("code", "INTERNAL_ERROR")))
        self.remember(operation_id)
        self.send(self.dialect.error_frame(operation_id, errors))

    def _publish(
        self, operation_id: str, operation: PublishOperation | PublishEachOperation, variables: dict[str, msgspec.Raw] | None
    ) -> None:
        """HOT: once per publish."""
        events = self._hub.events_of(operation, variables)

        def done(job: PublishJob, error: Exception | None) -> None:
            self._published(operation_id, operation, job, error)

        job = PublishJob(events, done)
        if not self._hub.submit(job):
            self.operations[operation_id] = Pending(job)
            if self._hub.bus.full and self._blocked_by is None:
                self._blocked_by = job
                self._held = deque()
                self._read(False)

    def _published(
        self, operation_id: str, operation: PublishOperation | PublishEachOperation, job: PublishJob, error: Exception | None
    ) -> None:
        """Acknowledge a publish, and read on if the connection had stopped for it."""
        if error is None:
            self._hub.count_published(job)
        if self.state >= ConnectionState.CLOSING:
            return
        self.operations.pop(operation_id, None)
        if error is None:
            self.remember(operation_id)
            self.send(self.dialect.next_frame(operation_id, operation.answer(job.events)) + self.dialect.complete_frame(operation_id))
        else:
            failure = error if isinstance(error, HubError) else InternalError(str(error))
            self._refuse(operation_id, [failure.as_graphql()])
        if job is self._blocked_by:
            self._blocked_by = None
            self._hub.later(self._release)

    def _release(self) -> None:
        """Work off the frames that waited behind a publish, until another one has to wait."""
        held = self._held
        if held is None or self._blocked_by is not None:
            return
        self._held = None
        while held:
            if self.state >= ConnectionState.CLOSING:
                return
            self._on_text(held.popleft())
            if self._held is not None:  # blocked again; keep the order
                self._held.extend(held)
                return
        if not self.paused or self._control_bytes <= _CONTROL_BACKLOG_BYTES:
            self._read(True)

    def _stop(self, operation_id: str) -> None:
        operation = self.operations.get(operation_id)
        if operation is None:
            if self.state is ConnectionState.WAITING:
                self.close(Close.UNAUTHORIZED, "connection_init comes first")
            elif self._recent_ids is None or operation_id not in self._recent_ids:
                self.close(Close.UNKNOWN_SUBSCRIPTION, f"there is no operation {operation_id[:40]}")
        elif isinstance(operation, Subscription):
            self.complete_operation(operation, tell=self.dialect is LEGACY)
        else:
            operation.cancel()
            del self.operations[operation_id]
            self.remember(operation_id)

    def answered(self, operation_id: str, payload: bytes) -> None:
        """A general operation has its result."""
        if self.operations.pop(operation_id, None) is not None:
            self.remember(operation_id)
            self.send(self.dialect.next_frame(operation_id, payload) + self.dialect.complete_frame(operation_id))

    # ends of operations

    def remember(self, operation_id: str) -> None:
        """Keep the id of an operation that has ended, for a `complete` that is already on its way."""
        if self._recent_ids is None:
            self._recent_ids = deque(maxlen=_RECENT_IDS)
        self._recent_ids.append(operation_id)

    def complete_operation(self, subscription: Subscription, *, tell: bool) -> None:
        """End a subscription well, with or without a word to the client."""
        subscription.move(SubscriptionState.COMPLETING)
        self._forget(subscription)
        subscription.move(SubscriptionState.COMPLETED)
        if tell:
            self.send(self.dialect.complete_frame(subscription.id))

    def fail_operation(self, subscription: Subscription, error: HubError) -> None:
        """End a subscription with an error that the client sees."""
        self._forget(subscription)
        subscription.move(SubscriptionState.ERRORED)
        self._refuse(subscription.id, [error.as_graphql()])

    def _forget(self, subscription: Subscription) -> None:
        del self.operations[subscription.id]
        self.remember(subscription.id)
        self._hub.unsubscribed(self, subscription)

    def _end_operations(self) -> None:
        for operation in list(self.operations.values()):
            if isinstance(operation, Subscription):
                self.complete_operation(operation, tell=False)
            else:
                operation.cancel()
        self.operations.clear()


class Pending:
    """A publish that is not in the log yet. Cancelling it stops what is not yet in the log; what is there stays, un-acknowledged."""

    __slots__ = ("job",)

    def __init__(self, job: PublishJob) -> None:
        self.job = job

    def cancel(self) -> None:
        """The client went away or lost interest."""
        self.job.cancel()
