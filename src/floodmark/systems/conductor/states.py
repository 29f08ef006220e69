"""Which state may follow which: of the conductor, of a conversation, of a session. Data, over `core.states`."""

from __future__ import annotations

import enum
from typing import Final

from floodmark.core.states import Transitions
from floodmark.systems.conductor.vocabulary import ConductorState as C
from floodmark.systems.conductor.vocabulary import ConversationState as V


class SessionState(enum.Enum):
    """What a session is doing."""

    ACTIVE = "active"
    BUSY = "busy"  # at least one answer is being streamed
    PAUSED = "paused"  # its surface has gone and may come back
    ENDED = "ended"


S = SessionState

CONDUCTOR_STEPS: Final = Transitions(
    {
        C.INITIALIZING: {C.READY, C.ERROR, C.SHUTTING_DOWN},
        C.READY: {C.LISTENING, C.THINKING, C.ERROR, C.SHUTTING_DOWN},
        C.LISTENING: {C.READY, C.THINKING, C.ERROR, C.SHUTTING_DOWN},
        C.THINKING: {C.RESPONDING, C.READY, C.ERROR, C.SHUTTING_DOWN},
        C.RESPONDING: {C.THINKING, C.READY, C.ERROR, C.SHUTTING_DOWN},
        C.ERROR: {C.READY, C.SHUTTING_DOWN},
        C.SHUTTING_DOWN: set(),
    }
)
CONVERSATION_STEPS: Final = Transitions(
    {
        V.IDLE: {V.STREAMING, V.WAITING_FOR_AGENT},
        V.STREAMING: {V.COMPLETED, V.ERROR, V.IDLE},  # idle: it was cancelled
        V.WAITING_FOR_AGENT: {V.STREAMING, V.COMPLETED, V.ERROR, V.IDLE},
        V.COMPLETED: {V.IDLE, V.STREAMING, V.WAITING_FOR_AGENT},
        V.ERROR: {V.IDLE, V.STREAMING, V.WAITING_FOR_AGENT},
    }
)
SESSION_STEPS: Final = Transitions(
    {
        S.ACTIVE: {S.BUSY, S.PAUSED, S.ENDED},
        S.BUSY: {S.ACTIVE, S.PAUSED, S.ENDED},
        S.PAUSED: {S.ACTIVE, S.ENDED},
        S.ENDED: set(),
    }
)
