"""Rounds: fenced by revision, epoch and lease, whole or dirty."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.systems.fleet.leader.layout import Layout, covered
from floodmark.systems.fleet.leader.publisher import LeaseLostError, Publisher
from floodmark.systems.fleet.leader.sight import BATCH_COUNT
from floodmark.systems.fleet.records import AssignmentRecord, RecordError, assignment_key, encode
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.store.base import Entry, WrongRevisionError
from floodmark.systems.fleet.store.memory import MemoryBackend
from tests.systems.fleet.leader.acting import SETTINGS, FailingBucket, FakeLease, names, on_writes, partitions, published, refused

TEN = partitions(10)
TWO: Layout = {"worker-0": TEN[:5], "worker-1": TEN[5:]}
ONE: Layout = {"worker-1": TEN}
PAUSE_S = 0.1


def bucket() -> FailingBucket:
    return FailingBucket(MemoryBackend(), "parti-assignment")


async def leader(assignments: FailingBucket, lease: FakeLease | None = None) -> Publisher:
    """A publisher that has read what there is."""
    publisher = Publisher(assignments, lease or FakeLease(), SETTINGS, pause_s=lambda _failures_count: PAUSE_S)
    await publisher.load()
    return publisher


@virtual
async def test_publisher_writes_one_epoch_and_version_into_every_record() -> None:
    assignments = bucket()
    publisher = await leader(assignments, FakeLease(4))

    version = await publisher.publish("cold_start", TWO)

    records = await published(assignments)
    assert {(record.epoch, record.version, record.lifecycle) for record in records.values()} == {(4, version, "cold_start")}
    assert {worker: record.partitions for worker, record in records.items()} == TWO
    assert not publisher.dirty


@virtual
async def test_publisher_of_the_next_term_goes_on_above_the_highest_version() -> None:
    assignments = bucket()
    first = await (await leader(assignments)).publish("cold_start", TWO)

    second = await leader(assignments, FakeLease(2))

    assert second.layout == TWO
    assert await second.publish("takeover", TWO) == first + 1


@virtual
async def test_publisher_removes_the_record_of_who_is_no_longer_in_the_round() -> None:
    assignments = bucket()
    publisher = await leader(assignments)
    await publisher.publish("cold_start", TWO)

    await publisher.publish("emergency", ONE)

    assert sorted(await published(assignments)) == ["worker-1"]


@virtual
async def test_publisher_takes_away_before_it_gives() -> None:
    assignments = bucket()
    publisher = await leader(assignments)
    await publisher.publish("cold_start", {"worker-0": TEN[:1], "worker-1": TEN[1:]})
    assignments.writes.clear()

    await publisher.publish("planned_scale", TWO)

    assert assignments.writes == [assignment_key("worker-1"), assignment_key("worker-0")]


@virtual
async def test_d6_publisher_whose_term_is_over_cannot_replace_what_the_next_one_wrote() -> None:
    assignments = bucket()
    stale = await leader(assignments, FakeLease(1))
    await stale.publish("cold_start", TWO)
    await (await leader(assignments, FakeLease(2))).publish("takeover", TWO)

    with pytest.raises(WrongRevisionError):
        await stale.publish("planned_scale", ONE)

    assert {record.epoch for record in (await published(assignments)).values()} == {2}
    assert stale.dirty
    with pytest.raises(LeaseLostError):
        await stale.load()


@virtual
async def test_d6_publisher_does_not_use_a_version_twice_after_a_round_that_failed() -> None:
    assignments = bucket()
    publisher = await leader(assignments)
    first = await publisher.publish("cold_start", TWO)
    assignments.before = on_writes(2, do=refused)

    with pytest.raises(WrongRevisionError):
        await publisher.publish("planned_scale", ONE | {"worker-0": []})
    await publisher.load()
    again = await publisher.publish("planned_scale", ONE | {"worker-0": []})

    assert again == first + 2
    assert {record.version for record in (await published(assignments)).values()} == {again}


@virtual
async def test_publisher_looks_at_the_lease_before_every_batch() -> None:
    assignments = bucket()
    lease = FakeLease()
    publisher = await leader(assignments, lease)
    assignments.after = on_writes(3, do=lambda _key: setattr(lease, "ended", True))

    with pytest.raises(LeaseLostError):
        await publisher.publish("cold_start", {worker: [] for worker in names(5 * BATCH_COUNT)})

    assert len(assignments.writes) == BATCH_COUNT


@virtual
async def test_publisher_without_the_lease_writes_nothing() -> None:
    assignments = bucket()
    lease = FakeLease()
    publisher = await leader(assignments, lease)
    lease.ended = True

    with pytest.raises(LeaseLostError):
        await publisher.publish("cold_start", TWO)

    assert assignments.writes == []


@virtual
async def test_publisher_reads_an_unfinished_round_with_each_partition_at_its_newer_worker() -> None:
    assignments = bucket()
    for worker, version, given in (("worker-0", 3, TEN[:6]), ("worker-1", 4, TEN[5:]), ("worker-2", 3, TEN[9:])):
        record = AssignmentRecord(epoch=1, version=version, lifecycle="x", partitions=given)
        await assignments.put(assignment_key(worker), encode(record))

    publisher = await leader(assignments)

    assert publisher.layout == {"worker-0": TEN[:5], "worker-1": TEN[5:], "worker-2": []}
    assert covered(publisher.layout) == {partition.keys for partition in TEN}


@virtual
async def test_publisher_tells_of_a_record_that_cannot_be_read_and_replaces_it() -> None:
    assignments = bucket()
    await assignments.put(assignment_key("worker-1"), b"not json")
    errors: list[Exception] = []
    publisher = Publisher(assignments, FakeLease(), SETTINGS, pause_s=lambda _failures_count: PAUSE_S, on_error=errors.append)
    await publisher.load()

    await publisher.publish("takeover", TWO)

    assert [type(error) for error in errors] == [RecordError]
    assert (await published(assignments))["worker-1"].partitions == TEN[5:]


def told(worker: str, revision: int, *, deleted: bool = False) -> Entry:
    return Entry(key=assignment_key(worker), value=b"", revision=revision, deleted=deleted)


@virtual
async def test_publisher_knows_its_own_writes_from_those_of_others() -> None:
    assignments = bucket()
    publisher = await leader(assignments)
    watch = await assignments.watch("assignment.")
    await publisher.publish("cold_start", TWO)
    await publisher.publish("emergency", ONE)
    await watch.aclose()
    last = assignments.revision

    assert not publisher.is_foreign(told("worker-1", last))
    assert not publisher.is_foreign(told("worker-0", 1))  # its own write, told after its own removal
    assert not publisher.is_foreign(told("worker-0", last, deleted=True))
    assert publisher.is_foreign(told("worker-1", last + 1))
    assert publisher.is_foreign(told("worker-1", last + 1, deleted=True))
    assert publisher.is_foreign(told("worker-0", last + 1))
    assert publisher.is_foreign(told("worker-9", last + 1))


@virtual
async def test_publisher_cancelled_within_a_round_is_dirty() -> None:
    assignments = bucket()
    publisher = await leader(assignments)

    async def never(_key: str, _value: bytes, _revision: int) -> int:
        await asyncio.sleep(3600)
        raise AssertionError

    assignments.update = never  # type: ignore[method-assign, assignment]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await publisher.publish("cold_start", TWO)

    assert publisher.dirty
