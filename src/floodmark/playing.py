"""Play something on an event loop of its own, with everything that shows it, and end it in order when somebody asks for that.

The first Ctrl-C or SIGTERM cancels it, and so does Ctrl-C in the live view; whoever plays keeps what was measured.
Not here: what is played.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from floodmark.core.tasks import group
from floodmark.live.view import View, possible
from floodmark.model.result import RunResult
from floodmark.report.display import Display, Displays
from floodmark.report.terminal import Progress


def played(play: Callable[[Display], Awaitable[RunResult]], progress: Progress, told: Display, *, view: bool) -> RunResult:
    """Play to the end, or to the first interrupt.

    Args:
        play: makes and plays it, given where to tell of it; begun only once the handlers are there: from its run folder on, all ends in
            order.
        view: whether a live view may be shown, if this terminal can hold one.
    """

    async def main() -> RunResult:
        screen = View(progress, wanted=view and possible(sys.stdin, sys.stderr, os.environ))

        async def beside() -> RunResult:
            async with group() as tasks:
                showing = tasks.create_task(screen.follow(interrupt))
                try:
                    return await play(Displays(progress, told, screen))
                finally:
                    showing.cancel()

        task = asyncio.ensure_future(beside())
        loop = asyncio.get_running_loop()
        asked = False

        def interrupt() -> None:
            nonlocal asked
            if not asked:
                asked = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        return await task

    gc.freeze()
    return uvloop.run(main())
