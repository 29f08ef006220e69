"""An office: workers begin and stop in it by orders, a wrong order is answered, and it is over with the last worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec
import pytest

from floodmark.systems.fleet.host.office import Office
from floodmark.systems.fleet.host.options import named
from floodmark.systems.fleet.host.post import Outlet, Post
from floodmark.systems.fleet.host.wire import Member, News, Order, WireError
from floodmark.systems.fleet.partition import StaticSource

LIMIT_S = 5.0


class Worker:
    """A post that works until it is stopped."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stopped = asyncio.Event()

    async def run(self) -> None:
        await self.stopped.wait()

    async def stop(self) -> None:
        self.stopped.set()

    async def do(self, order: Order) -> None:
        await self.stop()

    def member(self) -> Member:
        return Member(number=self.number, state="Shutdown" if self.stopped.is_set() else "Stable")


class Desk:
    """An office with workers 1 and 2, the lines to it, and what it says."""

    def __init__(self, keep_bytes: int = 0) -> None:
        self.said: asyncio.Queue[News] = asyncio.Queue(100)
        self.orders = asyncio.StreamReader()
        self.source = StaticSource([named(0)])
        self.hired: list[int] = []
        self.office = Office(self._hire, self.source, cast("Outlet", self), keep_bytes=keep_bytes)

    def _hire(self, number: int) -> Post:
        self.hired.append(number)
        return cast("Post", Worker(number))

    def say(self, news: News) -> None:
        self.said.put_nowait(news)

    def send(self, do: str, **what: object) -> None:
        self.orders.feed_data(msgspec.json.encode(msgspec.convert({"ask": 1, "do": do, **what}, Order)) + b"\n")

    async def ask(self, do: str, **what: object) -> News:
        self.send(do, **what)
        return await self.said.get()


def played(play: Callable[[Desk], Awaitable[None]], keep_bytes: int = 0) -> Desk:
    """What is left of an office that was played until it ended."""

    async def main() -> Desk:
        desk = Desk(keep_bytes)
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.office.run((1, 2), desk.orders))
            await play(desk)
        return desk

    return asyncio.run(main())


def test_order_for_a_worker_that_is_not_there_is_answered_plainly_and_ends_nothing() -> None:
    async def play(desk: Desk) -> None:
        answers = [await desk.ask("stop", number=7), await desk.ask("partitions"), await desk.ask("dance"), await desk.ask("status")]
        desk.orders.feed_eof()

        assert [answer.error for answer in answers] == [
            "worker number 7 is not in this process, or has ended",
            "",
            "a process of workers has no word 'dance' for all of them",
            "",
        ]
        assert [[member.number for member in answer.members] for answer in answers] == [[], [1, 2], [1, 2], [1, 2]]

    played(play)


def test_worker_that_begins_takes_the_place_of_one_that_stopped_of_whom_nothing_is_kept() -> None:
    async def play(desk: Desk) -> None:
        stopped = await desk.ask("stop", number=2)
        begun = await desk.ask("begin", numbers=(3, 4))
        again = await desk.ask("stop", number=2)
        there = await desk.ask("status")
        desk.orders.feed_eof()

        assert [(member.number, member.state) for member in stopped.members] == [(2, "Shutdown")]
        assert {member.number for member in begun.members} >= {1, 3, 4}
        assert again.error == "worker number 2 is not in this process, or has ended"
        assert [member.number for member in there.members] == [1, 3, 4]

    desk = played(play)

    assert desk.hired == [1, 2, 3, 4]
    assert desk.office._posts == {}
    assert desk.office._kept == []


def test_office_is_over_with_its_last_worker_and_takes_nobody_then() -> None:
    async def play(desk: Desk) -> None:
        await desk.ask("stop", number=1)
        desk.send("stop", number=2)
        await desk.said.get()
        desk.send("begin", numbers=(3,))  # it has come too late: the end of the process is the answer

    desk = played(play)

    assert desk.hired == [1, 2]
    assert desk.said.empty()


def test_begin_before_the_last_worker_has_stopped_keeps_the_office_open() -> None:
    async def play(desk: Desk) -> None:
        desk.send("begin", numbers=(3,))
        desk.send("stop", number=1)
        desk.send("stop", number=2)
        for _ in range(3):
            await desk.said.get()
        there = await desk.ask("status")
        desk.orders.feed_eof()

        assert [member.number for member in there.members] == [3]

    played(play)


def test_line_that_is_no_order_ends_the_office_with_an_error() -> None:
    async def play(desk: Desk) -> None:
        desk.orders.feed_data(b"dance\n")

    with pytest.raises(ExceptionGroup) as raised:
        played(play)

    [error] = raised.value.exceptions
    assert isinstance(error, WireError)
    assert "'dance'" in str(error)


def test_office_that_lies_keeps_so_many_bytes_of_each_worker_that_stopped() -> None:
    async def play(desk: Desk) -> None:
        await desk.ask("stop", number=2)
        await desk.ask("begin", numbers=(3,))
        desk.orders.feed_eof()

    desk = played(play, keep_bytes=500)

    assert [len(kept) for kept in desk.office._kept] == [500] * 3
