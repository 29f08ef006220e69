"""What the conductor and a surface say to each other: one Struct per kind of event, in both directions.

Each event is one JSON object whose `kind` is the name of its Struct in snake_case (`Token` is `token`). `ConductorEvent` is everything that
a conductor may say, `SurfaceEvent` everything that a surface may; a decoder of either refuses an unknown kind. The main conversation has
the nil id, and None stands for it wherever a conversation is named.

Not here: what an avatar does and hints about the layout; a surface decides both for itself. The events about tasks are words that a
surface can show; the conductor itself starts no tasks. Limits of sizes are in `settings`, their checks in `limits`.
"""

from __future__ import annotations

import enum
import re
from typing import Any, Final, TypeAlias

from msgspec import Struct

PROTOCOL_VERSION: Final = 1
MAIN_ID: Final = "00000000-0000-0000-0000-000000000000"  # the conversation that is always there
SLOW_MS: Final = 10_000.0
HEAVY_FILES, HEAVY_BYTES = 3, 100_000


class Role(enum.Enum):
    """Who speaks in a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class ContentType(enum.Enum):
    """How a surface shows a message."""

    PLAIN = "plain"
    MARKDOWN = "markdown"
    CODE = "code"
    ERROR = "error"
    SYSTEM = "system"
    QUOTE = "quote"


class Level(enum.Enum):
    """How much a notice matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    SUCCESS = "success"


class ConductorState(enum.Enum):
    """What the conductor as a whole is doing; the steps between them are in `states`."""

    INITIALIZING = "initializing"
    READY = "ready"
    THINKING = "thinking"
    RESPONDING = "responding"
    LISTENING = "listening"
    ERROR = "error"
    SHUTTING_DOWN = "shutting_down"


class ConversationState(enum.Enum):
    """What one conversation is doing; the steps between them are in `states`."""

    IDLE = "idle"
    STREAMING = "streaming"
    WAITING_FOR_AGENT = "waiting_for_agent"
    COMPLETED = "completed"
    ERROR = "error"


class SurfaceType(enum.Enum):
    """What kind of screen, if any, is at the other end."""

    TUI = "tui"
    WEB = "web"
    DESKTOP = "desktop"
    MOBILE = "mobile"
    HEADLESS = "headless"
    CUSTOM = "custom"


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a surface can do, as it says in its handshake."""

    coalesce: bool = False  # adjacent tokens may come as one Token with their count; the text stays what it is
    throttle: bool = False  # a screen: tokens come at most once per throttle interval
    markdown: bool = False
    color: bool = False
    columns: int = 80
    rows: int = 24


PRESETS: Final[dict[SurfaceType, Capabilities]] = {
    SurfaceType.TUI: Capabilities(coalesce=True, throttle=True, markdown=True, color=True),
    SurfaceType.WEB: Capabilities(coalesce=True, throttle=True, markdown=True, color=True, columns=120, rows=40),
    SurfaceType.HEADLESS: Capabilities(),
}


class ResponseMetadata(Struct, frozen=True, kw_only=True):
    """What is known of an answer once it has ended."""

    model_id: str = ""
    elapsed_ms: float = 0.0
    first_token_ms: float | None = None  # None: there was no token
    token_count: int = 0
    tokens_per_second: float = 0.0
    usage_count: int | None = None  # tokens as the backend told them; None: it told nothing
    commands: tuple[str, ...] = ()  # embedded commands that were on the allow-list, in order
    agent_tasks_spawned: int = 0
    files_processed: int = 0
    bytes_processed: int = 0
    network_involved: bool = False
    context_hint: str = ""

    @property
    def slow(self) -> bool:
        """Whether a reader had to wait long."""
        return self.elapsed_ms > SLOW_MS

    @property
    def heavy(self) -> bool:
        """Whether answering took more than words."""
        return self.agent_tasks_spawned > 0 or self.files_processed > HEAVY_FILES or self.bytes_processed > HEAVY_BYTES


def kind_of(name: str) -> str:
    """Turn the name of a Struct into the `kind` of its events.

    >>> kind_of("ConversationStreamEnd"), kind_of("Token")
    ('conversation_stream_end', 'token')
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Event(Struct, frozen=True, kw_only=True, tag_field="kind", tag=kind_of):
    """Anything that is said, either way."""


