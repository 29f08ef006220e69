"""What the surface knows: its conversations and their pages, how fast answers come, what the conductor is doing. Fed by its events.

Pure but for the pages' own clock: no event loop, no widgets, so that every event can be tried without a screen. An answer is checked when
it ends: as many characters must have come as the conductor says it has sent, or the page says how many are missing. Figures of an answer in
progress are the surface's own, from what it has sent and seen; those of an ended one are the conductor's. Not here: what a key does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.terminal.page import Page
from floodmark.systems.conductor.terminal.paint import Kind

NOTICES_COUNT = 20  # that may wait to be shown
SENT_COUNT = 32  # messages that may wait for their acknowledgement
MAIN_TITLE = "Main"
TITLE_CHARS = 60
UNNAMED = "Conversation "  # how the conductor calls one that nobody gave a title


class Pace:
    """How an answer in progress comes."""

    __slots__ = ("chars_count", "first_s", "message_id", "seen_s", "sent_s", "tokens_count")

    def __init__(self, message_id: str, sent_s: float | None) -> None:
        self.message_id = message_id
        self.sent_s = sent_s
        self.first_s: float | None = None
        self.seen_s = 0.0
        self.tokens_count = 0
        self.chars_count = 0

    @property
    def rate_hz(self) -> float:
        """Tokens per second since the first one; 0 before there is a time to divide by."""
        if self.first_s is None or self.seen_s <= self.first_s:
            return 0.0
        return max(self.tokens_count - 1, 0) / (self.seen_s - self.first_s)

    @property
    def ttft_s(self) -> float | None:
        """From the sending to the first token."""
        return None if self.first_s is None or self.sent_s is None else max(self.first_s - self.sent_s, 0.0)


class Room:
    """A conversation as the surface has it."""

    __slots__ = ("conversation_id", "last", "named", "pace", "page", "state", "title", "unseen")

    def __init__(self, conversation_id: str, title: str) -> None:
        self.conversation_id, self.title = conversation_id, title
        self.named = not title.startswith(UNNAMED)  # by a person, or for good; else the first question becomes its title
        self.state = say.ConversationState.IDLE
        self.page = Page()
        self.pace: Pace | None = None  # of the answer in progress
        self.last: say.ResponseMetadata | None = None  # of the newest one that has ended
        self.unseen = False  # something came while another conversation was shown


class Board:
    """Everything that the screen shows, as the events tell it."""

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {say.MAIN_ID: Room(say.MAIN_ID, MAIN_TITLE)}
        self.focus_id = say.MAIN_ID
        self.state = say.ConductorState.INITIALIZING
        self.model = ""
        self.session_id = ""
        self.notices: deque[tuple[say.Level, str]] = deque(maxlen=NOTICES_COUNT)
        self.quit_message: str | None = None  # set once the conductor has said its last word
        self.answers: deque[say.Event] = deque(maxlen=SENT_COUNT)  # pings and queries that the surface has to answer
        self.arrived: deque[str] = deque(maxlen=SENT_COUNT)  # conversations that were asked for and are there now
        self._asked: set[str] = set()  # event ids of questions for a new conversation
        self._awaited: set[str] = set()  # conversations that are promised
        self._broken = ""  # why the answer that is shown broke off: its page says so, and a notice need not say it again
        self._sent: dict[str, tuple[str, float]] = {}  # event id -> conversation and time, until acknowledged
        self._does: dict[type[say.Event], Callable[[Any, float], None]] = {
            say.Message: self._message,
            say.StreamEnd: self._stream_end,
            say.ConversationStreamEnd: self._stream_end,
            say.StreamError: self._stream_error,
            say.ConversationCreated: self._created,
            say.ConversationFocused: self._focused,
            say.ConversationStateChanged: self._changed,
            say.ConversationRemoved: self._removed,
            say.SummaryReady: self._summary,
            say.TaskCreated: lambda event, _: self._tell(say.Level.INFO, f"task: {event.description}"),
            say.TaskCompleted: lambda event, _: self._tell(say.Level.SUCCESS, f"task done: {event.result or event.task_id}"),
            say.TaskFailed: lambda event, _: self._tell(say.Level.ERROR, f"task failed: {event.reason}"),
            say.Notify: self._notify,
            say.State: self._state,
            say.QueryCapabilities: lambda event, _: self.answers.append(event),
            say.Ping: lambda event, _: self.answers.append(event),
            say.Ack: self._ack,
            say.SessionInfo: self._session,
            say.StateSnapshot: self._snapshot,
            say.Quit: self._quit,
        }

    @property
    def shown(self) -> Room:
        """The conversation that has the focus."""
        return self.rooms[self.focus_id]

    def apply(self, events: Iterable[say.Event], now_s: float) -> None:
        """Take note of events, in order. HOT: one turn per token event."""
        pushed: dict[str, Room] = {}
        for event in events:
            kind = type(event)
            if kind is say.Token:
                room = self.rooms[say.MAIN_ID]
            elif kind is say.StreamToken:
                found = self.rooms.get(event.conversation_id)  # type: ignore[attr-defined]
                if found is None:
                    continue  # of a conversation that was removed
                room = found
            else:
                does = self._does.get(kind)
                if does is not None:
                    does(event, now_s)
                continue
            pace = room.pace
            message_id: str = event.message_id  # type: ignore[attr-defined]
            text: str = event.text  # type: ignore[attr-defined]
            if pace is None or pace.message_id != message_id or not room.page.is_open(message_id):
                pace = self._open(room, message_id)
            pace.tokens_count += event.count  # type: ignore[attr-defined]
            pace.chars_count += len(text)
            if pace.first_s is None:
                pace.first_s = now_s
            pace.seen_s = now_s
            room.page.push(message_id, text)
            pushed[room.conversation_id] = room
        for room in pushed.values():
            self._unseen(room)

    def sent(self, event_id: str, conversation_id: str, now_s: float) -> None:
        """Note that a message was sent, so that the time to its first token can be told."""
        if len(self._sent) >= SENT_COUNT:
            del self._sent[next(iter(self._sent))]
        self._sent[event_id] = (conversation_id, now_s)

    def asked_new(self, event_id: str) -> None:
        """Note that a new conversation was asked for; once it is there, it is among `arrived`."""
        self._asked.add(event_id)

    def absorb(self) -> None:
        """Cut what was gathered into blocks, on every page; once per frame."""
        for room in self.rooms.values():
            room.page.absorb()

    def focus(self, conversation_id: str) -> None:
        """Show a conversation, if it is there."""
        if conversation_id in self.rooms:
            self.focus_id = conversation_id
            self.shown.unseen = False

    def neighbour(self, step: int) -> str:
        """The conversation after (1) or before (-1) the one shown, round and round."""
        ids = list(self.rooms)
        return ids[(ids.index(self.focus_id) + step) % len(ids)]

    # One method per event

    def _open(self, room: Room, message_id: str) -> Pace:
        if room.pace is None or room.pace.message_id != message_id:
            room.pace = Pace(message_id, None)
        room.page.begin(message_id, self.model or "assistant")
        return room.pace

    def _ack(self, event: say.Ack, _now_s: float) -> None:
        if event.event_id in self._asked and event.conversation_id is not None:
            self._asked.discard(event.event_id)
            if event.conversation_id in self.rooms:
                self.arrived.append(event.conversation_id)
            else:
                self._awaited.add(event.conversation_id)
            return
        sent = self._sent.pop(event.event_id, None)
        if sent is None or event.message_id is None:
            return
        room = self.rooms.get(sent[0])
        if room is not None:
            room.pace = Pace(event.message_id, sent[1])

    def _message(self, event: say.Message, _now_s: float) -> None:
        room = self.rooms.get(event.conversation_id)
        if room is None:
            return
        if event.role is say.Role.USER:
            room.page.ask(event.content)
            if not room.named:
                room.title, room.named = " ".join(event.content.split())[:TITLE_CHARS] or room.title, True
        elif event.content_type is say.ContentType.ERROR:
            room.page.note(event.content, kind=Kind.ERROR)
        elif event.role is say.Role.SYSTEM or event.content_type is say.ContentType.SYSTEM:
            room.page.note(event.content)
        else:
            room.page.say(self.model or "assistant", event.content)
        self._unseen(room)

    def _stream_end(self, event: say.StreamEnd | say.ConversationStreamEnd, _now_s: float) -> None:
        room = self.rooms.get(event.conversation_id if isinstance(event, say.ConversationStreamEnd) else say.MAIN_ID)
        if room is None:
            return
        pace = room.pace if room.pace is not None and room.pace.message_id == event.message_id else None
        seen_chars = pace.chars_count if pace else 0
        if not room.page.is_open(event.message_id):
            room.page.begin(event.message_id, self.model or "assistant")
        foot = foot_of(event.metadata, pace.ttft_s if pace else None)
        missing = len(event.final_content) - seen_chars
        if missing and not event.truncated:
            what = f"{missing:,} characters of it never came" if missing > 0 else f"{-missing:,} characters too many came"
            room.page.end(event.message_id, f"✗ {what}; {foot}", kind=Kind.ERROR)
        else:
            room.page.end(event.message_id, foot)
        room.pace, room.last = None, event.metadata
        self._unseen(room)

    def _stream_error(self, event: say.StreamError, _now_s: float) -> None:
        room = self.rooms.get(event.conversation_id)
        if room is None:
            return
        self._broken = event.reason if room is self.shown else ""
        stopped = event.reason.startswith("cancelled")
        if not room.page.is_open(event.message_id):
            room.page.begin(event.message_id, self.model or "assistant")
        words = "■ stopped" if stopped else f"✗ {event.reason}"
        room.page.end(event.message_id, words, kind=Kind.FOOT if stopped else Kind.ERROR)
        room.pace = None
        self._unseen(room)

    def _created(self, event: say.ConversationCreated, _now_s: float) -> None:
        self.rooms.setdefault(event.conversation_id, Room(event.conversation_id, event.title or f"{UNNAMED}{len(self.rooms) + 1}"))
        if event.conversation_id in self._awaited:
            self._awaited.discard(event.conversation_id)
            self.arrived.append(event.conversation_id)

    def _focused(self, event: say.ConversationFocused, _now_s: float) -> None:
        self.focus(event.conversation_id)

    def _changed(self, event: say.ConversationStateChanged, _now_s: float) -> None:
        if event.conversation_id in self.rooms:
            self.rooms[event.conversation_id].state = event.state

    def _removed(self, event: say.ConversationRemoved, _now_s: float) -> None:
        if event.conversation_id == say.MAIN_ID or event.conversation_id not in self.rooms:
            return
        if self.focus_id == event.conversation_id:
            self.focus(self.neighbour(-1))
        del self.rooms[event.conversation_id]

    def _summary(self, event: say.SummaryReady, _now_s: float) -> None:
        if event.conversation_id in self.rooms:
            self.rooms[event.conversation_id].page.note(event.summary)

    def _notify(self, event: say.Notify, _now_s: float) -> None:
        self._sent.pop(event.event_id, None)
        self._asked.discard(event.event_id)
        if event.event_id or not self._broken or self._broken not in event.text:
            self._tell(event.level, event.text)
        self._broken = ""

    def _state(self, event: say.State, _now_s: float) -> None:
        self.state = event.state

    def _session(self, event: say.SessionInfo, _now_s: float) -> None:
        self.session_id, self.model = event.session_id, event.model

    def _snapshot(self, event: say.StateSnapshot, now_s: float) -> None:
        """Take over where things stand; pages that show something already know more than the last few messages."""
        self.state = event.state
        fresh = {room.conversation_id for room in self.rooms.values() if not len(room.page)}
        for known in event.conversations:
            if known.conversation_id not in self.rooms:
                self.rooms[known.conversation_id] = Room(known.conversation_id, known.title)
                fresh.add(known.conversation_id)
            self.rooms[known.conversation_id].state = known.state
            if known.focused:
                self.focus(known.conversation_id)
        for message in event.messages:
            if message.conversation_id in fresh:
                self._message(message, now_s)

    def _quit(self, event: say.Quit, _now_s: float) -> None:
        self.quit_message = event.message

    def _tell(self, level: say.Level, text: str) -> None:
        self.notices.append((level, text))

    def _unseen(self, room: Room) -> None:
        if room.conversation_id != self.focus_id:
            room.unseen = True


def foot_of(metadata: say.ResponseMetadata, ttft_s: float | None = None) -> str:
    """Say in one line what an answer came to.

    >>> foot_of(say.ResponseMetadata(token_count=312, tokens_per_second=83.14, elapsed_ms=3754.0, first_token_ms=120.0))
    '312 tokens in 3.8 s · 83.1 tokens/s · first after 0.12 s'
    """
    count = metadata.token_count
    parts = [f"{count:,} token{'' if count == 1 else 's'} in {show_s(metadata.elapsed_ms / 1e3)}"]
    if metadata.tokens_per_second > 0:
        parts.append(f"{show_rate(metadata.tokens_per_second)} tokens/s")
    first_s = ttft_s if ttft_s is not None else None if metadata.first_token_ms is None else metadata.first_token_ms / 1e3
    if first_s is not None:
        parts.append(f"first after {show_s(first_s)}")
    return " · ".join(parts)


def show_rate(rate_hz: float) -> str:
    """Write a rate in few characters.

    >>> show_rate(83.14), show_rate(1234.5), show_rate(456_789.0)
    ('83.1', '1,234', '457k')
    """
    if rate_hz >= 100_000:
        return f"{rate_hz / 1e3:,.0f}k"
    return f"{rate_hz:,.0f}" if rate_hz >= 100 else f"{rate_hz:.1f}"


def show_s(duration_s: float) -> str:
    """Write a duration in few characters.

    >>> show_s(0.0042), show_s(0.12), show_s(3.754), show_s(75.0)
    ('4 ms', '0.12 s', '3.8 s', '75 s')
    """
    if duration_s < 0.1:
        return f"{duration_s * 1e3:.0f} ms"
    return f"{duration_s:.2f} s" if duration_s < 1 else f"{duration_s:.1f} s" if duration_s < 60 else f"{duration_s:,.0f} s"
