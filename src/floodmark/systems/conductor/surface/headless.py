"""A surface without a screen: it counts what it is shown, and keeps the texts if it is told to.

Made for loads and for programs that want the answers and not the picture. Memory: one `Seen` per answer of the last `answers_count`; texts
only with `keep_texts`, and then all of them, for as long as the answer is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from floodmark.systems.conductor.vocabulary import (
    Capabilities,
    ConductorEvent,
    ConductorState,
    ConversationStreamEnd,
    Message,
    Notify,
    Quit,
    State,
    StreamEnd,
    StreamError,
    StreamToken,
    SurfaceType,
    Token,
)

ANSWERS_COUNT: Final = 1000
NOTICES_COUNT: Final = 100
_TOKENS: Final = (Token, StreamToken)


class Seen:
    """What was seen of one answer."""

    __slots__ = ("chars_count", "end", "ends_count", "error", "events_count", "late_count", "texts", "tokens_count")

    def __init__(self) -> None:
        self.tokens_count = self.events_count = self.chars_count = 0
        self.ends_count = 0  # ends of any kind: exactly one is right
        self.late_count = 0  # tokens after an end: none is right
        self.end: StreamEnd | ConversationStreamEnd | None = None
        self.error: StreamError | None = None
        self.texts: list[str] = []

    @property
    def text(self) -> str:
        """The whole text, when texts are kept."""
        return "".join(self.texts)


class HeadlessSurface:
    """Counts, and calls whoever wants to know of an end.

    Args:
        capabilities: what it says it can do.
        keep_texts: whether the text of each answer is kept.
        pause: awaited after each batch, with its size; a slow surface is made this way.
    """

    surface_type = SurfaceType.HEADLESS

    def __init__(
        self,
        *,
        capabilities: Capabilities | None = None,
        keep_texts: bool = False,
        pause: Callable[[int], Awaitable[None]] | None = None,
        answers_count: int = ANSWERS_COUNT,
    ) -> None:
        self.capabilities = capabilities
        self._keep_texts, self._pause, self._answers_count = keep_texts, pause, answers_count
        self.answers: OrderedDict[str, Seen] = OrderedDict()
        self.tokens_count = self.events_count = self.chars_count = 0
        self.completed_count = self.failed_count = 0
        self.messages: list[Message] = []
        self.notices: list[Notify] = []
        self.state: ConductorState | None = None
        self.quit: Quit | None = None

    async def show(self, events: list[ConductorEvent]) -> None:
        """Count a batch."""
        self.take(events)
        if self._pause is not None:
            await self._pause(len(events))

    def take(self, events: list[ConductorEvent]) -> None:
        """Count a batch, without waiting. HOT: the loop over tokens does nothing but add."""
        self.events_count += len(events)
        seen: Seen | None = None
        seen_id = ""
        tokens = chars = pieces = 0
        for event in events:
            if isinstance(event, _TOKENS):
                if event.message_id != seen_id:
                    self._add(seen, tokens, chars, pieces)
                    tokens = chars = pieces = 0
                    seen_id = event.message_id
                    seen = self._seen(seen_id)
                text = event.text
                tokens += event.count
                chars += len(text)
                pieces += 1
                if self._keep_texts and seen is not None:
                    seen.texts.append(text)
            else:
                self._add(seen, tokens, chars, pieces)
                tokens = chars = pieces = 0
                seen, seen_id = None, ""
                self._other(event)
        self._add(seen, tokens, chars, pieces)

    def _add(self, seen: Seen | None, tokens: int, chars: int, pieces: int) -> None:
        if seen is None:
            return
        seen.tokens_count += tokens
        seen.chars_count += chars
        seen.events_count += pieces
        if seen.ends_count:
            seen.late_count += tokens
        self.tokens_count += tokens
        self.chars_count += chars

    def _seen(self, message_id: str) -> Seen:
        seen = self.answers.get(message_id)
        if seen is None:
            seen = self.answers[message_id] = Seen()
            if len(self.answers) > self._answers_count:
                self.answers.popitem(last=False)
        return seen

    def _other(self, event: ConductorEvent) -> None:
        match event:
            case StreamEnd() | ConversationStreamEnd():
                seen = self._seen(event.message_id)
                seen.ends_count += 1
                seen.end = event
                self.completed_count += 1
            case StreamError():
                seen = self._seen(event.message_id)
                seen.ends_count += 1
                seen.error = event
                self.failed_count += 1
            case Message():
                self.messages.append(event)
                del self.messages[: -self._answers_count]
            case Notify():
                self.notices.append(event)
                del self.notices[:-NOTICES_COUNT]
            case State():
                self.state = event.state
            case Quit():
                self.quit = event
            case _:
                pass
