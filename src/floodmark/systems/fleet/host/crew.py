"""The processes of a fleet, and who works in which: started, paused, killed and asked by number.

A worker that is started takes a free place in a process that runs; those that find none get new processes. A process ends when the last of
its workers has stopped. Workers are numbered from 1 in the order of their start. What a process says of its members is kept, and a worker's
last word outlives it, without its partitions, as one of the last `ENDED_COUNT`: so workers may come and go for ever.
A process that says what is no line of ours is ended, and its workers' last word is why; a bug of the host ends the host.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from asyncio.subprocess import PIPE
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import msgspec

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.core.parent import die_with_parent
from floodmark.core.tasks import group
from floodmark.systems.fleet.host import wire
from floodmark.systems.fleet.host.network import Network
from floodmark.systems.fleet.host.options import Options
from floodmark.systems.fleet.host.squad import Squad
from floodmark.systems.fleet.host.wire import Begin, Member, News, Order, ProcessEndedError

UP_LIMIT_S = 20.0
ANSWER_LIMIT_S = 5.0
STOP_EXTRA_S = 2.0  # beyond the workers' own limit
ENDED_COUNT = 1_000
SHUTDOWN: Final = "Shutdown"
KILLED: Final = "Killed"


class Ended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The last word of a worker that is no more, and of the process that it was in."""

    number: int
    worker: str
    pid: int
    state: str
    epoch: int
    version: int
    error: str


