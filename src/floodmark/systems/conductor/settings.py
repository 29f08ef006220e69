"""Every option of a conductor, validated where it is made.

The defaults are those of a chat with a person. A stress run sets `messages_per_minute` to None and `channel_count` to 10,000.
"""

from __future__ import annotations

import enum
import math
from typing import Final

from msgspec import Struct

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.channel import CHANNEL_COUNT

STRESS_CHANNEL_COUNT: Final = 10_000
LEAST_CHANNEL_COUNT: Final = 16  # the events at the end of a stream must fit beside a token
MIB: Final = 1024 * 1024


class Overflow(enum.Enum):
    """What happens to the tokens of a stream that the surface does not take in time."""

    HOLD = "hold"  # they stay with the backend, which waits: nothing is lost
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    CONCATENATE = "concatenate"  # the oldest become one piece: nothing is lost


def _check(condition: bool, sentence: str) -> None:
    if not condition:
        raise UsageError(sentence)


class StreamSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many answers at once, and what is kept of each on its way.

    Args:
        limit_count: answers that may be streamed at once.
        buffer_count: tokens of one stream that may wait in the conductor.
        overflow: what happens when that many wait.
        buffer_chars: characters of one stream that may wait; beyond them the backend waits, whatever `overflow` says.
        throttle_s: between two updates of one stream, for surfaces that are screens.
        idle_limit_s: a stream that gives nothing for so long, though it may, has hung and fails.
    """

    limit_count: int = 16
    buffer_count: int = 1000
    overflow: Overflow = Overflow.HOLD
    buffer_chars: int = MIB
    throttle_s: float = 0.033
    idle_limit_s: float = 30.0

    def __post_init__(self) -> None:
        _check(self.limit_count >= 1, f"limit_count must be at least 1, got {self.limit_count}")
        _check(self.buffer_count >= 1, f"buffer_count must be at least 1, got {self.buffer_count}")
        _check(self.buffer_chars >= 1, f"buffer_chars must be at least 1, got {self.buffer_chars}")
        _check(0 <= self.throttle_s < math.inf, f"throttle_s must be finite and >= 0, got {self.throttle_s!r}")
        _check(0 < self.idle_limit_s < math.inf, f"idle_limit_s must be finite and > 0, got {self.idle_limit_s!r}")


class SessionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of what was said is remembered.

    Args:
        messages_count: the oldest go first beyond it; answers that are being streamed stay.
        kept_bytes: of all messages together, likewise.
        message_kept_bytes: of one streamed answer; of a longer one the newest part is kept, and its end says `truncated`.
    """

    messages_count: int = 1000
    kept_bytes: int = 10 * MIB
    message_kept_bytes: int = MIB

    def __post_init__(self) -> None:
        for name in ("messages_count", "kept_bytes", "message_kept_bytes"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")


class InputLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user may send.

    Args: messages_per_minute: None switches the limit off, as a stress run must.
    """

    message_bytes: int = 100_000
    messages_per_minute: int | None = 30
    command_chars: int = 50
    args_count: int = 10
    arg_chars: int = 1000

    def __post_init__(self) -> None:
        for name in ("message_bytes", "command_chars", "args_count", "arg_chars"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        per_minute = self.messages_per_minute
        _check(per_minute is None or per_minute >= 1, f"messages_per_minute must be at least 1, or None for no limit, got {per_minute}")


class ConductorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it.

    Args:
        model: asked for when nobody says another.
        context_window_count: earlier messages of the conversation that go with a question.
        greet: whether a surface that connects is greeted.
        generate_greeting: whether the backend writes the greeting; `greeting` is said otherwise.
        max_tokens_per_poll: tokens that one poll moves at most, over all streams; it bounds how long a poll takes.
        channel_count: events that may wait for the surface.
        conversations_count: conversations that may be open, the main one among them.
        health_limit_s: how long the health check at the start may take.
        quit_limit_s: how long quitting may take; a backend that does not let go by then is left behind and counted.
    """

    model: str = "yollayah"
    system_prompt: str = ""
    temperature: float = 0.7
    max_tokens: int = 0
    context_window_count: int = 10
    greet: bool = True
    generate_greeting: bool = False
    greeting: str = "Hello. Ask me something, or type /help."
    max_tokens_per_poll: int = 256
    channel_count: int = CHANNEL_COUNT
    conversations_count: int = 10
    health_limit_s: float = 5.0
    quit_limit_s: float = 1.0
    streams: StreamSettings = StreamSettings()
    session: SessionSettings = SessionSettings()
    limits: InputLimits = InputLimits()

    def __post_init__(self) -> None:
        _check(self.context_window_count >= 0, f"context_window_count must be 0 or more, got {self.context_window_count}")
        _check(self.max_tokens_per_poll >= 1, f"max_tokens_per_poll must be at least 1, got {self.max_tokens_per_poll}")
        _check(
            self.channel_count >= LEAST_CHANNEL_COUNT,
            f"channel_count must be at least {LEAST_CHANNEL_COUNT}, or the end of a stream does not fit; got {self.channel_count}",
        )
        _check(self.conversations_count >= 1, f"conversations_count must be at least 1, the main one; got {self.conversations_count}")
        for name in ("health_limit_s", "quit_limit_s"):
            _check(0 < getattr(self, name) < math.inf, f"{name} must be finite and > 0, got {getattr(self, name)!r}")


def stress_settings(*, channel_count: int = STRESS_CHANNEL_COUNT) -> ConductorSettings:
    """Give the settings of a load: no greeting, no rate limit, a long channel."""
    return ConductorSettings(greet=False, channel_count=channel_count, limits=InputLimits(messages_per_minute=None))
