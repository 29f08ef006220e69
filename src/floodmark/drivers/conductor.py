"""A conductor over its socket: each connection is a surface, each subscription a conversation of it, the first of them the main one.

A session begins with a `handshake` and is left with `quit_requested`, which the conductor answers with `quit` and closes. A question is a
`user_message`; its `ack` names the answer's `message_id`, under which tokens, one end or one error follow. What is refused is told by a
`notify` that names the event. Frames are the matter of conductor_wire.py.

What a conductor must not say is checked here: tokens or an end for an answer that it has not acknowledged, for one that has ended, or in
another conversation than the question's are odd. A frame with a wrong checksum, or one that cannot be read, ends the connection.

HOT: tokens of one answer that follow one another are handed on together. Only a surface that lets them be coalesced hands on one event at
a time, with the count that it declares.
Memory: answers under way, and the last ENDED_COUNT that have ended, so that whatever comes late for them is known.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, cast

from floodmark.drivers.asking import ASKING_DEFAULTS, ASKING_MEANINGS, ERROR_EVENT, REFUSED, Ask, AskingDriver, AskingSink, reason_of
from floodmark.drivers.base import Connection, Options, RefusedError, Sink, Wanted, take_options
from floodmark.drivers.conductor_wire import BadFrameError, Event, Frames, frame
from floodmark.drivers.streams import TcpConnection, open_tcp, statistics_of

ENDED_COUNT = 256
CLOSE_LIMIT_S = 5.0
STATISTICS_LIMIT_S = 10.0
MAIN_ID = "00000000-0000-0000-0000-000000000000"
PROTOCOL_VERSION = 1

DEFAULTS: Options = {**ASKING_DEFAULTS, "coalesce": False}
MEANINGS: dict[str, str] = {
    **ASKING_MEANINGS,
    "coalesce": "whether the surface takes several tokens as one, with their count",
}


class _Answer:
    """A question and what has become of it."""

    __slots__ = ("conversation_id", "ended", "token")

    def __init__(self, token: int, conversation_id: str) -> None:
        self.token = token  # 0: nobody wants to hear of it any more
        self.conversation_id = conversation_id
        self.ended = False


class ConductorConnection(TcpConnection):
    """One surface. See `AskingConnection`."""

    def __init__(self, url: str, sink: AskingSink | None, *, coalesce: bool = False) -> None:
        super().__init__(url, sink)
        self._sink = sink
        self._coalesce = coalesce
        self._frames = Frames()
        self._greeted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._statistics: asyncio.Future[dict[str, float]] | None = None
        self._event_number = 0
        self._conversations: dict[int, str] = {}  # of each slot
        self._waiting: dict[str, asyncio.Future[str]] = {}  # for the answer to an event: the id of a conversation
        self._asked: dict[str, _Answer] = {}  # by event_id, not acknowledged yet
        self._answers: dict[str, _Answer] = {}  # by message_id
        self._under_way: dict[str, _Answer] = {}  # by the id of the conversation
        self._ended: deque[str] = deque()
        self._last_token = 0

    # -- driver's side

    async def greet(self) -> None:
        """Shake hands. Raises: RefusedError."""
        capabilities = {"coalesce": self._coalesce, "throttle": False}
        self._say("handshake", protocol_version=PROTOCOL_VERSION, surface_type="headless", capabilities=capabilities)
        refusal = await self._greeted
        if refusal:
            raise RefusedError(self.url, f"refused the handshake: {refusal}")

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        """Open a conversation for each; the first one on a connection is the main one, which is there already."""
        opening: list[tuple[int, asyncio.Future[str]]] = []
        for one in wanted:
            self.require_open()
            if MAIN_ID not in self._conversations.values():
                self._conversations[one.slot] = MAIN_ID
                continue
            opening.append((one.slot, self._ask_for("new_conversation", title=one.channel)))
        for slot, answer in opening:
            self._conversations[slot] = await answer

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        """Remove their conversations; the main one cannot be removed, so an answer under way in it is cancelled."""
        waiting = []
        for slot in slots:
            conversation_id = self._conversations.pop(slot, None)
            if conversation_id is None or self._transport is None:
                continue
            answer = self._under_way.pop(conversation_id, None)
            if answer is not None:
                answer.token = 0
            if conversation_id != MAIN_ID:
                waiting.append(self._ask_for("remove_conversation", conversation_id=conversation_id))
            elif answer is not None:
                waiting.append(self._ask_for("cancel_stream", conversation_id=conversation_id))
        for done in waiting:
            await done

    def free(self, slot: int) -> bool:
        """Whether no answer is under way in its conversation."""
        conversation_id = self._conversations.get(slot)
        return conversation_id is not None and conversation_id not in self._under_way

    def ask(self, ask: Ask) -> None:
        """Say it in the slot's conversation."""
        conversation_id = self._conversations.get(ask.slot)
        if self._transport is None or conversation_id is None:
            return
        answer = _Answer(ask.token, conversation_id)
        self._last_token = ask.token
        self._under_way[conversation_id] = answer
        event_id = self._event_id()
        self._asked[event_id] = answer
        named = None if conversation_id == MAIN_ID else conversation_id
        self._say("user_message", event_id=event_id, conversation_id=named, text=ask.prompt)

    def drop_answer(self, token: int) -> None:
        """Cancel it; its conversation is free once the conductor has said how it ended."""
        for conversation_id, answer in self._under_way.items():
            if answer.token == token:
                answer.token = 0
                self._say("cancel_stream", event_id=self._event_id(), conversation_id=conversation_id)
                return

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        """Never called: nobody publishes to a conductor."""
        raise NotImplementedError("a driver that asks does not publish")

    def resume_point(self, frame: bytes) -> int | None:
        """An answer cannot be resumed."""
        return None

    async def statistics(self) -> dict[str, float]:
        """Ask for the figures of the host."""
        self._statistics = asyncio.get_running_loop().create_future()
        self._say("statistics", event_id=self._event_id())
        return await self._statistics

    def _event_id(self) -> str:
        self._event_number += 1
        return f"evt_{self._event_number}"

    def _ask_for(self, kind: str, **fields: Any) -> asyncio.Future[str]:
        """Say something whose acknowledgement is waited for."""
        event_id = self._event_id()
        answer = self._waiting[event_id] = asyncio.get_running_loop().create_future()
        self._say(kind, event_id=event_id, **fields)
        return answer

    def _say(self, kind: str, **fields: Any) -> None:
        if self._transport is not None:
            self._transport.write(frame({"kind": kind, **fields}))

    # -- what comes in

    def data_received(self, data: bytes) -> None:
        """HOT: once per read."""
        received_ns = time.monotonic_ns()
        try:
            for events in self._frames.feed(data):
                self._take(events, received_ns)
        except BadFrameError as exc:
            self.fail(f"sent a frame that its driver could not read ({exc})")
            return
        if self._sink is not None:
            self._sink.turn()

    def _take(self, events: list[Event], received_ns: int) -> None:
        """HOT: once per frame."""
        sink, answers, coalesced = self._sink, self._answers, self._coalesce
        run: list[bytes] = []
        run_of: _Answer | None = None
        for event in events:
            kind = event.kind
            if (kind == "token" or kind == "stream_token") and sink is not None:
                answer = answers.get(event.message_id)  # type: ignore[arg-type]  # None is no key
                if answer is None or answer.ended or answer.conversation_id != (event.conversation_id or MAIN_ID):
                    self._odd_token(answer, event)
                    continue
                if not answer.token or not event.text:
                    continue
                if coalesced:
                    sink.text(answer.token, event.text.encode(), event.count, received_ns)
                    continue
                if answer is not run_of:
                    if run_of is not None:
                        sink.chunks(run_of.token, run, received_ns)
                    run, run_of = [], answer
                run.append(event.text.encode())
                continue
            if run_of is not None and sink is not None:
                sink.chunks(run_of.token, run, received_ns)
                run_of = None
            self._take_rare(event)
        if run_of is not None and sink is not None:
            sink.chunks(run_of.token, run, received_ns)

    def _odd_token(self, answer: _Answer | None, event: Event) -> None:
        """Tokens that belong to no answer that is under way."""
        if answer is None:
            self._odd(self._last_token, f"a token for an answer that was not acknowledged: {str(event.message_id)[:60]}")
        elif answer.ended:
            self._odd(answer.token, "a token after the end of its answer")
        else:
            self._odd(answer.token, "a token in another conversation than its question")

    def _take_rare(self, event: Event) -> None:
        """Anything but a token."""
        match event.kind:
            case "stream_end" | "conversation_stream_end":
                self._end(event, "")
            case "stream_error":
                self._end(event, reason_of(ERROR_EVENT, event.reason or "without a reason"))
            case "ack":
                self._take_ack(event)
            case "notify" if event.event_id:
                self._take_refusal(event)
            case "handshake_ack":
                if not self._greeted.done():
                    self._greeted.set_result("" if event.accepted else event.rejection_reason or "without a reason")
            case "ping":
                self._say("pong", seq=event.seq)
            case "statistics_report":
                if self._statistics is not None and not self._statistics.done() and event.figures is not None:
                    self._statistics.set_result(event.figures)
            case "quit":
                self._failure = self._failure or f"quit ({event.message})"

    def _take_ack(self, event: Event) -> None:
        waiting = self._waiting.pop(event.event_id, None)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(event.conversation_id or "")
            return
        answer = self._asked.pop(event.event_id, None)
        if answer is None:
            return  # of a handshake, say, or of a cancellation
        if event.message_id is None:
            self._odd(answer.token, "an acknowledgement without the answer's message_id")
            return
        if event.message_id in self._answers:
            self._odd(answer.token, f"an acknowledgement that names another answer: {event.message_id[:60]}")
            return
        self._answers[event.message_id] = answer
        if answer.token and self._sink is not None:
            self._sink.accepted(answer.token)

    def _take_refusal(self, event: Event) -> None:
        """A notice that says why an event was not taken."""
        waiting = self._waiting.pop(event.event_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(RefusedError(self.url, f"refused a conversation: {event.text}"))
            waiting.exception()  # of several that are refused, only the first is waited for
        answer = self._asked.pop(event.event_id, None)
        if answer is not None:
            self._close_answer(answer)
            if answer.token and self._sink is not None:
                self._sink.failed(answer.token, reason_of(REFUSED, event.text))

    def _end(self, event: Event, failure: str) -> None:
        """An answer has ended; once."""
        answer = self._answers.get(event.message_id or "")
        if answer is None:
            self._odd(self._last_token, f"an end for an answer that was not acknowledged: {str(event.message_id)[:60]}")
            return
        if answer.ended:
            self._odd(answer.token, "a second end")
            return
        if answer.conversation_id != (event.conversation_id or MAIN_ID):
            self._odd(answer.token, "an end in another conversation than its question")
            return
        self._close_answer(answer)
        self._remember(event.message_id or "")
        if answer.token and self._sink is not None:
            if failure:
                self._sink.failed(answer.token, failure)
            else:
                self._sink.finished(answer.token, event.metadata.token_count if event.metadata is not None else -1)

    def _close_answer(self, answer: _Answer) -> None:
        answer.ended = True
        if self._under_way.get(answer.conversation_id) is answer:
            del self._under_way[answer.conversation_id]

    def _remember(self, message_id: str) -> None:
        self._ended.append(message_id)
        if len(self._ended) > ENDED_COUNT:
            self._answers.pop(self._ended.popleft(), None)

    def _odd(self, token: int, what: str) -> None:
        if token and self._sink is not None:
            self._sink.odd(token, what)
        elif not self._last_token:
            self.fail(f"spoke of an answer that nobody had asked for ({what})")

    # -- its end

    def on_lost(self, reason: str) -> None:
        """End every wait; the loss ends every answer under way, and the sink is told of it once."""
        for waiting in (self._greeted, self._statistics, *self._waiting.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(RefusedError(self.url, reason))
                waiting.exception()  # whoever does not wait any more need not hear of it
        self._waiting.clear()
        self._under_way.clear()

    async def close(self) -> None:
        """Ask the conductor to quit, and wait until it has said so and closed; bounded in time."""
        if self._transport is not None:
            self._failure = self._failure or "was left by us"
            self._leave()
            self._transport.resume_reading()  # a slow reader must hear the answer, too
            self._say("quit_requested", event_id=self._event_id())
            await self._until_lost(CLOSE_LIMIT_S)

    def abort(self) -> None:
        """Drop the connection at once."""
        self._leave()
        super().abort()

    def _leave(self) -> None:
        """Whatever ends from now on ends because of us, or nobody hears of it."""
        for answer in (*self._under_way.values(), *self._asked.values()):
            answer.token = 0


class ConductorDriver(AskingDriver):
    """Speaks to conductors; `DEFAULTS` and `MEANINGS` hold its options."""

    DEFAULTS: ClassVar[Options] = DEFAULTS

    def __init__(self, options: Options) -> None:
        self.options = take_options("conductor", options, DEFAULTS)

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        """Open a surface. `channel` is not needed: conversations are opened by `subscribe`. The sink must be an `AskingSink`."""
        connection = await self._connect(url, cast("AskingSink", sink), limit_s=limit_s, local_host=local_host)
        try:
            async with asyncio.timeout(limit_s) as limit:
                await connection.greet()
        except TimeoutError as exc:
            connection.abort()
            raise RefusedError(url, f"gave no handshake_ack within {limit_s:g} s" if limit.expired() else str(exc)) from exc
        except BaseException:
            connection.abort()
            raise
        return connection.hand_over()

    async def statistics(self, url: str) -> dict[str, float] | None:
        """The host's figures, over all surfaces."""
        connecting = self._connect(url, None, limit_s=STATISTICS_LIMIT_S, local_host=None)
        return await statistics_of(connecting, limit_s=STATISTICS_LIMIT_S)

    async def _connect(self, url: str, sink: AskingSink | None, *, limit_s: float, local_host: str | None) -> ConductorConnection:
        coalesce = bool(self.options["coalesce"])
        return await open_tcp(
            "'conductor'", url, lambda: ConductorConnection(url, sink, coalesce=coalesce), limit_s=limit_s, local_host=local_host
        )