class Crew:
    """All processes; `async with`: when the block ends, all have ended."""

    def __init__(self, options: Options, url: str, network: Network | None, felt: Callable[[Squad, str], None]) -> None:
        self.options = options
        self.partitions = options.partitions  # as they are now; who starts later starts with these
        self.ended: deque[Ended] = deque(maxlen=ENDED_COUNT)
        self._url = url
        self._network = network
        self._felt = felt  # told when a planted fault has struck in a process
        self._squads: list[Squad] = []
        self._started_count = 0
        self._asks = itertools.count(1)
        self._stack = AsyncExitStack()
        self._readers: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Crew:
        self._readers = await self._stack.enter_async_context(group())
        return self

    async def __aexit__(self, *exc: Any) -> None:
        limit_s = self.options.settings.shutdown_limit_s + STOP_EXTRA_S
        try:
            await asyncio.gather(*(self._end(squad, limit_s) for squad in self.squads()))  # gather: each ends in any case
        finally:
            await self._stack.__aexit__(*exc)

    def squads(self) -> list[Squad]:
        """Those that have not ended, in the order of their start."""
        return list(self._squads)

    def find(self, number: int) -> tuple[Squad, Member]:
        """A worker that runs, and its process. Raises: UsageError."""
        for squad in self._squads:
            if number in squad.members:
                return squad, squad.members[number]
        if not 0 < number <= self._started_count:
            raise UsageError(f"no worker number {number} was started; numbers count from 1 in the order of their start")
        last = next((one for one in self.ended if one.number == number), None)
        who = "" if last is None else f" ({last.worker or 'it had no id'})"
        raise UsageError(f"worker number {number}{who} has ended")

    def running(self) -> list[tuple[Squad, Member]]:
        """The workers that run, by number."""
        found = [(squad, member) for squad in self._squads for member in squad.members.values()]
        return sorted(found, key=lambda pair: pair[1].number)

    async def start(self, count: int) -> list[tuple[Squad, Member]]:
        """Start so many workers, in the places that are free and in as many new processes as the others take.

        Returns when they have begun to start, with them by number. Raises: FloodmarkError when a process does not come up, or does not
        answer; those that did stay.
        """
        numbers = list(range(self._started_count + 1, self._started_count + count + 1))
        self._started_count += count
        size = self.options.per_process_count
        joining: list[tuple[Squad, tuple[int, ...]]] = []
        for squad in self._squads:
            if numbers and (free := self._free_count(squad)):
                taken, numbers = tuple(numbers[:free]), numbers[free:]
                squad.expect(taken)  # at once: the next start finds them in their places
                joining.append((squad, taken))
        async with group() as tasks:
            begun = [tasks.create_task(self._join(squad, taken)) for squad, taken in joining]
            begun += [
                tasks.create_task(self._open(tuple(chunk))) for chunk in (numbers[at : at + size] for at in range(0, len(numbers), size))
            ]
        return [pair for task in begun for pair in task.result()]

    async def order(self, squad: Squad, do: str, *, number: int = 0, limit_s: float = ANSWER_LIMIT_S, **what: object) -> News:
        """Give an order to one worker, or to all of a process. Raises: FloodmarkError."""
        order = msgspec.convert({"ask": next(self._asks), "do": do, "number": number, **what}, Order, from_attributes=True)
        return await squad.ask(order, limit_s)

    async def stop(self, squad: Squad, number: int) -> None:
        """Stop one worker gently; one that has stopped meanwhile is stopped. Raises: FloodmarkError when it does not."""
        try:
            await self.order(squad, "stop", number=number, limit_s=self.options.settings.shutdown_limit_s + STOP_EXTRA_S)
        except FloodmarkError:
            if not any(one.number == number and one.state == SHUTDOWN for one in self.ended):
                raise
        if not squad.members:
            await squad.ended.wait()

    async def kill(self, squad: Squad) -> None:
        """SIGKILL; its members are gone when this returns."""
        squad.kill()
        await squad.ended.wait()

    def pause(self, squad: Squad) -> None:
        """SIGSTOP."""
        squad.process.send_signal(signal.SIGSTOP)
        squad.paused = True

    def resume(self, squad: Squad) -> None:
        """SIGCONT."""
        squad.process.send_signal(signal.SIGCONT)
        squad.paused = False

    # --- a process, from its start to its end ---

    def _free_count(self, squad: Squad) -> int:
        """Places for others; one that is cut off has none, since nobody could begin there."""
        cut = self._network is not None and squad.relay is not None and self._network.is_cut(squad.relay)
        return 0 if cut else squad.free_count(self.options.per_process_count)

    async def _join(self, squad: Squad, numbers: tuple[int, ...]) -> list[tuple[Squad, Member]]:
        """Have workers begin in a process that runs; in a new one, if it has ended before it took them."""
        try:
            await self.order(squad, "begin", numbers=numbers)
        except ProcessEndedError:
            missed = tuple(number for number in numbers if number in squad.coming)
            squad.forget(missed)
            there = [(squad, Member(number=number)) for number in numbers if number not in missed]
            return [*there, *(await self._open(missed) if missed else [])]
        except BaseException:
            squad.coming.difference_update(numbers)  # they may begin all the same, and are members until they have ended
            raise
        return _as_told(squad, numbers)

    async def _open(self, numbers: tuple[int, ...]) -> list[tuple[Squad, Member]]:
        """Start a process with these workers."""
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
        assert self._readers is not None
        self._readers.create_task(self._read(squad))
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
        return _as_told(squad, numbers)

    async def _read(self, squad: Squad) -> None:
        """Take what a process says, until it has ended."""
        reader = squad.process.stdout
        assert reader is not None
        try:
            while (news := await wire.read(reader, News)) is not None:
                self._take(squad, news)
        except wire.WireError as exc:
            squad.error = f"the process {squad.pid} was ended, since it said what is no line of ours: {exc}"
            squad.kill()
        except BaseException:  # a bug of ours, or the end of the host: no process is left that nobody listens to
            squad.kill()
            raise
        finally:  # whatever happened: somebody may wait for its end
            while await reader.read(wire.LINE_BYTES):  # what it still says: a pipe that is full has no end, and so has the process
                pass
            await squad.process.wait()
            self._bury(squad)
        if self._network is not None and squad.relay is not None:
            await self._network.give_back(squad.relay)

    def _take(self, squad: Squad, news: News) -> None:
        """Who has asked may have given up: a future that is done stays as it is."""
        for member in news.members:
            if member.number in squad.members:  # its last word may come twice
                squad.coming.discard(member.number)
                squad.members[member.number] = member
                if member.state == SHUTDOWN:
                    self._note_end(squad, squad.members.pop(member.number), SHUTDOWN)
        if news.kind == "up" and not squad.up.done():
            squad.up.set_result(None)
        elif news.kind == "answer" and news.ask in squad.asked and not squad.asked[news.ask].done():
            squad.asked[news.ask].set_result(news)
        elif news.kind == "felt":
            self._felt(squad, news.felt)

    def _bury(self, squad: Squad) -> None:
        """A process has ended: keep the last words of those in it, and tell those who wait."""
        self._squads.remove(squad)
        for number, member in squad.members.items():
            if number not in squad.coming:
                self._note_end(squad, member, KILLED)
        squad.members.clear()
        squad.ended.set()
        waiting_for: list[asyncio.Future[Any]] = [squad.up, *squad.asked.values()]
        for waiting in waiting_for:
            if not waiting.done():
                waiting.set_exception(squad.gone())

    def _note_end(self, squad: Squad, member: Member, state: str) -> None:
        self.ended.append(
            Ended(
                number=member.number,
                worker=member.worker,
                pid=squad.pid,
                state=state,
                epoch=member.epoch,
                version=member.version,
                error=member.error or (squad.error if state == KILLED else ""),
            )
        )

    async def _end(self, squad: Squad, limit_s: float) -> None:
        """Gently, if it lets us: the end of its stdin tells a process to stop."""
        assert squad.process.stdin is not None
        if squad.paused:
            await self.kill(squad)
            return
        squad.leaving = True
        squad.process.stdin.close()
        try:
            async with asyncio.timeout(limit_s):
                await squad.ended.wait()
        except TimeoutError:
            await self.kill(squad)


def _as_told(squad: Squad, numbers: Iterable[int]) -> list[tuple[Squad, Member]]:
    """What a process has said of some of its workers by now; of one that is no more already, its number."""
    return [(squad, squad.members.get(number, Member(number=number))) for number in numbers]
