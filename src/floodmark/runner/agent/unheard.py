"""What fails in an agent where nobody awaits it: a callback of the event loop, a protocol's method, a task that was forgotten.

The loop would write it into the agent's log and go on: a connection that it closes for it looks lost by the target, a message that was not
counted looks lost as well. So the run ends as UNKNOWN with the reason: the code is ours, or that of the user's own driver, and accuses
nobody. What a network does (OSError), and refusals that nobody waits for any more, are no such failures.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from floodmark.core.errors import SystemUnderTestError
from floodmark.runner.wire import Message, Trouble


class Unheard:
    """A loop's exception handler that tells the runner of the first such failure; all of them are in the log."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._told = False

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take what the loop found."""
        loop.default_exception_handler(context)
        failure = context.get("exception")
        if self._told or not isinstance(failure, Exception) or isinstance(failure, OSError | SystemUnderTestError):
            return
        self._told = True
        text = f"a load agent failed where nobody awaits it: {type(failure).__name__}: {failure}{_place(failure)}"
        self._send(Trouble(kind="target", text=f"{text}; what it counted proves nothing"))


def _place(failure: Exception) -> str:
    """Where it was raised; nothing where that was in compiled code alone."""
    frames = traceback.extract_tb(failure.__traceback__)
    return f" (in {frames[-1].name}, {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
