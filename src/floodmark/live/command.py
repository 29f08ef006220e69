"""`floodmark watch`: a run on the screen, or as plain lines where there is no terminal; and what a run starts beside itself.

A run that cannot be found or read is a UsageError (exit code 2). Leaving the screen is 0, Ctrl-C 130; SIGTERM leaves. Watching changes
nothing of a run: the files are read, never written. Whatever ends it, every task has ended and the terminal is as it was.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from contextlib import aclosing
from pathlib import Path
from typing import IO

import msgspec

from floodmark.core.errors import FloodmarkError
from floodmark.core.tasks import group
from floodmark.live import feed
from floodmark.live.source import Nobody
from floodmark.model.verdict import Verdict
from floodmark.report import figures
from floodmark.report.folder import RunFolder
from floodmark.report.live import AnyLine, Began, Closed, Done, Figures, Opened
from floodmark.report.terminal import Progress, stderr_console
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.settings import ConductorSettings

INTERRUPTED, BUG = 130, 70
ORPHAN_S = 0.5  # between two looks whether the run that started us is still there
CHANNEL_COUNT = 1024


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    run: str = "latest"
    base: Path = Path("runs")
    plain: bool = False
    light: bool = False


def run(order: Order, *, stdin: IO[str], stdout: IO[str]) -> int:
    """Watch a run. Returns: the exit code. Raises: UsageError; KeyboardInterrupt without a screen."""
    folder = RunFolder.open(order.run, base=order.base)
    feed.require_watchable(folder)
    if order.plain or not (stdin.isatty() and stdout.isatty()):
        asyncio.run(_tell(folder))
        return 0
    return asyncio.run(show(folder, light=order.light))


async def show(folder: RunFolder, *, beside: bool = False, light: bool = False) -> int:
    """Show a run until the user leaves, or, beside the run that started this process, until that has ended.

    Returns: the exit code. Raises: UsageError when the run cannot be read.
    """
    from floodmark.live.terminal import RunApp  # here: plain lines need no screen, and a screen takes time to load
    from floodmark.systems.conductor.terminal.link import ConductorLink

    conductor = Conductor(Nobody(), ConductorSettings(greet=False, channel_count=CHANNEL_COUNT))
    app = RunApp(ConductorLink(conductor), beside=beside, light=light)
    trouble: list[FloodmarkError] = []

    async def feeding() -> None:
        try:
            await feed.follow(folder, conductor)
        except FloodmarkError as exc:
            trouble.append(exc)
            app.exit(exc.exit_code)

    async def leave_with(parent: int) -> None:
        while os.getppid() == parent:  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(ORPHAN_S)
        app.exit(0)

    gc.freeze()  # what is loaded stays, and need not be looked at again and again
    loop = asyncio.get_running_loop()
    codes = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: 0, signal.SIGHUP: 0}
    for number, code in codes.items():
        loop.add_signal_handler(number, app.exit, code)
    try:
        async with group() as tasks:
            tasks.create_task(conductor.run())
            await conductor.start(announce=False)
            jobs = [tasks.create_task(feeding()), *([tasks.create_task(leave_with(os.getppid()))] if beside else [])]
            try:
                ended = await app.run_async(mouse=False)
            finally:
                for job in jobs:
                    job.cancel()
                await conductor.quit()
    finally:
        for number in codes:
            loop.remove_signal_handler(number)
    if trouble:
        raise trouble[0]
    return BUG if ended is None else ended


async def _tell(folder: RunFolder) -> None:
    """Write plain lines about a run to stderr, to its end."""
    with Progress(stderr_console()) as progress:
        async with aclosing(feed.lines(folder)) as told:
            async for batch in told:
                if isinstance(batch, int):
                    noun = "line" if batch == 1 else "lines"
                    progress.say(f"{batch} {noun} could not be read and left out")
                    continue
                for line in batch:
                    _write(progress, line)


def _write(progress: Progress, line: AnyLine) -> None:
    match line:
        case Opened():
            progress.say(f"{line.run} · seed {line.seed} · {line.command}")
        case Began():
            progress.scenario(line.id, line.title)
        case Figures():
            progress.update(
                phase=line.phase or None,
                connections=line.connections,
                published=line.published,
                delivered=line.delivered,
                rate_hz=line.delivered_hz,
                p99_ns=line.p99_ns,
                rss_bytes=line.target_rss_bytes,
            )
        case Done():
            progress.done(line.result)
        case Closed(trouble=trouble) if trouble:
            progress.say(f"the run ended early: {trouble}")
        case Closed(verdict=Verdict() as verdict, why=why):
            progress.say(f"{figures.MARKS[verdict]} {verdict.value}  {why}")
        case _:
            pass
