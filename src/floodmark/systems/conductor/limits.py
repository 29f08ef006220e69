"""What a user may send: sizes, characters, and how often. A refusal is one sentence that says what would be taken.

Pure but for the clock that the rate limit goes by, which is handed in. Memory of the rate limit: one float per message of the last minute.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from floodmark.core.clock import Clock
from floodmark.systems.conductor.errors import RefusedError
from floodmark.systems.conductor.settings import InputLimits
from floodmark.systems.conductor.vocabulary import UserCommand

MINUTE_S: Final = 60.0
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # line breaks and tabs are text; half a surrogate is not
_CONTROL_IN_ARG = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_COMMAND_NAME = re.compile(r"[A-Za-z0-9_-]+")


def check_text(text: str, limits: InputLimits) -> None:
    """Raise RefusedError unless `text` may be sent as a message."""
    if not text.strip():
        raise RefusedError("the message is empty; write something")
    size_bytes = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    if size_bytes > limits.message_bytes:
        raise RefusedError(f"the message has {size_bytes:,} bytes, and {limits.message_bytes:,} are allowed; send it in parts")
    found = _CONTROL.search(text)
    if found is not None:
        raise RefusedError(f"the message holds the control character U+{ord(found[0]):04X} at position {found.start()}; remove it")


def check_command(command: UserCommand, limits: InputLimits) -> None:
    """Raise RefusedError unless the command has the shape of one; whether there is such a command is not asked here."""
    name = command.command
    if not name or len(name) > limits.command_chars or _COMMAND_NAME.fullmatch(name) is None:
        raise RefusedError(f"{name[:60]!r} is no command; a name has 1 to {limits.command_chars} letters, digits, - or _")
    if len(command.args) > limits.args_count:
        raise RefusedError(f"/{name} got {len(command.args)} arguments, and {limits.args_count} are allowed")
    for number, arg in enumerate(command.args, start=1):
        if len(arg) > limits.arg_chars:
            raise RefusedError(f"argument {number} of /{name} has {len(arg):,} characters, and {limits.arg_chars:,} are allowed")
        found = _CONTROL_IN_ARG.search(arg)
        if found is not None:
            raise RefusedError(f"argument {number} of /{name} holds the control character U+{ord(found[0]):04X}; remove it")


def read_command(text: str) -> UserCommand | None:
    """Read a line such as `/model small`; None when it is a message.

    >>> read_command("/model small"), read_command("and/or")
    (UserCommand(event_id='', command='model', args=('small',)), None)
    """
    words = text.split()
    if not text.startswith("/") or not words or words[0] == "/":
        return None
    return UserCommand(command=words[0][1:], args=tuple(words[1:]))


class RateLimit:
    """So many in any minute, counted exactly; a refused one does not count."""

    __slots__ = ("_clock", "_per_minute", "_taken_s")

    def __init__(self, per_minute: int | None, clock: Clock) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._taken_s: deque[float] = deque()

    def take(self) -> None:
        """Count one more; raise RefusedError when the minute is full."""
        if self._per_minute is None:
            return
        now_s, taken_s = self._clock.now_s(), self._taken_s
        while taken_s and now_s - taken_s[0] >= MINUTE_S:
            taken_s.popleft()
        if len(taken_s) >= self._per_minute:
            again_s = MINUTE_S - (now_s - taken_s[0])
            raise RefusedError(f"{self._per_minute} messages a minute are allowed; the next one can be sent in {again_s:.0f} s")
        taken_s.append(now_s)
