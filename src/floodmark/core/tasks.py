"""Structured concurrency without wrapped errors: a TaskGroup whose first real error comes out as itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from floodmark.core.errors import FloodmarkError


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
