"""Read a run folder to its end, and feed a conductor with it: what is there already at once, and what is added as it comes.

`lines` gives what a run tells, `follow` says it to a conductor. It waits for room in the conductor's channel, so that a screen which cannot
follow holds the feed up, never the run. A run whose process has gone without a last line gets one here.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from floodmark.core.errors import UsageError
from floodmark.live import recorded
from floodmark.live.story import Story
from floodmark.live.tail import Tail
from floodmark.report.folder import RESULT, RunFolder
from floodmark.report.live import LIVE, AnyLine, Closed, Opened
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.vocabulary import Level, Notify

LOOK_S = 0.2
QUIET_S = 2.0  # without a line: time to see whether the run is still there
NAMELESS_S = 30.0  # without a line of a run whose process is not known, since its first line could not be read
BATCH_COUNT = 64  # lines told at once
GONE = "its process has ended without a last word; it was killed, most likely"


def require_watchable(folder: RunFolder) -> None:
    """Refuse a folder in which there is nothing to see. Raises: UsageError."""
    if not (folder.path / LIVE).exists() and not (folder.path / RESULT).exists():
        raise UsageError(f"{folder.path} has neither {LIVE} nor {RESULT}: no run was told there, so there is nothing to watch")


async def lines(folder: RunFolder, *, alive: Callable[[int], bool] | None = None) -> AsyncGenerator[list[AnyLine] | int]:
    """Give what a run tells, some lines at a time, until it is over; a number says how many lines could not be read so far.

    Args: alive: says whether a process is still there.
    Raises: UsageError when a finished run cannot be read.
    """
    with Tail(folder.path / LIVE) as tail:
        if tail.find():
            async for told in _growing(tail, alive or _alive):
                yield told
            return
    told_before = recorded.lines(folder)
    while batch := list(itertools.islice(told_before, BATCH_COUNT)):
        yield batch


async def follow(folder: RunFolder, conductor: Conductor, *, alive: Callable[[int], bool] | None = None) -> None:
    """Tell a conductor what a run tells, to the end of the run. Raises: UsageError as `lines` does."""
    story = Story()
    async with aclosing(lines(folder, alive=alive)) as told:
        async for batch in told:
            if isinstance(batch, int):
                noun = "line" if batch == 1 else "lines"
                await conductor.tell(Notify(level=Level.INFO, text=f"{batch} {noun} of {LIVE} could not be read and left out"))
            else:
                await conductor.tell(*(event for line in batch for event in story.events(line)))


async def _growing(tail: Tail, alive: Callable[[int], bool]) -> AsyncGenerator[list[AnyLine] | int]:
    pid, t_s, quiet_s, broken_count = 0, 0.0, 0.0, 0
    while True:
        found = tail.read()
        if tail.broken_count > broken_count:
            broken_count = tail.broken_count
            yield broken_count
        if found:
            yield found
            pid = next((line.pid for line in found if isinstance(line, Opened)), pid)
            if any(isinstance(line, Closed) for line in found):
                return
            t_s, quiet_s = found[-1].t_s, 0.0
            continue
        if (quiet_s >= QUIET_S and not alive(pid)) if pid else quiet_s >= NAMELESS_S:
            yield [Closed(t_s=t_s, trouble=GONE)]
            return
        await asyncio.sleep(LOOK_S)
        quiet_s += LOOK_S


def _alive(pid: int) -> bool:
    """Whether there is such a process; one that was given the number since counts as it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
