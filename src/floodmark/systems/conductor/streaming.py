"""The half of a conductor that moves tokens: from backends through the session to the output channel, and to an end in any case.

`poll_streaming` never blocks. It takes no more from the backends than the output channel has room for, so that a surface that does not
read makes the backends wait and loses nothing; what it moves in one call is bounded, so that it is over in a few milliseconds at most.
`run` polls for as long as the conductor lives and sleeps exactly while there is nothing to do: it is woken by tokens, by room in the
channel, or at the time when a throttle or the limit of an idle stream is due. `quit` needs nobody's help: it ends everything also while the
channel is full and nobody reads it, and its last words are in the channel before it lets go of the backend.

The other half, what a surface says and what is answered, is in `conductor`. No tasks here: `run` is a task of whoever calls it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid

from floodmark.core.clock import Clock, RealClock, limit
from floodmark.systems.conductor.answer import Answer
from floodmark.systems.conductor.backend.base import Backend, Complete, Request
from floodmark.systems.conductor.channel import Channel
from floodmark.systems.conductor.conversations import Conversation, Conversations
from floodmark.systems.conductor.errors import BackendError
from floodmark.systems.conductor.figures import Figures
from floodmark.systems.conductor.session import Session
from floodmark.systems.conductor.settings import ConductorSettings
from floodmark.systems.conductor.states import CONDUCTOR_STEPS, SessionState
from floodmark.systems.conductor.streams import END_SLOTS, BufferOverflow, Completed, Errored, StreamManager, Tokens
from floodmark.systems.conductor.vocabulary import (
    Ack,
    Capabilities,
    ConductorEvent,
    ConductorState,
    ConversationState,
    ConversationStateChanged,
    Level,
    Notify,
    Quit,
    Role,
    State,
)

log = logging.getLogger(__name__)

GREETING_PROMPT = "Greet the user in one short sentence."


class Streaming:
    """One session with its conversations, its streams and the channel to its surface.

    Args:
        backend: where answers come from.
        settings: everything that can be chosen.
        clock: the time that limits and throttles go by.
        owns_backend: whether `quit` closes the backend; False for one that several conductors share.
    """

    def __init__(
        self, backend: Backend, settings: ConductorSettings | None = None, *, clock: Clock | None = None, owns_backend: bool = True
    ) -> None:
        self.backend, self.settings, self.clock = backend, settings or ConductorSettings(), clock or RealClock()
        self.model = self.settings.model
        self.state = ConductorState.INITIALIZING
        self.capabilities = Capabilities()
        self.connection_id = f"conn-{uuid.uuid4()}"
        self.figures = Figures()
        self.session = Session(self.settings.session)
        self.conversations = Conversations(self.clock, limit_count=self.settings.conversations_count)
        self.output: Channel[ConductorEvent] = Channel(capacity_count=self.settings.channel_count)
        self._owns_backend = owns_backend
        self._answers: dict[str, Answer] = {}  # by conversation
        self._work = asyncio.Event()
        self._gone = asyncio.Event()
        self._starting: asyncio.Timeout | None = None  # the limit of the start, which quitting brings forward
        self._streams = StreamManager(self.settings.streams, self.clock, self._work.set)
        self._streams.focus_id = self.conversations.focused.id
        self.output.on_room(self._work.set)

    # ---- moving tokens

    @property
    def streaming_count(self) -> int:
        """Answers that are being streamed."""
        return len(self._answers)

    def poll_streaming(self) -> bool:
        """Move what has arrived, up to `max_tokens_per_poll`; never blocks. Returns: whether anything happened. HOT: once per batch."""
        return self._poll(self.settings.max_tokens_per_poll)

    async def poll_one(self) -> bool:
        """Wait for exactly one token and take it from its backend. Returns: False when no answer is being streamed (any more).

        Not beside `run`, which would take the token first. Cancelled half-way, it leaves nothing behind.
        """
        while self._answers and not self.output.closed:
            before = self.figures.tokens_polled_count
            self._work.clear()
            happened = self._poll(1)
            if self.figures.tokens_polled_count > before:
                return True
            if not happened:
                await self._wait_for_work()
        return False

    async def run(self) -> None:
        """Poll until the conductor has quit. Cancelled at any moment, it leaves nothing behind: no token is between two places then."""
        while not self.output.closed:
            self._work.clear()
            if self.poll_streaming():
                await asyncio.sleep(0)  # others have their turn between two polls
            else:
                await self._wait_for_work()

    async def _wait_for_work(self) -> None:
        """Sleep until something arrives, the channel has room again, or a throttle or an idle limit is due."""
        due_s = self._streams.next_due_s()
        if due_s is None or self.output.room() <= END_SLOTS:  # without room there is nothing to be done in time; room wakes us
            await self._work.wait()
            return
        timer = self.clock.call_later(due_s, self._work.set)
        try:
            await self._work.wait()
        finally:
            timer.cancel()

    def _poll(self, take_limit: int) -> bool:
        if not self._answers or self.output.closed:
            return False
        began_ns, began_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        figures, streams, coalesced = self.figures, self._streams, self.capabilities.coalesce
        slots = max(0, self.output.room() - 1)  # one is for the state, which changes with the first token
        moved = streams.poll(take_limit=take_limit, slots=slots, coalesced=coalesced)
        figures.tokens_polled_count += streams.moved_count
        out: list[ConductorEvent] = []
        chars = 0
        for event in moved:
            match event:
                case Tokens(stream_id, texts, counts):
                    chars += self._moved(self._answers[stream_id], texts, counts, coalesced, out)
                case Completed(stream_id, complete):
                    self._completed(stream_id, complete, out)
                case Errored(stream_id, reason):
                    self._errored(stream_id, reason, out)
                case BufferOverflow(stream_id, count, policy):
                    log.debug("the buffer of %s overflowed by %d tokens: %s", stream_id, count, policy.value)
        if out:
            self.output.put(out, chars=chars)
        figures.polls_count += 1
        figures.poll_cpu_max_ns = max(figures.poll_cpu_max_ns, time.thread_time_ns() - began_cpu_ns)
        figures.poll_max_ns = max(figures.poll_max_ns, time.perf_counter_ns() - began_ns)
        return bool(moved) or streams.moved_count > 0

    def _moved(self, answer: Answer, texts: list[str], counts: list[int] | None, coalesced: bool, out: list[ConductorEvent]) -> int:
        """Turn tokens into events; gives the characters in them. HOT: once per batch of one stream."""
        if self.state is ConductorState.THINKING:
            out.extend(self._become(ConductorState.RESPONDING))
        before_count, before_events = answer.emitted_count, len(out)
        text = answer.events(texts, counts, coalesced=coalesced, out=out)
        if text:
            self.session.append(answer.stored, text)
        self._count_emitted(answer.emitted_count - before_count, len(out) - before_events)
        return len(text)

    def _count_emitted(self, tokens_count: int, events_count: int) -> None:
        self.figures.tokens_emitted_count += tokens_count
        self.figures.coalesced_count += max(0, tokens_count - events_count)

    # ---- the beginning and the end of an answer

    def ask(self, conversation: Conversation, prompt: str, *, by_user: bool = True) -> tuple[str, list[ConductorEvent]]:
        """Put a question to the backend, without waiting. Its events must go out before anything else does: wait for their room before.

        Returns: the id of the message that will be streamed, and the events that say so.
        Raises: StreamExistsError, StreamLimitError, BackendError; nothing has happened then.
        """
        self._streams.check(conversation.id)
        settings = self.settings
        request = Request(
            prompt=prompt,
            model=self.model,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            system=settings.system_prompt,
            context=self.session.context(conversation.id, settings.context_window_count),
        )
        stream = self.backend.send_streaming(request)
        events: list[ConductorEvent] = []
        if by_user:
            events.append(self.session.say(Role.USER, prompt, conversation_id=conversation.id).message())
        stored = self.session.open_answer(conversation_id=conversation.id)
        self._answers[conversation.id] = Answer(conversation, stored, stream, self.model, self.clock)
        self._streams.start(conversation.id, stream, priority=conversation.priority)
        self.figures.streams_started_count += 1
        self.session.move_to(SessionState.BUSY)
        events += self._conversation_is(conversation, ConversationState.STREAMING)
        events += self._settled()
        return stored.id, events

    def cancel(self, conversation_id: str, reason: str) -> list[ConductorEvent]:
        """Stop the answer of a conversation at once, if there is one. Returns: the events that say so; they must go out."""
        answer = self._answers.get(conversation_id)
        if answer is None:
            return []
        self._streams.cancel(conversation_id)
        self.figures.streams_cancelled_count += 1
        self._over(answer)
        return [answer.failed(reason), *self._conversation_is(answer.conversation, ConversationState.IDLE), *self._settled()]

    def _completed(self, stream_id: str, complete: Complete, out: list[ConductorEvent]) -> None:
        answer = self._answers[stream_id]
        self._flush(answer, out)
        self.figures.streams_completed_count += 1
        self._over(answer)
        out.append(answer.ended(complete))
        out += self._conversation_is(answer.conversation, ConversationState.COMPLETED)
        out += self._settled()

    def _errored(self, stream_id: str, reason: str, out: list[ConductorEvent]) -> None:
        answer = self._answers[stream_id]
        self._flush(answer, out)
        self.figures.streams_failed_count += 1
        self.figures.errors_count += 1
        self._over(answer)
        out.append(answer.failed(reason))
        out.append(Notify(level=Level.ERROR, text=f"The answer broke off: {reason}"))
        out += self._conversation_is(answer.conversation, ConversationState.ERROR)
        out += self._settled()

    def _flush(self, answer: Answer, out: list[ConductorEvent]) -> None:
        before_count, before_events = answer.emitted_count, len(out)
        held = answer.flush(out)
        if held:
            self.session.append(answer.stored, held)
        self._count_emitted(answer.emitted_count - before_count, len(out) - before_events)

    def _over(self, answer: Answer) -> None:
        del self._answers[answer.conversation.id]
        self.figures.tokens_sent_count += answer.stream.put_count
        self.session.close_answer(answer.stored)
        if not self._answers and self.session.state is SessionState.BUSY:
            self.session.move_to(SessionState.ACTIVE)

    # ---- states

    def _become(self, state: ConductorState) -> list[ConductorEvent]:
        if state is self.state:
            return []
        CONDUCTOR_STEPS.check(self.state, state)
        self.state = state
        return [State(state=state)]

    def _settled(self) -> list[ConductorEvent]:
        """Take the step to the state that the streams call for."""
        if self.state in (ConductorState.INITIALIZING, ConductorState.SHUTTING_DOWN):
            return []
        if any(answer.first_s is not None for answer in self._answers.values()):
            return self._become(ConductorState.RESPONDING)
        return self._become(ConductorState.THINKING if self._answers else ConductorState.READY)

    def _conversation_is(self, conversation: Conversation, state: ConversationState) -> list[ConductorEvent]:
        if not conversation.move_to(state):
            return []
        return [ConversationStateChanged(conversation_id=conversation.id, state=state)]

    # ---- the end

    async def quit(self, *, event_id: str = "", message: str = "Goodbye.") -> None:
        """End the session, now. The surface finds what was in the channel, the end of every answer, and Quit.

        The backend gets `quit_limit_s` to let go; what hangs beyond is its own. Cancelled half-way, everything but the backend has ended.
        A second call waits for the first.
        """
        if self.state is ConductorState.SHUTTING_DOWN:
            await self._gone.wait()
            return
        began_ns = time.perf_counter_ns()
        last: list[ConductorEvent] = [Ack(event_id=event_id)] if event_id else []
        last += self._become(ConductorState.SHUTTING_DOWN)
        for conversation_id in list(self._answers):
            last += self.cancel(conversation_id, "cancelled: the conductor quits")
        self.session.move_to(SessionState.ENDED)
        self.output.close([*last, Quit(message=message)])  # full or not: these are few, and there is no time to wait
        self._work.set()
        if self._starting is not None and not self._starting.expired():
            self._starting.reschedule(asyncio.get_running_loop().time())
        try:
            if self._owns_backend:
                async with limit(self.clock, self.settings.quit_limit_s):
                    await self.backend.aclose()
        except TimeoutError:
            log.warning("the backend %s did not let go within %g s and is left behind", self.backend.name, self.settings.quit_limit_s)
        except BackendError as error:
            log.warning("the backend did not let go in order: %s", error)
        finally:
            self.figures.quit_max_ns = time.perf_counter_ns() - began_ns
            self._gone.set()

    def report(self) -> dict[str, float]:
        """Give every figure by its name in a statistics report."""
        report = self.figures.report()
        report["tokens_sent"] += sum(answer.stream.put_count for answer in self._answers.values())
        report |= {
            "streams_live": float(len(self._answers)),
            "subscriptions": float(len(self.conversations) - 1),
            "pruned": float(self.session.pruned_count),
            "kept_bytes": float(self.session.kept_bytes),
            "messages": float(len(self.session)),
            "buffered_max": float(max(self.output.buffered_max, self._streams.buffered_max)),
            "tokens_dropped": float(self._streams.dropped_count),
            "tokens_concatenated": float(self._streams.concatenated_count),
        }
        return report
