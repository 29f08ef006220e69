"""The threads that queries wait in: few, shared by all sources of the process, gone when the last source is closed.

Database drivers block. A `Lane` runs the calls of one cursor in these threads, one after the other. When the caller is cancelled while a
call runs, the call is asked to stop (if it can), goes on in its thread until it does, and the lane's next call waits for it: two calls of
one lane never overlap. A call's outcome is stored by the call itself, where it must outlive a caller that has gone.

A call that takes longer than SLOW_S, or that nobody waits for any more, does not count among the few: a source that hangs costs a
thread of its own, and holds the others up no longer than that. There may be LEFT_COUNT of those; beyond it, calls wait.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from floodmark.systems.pipeline.errors import PipelineError

Result = TypeVar("Result")
THREADS_COUNT = min(8, (os.cpu_count() or 1) + 2)  # a query waits for disk or network; two more than cores keep the cores busy
LEFT_COUNT = 64
SLOW_S = 1.0


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
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()  # for a thread
        self._counted: set[Future[Any]] = set()  # that run, and not for long

    def hold(self) -> None:
        """Keep the pool until `release`."""
        with self._lock:
            self._holders_count += 1
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads_count + LEFT_COUNT, thread_name_prefix="floodmark-query")

    def release(self) -> None:
        """Let go; the last one ends the threads when their calls have ended, without waiting for them."""
        with self._lock:
            self._holders_count -= 1
            if self._holders_count:
                return
            pool, self._pool = self._pool, None
            waiting, self._waiting, self._counted = tuple(self._waiting), deque(), set()
        if pool is not None:
            for future, call in waiting:
                pool.submit(_run, future, call)
            pool.shutdown(wait=False)

    def submit(self, call: Callable[[], Result]) -> Future[Outcome[Result]]:
        """Run a call when a thread is free."""
        with self._lock:
            if self._pool is None:
                raise ThreadsGoneError("the source is closed")
            future: Future[Outcome[Result]] = Future()
            self._waiting.append((future, call))
        future.add_done_callback(self.leave)
        self._begin()
        return future

    def leave(self, future: Future[Any]) -> None:
        """Count a call no longer: it has ended, it takes long, or nobody waits for it any more."""
        with self._lock:
            self._counted.discard(future)
        self._begin()

    def _begin(self) -> None:
        """Start calls that wait, as many as there is room for."""
        with self._lock:
            while self._pool is not None and self._waiting and len(self._counted) < self._threads_count:
                future, call = self._waiting.popleft()
                if not future.cancelled():
                    self._counted.add(future)
                    self._pool.submit(_run, future, call)


def _run(future: Future[Outcome[Result]], call: Callable[[], Result]) -> None:
    """In a thread: run a call, unless it was cancelled before."""
    if future.set_running_or_notify_cancel():
        future.set_result(Outcome(call))


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
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def takes_long() -> None:
            nonlocal timer
            self._threads.leave(future)
            timer = loop.call_later(SLOW_S, takes_long)  # again: it may have had to wait for a thread so far

        timer = loop.call_later(SLOW_S, takes_long)
        try:
            outcome = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.done():
                if interrupt is not None:
                    interrupt()
                self._threads.leave(future)
            raise
        finally:
            timer.cancel()
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
