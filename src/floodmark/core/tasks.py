"""Structured concurrency: a TaskGroup whose first real error comes out as itself, and a job that signals end in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from floodmark.core.errors import FloodmarkError

Outcome = TypeVar("Outcome")


@asynccontextmanager
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup; when it fails, its most telling error is raised alone, with the whole group as its cause.

    An error of ours (FloodmarkError) tells more than the network error that came with it.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as raised:
        raise most_telling(raised) from raised


def most_telling(raised: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a group to show: one that was raised on purpose before any other."""

    leaves = list(_leaves(raised))
    return next((leaf for leaf in leaves if isinstance(leaf, FloodmarkError)), leaves[0])


def _leaves(raised: BaseException) -> Iterator[BaseException]:
    if isinstance(raised, BaseExceptionGroup):
        for inner in raised.exceptions:
            yield from _leaves(inner)
    else:
        yield raised


async def until_asked_to_end(job: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Do a job as a task that SIGINT and SIGTERM cancel, once: what is being put away is not disturbed by a second one."""
    task = asyncio.ensure_future(job)
    loop = asyncio.get_running_loop()
    asked = False

    def end() -> None:
        nonlocal asked
        if not asked:
            asked = True
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, end)
    try:
        return await task
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
