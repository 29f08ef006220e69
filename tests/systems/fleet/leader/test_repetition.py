"""Writes of a round that get no answer: repeated by themselves, under the same fence, for as long as the lease holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from floodmark.systems.fleet.leader.layout import Layout
from floodmark.systems.fleet.leader.publisher import REPEAT_TTLS, LeaseLostError, Publisher
from floodmark.systems.fleet.records import AssignmentRecord, assignment_key, encode
from floodmark.systems.fleet.simulation.loop import run_virtual, virtual
from floodmark.systems.fleet.store.base import StoreUnavailableError, WrongRevisionError
from floodmark.systems.fleet.store.memory import MemoryBackend
from tests.systems.fleet.leader.acting import SETTINGS, FailingBucket, FakeLease, names, on_writes, partitions, published, unavailable

TEN = partitions(10)
TWO: Layout = {"worker-0": TEN[:5], "worker-1": TEN[5:]}
ONE: Layout = {"worker-1": TEN}
PAUSE_S = 0.1


class Leader:
    """A publisher with a lease, that has read what there is, and what it waited for and told."""

    def __init__(self) -> None:
        self.bucket = FailingBucket(MemoryBackend(), "parti-assignment")
        self.lease = FakeLease(3)
        self.pauses: list[int] = []
        self.errors: list[Exception] = []
        self.publisher = Publisher(self.bucket, self.lease, SETTINGS, pause_s=self._pause_s, on_error=self.errors.append)

    def _pause_s(self, failures_count: int) -> float:
        self.pauses.append(failures_count)
        return PAUSE_S

    async def publish(self, target: Layout) -> int:
        """Read what there is, and publish."""
        await self.publisher.load()
        return await self.publisher.publish("planned_scale", target)

    async def assert_whole(self, version: int, target: Layout) -> None:
        """What is published is this round, and this leader knows it."""
        records = await published(self.bucket)
        assert {(record.epoch, record.version) for record in records.values()} == {(3, version)}
        assert {worker: record.partitions for worker, record in records.items()} == target
        assert not self.publisher.dirty
        watch = await self.bucket.watch("assignment.")
        async for entry in watch:
            if entry is None:
                break
            assert not self.publisher.is_foreign(entry)
        await watch.aclose()


@virtual
async def test_write_that_fails_is_repeated_after_pauses_in_the_same_round() -> None:
    leader = Leader()
    leader.bucket.before = on_writes(1, 3, 4)  # worker-0, and twice more when both are tried

    version = await leader.publish(TWO)

    assert version == 1
    await leader.assert_whole(1, TWO)
    assert len(leader.bucket.writes) == 2 + 3
    assert leader.pauses == [0, 1, 2]
    assert leader.bucket.reads == []


@virtual
async def test_write_whose_answer_was_lost_is_found_written_and_not_written_twice() -> None:
    leader = Leader()
    leader.bucket.after = on_writes(1)

    await leader.publish(TWO)

    await leader.assert_whole(1, TWO)
    assert leader.bucket.revision == 2
    assert leader.bucket.reads == [assignment_key("worker-0")]


@virtual
async def test_write_whose_answer_was_lost_and_whose_record_cannot_be_read_at_first_is_found_later() -> None:
    leader = Leader()
    leader.bucket.after = on_writes(1)
    leader.bucket.before_get = on_writes(1, 2)

    await leader.publish(TWO)

    await leader.assert_whole(1, TWO)
    assert leader.bucket.revision == 2


@virtual
async def test_write_that_comes_after_its_own_repetition_is_refused() -> None:
    leader = Leader()
    late: list[Callable[[], object]] = []
    update = leader.bucket.update

    async def slow_once(key: str, value: bytes, revision: int) -> int:
        if not late:
            late.append(lambda: update(key, value, revision))
            raise StoreUnavailableError("update", "planted: on its way")
        return await update(key, value, revision)

    leader.bucket.update = slow_once  # type: ignore[method-assign]
    await leader.publish(TWO)

    with pytest.raises(WrongRevisionError):
        await late[0]()  # type: ignore[misc]
    await leader.assert_whole(1, TWO)


@pytest.mark.parametrize("lost", [True, False], ids=["answer lost", "never done"])
def test_write_that_somebody_else_overtook_meanwhile_ends_the_round(lost: bool) -> None:
    async def story() -> None:
        leader = Leader()
        foreign = encode(AssignmentRecord(epoch=4, version=1, lifecycle="takeover", partitions=[]))

        def overtaken(key: str) -> None:
            leader.bucket._write(key, foreign, deleted=False)
            unavailable(key)

        if lost:
            leader.bucket.after = on_writes(1, do=overtaken)
        else:
            leader.bucket.before = on_writes(1, do=overtaken)

        with pytest.raises(WrongRevisionError):
            await leader.publish(TWO)

        assert leader.publisher.dirty
        assert (await published(leader.bucket))["worker-0"].epoch == 4
        with pytest.raises(LeaseLostError):
            await leader.publisher.load()

    run_virtual(story())


@virtual
async def test_write_that_is_refused_at_once_is_not_taken_for_ours() -> None:
    leader = Leader()
    await leader.publisher.load()
    twin = encode(AssignmentRecord(epoch=3, version=1, lifecycle="planned_scale", partitions=TWO["worker-0"]))
    await leader.bucket.put(assignment_key("worker-0"), twin)

    with pytest.raises(WrongRevisionError):
        await leader.publisher.publish("planned_scale", TWO)

    assert leader.bucket.reads == []


@virtual
async def test_write_is_not_repeated_when_the_lease_has_ended_in_the_pause() -> None:
    leader = Leader()
    leader.bucket.before = unavailable
    asyncio.get_running_loop().call_later(0.5 * PAUSE_S, setattr, leader.lease, "ended", True)

    with pytest.raises(LeaseLostError):
        await leader.publish(TWO)

    assert len(leader.bucket.writes) == 2  # one try of each


@virtual
async def test_write_that_goes_on_failing_ends_the_round_after_a_ttl() -> None:
    leader = Leader()
    leader.bucket.before = unavailable
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    with pytest.raises(StoreUnavailableError):
        await leader.publish(ONE)

    assert leader.publisher.dirty
    limit_s = REPEAT_TTLS * SETTINGS.heartbeat_ttl_s
    assert limit_s - 2 * PAUSE_S <= loop.time() - began_s <= limit_s
    assert leader.pauses == list(range(len(leader.bucket.writes)))
    assert [type(error) for error in leader.errors] == [StoreUnavailableError]  # the first; the last is raised


@virtual
async def test_write_without_an_answer_is_given_up_and_repeated() -> None:
    leader = Leader()
    update = leader.bucket.update
    tries: list[float] = []

    async def never_at_first(key: str, value: bytes, revision: int) -> int:
        tries.append(asyncio.get_running_loop().time())
        if len(tries) == 1:
            await asyncio.sleep(3600)
        return await update(key, value, revision)

    leader.bucket.update = never_at_first  # type: ignore[method-assign]
    await leader.publish(ONE)

    await leader.assert_whole(1, ONE)
    assert tries[1] - tries[0] == pytest.approx(SETTINGS.heartbeat_s + PAUSE_S)


@pytest.mark.parametrize("done", [True, False], ids=["answer lost", "never done"])
def test_removal_that_fails_is_repeated_in_the_same_round(done: bool) -> None:
    async def story() -> None:
        leader = Leader()
        await leader.publish(TWO)
        if done:
            leader.bucket.after_delete = on_writes(1)
        else:
            leader.bucket.before_delete = on_writes(1)

        version = await leader.publisher.publish("emergency", ONE)

        assert version == 2
        await leader.assert_whole(2, ONE)
        assert leader.publisher.record_keys() == {assignment_key("worker-1")}

    run_virtual(story())


@virtual
async def test_removal_whose_record_somebody_else_wrote_meanwhile_ends_the_round() -> None:
    leader = Leader()
    await leader.publish(TWO)

    def overtaken(key: str) -> None:
        leader.bucket._write(key, b"{}", deleted=False)
        unavailable(key)

    leader.bucket.after_delete = on_writes(1, do=overtaken)

    with pytest.raises(WrongRevisionError):
        await leader.publisher.publish("emergency", ONE)

    assert leader.publisher.dirty


@virtual
async def test_worker_gets_nothing_before_the_repeated_write_has_taken_it_from_the_other() -> None:
    leader = Leader()
    await leader.publish({"worker-0": TEN[:1], "worker-1": TEN[1:]})
    leader.bucket.writes.clear()
    leader.bucket.before = on_writes(1, 2, 3)

    await leader.publisher.publish("planned_scale", TWO)

    assert leader.bucket.writes == [assignment_key("worker-1")] * 4 + [assignment_key("worker-0")]


@pytest.mark.parametrize("seed", range(10))
def test_round_in_which_any_write_may_fail_is_whole_or_ends_dirty_and_never_mixes_contents(seed: int) -> None:
    async def story() -> None:
        leader, draw = Leader(), random.Random(seed).random
        contents: dict[tuple[str, int], set[bytes]] = {}

        def sometimes(key: str) -> None:
            if draw() < 0.3:
                unavailable(key)

        backend_write = leader.bucket._write

        def noted(key: str, value: bytes, *, deleted: bool) -> int:
            contents.setdefault((key, leader.publisher.version), set()).add(value)
            return backend_write(key, value, deleted=deleted)

        leader.bucket._write = noted  # type: ignore[method-assign]
        for faults in ("before", "after", "before_delete", "after_delete", "before_get"):
            setattr(leader.bucket, faults, sometimes)
        workers = names(50)
        for gone in range(4):
            target: Layout = {worker: [] for worker in workers[gone:]} | {workers[-1]: TEN}
            await leader.publisher.load()
            version = await leader.publisher.publish("emergency", target)
            assert version == gone + 1
            await leader.assert_whole(version, target)

        assert all(len(values) == 1 for values in contents.values())

    run_virtual(story())
