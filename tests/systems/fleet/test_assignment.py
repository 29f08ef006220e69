"""The receiver: takes what is newer, refuses what is old, and gives up what is gone when that was meant."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.assignment import Receiver
from floodmark.systems.fleet.contact import Contact
from floodmark.systems.fleet.errors import WatcherError
from floodmark.systems.fleet.metrics import Counters, Metric
from floodmark.systems.fleet.records import AssignmentRecord, assignment_key, encode
from floodmark.systems.fleet.simulation.loop import run_virtual, virtual
from floodmark.systems.fleet.store import queued
from floodmark.systems.fleet.store.memory import MemoryBackend, MemoryBucket
from tests.systems.fleet.crew import FAST, CuttableStore, partitions, until

KEY = assignment_key("worker-1")
PATIENCE_S = 2.0


class Reader:
    """One receiver and what it told."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.store = CuttableStore(self.backend)
        self.metrics = Counters()
        self.errors: list[Exception] = []
        self.led_for_s: float | None = 10.0
        self.told: list[tuple[int, int] | None] = []

    @property
    def bucket(self) -> MemoryBucket:
        return self.backend.bucket(FAST.assignment_bucket)

    async def write(self, epoch: int, version: int, *, key: str = KEY) -> None:
        record = AssignmentRecord(epoch=epoch, version=version, lifecycle="planned_scale", partitions=partitions(version))
        await self.bucket.put(key, encode(record))
        await asyncio.sleep(0.001)

    async def delete(self) -> None:
        await self.bucket.delete(KEY)
        await asyncio.sleep(0.001)

    async def open(self) -> Receiver:
        def on_change() -> None:
            current = self.receiver.current
            self.told.append(current.rank if current is not None else None)

        self.receiver = Receiver(
            await self.store.bucket(FAST.assignment_bucket),
            Contact(FAST, self.metrics, self.errors.append),
            "worker-1",
            led_for_s=lambda: self.led_for_s,
            patience_s=PATIENCE_S,
            on_change=on_change,
            metrics=self.metrics,
            rng=random.Random(3),
        )
        return self.receiver


@asynccontextmanager
async def reading() -> AsyncIterator[Reader]:
    reader = Reader()
    receiver = await reader.open()
    job = asyncio.ensure_future(receiver.run())
    await asyncio.sleep(0.001)
    try:
        yield reader
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


@virtual
async def test_receiver_takes_a_record_that_is_there_already() -> None:
    reader = Reader()
    await reader.write(3, 7)
    receiver = await reader.open()

    job = asyncio.ensure_future(receiver.run())
    await until(lambda: reader.told == [(3, 7)], 1.0)

    assert receiver.current is not None
    assert receiver.current.partitions == tuple(partitions(7))
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


@virtual
async def test_receiver_refuses_an_older_epoch_an_older_version_and_the_same_again() -> None:
    async with reading() as reader:
        await reader.write(2, 5)

        await reader.write(1, 9)
        await reader.write(2, 4)
        await reader.write(2, 5)

        assert reader.told == [(2, 5)]
        assert reader.metrics.counted(Metric.ASSIGNMENTS_REFUSED, "older epoch") == 1
        assert reader.metrics.counted(Metric.ASSIGNMENTS_REFUSED, "older version") == 1


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), max_size=30))
def test_receiver_of_any_sequence_takes_exactly_its_rising_maxima(records: list[tuple[int, int]]) -> None:
    async def run() -> list[tuple[int, int] | None]:
        async with reading() as reader:
            for epoch, version in records:
                await reader.write(epoch, version)
            return reader.told

    expected: list[tuple[int, int] | None] = []
    highest = (0, 0)
    for record in records:
        if record > highest:
            highest = record
            expected.append(record)
    assert run_virtual(run()) == expected


@virtual
async def test_receiver_minds_its_own_record_only() -> None:
    async with reading() as reader:
        await reader.write(1, 1, key=assignment_key("worker-10"))
        await reader.write(1, 1, key=assignment_key("worker-2"))

        assert reader.told == []


@virtual
async def test_receiver_gives_up_what_is_deleted_under_a_leader_and_takes_only_what_is_newer() -> None:
    async with reading() as reader:
        await reader.write(1, 1)
        await reader.delete()
        assert reader.told == [(1, 1), None]

        await reader.write(1, 2)

        assert reader.told == [(1, 1), None, (1, 2)]


