"""The processes of a fleet, and who works in which: started, paused, killed and asked by number.

A process runs the workers that it was started with and none later; it ends when the last of them has stopped. Workers are numbered from 1
in the order of their start. What a process says of its members is kept, so that a worker's last word outlives it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.core.parent import die_with_parent
from floodmark.core.tasks import group
from floodmark.systems.fleet.host import wire
from floodmark.systems.fleet.host.network import Network
from floodmark.systems.fleet.host.options import Options
from floodmark.systems.fleet.host.wire import Begin, Member, News, Order, ProcessEndedError

UP_LIMIT_S = 20.0
ANSWER_LIMIT_S = 5.0
STOP_EXTRA_S = 2.0  # beyond the workers' own limit
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Squad:
    """One process of workers."""

    def __init__(self, process: Process, numbers: tuple[int, ...], relay: int | None) -> None:
        self.process = process
        self.numbers = numbers
        self.relay = relay
        self.paused = False
        self.ended = asyncio.Event()
        self.members = {number: Member(number=number) for number in numbers}
        self.up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked: dict[int, asyncio.Future[News]] = {}

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def rss_bytes(self) -> int:
        """What the process holds in memory; 0 when it has ended."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as statm:  # noqa: PTH123
                return int(statm.read().split()[1]) * PAGE_BYTES
        except (OSError, IndexError):
            return 0

    async def ask(self, order: Order, limit_s: float) -> News:
        """Send an order and wait for its answer. Raises: FloodmarkError with the worker's own words, or that it did not answer."""
        if self.ended.is_set():
            raise ProcessEndedError(f"the process {self.pid} has ended")
        assert self.process.stdin is not None
        answer: asyncio.Future[News] = asyncio.get_running_loop().create_future()
        self.asked[order.ask] = answer
        try:
            async with asyncio.timeout(limit_s):
                wire.write(self.process.stdin, order)
                news = await answer
        except TimeoutError:
            raise FloodmarkError(f"the process {self.pid} did not answer within {limit_s:g} s") from None
        finally:
            del self.asked[order.ask]
        if news.error:
            raise FloodmarkError(news.error)
        return news


