"""One answer while it is streamed: what its tokens become for the surface, and what is known of it at its end.

Takes batches of tokens in order and gives events; embedded commands are taken out on the way. INVARIANT: the `count`s of the events of an
answer add up to the tokens that came, and their texts to the text without the commands: a token that was held back, or taken out whole,
is counted by the next event. Not here: where the events go, and when.
"""

from __future__ import annotations

from collections.abc import Sequence

from floodmark.core.clock import Clock
from floodmark.systems.conductor.backend.base import Complete, TokenStream
from floodmark.systems.conductor.conversations import Conversation
from floodmark.systems.conductor.embedded import EmbeddedCommands
from floodmark.systems.conductor.session import StoredMessage
from floodmark.systems.conductor.vocabulary import (
    MAIN_ID,
    ConductorEvent,
    ConversationStreamEnd,
    ResponseMetadata,
    StreamEnd,
    StreamError,
    StreamToken,
    Token,
)


class Answer:
    """An answer that is being streamed. Its stream has the id of its conversation: each has one at a time."""

    __slots__ = (
        "_carried",
        "_clock",
        "_embedded",
        "conversation",
        "first_s",
        "model",
        "started_s",
        "stored",
        "stream",
        "token_count",
    )

    def __init__(
        self,
        conversation: Conversation,
        stored: StoredMessage,
        stream: TokenStream,
        model: str,
        clock: Clock,
    ) -> None:
        self.conversation, self.stored, self.stream, self.model = conversation, stored, stream, model
        self._clock = clock
        self._embedded = EmbeddedCommands()
        self._carried = 0  # tokens that came and that no event has counted yet
        self.started_s = clock.now_s()
        self.first_s: float | None = None
        self.token_count = 0

    @property
    def emitted_count(self) -> int:
        """Tokens that events have counted."""
        return self.token_count - self._carried

    def events(self, texts: list[str], counts: list[int] | None, *, coalesced: bool, out: list[ConductorEvent]) -> str:
        """Add to `out` what these tokens become, and give their text as it is shown. HOT: once per batch, not per token."""
        arrived = len(texts) if counts is None else sum(counts)
        self.token_count += arrived
        if self.first_s is None:
            self.first_s = self._clock.now_s()
        joined = "".join(texts)
        if self._embedded.passes(joined):
            if coalesced:
                out.append(self._event(joined, arrived + self._carried))
                self._carried = 0
            elif counts is None and not self._carried:
                out.extend(self._single(texts))
            else:
                self._counted(texts, counts, out)
            return joined
        if not coalesced:
            return self._filtered(texts, counts, out)
        shown = self._embedded.feed(joined)
        self._carried += arrived
        if shown:
            out.append(self._event(shown, self._carried))
            self._carried = 0
        return shown

    def flush(self, out: list[ConductorEvent]) -> str:
        """Add what was held back, now that the answer is over, so that no token is missing from the counts."""
        held = self._embedded.flush()
        if held or self._carried:
            out.append(self._event(held, self._carried))
            self._carried = 0
        return held

    def ended(self, complete: Complete) -> ConductorEvent:
        """Give the event of its proper end."""
        stored, metadata = self.stored, self._metadata(complete)
        if stored.conversation_id == MAIN_ID:
            return StreamEnd(message_id=stored.id, final_content=stored.content(), metadata=metadata, truncated=stored.truncated)
        return ConversationStreamEnd(
            conversation_id=stored.conversation_id,
            message_id=stored.id,
            final_content=stored.content(),
            metadata=metadata,
            truncated=stored.truncated,
        )

    def failed(self, reason: str) -> StreamError:
        """Give the event of any other end."""
        return StreamError(message_id=self.stored.id, reason=reason, conversation_id=self.stored.conversation_id)

    def _single(self, texts: list[str]) -> Sequence[ConductorEvent]:
        message_id, conversation_id = self.stored.id, self.stored.conversation_id
        if conversation_id == MAIN_ID:
            return [Token(message_id=message_id, text=text) for text in texts]
        return [StreamToken(conversation_id=conversation_id, message_id=message_id, text=text) for text in texts]

    def _counted(self, texts: list[str], counts: list[int] | None, out: list[ConductorEvent]) -> None:
        for place, text in enumerate(texts):
            out.append(self._event(text, (1 if counts is None else counts[place]) + self._carried))
            self._carried = 0

    def _filtered(self, texts: list[str], counts: list[int] | None, out: list[ConductorEvent]) -> str:
        parts: list[str] = []
        for place, text in enumerate(texts):
            self._carried += 1 if counts is None else counts[place]
            shown = self._embedded.feed(text)
            if shown:
                parts.append(shown)
                out.append(self._event(shown, self._carried))
                self._carried = 0
        return "".join(parts)

    def _event(self, text: str, count: int) -> ConductorEvent:
        stored = self.stored
        if stored.conversation_id == MAIN_ID:
            return Token(message_id=stored.id, text=text, count=count)
        return StreamToken(conversation_id=stored.conversation_id, message_id=stored.id, text=text, count=count)

    def _metadata(self, complete: Complete) -> ResponseMetadata:
        now_s = self._clock.now_s()
        elapsed_s = now_s - self.started_s
        writing_s = 0.0 if self.first_s is None else now_s - self.first_s
        return ResponseMetadata(
            model_id=complete.model or self.model,
            elapsed_ms=elapsed_s * 1e3,
            first_token_ms=None if self.first_s is None else (self.first_s - self.started_s) * 1e3,
            token_count=self.token_count,
            tokens_per_second=self.token_count / writing_s if writing_s > 0 else 0.0,
            usage_count=complete.usage,
            commands=tuple(self._embedded.commands),
        )
