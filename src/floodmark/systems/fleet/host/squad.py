"""One process of workers, seen from the host: who works in it, what it was asked and has not answered, and what it has in memory.

A worker is one of its `members` from when it is given its place until it has stopped. `coming` are those of them that a running process was
told to begin and that it has said nothing of: if it ends before that, they never were there. Not here: what starts, reads and ends it
(`crew.py`).
"""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import Process
from contextlib import suppress

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.host import wire
from floodmark.systems.fleet.host.wire import Member, News, Order, ProcessEndedError

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Squad:
    """One process of workers."""

    def __init__(self, process: Process, numbers: tuple[int, ...], relay: int | None) -> None:
        self.process = process
        self.relay = relay
        self.paused = False
        self.leaving = False  # it was told to end: nobody is given a place in it any more
        self.error = ""  # why we ended it, where it gave a reason
        self.ended = asyncio.Event()
        self.members = {number: Member(number=number) for number in numbers}
        self.coming: set[int] = set()
        self.up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked: dict[int, asyncio.Future[News]] = {}

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def free_count(self, size: int) -> int:
        """How many more workers may begin in it, where a process has `size` at most.

        None before it is up, while it stands still, and when it ends: so it does by itself with its last worker.
        """
        begun = self.up.done() and not self.up.cancelled() and self.up.exception() is None
        if not begun or self.paused or self.leaving or self.ended.is_set() or not self.members:
            return 0
        return max(0, size - len(self.members))

    def expect(self, numbers: tuple[int, ...]) -> None:
        """Give these a place."""
        self.members |= {number: Member(number=number) for number in numbers}
        self.coming.update(numbers)

    def forget(self, numbers: tuple[int, ...]) -> None:
        """These never began here, though its end may not be known yet: they are not among those that end with it."""
        for number in numbers:
            self.members.pop(number, None)
        self.coming.difference_update(numbers)

    def rss_bytes(self) -> int:
        """What the process holds in memory; 0 when it has ended."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as statm:  # noqa: PTH123
                return int(statm.read().split()[1]) * PAGE_BYTES
        except (OSError, IndexError):
            return 0

    async def ask(self, order: Order, limit_s: float) -> News:
        """Send an order and wait for its answer. Raises: FloodmarkError with the worker's own words, or that it did not answer."""
        stdin = self.process.stdin
        assert stdin is not None
        if self.ended.is_set() or stdin.is_closing():  # the pipe breaks a moment before the end is known
            raise ProcessEndedError(f"the process {self.pid} has ended")
        answer: asyncio.Future[News] = asyncio.get_running_loop().create_future()
        self.asked[order.ask] = answer
        try:
            async with asyncio.timeout(limit_s):
                wire.write(stdin, order)
                news = await answer
        except TimeoutError:
            raise FloodmarkError(f"the process {self.pid} did not answer within {limit_s:g} s") from None
        finally:
            del self.asked[order.ask]
        if news.error:
            raise FloodmarkError(news.error)
        return news

    def kill(self) -> None:
        """SIGKILL; the end comes a moment later."""
        self.leaving = True
        with suppress(ProcessLookupError):
            self.process.kill()

    def gone(self) -> ProcessEndedError:
        """What to tell those who wait for it."""
        return ProcessEndedError(self.error or f"the process {self.pid} has ended with code {self.process.returncode}")
