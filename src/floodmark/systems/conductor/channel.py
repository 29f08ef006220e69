"""A bounded mailbox between one conductor and its surface: batches in, batches out, nothing dropped.

Whoever may wait uses `put_many`, which waits while the mailbox is full and keeps the order of its callers, or waits with `room_for` and
then puts in what is true at that moment. Whoever must not wait looks at `room()` first and uses `put`. `close` ends it at any moment, full
or not: its last words go in beyond the bound, writers that wait get ChannelClosedError, and the reader still gets everything that was in
it. Memory: `capacity_count` items, batches weighing no more than `capacity_chars` together (one batch may go over it), and the last words.

Single-threaded; any number of writers, one reader.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

from floodmark.systems.conductor.errors import ChannelClosedError

T = TypeVar("T")

CHANNEL_COUNT: Final = 256
CHANNEL_CHARS: Final = 8 * 1024 * 1024


class Channel(Generic[T]):
    """A bounded mailbox of `T`."""

    __slots__ = (
        "_arrived",
        "_capacity_chars",
        "_chars",
        "_closed",
        "_items",
        "_marks",
        "_on_room",
        "_roomy",
        "_turn",
        "_waiting_count",
        "buffered_max",
        "capacity_count",
        "put_count",
        "taken_count",
    )

    def __init__(self, *, capacity_count: int = CHANNEL_COUNT, capacity_chars: int = CHANNEL_CHARS) -> None:
        if capacity_count < 1 or capacity_chars < 1:
            raise ValueError(f"a channel holds at least one item of one character, not {capacity_count} of {capacity_chars}")
        self.capacity_count, self._capacity_chars = capacity_count, capacity_chars
        self._items: list[T] = []
        self._chars = 0
        self._marks: deque[tuple[int, int]] = deque()  # (put_count after a batch with weight, its weight), oldest first
        self._closed = False
        self._waiting_count = 0
        self._on_room: Callable[[], None] | None = None
        self._arrived, self._roomy = asyncio.Event(), asyncio.Event()
        self._turn = asyncio.Lock()  # writers that wait are served in the order in which they came
        self.put_count = 0
        self.taken_count = 0
        self.buffered_max = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closed(self) -> bool:
        """Whether nothing goes in any more."""
        return self._closed

    @property
    def drained(self) -> bool:
        """Whether it is closed and everything in it has been taken."""
        return self._closed and not self._items

    # ---- writers

    def room(self) -> int:
        """Items that fit now; 0 while a writer waits, whose turn it is, and after `close`."""
        if self._closed or self._waiting_count or self._chars >= self._capacity_chars:
            return 0
        return self.capacity_count - len(self._items)

    def put(self, items: Sequence[T], *, chars: int = 0) -> None:
        """Add items without waiting; no more than `room()`.

        Args: chars: what the batch weighs; it is given back once the whole batch has been taken.
        Raises: ChannelClosedError after `close`; ValueError without room, a bug of the caller.
        """
        if self._closed:
            raise ChannelClosedError
        if len(items) > self.capacity_count - len(self._items):
            raise ValueError(f"{len(items)} items do not fit into a channel of {self.capacity_count} that holds {len(self._items)}")
        self._add(items, chars)

    async def put_many(self, items: Sequence[T]) -> None:
        """Add items in order, waiting while there is no room. Cancelled half-way, none was added, unless they are more than ever fit.

        Raises: ChannelClosedError once it is closed.
        """
        if self._closed:
            raise ChannelClosedError
        if self.room() >= len(items):
            self._add(items, 0)
            return
        async with self._waiting():
            at = 0
            while at < len(items):
                free = await self._free(len(items) - at)
                self._add(items[at : at + free], 0)
                at += free

    async def room_for(self, count: int) -> None:
        """Wait, in turn with other writers, until `count` items fit: for a `put` at once after it, of what is known only then.

        Raises: ChannelClosedError once it is closed; ValueError for more than ever fit.
        """
        if count > self.capacity_count:
            raise ValueError(f"{count} items never fit into a channel of {self.capacity_count}")
        if self._closed:
            raise ChannelClosedError
        if self.room() < count:
            async with self._waiting():
                await self._free(count)

    def on_room(self, listener: Callable[[], None] | None) -> None:
        """Have `listener()` called whenever there may be room again."""
        self._on_room = listener

    def close(self, last: Sequence[T] = ()) -> None:
        """Take `last`, beyond the bound if it must be, and then nothing any more. A second call changes nothing."""
        if self._closed:
            return
        self._add(last, 0)
        self._closed = True
        self._arrived.set()
        self._roomy.set()

    # ---- the reader

    def take_many(self, max_count: int | None = None) -> list[T]:
        """Give up to `max_count` items (None: all there are), oldest first, without waiting."""
        items = self._items
        if not items:
            return []
        if max_count is None or len(items) <= max_count:
            self._items = []
        else:
            self._items = items[max_count:]
            del items[max_count:]
        self.taken_count += len(items)
        marks = self._marks
        while marks and marks[0][0] <= self.taken_count:
            self._chars -= marks.popleft()[1]
        self._roomy.set()
        self._tell_room()
        return items

    async def wait(self) -> bool:
        """Wait until there is something to take. Returns: False once it is drained for good. Cancelled, it leaves nothing behind."""
        while not self._items:
            if self._closed:
                return False
            self._arrived.clear()
            await self._arrived.wait()
        return True

    @asynccontextmanager
    async def _waiting(self) -> AsyncIterator[None]:
        """A writer's turn among those who wait."""
        self._waiting_count += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting_count -= 1
            if not self._waiting_count:
                self._tell_room()

    async def _free(self, count: int) -> int:
        """Wait until `count` items fit, or as many as ever do. Returns: how many fit now. Raises: ChannelClosedError."""
        while not self._closed:
            free = self.capacity_count - len(self._items)
            if free >= min(count, self.capacity_count):
                return free
            self._roomy.clear()
            await self._roomy.wait()
        raise ChannelClosedError

    def _add(self, items: Sequence[T], chars: int) -> None:
        if not items:
            return
        self._items += items
        self.put_count += len(items)
        if chars:
            self._chars += chars
            self._marks.append((self.put_count, chars))
        if len(self._items) > self.buffered_max:
            self.buffered_max = len(self._items)
        self._arrived.set()

    def _tell_room(self) -> None:
        if self._on_room is not None:
            self._on_room()