class Crew:
    """All processes; `async with`: when the block ends, all have ended."""

    def __init__(self, options: Options, url: str, network: Network | None, felt: Callable[[Squad, str], None]) -> None:
        self.options = options
        self.partitions = options.partitions  # as they are now; who starts later starts with these
        self._url = url
        self._network = network
        self._felt = felt  # told when a planted fault has struck in a process
        self._squads: list[Squad] = []
        self._numbers = itertools.count(1)
        self._asks = itertools.count(1)
        self._readers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(self, *exc: object) -> None:
        limit_s = self.options.settings.shutdown_limit_s + STOP_EXTRA_S
        await asyncio.gather(*(self._end(squad, limit_s) for squad in self._alive()))  # gather: each ends in any case
        await asyncio.gather(*self._readers)

    def squads(self) -> list[Squad]:
        """All there ever were, ended ones too, in the order of their start."""
        return list(self._squads)

    def find(self, number: int) -> tuple[Squad, Member]:
        """A worker that runs, and its process. Raises: UsageError."""
        for squad in self._squads:
            if number in squad.numbers:
                if squad.ended.is_set() or squad.members[number].state == "Shutdown":
                    raise UsageError(f"worker number {number} ({squad.members[number].worker or 'it had no id'}) has ended")
                return squad, squad.members[number]
        raise UsageError(f"no worker number {number} was started; numbers count from 1 in the order of their start")

    def running(self) -> list[tuple[Squad, Member]]:
        """The workers that run, by number."""
        found = [(squad, member) for squad in self._alive() for member in squad.members.values() if member.state != "Shutdown"]
        return sorted(found, key=lambda pair: pair[1].number)

    async def start(self, count: int) -> list[tuple[Squad, Member]]:
        """Start so many workers, in as many processes as that takes; returns when they have begun to start.

        Raises: FloodmarkError when a process does not come up; those that did stay.
        """
        numbers = [next(self._numbers) for _ in range(count)]
        size = self.options.per_process_count
        chunks = [tuple(numbers[at : at + size]) for at in range(0, count, size)]
        async with group() as tasks:
            started = [tasks.create_task(self._start(chunk)) for chunk in chunks]
        return [(task.result(), member) for task in started for member in task.result().members.values()]

    async def order(self, squad: Squad, do: str, *, number: int = 0, limit_s: float = ANSWER_LIMIT_S, **what: object) -> News:
        """Give an order to one worker, or to all of a process. Raises: FloodmarkError."""
        order = msgspec.convert({"ask": next(self._asks), "do": do, "number": number, **what}, Order, from_attributes=True)
        return await squad.ask(order, limit_s)

    async def stop(self, squad: Squad, number: int) -> None:
        """Stop one worker gently. Raises: FloodmarkError when it does not."""
        await self.order(squad, "stop", number=number, limit_s=self.options.settings.shutdown_limit_s + STOP_EXTRA_S)
        if all(member.state == "Shutdown" for member in squad.members.values()):
            await squad.ended.wait()

    async def kill(self, squad: Squad) -> None:
        """SIGKILL; its members are gone when this returns."""
        with suppress(ProcessLookupError):
            squad.process.kill()
        await squad.ended.wait()

    def pause(self, squad: Squad) -> None:
        """SIGSTOP."""
        squad.process.send_signal(signal.SIGSTOP)
        squad.paused = True

    def resume(self, squad: Squad) -> None:
        """SIGCONT."""
        squad.process.send_signal(signal.SIGCONT)
        squad.paused = False

    def _alive(self) -> Iterable[Squad]:
        return [squad for squad in self._squads if not squad.ended.is_set()]

    async def _start(self, numbers: tuple[int, ...]) -> Squad:
        relay, url = (None, self._url) if self._network is None else self._network.take()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "floodmark.systems.fleet.host.work"),
            stdin=PIPE,
            stdout=PIPE,
            limit=wire.LINE_BYTES,
            preexec_fn=partial(die_with_parent, signal.SIGKILL),  # a stopped process would not heed another signal
            start_new_session=True,  # Ctrl-C is ours to take
        )
        squad = Squad(process, numbers, relay)
        self._squads.append(squad)
        reader = asyncio.create_task(self._read(squad))  # parent: this object, which waits for it at its end
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        assert process.stdin is not None
        wire.write(
            process.stdin, Begin(options=msgspec.structs.replace(self.options, partitions=self.partitions), url=url, numbers=numbers)
        )
        try:
            async with asyncio.timeout(UP_LIMIT_S):
                await squad.up
        except TimeoutError:
            await self.kill(squad)
            raise FloodmarkError(f"the process of workers {numbers[0]} to {numbers[-1]} was not up within {UP_LIMIT_S:g} s") from None
        return squad

    async def _read(self, squad: Squad) -> None:
        """Take what a process says, until it has ended."""
        reader = squad.process.stdout
        assert reader is not None
        try:
            with suppress(ConnectionError, ValueError, msgspec.MsgspecError):  # what is no line of ours ends the conversation
                while (news := await wire.read(reader, News)) is not None:
                    self._take(squad, news)
        finally:  # whatever happened: somebody may wait for its end
            await squad.process.wait()
            squad.ended.set()
            gone = ProcessEndedError(f"the process {squad.pid} has ended with code {squad.process.returncode}")
            waiting_for: list[asyncio.Future[Any]] = [squad.up, *squad.asked.values()]
            for waiting in waiting_for:
                if not waiting.done():
                    waiting.set_exception(gone)
        if self._network is not None and squad.relay is not None:
            await self._network.give_back(squad.relay)

    def _take(self, squad: Squad, news: News) -> None:
        """Who has asked may have given up: a future that is done stays as it is."""
        for member in news.members:
            squad.members[member.number] = member
        if news.kind == "up" and not squad.up.done():
            squad.up.set_result(None)
        elif news.kind == "answer" and news.ask in squad.asked and not squad.asked[news.ask].done():
            squad.asked[news.ask].set_result(news)
        elif news.kind == "felt":
            self._felt(squad, news.felt)

    async def _end(self, squad: Squad, limit_s: float) -> None:
        """Gently, if it lets us: the end of its stdin tells a process to stop."""
        assert squad.process.stdin is not None
        if squad.paused:
            await self.kill(squad)
            return
        squad.process.stdin.close()
        try:
            async with asyncio.timeout(limit_s):
                await squad.ended.wait()
        except TimeoutError:
            await self.kill(squad)