# ---- conductor to surface ------------------------------------------------------------------------


class Message(Event, frozen=True, kw_only=True):
    """A whole message, such as the echo of what the user said."""

    id: str
    role: Role
    content: str
    content_type: ContentType = ContentType.PLAIN
    conversation_id: str = MAIN_ID


class Token(Event, frozen=True, kw_only=True, gc=False):
    """A piece of the answer in the main conversation."""

    message_id: str
    text: str
    count: int = 1  # tokens in it: more than 1 where they were coalesced or an embedded command was taken out


class StreamEnd(Event, frozen=True, kw_only=True):
    """The answer in the main conversation is complete."""

    message_id: str
    final_content: str
    metadata: ResponseMetadata
    truncated: bool = False  # the answer was longer than what is kept: final_content is its newest part


class StreamError(Event, frozen=True, kw_only=True):
    """An answer, in whichever conversation, ended without being complete."""

    message_id: str
    reason: str
    conversation_id: str = MAIN_ID


class ConversationCreated(Event, frozen=True, kw_only=True):
    conversation_id: str
    title: str
    priority: int = 50


class ConversationFocused(Event, frozen=True, kw_only=True):
    conversation_id: str


class ConversationStateChanged(Event, frozen=True, kw_only=True):
    conversation_id: str
    state: ConversationState


class StreamToken(Event, frozen=True, kw_only=True, gc=False):
    """A piece of the answer in a conversation other than the main one."""

    conversation_id: str
    message_id: str
    text: str
    count: int = 1


class ConversationStreamEnd(Event, frozen=True, kw_only=True):
    """The answer in a conversation other than the main one is complete."""

    conversation_id: str
    message_id: str
    final_content: str
    metadata: ResponseMetadata
    truncated: bool = False


class SummaryReady(Event, frozen=True, kw_only=True):
    conversation_id: str
    summary: str


class ConversationRemoved(Event, frozen=True, kw_only=True):
    conversation_id: str


class TaskCreated(Event, frozen=True, kw_only=True):
    task_id: str
    description: str


class TaskUpdated(Event, frozen=True, kw_only=True):
    """How far a task is. `figures` have names that end in their unit; `step` is what it is doing, `note` what has just happened."""

    task_id: str
    progress_ratio: float
    step: str = ""
    note: str = ""
    figures: dict[str, float] = {}


class TaskCompleted(Event, frozen=True, kw_only=True):
    task_id: str
    result: str = ""
    figures: dict[str, float] = {}


class TaskFailed(Event, frozen=True, kw_only=True):
    """A task ended, and not well; `result` is its outcome in a word, where there is one."""

    task_id: str
    reason: str
    result: str = ""
    figures: dict[str, float] = {}


class TaskFocus(Event, frozen=True, kw_only=True):
    task_id: str


class Notify(Event, frozen=True, kw_only=True):
    """A sentence for the user; with an `event_id`, it says why that event was refused."""

    level: Level
    text: str
    event_id: str = ""


class State(Event, frozen=True, kw_only=True):
    state: ConductorState


class QueryCapabilities(Event, frozen=True, kw_only=True):
    pass


class Ack(Event, frozen=True, kw_only=True):
    """The event was taken. What it has made, where it made something, is named."""

    event_id: str
    message_id: str | None = None  # of the answer that will be streamed
    conversation_id: str | None = None


class SessionInfo(Event, frozen=True, kw_only=True):
    session_id: str
    model: str
    ready: bool


class HandshakeAck(Event, frozen=True, kw_only=True):
    accepted: bool
    connection_id: str = ""
    rejection_reason: str = ""
    protocol_version: int = PROTOCOL_VERSION


class ConversationInfo(Struct, frozen=True, kw_only=True):
    """A conversation as a list shows it."""

    conversation_id: str
    title: str
    state: ConversationState
    priority: int
    relevance: float
    focused: bool


class StateSnapshot(Event, frozen=True, kw_only=True):
    """Where things stand, for a surface that has just come."""

    state: ConductorState
    messages: tuple[Message, ...]
    conversations: tuple[ConversationInfo, ...] = ()


class Ping(Event, frozen=True, kw_only=True):
    seq: int


