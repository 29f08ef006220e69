"""The conversations of one session: which there are, which is in front, and which deserves to be looked at.

The main conversation is always there, has the nil id and the highest priority. At most `limit_count` are open. The stack holds them with
the one looked at most recently in front. Pure but for the clock that is handed in; the messages are in `session`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

from floodmark.core.clock import Clock
from floodmark.systems.conductor.errors import ConversationLimitError, RefusedError, UnknownConversationError
from floodmark.systems.conductor.states import CONVERSATION_STEPS
from floodmark.systems.conductor.vocabulary import MAIN_ID, ConversationInfo, ConversationState

MAIN_PRIORITY: Final = 100
PRIORITY: Final = 50


class Conversation:
    """One thread of talk."""

    __slots__ = ("_clock", "active_s", "id", "priority", "state", "title")

    def __init__(self, conversation_id: str, title: str, priority: int, clock: Clock) -> None:
        self.id, self.title, self.priority = conversation_id, title, priority
        self._clock = clock
        self.state = ConversationState.IDLE
        self.active_s = clock.now_s()

    def touch(self) -> None:
        """Something was said in it just now."""
        self.active_s = self._clock.now_s()

    def move_to(self, state: ConversationState) -> bool:
        """Take a step of the table of states. Returns: whether it was one; the state it is in already is none."""
        if state is self.state:
            return False
        CONVERSATION_STEPS.check(self.state, state)
        self.state = state
        self.touch()
        return True

    def relevance(self) -> float:
        """Say how much it deserves to be looked at: fresh, being streamed, important; half of it after an error."""
        age_s = max(0.0, self._clock.now_s() - self.active_s)
        value = 1 / (1 + 0.1 * age_s) + 2 * (self.state is ConversationState.STREAMING) + 0.02 * self.priority
        return value / 2 if self.state is ConversationState.ERROR else value


class Conversations:
    """All of them, the main one among them from the start."""

    def __init__(self, clock: Clock, *, limit_count: int = 10) -> None:
        self._clock, self._limit_count = clock, limit_count
        self._open: dict[str, Conversation] = {MAIN_ID: Conversation(MAIN_ID, "Main", MAIN_PRIORITY, clock)}
        self.stack: list[str] = [MAIN_ID]  # the one looked at most recently first
        self.focused_by_user = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Conversation]:
        return iter(tuple(self._open.values()))

    @property
    def focused(self) -> Conversation:
        """The one in front."""
        return self._open[self.stack[0]]

    def get(self, conversation_id: str | None) -> Conversation:
        """Find one; None is the main one. Raises UnknownConversationError."""
        found = self._open.get(conversation_id or MAIN_ID)
        if found is None:
            raise UnknownConversationError(str(conversation_id))
        return found

    def create(self, title: str) -> Conversation:
        """Open one more, behind all others. Raises ConversationLimitError."""
        if len(self._open) >= self._limit_count:
            raise ConversationLimitError(self._limit_count)
        conversation = Conversation(str(uuid.uuid4()), title or f"Conversation {len(self._open) + 1}", PRIORITY, self._clock)
        self._open[conversation.id] = conversation
        self.stack.append(conversation.id)
        return conversation

    def remove(self, conversation_id: str) -> Conversation:
        """Close one; the next on the stack comes to the front. Raises RefusedError for the main one."""
        conversation = self.get(conversation_id)
        if conversation.id == MAIN_ID:
            raise RefusedError("the main conversation cannot be removed; /clear empties it")
        del self._open[conversation.id]
        self.stack.remove(conversation.id)
        return conversation

    def focus(self, conversation_id: str | None, *, by_user: bool = True) -> bool:
        """Bring one to the front. Returns: whether it was not there; what the user chose is not taken away by anybody else."""
        conversation = self.get(conversation_id)
        if not by_user and self.focused_by_user:
            return False
        self.focused_by_user = by_user or self.focused_by_user
        if self.stack[0] == conversation.id:
            return False
        self.stack.remove(conversation.id)
        self.stack.insert(0, conversation.id)
        return True

    def neighbour(self, step: int) -> Conversation:
        """Give the one `step` places after the focused one, in the order in which they were opened, round and round."""
        ids = list(self._open)
        return self._open[ids[(ids.index(self.stack[0]) + step) % len(ids)]]

    def by_relevance(self) -> list[Conversation]:
        """Give all, the most relevant first; equals stay in the order in which they were opened."""
        return sorted(self._open.values(), key=Conversation.relevance, reverse=True)

    def infos(self) -> tuple[ConversationInfo, ...]:
        """Give all as a list shows them, in the order in which they were opened."""
        return tuple(
            ConversationInfo(
                conversation_id=one.id,
                title=one.title,
                state=one.state,
                priority=one.priority,
                relevance=one.relevance(),
                focused=one.id == self.stack[0],
            )
            for one in self._open.values()
        )
