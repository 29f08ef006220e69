"""The task group whose first real error comes out as itself, and the job that signals end in order."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from floodmark.core import tasks
from floodmark.core.errors import SystemUnderTestError, UsageError

LIMIT_S = 10.0


async def fails(error: BaseException, *after: asyncio.Event) -> None:
    for event in after:
        await event.wait()
    raise error


async def cancelled_then_fails(error: BaseException) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise error from None


def test_group_an_error_comes_out_alone_with_the_whole_group_as_its_cause() -> None:
    async def main() -> None:
        async with tasks.group() as group:
            group.create_task(fails(KeyError("lost")))

    with pytest.raises(KeyError, match="lost") as raised:
        asyncio.run(main())
    assert isinstance(raised.value.__cause__, BaseExceptionGroup)


def test_group_an_error_of_ours_tells_more_than_the_network_error_before_it() -> None:
    async def main() -> None:
        async with tasks.group() as group:
            group.create_task(fails(ConnectionResetError("reset")))
            group.create_task(cancelled_then_fails(SystemUnderTestError("the target died")))

    with pytest.raises(SystemUnderTestError, match="the target died"):
        asyncio.run(main())


def test_group_an_error_ends_the_block_and_the_other_tasks() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def main() -> None:
        async with tasks.group() as group:
            group.create_task(waits())
            await asyncio.sleep(0)
            group.create_task(fails(OSError("gone")))
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("block")

    with pytest.raises(OSError, match="gone"):
        asyncio.run(main())
    assert sorted(ended) == ["block", "task"]


def test_group_a_nested_group_comes_out_as_its_first_telling_error() -> None:
    async def inner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(ValueError("noise")))
            group.create_task(cancelled_then_fails(UsageError("the reason")))

    async def main() -> None:
        async with tasks.group() as group:
            group.create_task(inner())

    with pytest.raises(UsageError, match="the reason"):
        asyncio.run(main())


def test_group_cancelled_from_outside_stays_a_cancellation() -> None:
    async def block() -> None:
        async with tasks.group() as group:
            group.create_task(asyncio.Event().wait())
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def test_group_without_errors_waits_for_all() -> None:
    done: list[int] = []

    async def note(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    async def main() -> None:
        async with tasks.group() as group:
            for number in range(3):
                group.create_task(note(number))

    asyncio.run(main())

    assert done == [0, 1, 2]


def test_most_telling_without_an_error_of_ours_is_the_first() -> None:
    first = ValueError("first")

    assert tasks.most_telling(ExceptionGroup("all", [first, OSError("second")])) is first


def test_job_asked_to_end_twice_is_cancelled_once_and_puts_away_what_it_has() -> None:
    put_away: list[str] = []

    async def job() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(LIMIT_S)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            async with asyncio.timeout(LIMIT_S):
                for _ in range(10):
                    await asyncio.sleep(0)  # the second signal has come by then
            put_away.append("all")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(tasks.until_asked_to_end(job()))

    assert put_away == ["all"]


def test_job_that_nobody_asks_to_end_gives_what_it_made_and_leaves_signals_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def job() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(tasks.until_asked_to_end(job())) == 7
    assert signal.getsignal(signal.SIGTERM) == before
