"""The task group whose first real error comes out as itself."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.core import tasks
from floodmark.core.errors import SystemUnderTestError, UsageError


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
