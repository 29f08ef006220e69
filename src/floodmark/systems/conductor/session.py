"""What was said in one session, within its limits: the oldest messages are pruned by count and by bytes, never an answer that is streamed.

An answer grows piece by piece. Of one longer than `message_kept_bytes` only the newest part is kept and the rest is counted, so that an
answer of 100 MB costs a megabyte; its end says `truncated`. All messages together stay within `kept_bytes`, apart from the answers that
are being streamed: INVARIANT: kept_bytes <= the limit, or every message left is being streamed.

Not here: who is told about it. Single-threaded.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final

from floodmark.systems.conductor.backend.base import ChatMessage
from floodmark.systems.conductor.settings import SessionSettings
from floodmark.systems.conductor.states import SESSION_STEPS, SessionState
from floodmark.systems.conductor.vocabulary import MAIN_ID, ContentType, Message, Role

PIECES_COUNT: Final = 256  # that many small pieces become one block, so that a slow answer is not a million objects
SUMMARY_CHARS: Final = 80
_session_numbers = itertools.count(1)


def size_bytes(text: str) -> int:
    """Count the bytes of a text in UTF-8; quick for plain ASCII."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def newest(text: str, limit_bytes: int) -> str:
    """Give the longest end of `text` that has no more than `limit_bytes` in UTF-8."""
    if limit_bytes > 0 and text.isascii():
        return text[-limit_bytes:]
    if size_bytes(text) <= limit_bytes:
        return text
    return text.encode(errors="surrogatepass")[-limit_bytes:].decode(errors="ignore") if limit_bytes > 0 else ""


class StoredMessage:
    """A message as it is kept; an answer grows until it is closed."""

    __slots__ = (
        "_blocks",
        "_pieces",
        "_pieces_bytes",
        "content_type",
        "conversation_id",
        "id",
        "kept_bytes",
        "role",
        "said_bytes",
        "streaming",
    )

    def __init__(self, message_id: str, role: Role, conversation_id: str, content_type: ContentType, *, streaming: bool) -> None:
        self.id, self.role, self.conversation_id, self.content_type = message_id, role, conversation_id, content_type
        self.streaming = streaming
        self._blocks: deque[tuple[str, int]] = deque()  # text and its bytes, oldest first
        self._pieces: list[str] = []  # what came since the last block
        self._pieces_bytes = 0
        self.kept_bytes = 0
        self.said_bytes = 0

    @property
    def truncated(self) -> bool:
        """Whether its oldest part is not kept."""
        return self.kept_bytes < self.said_bytes

    def content(self) -> str:
        """Give what is kept of it."""
        return "".join([*(text for text, _ in self._blocks), *self._pieces])

    def append(self, text: str, limit_bytes: int) -> int:
        """Add to it and forget its oldest part beyond the limit. Returns: by how many bytes what is kept has changed."""
        before = self.kept_bytes
        count = size_bytes(text)
        self._pieces.append(text)
        self._pieces_bytes += count
        self.said_bytes += count
        self.kept_bytes += count
        if len(self._pieces) >= PIECES_COUNT or self.kept_bytes > limit_bytes:
            self._blocks.append(("".join(self._pieces), self._pieces_bytes))
            self._pieces, self._pieces_bytes = [], 0
            self._trim(limit_bytes)
        return self.kept_bytes - before

    def _trim(self, limit_bytes: int) -> None:
        while self.kept_bytes > limit_bytes:
            text, count = self._blocks.popleft()
            self.kept_bytes -= count
            if self.kept_bytes < limit_bytes:  # a part of this block still fits
                rest = newest(text, limit_bytes - self.kept_bytes)
                rest_bytes = size_bytes(rest)
                if rest:
                    self._blocks.appendleft((rest, rest_bytes))
                self.kept_bytes += rest_bytes
                return

    def message(self) -> Message:
        """Give it as an event."""
        return Message(
            id=self.id, role=self.role, content=self.content(), content_type=self.content_type, conversation_id=self.conversation_id
        )


