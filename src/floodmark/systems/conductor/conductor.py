"""The conductor: it answers what one surface says, and moves the tokens of the answers.

    conductor = Conductor(backend)
    await conductor.start()                                   # beside it: await conductor.run()
    await conductor.handle(UserMessage(event_id="evt_1", text="Hello"))
    while await conductor.output.wait(): surface.show(conductor.output.take_many())

One flow per kind of event, in the table at the end. A flow may wait for room in the output channel, never for a token. Whatever is refused
becomes one notice that names the event; it ends nothing. `handle` may be called while another call waits. INVARIANT: an answer begins, and
is stopped, only once there is room to say so, so that whoever is cancelled while it waits, or finds the channel closed, has begun and
stopped none.

Not here: the moving of tokens and quitting (`streaming`), sockets (`host`), screens (`terminal`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from floodmark.core.clock import Clock, limit
from floodmark.systems.conductor.backend.base import Backend
from floodmark.systems.conductor.conversations import Conversation
from floodmark.systems.conductor.errors import BackendError, ChannelClosedError, RefusedError
from floodmark.systems.conductor.limits import RateLimit, check_command, check_text
from floodmark.systems.conductor.settings import ConductorSettings
from floodmark.systems.conductor.states import SessionState
from floodmark.systems.conductor.streaming import GREETING_PROMPT, Streaming
from floodmark.systems.conductor.vocabulary import (
    PRESETS,
    PROTOCOL_VERSION,
    Ack,
    CancelStream,
    Capabilities,
    CapabilitiesReport,
    ConductorEvent,
    ConductorState,
    Connected,
    ContentType,
    ConversationCreated,
    ConversationFocused,
    ConversationRemoved,
    Disconnected,
    ExitSummary,
    FocusConversation,
    FocusNextConversation,
    FocusPrevConversation,
    Handshake,
    HandshakeAck,
    Input,
    Level,
    MessageReceived,
    NewConversation,
    Notify,
    Pong,
    QuitRequested,
    RemoveConversation,
    RenderComplete,
    RequestSummary,
    Resized,
    Role,
    SessionInfo,
    State,
    StateSnapshot,
    Statistics,
    StatisticsReport,
    SummaryReady,
    SurfaceError,
    SurfaceType,
    UserCommand,
    UserMessage,
    UserScrolled,
    UserTyping,
)

log = logging.getLogger(__name__)

SNAPSHOT_COUNT = 20
SAID_COUNT = 6  # events that follow at once from the beginning or the stopping of an answer, at most
HELP = """\
/help            this text
/clear           forget the messages of this conversation
/model [NAME]    show the model, or take another one
/quit, /exit     leave"""


class Conductor(Streaming):
    """One session for one surface; see `Streaming` for its arguments and the moving of tokens."""

    def __init__(
        self, backend: Backend, settings: ConductorSettings | None = None, *, clock: Clock | None = None, owns_backend: bool = True
    ) -> None:
        super().__init__(backend, settings, clock=clock, owns_backend=owns_backend)
        self._rate = RateLimit(self.settings.limits.messages_per_minute, self.clock)
        self._notices: list[Notify] = []  # what the start had to say, for a surface that comes later

    async def start(self, *, announce: bool = True) -> None:
        """Ask the backend how it is, and be ready; a backend that is not well gives a warning and no more. `quit` ends it at once.

        Args: announce: whether to tell the surface now. False for one that is still to shake hands, which is told then.
        """
        events: list[ConductorEvent] = [State(state=self.state)]
        try:
            async with limit(self.clock, self.settings.health_limit_s) as self._starting:
                await self.backend.health_check()
        except BackendError as error:
            self._notices.append(Notify(level=Level.WARNING, text=f"The backend is not well: {error}"))
        except TimeoutError:
            said = f"The backend {self.backend.name} did not say within {self.settings.health_limit_s:g} s how it is."
            self._notices.append(Notify(level=Level.WARNING, text=said))
        finally:
            self._starting = None
        if self.output.closed:
            return
        ready = self._become(ConductorState.READY)
        if announce:
            await self._say(*events, *self._told_notices(), *ready, self._session_info())

    async def handle(self, event: Input) -> None:
        """Answer one event of the surface. After the end nothing is answered any more."""
        if self.output.closed:
            return
        flow = FLOWS[type(event)]
        try:
            await flow(self, event)
        except (RefusedError, BackendError) as error:
            self.figures.refused_count += 1
            try:
                await self._say(Notify(level=Level.ERROR, text=str(error), event_id=event.event_id))
            except ChannelClosedError:
                return
        except ChannelClosedError:
            return

    async def tell(self, *events: ConductorEvent) -> None:
        """Say something that is no answer, such as how a task goes; waits while the surface has no room. After the end it is not said."""
        try:
            await self._say(*events)
        except ChannelClosedError:
            return

    # ---- coming and going

    async def _connected(self, event: Connected) -> None:
        self._arrived(event.surface_type, event.capabilities)
        await self._say(Ack(event_id=event.event_id), State(state=self.state), self._session_info(), *self._told_notices())
        if not self.settings.greet:
            return
        await self.output.room_for(SAID_COUNT)
        if self.settings.generate_greeting and self.state is ConductorState.READY:
            _, events = self.ask(self.conversations.get(None), GREETING_PROMPT, by_user=False)
            self.output.put(events)
        else:
            greeting = self.session.say(Role.ASSISTANT, self.settings.greeting, content_type=ContentType.MARKDOWN)
            await self._say(greeting.message())

    async def _handshake(self, event: Handshake) -> None:
        if event.protocol_version != PROTOCOL_VERSION:
            reason = f"protocol version {event.protocol_version} is not spoken here; {PROTOCOL_VERSION} is"
            await self._say(HandshakeAck(accepted=False, rejection_reason=reason))
            return
        self._arrived(event.surface_type, event.capabilities)
        await self._say(
            HandshakeAck(accepted=True, connection_id=self.connection_id),
            Ack(event_id=event.event_id),
            State(state=self.state),
            self._session_info(),
            self._snapshot(),
            *self._told_notices(),
        )

    async def _disconnected(self, event: Disconnected) -> None:
        for conversation_id in [conversation.id for conversation in self.conversations]:
            self.cancel(conversation_id, "cancelled: the surface has gone")
        self.session.move_to(SessionState.PAUSED)
        self.output.take_many()  # nobody reads it; whoever comes next gets a snapshot

    async def _quit(self, event: QuitRequested) -> None:
        await self.quit(event_id=event.event_id)

    async def _capabilities(self, event: CapabilitiesReport) -> None:
        self._can(event.capabilities)
        await self._acked(event)

    async def _resized(self, event: Resized) -> None:
        self._can(replace(self.capabilities, columns=event.columns, rows=event.rows))
        await self._acked(event)

    # ---- talk

    async def _user_message(self, event: UserMessage) -> None:
        check_text(event.text, self.settings.limits)
        await self.output.room_for(SAID_COUNT)
        conversation = self.conversations.get(event.conversation_id)
        self._check_ready()
        self._streams.check(conversation.id)
        self._rate.take()
        message_id, events = self.ask(conversation, event.text)
        self.output.put([Ack(event_id=event.event_id, message_id=message_id, conversation_id=conversation.id), *events])
        self.figures.published_count += 1

    async def _cancel_stream(self, event: CancelStream) -> None:
        await self.output.room_for(SAID_COUNT)
        conversation = self.conversations.get(event.conversation_id)
        events = self.cancel(conversation.id, "cancelled: the user stopped it")
        if not events:
            raise RefusedError("nothing is being answered in this conversation, so that there is nothing to cancel")
        self.output.put([*self._ack(event), *events])

    async def _typing(self, event: UserTyping) -> None:
        if self.state is ConductorState.READY and event.typing:
            await self._say(*self._become(ConductorState.LISTENING))
        elif self.state is ConductorState.LISTENING and not event.typing:
            await self._say(*self._become(ConductorState.READY))

    async def _command(self, event: UserCommand) -> None:
        check_command(event, self.settings.limits)
        command = COMMANDS.get(event.command.lower())
        if command is None:
            raise RefusedError(f"there is no command /{event.command}; /help lists those that there are")
        await command(self, event)

    async def _help(self, event: UserCommand) -> None:
        await self._acked(event, self._note(HELP))

    async def _clear(self, event: UserCommand) -> None:
        self.session.clear(self.conversations.focused.id)
        await self._acked(event, self._snapshot())

    async def _leave(self, event: UserCommand) -> None:
        await self.quit(event_id=event.event_id)

    async def _model(self, event: UserCommand) -> None:
        if not event.args:
            models = await self.backend.list_models()
            await self._acked(event, self._note(f"The model is {self.model}. There are: {', '.join(models) or 'none'}."))
            return
        name = event.args[0]
        if not await self.backend.has_model(name):
            raise RefusedError(f"the backend has no model {name!r}; /model lists those that it has")
        self.model = name
        await self._acked(event, self._session_info())

    # ---- conversations

    async def _new_conversation(self, event: NewConversation) -> None:
        if event.title:
            check_text(event.title, self.settings.limits)
        conversation = self.conversations.create(event.title)
        created = ConversationCreated(conversation_id=conversation.id, title=conversation.title, priority=conversation.priority)
        await self._say(Ack(event_id=event.event_id, conversation_id=conversation.id), created)

    async def _remove_conversation(self, event: RemoveConversation) -> None:
        await self.output.room_for(SAID_COUNT)
        in_front = self.conversations.focused.id
        conversation = self.conversations.remove(event.conversation_id)
        events = self.cancel(conversation.id, "cancelled: the conversation was removed")
        self.session.clear(conversation.id)
        events.append(ConversationRemoved(conversation_id=conversation.id))
        if self.conversations.focused.id != in_front:
            events += self._focus_told()
        self.output.put([*self._ack(event), *events])

    async def _focus(self, event: FocusConversation) -> None:
        await self._look_at(event, self.conversations.get(event.conversation_id))

    async def _focus_next(self, event: FocusNextConversation) -> None:
        await self._look_at(event, self.conversations.neighbour(1))

    async def _focus_prev(self, event: FocusPrevConversation) -> None:
        await self._look_at(event, self.conversations.neighbour(-1))

    async def _look_at(self, event: Input, conversation: Conversation) -> None:
        changed = self.conversations.focus(conversation.id)
        await self._acked(event, *(self._focus_told() if changed else ()))

    async def _summary(self, event: RequestSummary) -> None:
        conversation = self.conversations.get(event.conversation_id)
        await self._acked(event, SummaryReady(conversation_id=conversation.id, summary=self.session.summary(conversation.id)))

    # ---- the rest

    async def _surface_error(self, event: SurfaceError) -> None:
        self.figures.errors_count += 1
        log.warning("the surface reports an error: %s", event.reason[:500])

    async def _statistics(self, event: Statistics) -> None:
        await self._say(StatisticsReport(figures=self.report()))

    async def _heard(self, event: Input) -> None:
        """Nothing follows from it, but whoever asked for an answer gets one."""
        await self._acked(event)

    # ---- words

    async def _say(self, *events: ConductorEvent) -> None:
        await self.output.put_many(events)

    async def _acked(self, event: Input, *events: ConductorEvent) -> None:
        await self._say(*self._ack(event), *events)

    def _ack(self, event: Input) -> list[ConductorEvent]:
        return [Ack(event_id=event.event_id)] if event.event_id else []

    def _note(self, text: str) -> ConductorEvent:
        said = self.session.say(Role.SYSTEM, text, conversation_id=self.conversations.focused.id, content_type=ContentType.SYSTEM)
        return said.message()

    def _told_notices(self) -> list[Notify]:
        notices, self._notices = self._notices, []
        return notices

    def _session_info(self) -> SessionInfo:
        ready = self.state not in (ConductorState.INITIALIZING, ConductorState.SHUTTING_DOWN)
        return SessionInfo(session_id=self.session.id, model=self.model, ready=ready)

    def _snapshot(self) -> StateSnapshot:
        return StateSnapshot(state=self.state, messages=self.session.last(SNAPSHOT_COUNT), conversations=self.conversations.infos())

    def _focus_told(self) -> list[ConductorEvent]:
        self._streams.focus_id = self.conversations.focused.id
        return [ConversationFocused(conversation_id=self.conversations.focused.id)]

    def _check_ready(self) -> None:
        if self.state is ConductorState.INITIALIZING:
            raise RefusedError("the conductor is still starting; send the message again once its state is ready")
        if self.session.state is SessionState.PAUSED:
            raise RefusedError("the session is paused because its surface has gone; connect again first")

    def _arrived(self, surface_type: SurfaceType, capabilities: Capabilities | None) -> None:
        self._can(capabilities or PRESETS.get(surface_type, Capabilities()))
        if self.session.state is SessionState.PAUSED:
            self.session.move_to(SessionState.ACTIVE)

    def _can(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self._streams.throttled = capabilities.throttle
        self._work.set()


Flow = Callable[[Conductor, Any], Awaitable[None]]

FLOWS: dict[type[Input], Flow] = {
    Connected: Conductor._connected,
    Handshake: Conductor._handshake,
    Disconnected: Conductor._disconnected,
    QuitRequested: Conductor._quit,
    CapabilitiesReport: Conductor._capabilities,
    Resized: Conductor._resized,
    UserMessage: Conductor._user_message,
    UserCommand: Conductor._command,
    UserTyping: Conductor._typing,
    CancelStream: Conductor._cancel_stream,
    NewConversation: Conductor._new_conversation,
    RemoveConversation: Conductor._remove_conversation,
    FocusConversation: Conductor._focus,
    FocusNextConversation: Conductor._focus_next,
    FocusPrevConversation: Conductor._focus_prev,
    RequestSummary: Conductor._summary,
    ExitSummary: Conductor._heard,
    Statistics: Conductor._statistics,
    SurfaceError: Conductor._surface_error,
    Pong: Conductor._heard,
    UserScrolled: Conductor._heard,
    MessageReceived: Conductor._heard,
    RenderComplete: Conductor._heard,
}
COMMANDS: dict[str, Flow] = {
    "help": Conductor._help,
    "clear": Conductor._clear,
    "model": Conductor._model,
    "quit": Conductor._leave,
    "exit": Conductor._leave,
}
