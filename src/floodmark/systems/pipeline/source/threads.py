"""The threads that queries wait in: few, shared by all sources of the process, gone when the last source is closed.

Database drivers block. A `Lane` runs the calls of one cursor in these threads, one after the other. When the caller is cancelled while a
call runs, the call is asked to stop (if it can), goes on in its thread until it does, and the lane's next call waits for it: two calls of
one lane never overlap. A call's outcome is stored by the call itself, where it must outlive a caller that has gone.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from floodmark.systems.pipeline.errors import PipelineError

Result = TypeVar("Result")
THREADS_COUNT = min(8, (os.cpu_count() or 1) + 2)  # a query waits for disk or network; two more than cores keep the cores busy


class ThreadsGoneError(PipelineError):
    """The last source that held the threads was closed."""


class Outcome(Generic[Result]):
    """What a call gave: kept apart from the future, so that nobody complains about an error that nobody was left to read."""

    __slots__ = ("error", "value")

    def __init__(self, call: Callable[[], Result]) -> None:
        self.error: BaseException | None = None
        try:
            self.value = call()
        except BaseException as error:  # handed to the caller by `result`, whatever it is
            self.error = error

    def result(self) -> Result:
        """Give the value or raise the error."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # an error that holds its own frame would keep the frame's data alive
        return self.value


class Threads:
    """A pool that exists while somebody holds it."""

    def __init__(self, threads_count: int = THREADS_COUNT) -> None:
        self._threads_count = threads_count
        self._lock = threading.Lock()
        self._holders_count = 0
        self._pool: ThreadPoolExecutor | None = None

    def hold(self) -> None:
        """Keep the pool until `release`."""
        with self._lock:
            self._holders_count += 1
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads_count, thread_name_prefix="floodmark-query")

    def release(self) -> None:
        """Let go; the last one ends the threads when their calls have ended, without waiting for them."""
        with self._lock:
            self._holders_count -= 1
            pool, self._pool = (self._pool, None) if self._holders_count == 0 else (None, self._pool)
        if pool is not None:
            pool.shutdown(wait=False)

    def submit(self, call: Callable[[], Result]) -> Future[Outcome[Result]]:
        """Run a call when a thread is free."""
        with self._lock:
            if self._pool is None:
                raise ThreadsGoneError("the source is closed")
            return self._pool.submit(Outcome, call)


SHARED = Threads()


class Lane:
    """The calls of one cursor, one at a time."""

    def __init__(self, threads: Threads = SHARED) -> None:
        self._threads = threads
        self._last: Future[Outcome[object]] | None = None

    async def run(self, call: Callable[[], Result], *, interrupt: Callable[[], None] | None = None) -> Result:
        """Run a call in a thread and give what it gives; if cancelled, `interrupt` asks the running call to end early."""
        await self.settled()
        future = self._threads.submit(call)
        self._last = future  # type: ignore[assignment]  # only looked at for being done
        try:
            outcome = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if interrupt is not None and not future.done():
                interrupt()
            raise
        self._last = None
        return outcome.result()

    @property
    def is_busy(self) -> bool:
        """Whether a call runs, perhaps one that nobody waits for any more."""
        return self._last is not None and not self._last.done()

    async def finish(self, call: Callable[[], None]) -> None:
        """Run a last call; here and now if the threads are gone already."""
        try:
            await self.run(call)
        except ThreadsGoneError:
            call()

    async def settled(self) -> None:
        """Wait for a call that was left running by a cancelled caller."""
        if self._last is not None and not self._last.done():
            # Not awaited itself: a caller that is cancelled here must leave the call as it is.
            await asyncio.wait([asyncio.wrap_future(self._last)])
        self._last = None