class Session:
    """All messages of all conversations of one surface, in the order in which they began."""

    def __init__(self, settings: SessionSettings | None = None) -> None:
        self.settings = settings or SessionSettings()
        self.id = f"session_{time.time_ns() // 1_000_000}_{next(_session_numbers)}"
        self.state = SessionState.ACTIVE
        self.kept_bytes = 0
        self.pruned_count = 0
        self._messages: OrderedDict[str, StoredMessage] = OrderedDict()
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[StoredMessage]:
        return iter(tuple(self._messages.values()))

    def next_id(self) -> str:
        """Give an id that no message of this session has."""
        return f"msg_{next(self._numbers)}"

    def move_to(self, state: SessionState) -> None:
        """Take a step of the table of states; the state it is in already is no step."""
        if state is not self.state:
            SESSION_STEPS.check(self.state, state)
            self.state = state

    def say(self, role: Role, text: str, *, conversation_id: str = MAIN_ID, content_type: ContentType = ContentType.PLAIN) -> StoredMessage:
        """Store a whole message."""
        message = StoredMessage(self.next_id(), role, conversation_id, content_type, streaming=False)
        message.append(text, self.settings.kept_bytes)
        self._store(message)
        return message

    def open_answer(self, *, conversation_id: str = MAIN_ID) -> StoredMessage:
        """Store an empty answer that will grow; it is not pruned before `close_answer`."""
        message = StoredMessage(self.next_id(), Role.ASSISTANT, conversation_id, ContentType.MARKDOWN, streaming=True)
        self._store(message)
        return message

    def append(self, message: StoredMessage, text: str) -> None:
        """Let an answer grow. HOT: once per batch of tokens."""
        self.kept_bytes += message.append(text, self.settings.message_kept_bytes)
        if self.kept_bytes > self.settings.kept_bytes:
            self._prune()

    def close_answer(self, message: StoredMessage) -> None:
        """The answer is over; from now on it is as old as it is."""
        message.streaming = False
        self._prune()

    def forget(self, message: StoredMessage) -> None:
        """Drop one message as if it had never been there."""
        if self._messages.pop(message.id, None) is not None:
            self.kept_bytes -= message.kept_bytes

    def clear(self, conversation_id: str) -> int:
        """Drop the messages of one conversation, but not an answer that is being streamed. Returns: how many."""
        gone = [message for message in self._messages.values() if message.conversation_id == conversation_id and not message.streaming]
        for message in gone:
            self.forget(message)
        return len(gone)

    def of(self, conversation_id: str) -> list[StoredMessage]:
        """Give the messages of one conversation, oldest first."""
        return [message for message in self._messages.values() if message.conversation_id == conversation_id]

    def last(self, count: int) -> tuple[Message, ...]:
        """Give the newest messages of all conversations, oldest first."""
        newest_first = itertools.islice(reversed(self._messages.values()), count)
        return tuple(message.message() for message in newest_first)[::-1]

    def context(self, conversation_id: str, count: int) -> tuple[ChatMessage, ...]:
        """Give the newest whole messages of one conversation for a backend, oldest first; notices of ours are not among them."""
        told = [message for message in self.of(conversation_id) if not message.streaming and message.role is not Role.SYSTEM]
        return tuple(ChatMessage(role=message.role, content=message.content()) for message in told[-count:]) if count else ()

    def summary(self, conversation_id: str) -> str:
        """Say in three lines what a conversation was about; made of its own words, without asking anybody."""
        messages = self.of(conversation_id)
        asked = [message for message in messages if message.role is Role.USER]
        answered = [message for message in messages if message.role is Role.ASSISTANT and not message.streaming]
        if not asked:
            return "Nothing has been asked yet."
        lines = [f"{len(messages)} messages, {len(asked)} of them questions.", f"First question: {_line(asked[0])}"]
        if answered:
            lines.append(f"Last answer: {_line(answered[-1])}")
        return "\n".join(lines)

    def _store(self, message: StoredMessage) -> None:
        self._messages[message.id] = message
        self.kept_bytes += message.kept_bytes
        self._prune()

    def _prune(self) -> None:
        settings, messages = self.settings, self._messages
        while len(messages) > settings.messages_count or self.kept_bytes > settings.kept_bytes:
            oldest = next((message for message in messages.values() if not message.streaming), None)
            if oldest is None:
                return
            self.forget(oldest)
            self.pruned_count += 1


def _line(message: StoredMessage) -> str:
    text = " ".join(message.content().split())
    return text if len(text) <= SUMMARY_CHARS else f"{text[: SUMMARY_CHARS - 3]}..."
