"""The bounded mailbox: order, bounds, waiting writers, and an end at any moment."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.conductor.channel import Channel
from floodmark.systems.conductor.errors import ChannelClosedError


def test_channel_with_items_gives_them_in_order_and_no_more_than_asked() -> None:
    channel: Channel[int] = Channel(capacity_count=10)

    channel.put([1, 2, 3])

    assert channel.room() == 7
    assert channel.take_many(2) == [1, 2]
    assert channel.take_many() == [3]
    assert channel.take_many() == []
    assert (channel.put_count, channel.taken_count, channel.buffered_max) == (3, 3, 3)


def test_put_without_room_is_refused_as_a_bug() -> None:
    channel: Channel[int] = Channel(capacity_count=2)

    with pytest.raises(ValueError, match="do not fit"):
        channel.put([1, 2, 3])

    assert len(channel) == 0


@pytest.mark.parametrize(("count", "chars"), [(0, 1), (1, 0)])
def test_channel_without_any_capacity_is_refused(count: int, chars: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Channel(capacity_count=count, capacity_chars=chars)


def test_heavy_batches_fill_the_channel_before_its_count_and_weigh_nothing_once_taken() -> None:
    channel: Channel[str] = Channel(capacity_count=100, capacity_chars=1000)

    channel.put(["a" * 600, "b" * 600], chars=1200)
    full = channel.room()
    channel.take_many(1)
    half_taken = channel.room()
    channel.take_many(1)

    assert (full, half_taken, channel.room()) == (0, 0, 100)


async def _full(capacity_count: int = 4) -> Channel[int]:
    channel: Channel[int] = Channel(capacity_count=capacity_count)
    channel.put(list(range(capacity_count)))
    return channel


def test_put_many_into_a_full_channel_waits_until_the_whole_batch_fits() -> None:
    async def main() -> None:
        channel = await _full()
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(channel.put_many([10, 11, 12]))
            await asyncio.sleep(0)
            assert channel.room() == 0  # the writer's turn
            assert channel.take_many(2) == [0, 1]
            await asyncio.sleep(0)
            assert not writer.done()
            assert channel.take_many(1) == [2]
            await writer
            assert channel.take_many() == [3, 10, 11, 12]

    asyncio.run(main())


def test_put_many_of_more_than_ever_fits_goes_in_in_parts() -> None:
    async def main() -> list[int]:
        channel: Channel[int] = Channel(capacity_count=3)
        seen: list[int] = []
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(channel.put_many(range(10)))
            while len(seen) < 10:
                await channel.wait()
                assert len(channel) <= 3
                seen += channel.take_many()
        return seen

    assert asyncio.run(main()) == list(range(10))


def test_room_waited_for_is_there_at_once_and_nobody_who_came_later_has_taken_it() -> None:
    async def main() -> None:
        channel: Channel[str] = Channel(capacity_count=4)
        channel.put(["old"] * 3)

        async def reserve() -> None:
            await channel.room_for(3)
            channel.put(["reserved"] * 3)

        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            first = tasks.create_task(reserve())
            await asyncio.sleep(0)
            tasks.create_task(channel.put_many(["late"]))
            await asyncio.sleep(0)
            assert not first.done()
            channel.take_many(1)  # room for two now, which is not enough
            await asyncio.sleep(0)
            assert not first.done()
            channel.take_many(1)
            await first
            assert channel.take_many() == ["old", *["reserved"] * 3]
        assert channel.take_many() == ["late"]

    asyncio.run(main())


def test_room_waited_for_is_refused_after_the_close_and_beyond_what_ever_fits() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(capacity_count=2)
        with pytest.raises(ValueError, match="3 items never fit"):
            await channel.room_for(3)
        channel.put([1, 2])
        async with asyncio.timeout(5):
            waiting = asyncio.ensure_future(channel.room_for(1))
            await asyncio.sleep(0)
            channel.close()
            with pytest.raises(ChannelClosedError):
                await waiting
            with pytest.raises(ChannelClosedError):
                await channel.room_for(1)

    asyncio.run(main())


def test_writers_that_wait_are_served_in_the_order_in_which_they_came() -> None:
    async def main() -> list[int]:
        channel = await _full()
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            for number in range(10, 15):
                tasks.create_task(channel.put_many([number, number]))
            seen: list[int] = []
            while len(seen) < 14:
                await channel.wait()
                seen += channel.take_many(1)
        return seen

    assert asyncio.run(main())[4:] == [10, 10, 11, 11, 12, 12, 13, 13, 14, 14]


def test_writer_cancelled_while_it_waits_has_added_nothing_and_the_room_is_free_again() -> None:
    async def main() -> None:
        channel = await _full()
        told: list[int] = []
        channel.on_room(lambda: told.append(channel.room()))
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(channel.put_many([10]))
            await asyncio.sleep(0)
            writer.cancel()
            await asyncio.wait([writer])
            assert channel.take_many() == [0, 1, 2, 3]
            assert channel.room() == 4
            assert told[-1] == 4

    asyncio.run(main())


def test_writer_cancelled_while_its_batch_does_not_fit_leaves_the_room_to_others_who_hear_of_it() -> None:
    async def main() -> list[int]:
        channel: Channel[int] = Channel(capacity_count=4)
        channel.put([0, 1, 2])
        told: list[int] = []
        channel.on_room(lambda: told.append(channel.room()))
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(channel.put_many([10, 11]))
            await asyncio.sleep(0)
            writer.cancel()
            await asyncio.wait([writer])
        return told

    assert asyncio.run(main()) == [1]


def test_close_of_a_full_channel_adds_the_last_words_and_refuses_those_who_wait() -> None:
    async def main() -> None:
        channel = await _full()
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(_refused(channel)) for _ in range(3)]
            await asyncio.sleep(0)
            channel.close([98, 99])
            channel.close([100])
            assert all([await writer for writer in writers])
        assert await channel.wait()
        assert channel.take_many() == [0, 1, 2, 3, 98, 99]
        assert not await channel.wait()
        assert channel.drained
        with pytest.raises(ChannelClosedError):
            channel.put([1])

    asyncio.run(main())


async def _refused(channel: Channel[int]) -> bool:
    try:
        await channel.put_many([50])
    except ChannelClosedError:
        return True
    return False


def test_reader_that_waits_is_woken_by_the_close() -> None:
    async def main() -> bool:
        channel: Channel[int] = Channel()
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(channel.wait())
            await asyncio.sleep(0)
            channel.close()
        return reader.result()

    assert asyncio.run(main()) is False


@given(st.lists(st.one_of(st.integers(1, 6).map(lambda count: ("put", count)), st.integers(1, 6).map(lambda count: ("take", count)))))
def test_channel_beside_a_plain_list_gives_the_same_items_within_its_bounds(steps: list[tuple[str, int]]) -> None:
    channel: Channel[int] = Channel(capacity_count=8, capacity_chars=40)
    model: list[tuple[int, int]] = []  # item, weight of its batch
    number = 0

    for step, count in steps:
        if step == "put" and channel.room() >= count:
            items = list(range(number, number + count))
            number += count
            channel.put(items, chars=count * 3)
            model += [(item, count) for item in items]
        elif step == "take":
            assert channel.take_many(count) == [item for item, _ in model[:count]]
            del model[:count]
        assert len(channel) == len(model) <= 8
        assert channel.room() in (0, 8 - len(model))
        if not model:
            assert channel.room() == 8
