"""The reader's end of a watch: what it was told and has not taken yet, in order and bounded, and how it ended.

A watch that is closed ends its reader's loop; one that is lost raises at its reader, once that has read what was told before. Each store
derives its own watch: how entries come to it, and what it lets go of at its end, is for that to say.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable

from floodmark.systems.fleet.store.base import Entry, StoreUnavailableError

WATCH_LIMIT = 65_536  # what one reader may leave untaken, in entries


class QueuedWatch(ABC):
    """One reader's view of some keys; see `base.Watch` for the contract. `of`: where they are, for the words of an error."""

    def __init__(self, of: str) -> None:
        self._operation = f"watch {of}"
        self._waiting: deque[Entry | None] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._closed = False
        self._lost = ""

    def __aiter__(self) -> AsyncIterator[Entry | None]:
        return self

    async def __anext__(self) -> Entry | None:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            if self._lost:
                raise StoreUnavailableError(self._operation, self._lost)
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._woken(self._wake)
            finally:
                self._wake = None
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """Stop, and let a reader that waits go."""
        self._closed = True
        self._waiting.clear()
        self._leave()
        self._ring()

    def lose(self, reason: str) -> None:
        """End it as a lost connection does: what was told is still read, then the reader is told so. The first reason stands."""
        if not self._lost:
            self._lost = reason
            self._leave()
            self._ring()

    def tell(self, entry: Entry) -> None:
        """Take a change, unless it is over. A reader that left too many untaken loses them all: it lists anew anyway."""
        if self._closed or self._lost:
            return
        if len(self._waiting) >= WATCH_LIMIT:
            self._waiting.clear()
            self.lose(f"its reader left more than {WATCH_LIMIT} changes untaken")
            return
        self._waiting.append(entry)
        self._ring()

    def _list(self, alive: Iterable[Entry]) -> None:
        """Take the first listing, all of it, and the word that this is all."""
        self._waiting.extend(alive)
        self._waiting.append(None)
        self._ring()

    def _woken(self, wake: asyncio.Future[None]) -> Awaitable[None]:
        """What a reader waits for that has taken all."""
        return wake

    @abstractmethod
    def _leave(self) -> None:
        """Hear no more; more than once is once."""

    def _ring(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