class Quit(Event, frozen=True, kw_only=True):
    """The last event of all."""

    message: str = ""


class StatisticsReport(Event, frozen=True, kw_only=True):
    figures: dict[str, float]


# ---- surface to conductor ------------------------------------------------------------------------


class Input(Event, frozen=True, kw_only=True):
    """Anything that a surface says; `event_id` is what the answer refers to, and may be left out."""

    event_id: str = ""


class Connected(Input, frozen=True, kw_only=True):
    """A surface in the same process has come."""

    surface_type: SurfaceType = SurfaceType.HEADLESS
    capabilities: Capabilities | None = None  # None: what its type can usually do


class Handshake(Input, frozen=True, kw_only=True):
    """A surface on another side of a socket has come."""

    protocol_version: int = PROTOCOL_VERSION
    surface_type: SurfaceType = SurfaceType.HEADLESS
    capabilities: Capabilities | None = None
    auth_token: str = ""


class Pong(Input, frozen=True, kw_only=True):
    seq: int


class Disconnected(Input, frozen=True, kw_only=True):
    reason: str = ""


class Resized(Input, frozen=True, kw_only=True):
    columns: int
    rows: int


class UserMessage(Input, frozen=True, kw_only=True):
    text: str
    conversation_id: str | None = None


class UserCommand(Input, frozen=True, kw_only=True):
    command: str
    args: tuple[str, ...] = ()


class UserTyping(Input, frozen=True, kw_only=True):
    typing: bool = True


class UserScrolled(Input, frozen=True, kw_only=True):
    lines: int = 0


class QuitRequested(Input, frozen=True, kw_only=True):
    pass


class SurfaceError(Input, frozen=True, kw_only=True):
    reason: str


class FocusConversation(Input, frozen=True, kw_only=True):
    conversation_id: str | None = None


class FocusNextConversation(Input, frozen=True, kw_only=True):
    pass


class FocusPrevConversation(Input, frozen=True, kw_only=True):
    pass


class RequestSummary(Input, frozen=True, kw_only=True):
    conversation_id: str | None = None


class ExitSummary(Input, frozen=True, kw_only=True):
    conversation_id: str | None = None


class MessageReceived(Input, frozen=True, kw_only=True):
    message_id: str


class RenderComplete(Input, frozen=True, kw_only=True):
    message_id: str = ""


class CapabilitiesReport(Input, frozen=True, kw_only=True):
    capabilities: Capabilities


class CancelStream(Input, frozen=True, kw_only=True):
    conversation_id: str | None = None


class NewConversation(Input, frozen=True, kw_only=True):
    title: str = ""


class RemoveConversation(Input, frozen=True, kw_only=True):
    conversation_id: str


class Statistics(Input, frozen=True, kw_only=True):
    """Ask for the figures; answered by whoever holds them, the conductor or its host."""


ConductorEvent: TypeAlias = (
    Message
    | Token
    | StreamEnd
    | StreamError
    | ConversationCreated
    | ConversationFocused
    | ConversationStateChanged
    | StreamToken
    | ConversationStreamEnd
    | SummaryReady
    | ConversationRemoved
    | TaskCreated
    | TaskUpdated
    | TaskCompleted
    | TaskFailed
    | TaskFocus
    | Notify
    | State
    | QueryCapabilities
    | Ack
    | SessionInfo
    | HandshakeAck
    | StateSnapshot
    | Ping
    | Quit
    | StatisticsReport
)
SurfaceEvent: TypeAlias = (
    Connected
    | Handshake
    | Pong
    | Disconnected
    | Resized
    | UserMessage
    | UserCommand
    | UserTyping
    | UserScrolled
    | QuitRequested
    | SurfaceError
    | FocusConversation
    | FocusNextConversation
    | FocusPrevConversation
    | RequestSummary
    | ExitSummary
    | MessageReceived
    | RenderComplete
    | CapabilitiesReport
    | CancelStream
    | NewConversation
    | RemoveConversation
    | Statistics
)

# What to give `msgspec.json.Decoder`, once. An array is how a writer sends what has gathered.
FromConductor: Any = ConductorEvent | list[ConductorEvent]
FromSurface: Any = SurfaceEvent | list[SurfaceEvent]