@virtual
async def test_receiver_keeps_what_is_deleted_while_nobody_leads_and_judges_it_under_the_next_leader() -> None:
    async with reading() as reader:
        await reader.write(1, 1)
        reader.led_for_s = None
        await reader.delete()
        await reader.receiver.check()
        assert reader.told == [(1, 1)]

        reader.led_for_s = PATIENCE_S - 0.1
        await reader.receiver.check()
        assert reader.told == [(1, 1)]

        reader.led_for_s = PATIENCE_S
        await reader.receiver.check()
        assert reader.told == [(1, 1), None]


@virtual
async def test_receiver_whose_record_the_next_leader_wrote_again_goes_on() -> None:
    async with reading() as reader:
        await reader.write(1, 1)
        reader.led_for_s = None
        await reader.delete()

        reader.led_for_s = 0.1
        await reader.write(2, 2)
        reader.led_for_s = PATIENCE_S
        await reader.receiver.check()

        assert reader.told == [(1, 1), (2, 2)]


@virtual
async def test_receiver_whose_watch_broke_off_finds_on_opening_it_again_that_the_record_is_gone() -> None:
    async with reading() as reader:
        await reader.write(1, 1)
        reader.store.cut()
        await reader.delete()
        assert reader.told == [(1, 1)]

        reader.store.heal()
        await until(lambda: reader.told == [(1, 1), None], 3.0)

        assert any(isinstance(error, WatcherError) for error in reader.errors)


@pytest.mark.parametrize("deleted", [False, True])
@virtual
async def test_receiver_that_left_too_many_changes_untaken_lists_anew_and_has_the_last(
    deleted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queued, "WATCH_LIMIT", 3)
    async with reading() as reader:
        for version in range(1, 11):  # in one turn of the loop: nobody takes any of it
            record = AssignmentRecord(epoch=1, version=version, lifecycle="planned_scale", partitions=partitions(version))
            await reader.bucket.put(KEY, encode(record))
        if deleted:
            await reader.bucket.delete(KEY)
        await until(lambda: reader.errors != [], 1.0)
        await asyncio.sleep(3.0)

        assert "untaken" in str(reader.errors[0])
        assert reader.told == ([] if deleted else [(1, 10)])
        await reader.write(2, 1)
        assert reader.told[-1] == (2, 1)  # it hears again


@virtual
async def test_suspended_receiver_has_nothing_in_force_and_resumes_with_what_is_there_then() -> None:
    async with reading() as reader:
        await reader.write(1, 1)

        reader.receiver.suspend()
        await reader.write(1, 2)
        assert reader.told == [(1, 1), None]
        assert reader.receiver.cached is not None
        assert reader.receiver.cached.version == 2
        await reader.receiver.resume()

        assert reader.told == [(1, 1), None, (1, 2)]


@virtual
async def test_suspended_receiver_whose_record_is_gone_resumes_with_nothing() -> None:
    async with reading() as reader:
        await reader.write(1, 1)
        reader.receiver.suspend()
        await reader.delete()

        await reader.receiver.resume()

        assert reader.receiver.current is None
        assert reader.told[-1] is None


@virtual
async def test_resume_that_hears_before_the_watch_is_not_undone_by_what_the_watch_tells_late() -> None:
    reader = Reader()
    receiver = await reader.open()
    await reader.write(1, 1)
    watch = await reader.bucket.watch(KEY)
    await receiver.resume()
    await reader.delete()
    await reader.write(1, 2)
    await receiver.resume()

    following = asyncio.ensure_future(receiver._follow(watch))  # now the watch tells of 1, the deletion, and 2
    await asyncio.sleep(0.1)

    assert receiver.current is not None
    assert receiver.current.version == 2
    assert None not in reader.told[1:]
    await watch.aclose()
    await following


@virtual
async def test_listing_from_before_the_record_that_was_read_meanwhile_does_not_lose_it() -> None:
    reader = Reader()
    receiver = await reader.open()
    watch = await reader.bucket.watch(KEY)  # lists nothing
    await reader.write(1, 1)
    await receiver.resume()

    following = asyncio.ensure_future(receiver._follow(watch))
    await asyncio.sleep(0.1)

    assert receiver.current is not None
    await watch.aclose()
    await following


@virtual
async def test_record_that_cannot_be_read_is_told_of_and_changes_nothing() -> None:
    async with reading() as reader:
        await reader.write(1, 1)

        await reader.bucket.put(KEY, b"rubbish")
        await asyncio.sleep(0.01)

        assert reader.told == [(1, 1)]
        assert "no record of a fleet" in str(reader.errors[-1])
