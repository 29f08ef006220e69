"""Partitions and their static source: names, what is refused, and that a source copies in and out (B7)."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from floodmark.systems.fleet.partition import DEFAULT_WEIGHT, Partition, PartitionError, StaticSource, unique


def parts(count: int) -> list[Partition]:
    return [Partition(keys=(f"p{number}",)) for number in range(count)]


def test_partition_with_several_keys_joins_them_for_subject_and_id() -> None:
    partition = Partition(keys=("eu", "orders", "17"))

    assert (partition.subject_key, partition.id, partition.weight) == ("eu.orders.17", "eu-orders-17", DEFAULT_WEIGHT)


@pytest.mark.parametrize("keys", [(), ("",), ("a", ""), ("a b",), ("a.b",), ("*",), (">",), ("a\n",)], ids=repr)
def test_partition_with_a_key_that_is_no_word_of_a_subject_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(PartitionError):
        Partition(keys=keys)


def test_partition_with_a_negative_weight_is_refused() -> None:
    with pytest.raises(PartitionError, match="-1"):
        Partition(keys=("a",), weight=-1)


def test_partition_in_json_comes_back_the_same_and_ignores_unknown_fields() -> None:
    partition = Partition(keys=("a", "b"), weight=7)

    again = msgspec.json.decode(msgspec.json.encode(partition), type=Partition)
    newer = msgspec.json.decode(b'{"keys": ["a", "b"], "weight": 7, "colour": "red"}', type=Partition)

    assert again == newer == partition


def test_unique_with_two_of_the_same_keys_names_them_whatever_their_weight() -> None:
    with pytest.raises(PartitionError, match="a-b"):
        unique([Partition(keys=("a", "b")), Partition(keys=("a", "b"), weight=3)])


async def _listed(source: StaticSource) -> list[Partition]:
    return await source.list_partitions()


def test_static_source_when_the_callers_lists_change_stays_as_it_was() -> None:
    given = parts(3)
    source = StaticSource(given)

    given.clear()
    asyncio.run(_listed(source)).clear()

    assert asyncio.run(_listed(source)) == parts(3)


def test_static_source_when_updated_lists_the_new_ones_and_an_empty_list_is_a_list() -> None:
    source = StaticSource(parts(3))

    source.update(parts(5))
    five = asyncio.run(_listed(source))
    source.update([])

    assert (five, asyncio.run(_listed(source)), asyncio.run(_listed(StaticSource()))) == (parts(5), [], [])


def test_static_source_when_an_update_is_refused_keeps_the_old_list() -> None:
    source = StaticSource(parts(3))

    with pytest.raises(PartitionError):
        source.update([*parts(2), *parts(2)])

    assert asyncio.run(_listed(source)) == parts(3)


def test_static_source_with_ten_readers_and_five_writers_is_never_torn() -> None:
    source = StaticSource(parts(1))
    seen: set[int] = set()

    async def read() -> None:
        for _ in range(50):
            listed = await source.list_partitions()
            assert listed == parts(len(listed))
            seen.add(len(listed))
            await asyncio.sleep(0)

    async def write(first: int) -> None:
        for turn in range(50):
            source.update(parts(first + turn % 7))
            await asyncio.sleep(0)

    async def both() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(10):
                tasks.create_task(read())
                if number < 5:
                    tasks.create_task(write(number))

    asyncio.run(both())

    assert len(seen) > 5  # the writers did write between the reads
