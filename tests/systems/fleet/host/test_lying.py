"""Leaders and workers that lie: what they write and hand on is what the lie says, as often as it says, and nothing else."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from floodmark.systems.fleet.consumer.message import Message
from floodmark.systems.fleet.host import relay
from floodmark.systems.fleet.host.lies import LIES, read_lies
from floodmark.systems.fleet.host.lying import OF_LEADERS, LyingStore
from floodmark.systems.fleet.host.options import named
from floodmark.systems.fleet.host.relay import Relay
from floodmark.systems.fleet.records import AssignmentRecord, assignment_key, decode, encode
from floodmark.systems.fleet.store.memory import MemoryBackend, MemoryStore

BUCKET = "assignments"


def record(*numbers: int, epoch: int = 5, version: int = 3) -> AssignmentRecord:
    return AssignmentRecord(epoch=epoch, version=version, lifecycle="planned_scale", partitions=[named(number) for number in numbers])


def written(lie: str, *records: AssignmentRecord, worker: str = "worker-0", bucket: str = BUCKET) -> list[AssignmentRecord]:
    """Every version that is written where a leader lies."""

    async def write() -> list[AssignmentRecord]:
        store = LyingStore(MemoryStore(MemoryBackend()), BUCKET, read_lies([lie]))
        lying, key = await store.bucket(bucket, history=10), assignment_key(worker)
        revision = 0
        for number, one in enumerate(records):
            revision = await (lying.create(key, encode(one)) if not number else lying.update(key, encode(one), revision))
        return [decode(AssignmentRecord, key, entry.value) for entry in await lying.history(key)]

    return asyncio.run(write())


def test_lose_leaves_the_first_partitions_out() -> None:
    assert written("lose=2", record(0, 2, 5)) == [record(2, 5)]


def test_share_has_the_first_partitions_in_every_record_and_none_twice() -> None:
    assert written("share=2", record(1, 5)) == [record(1, 5, 0)]


def test_stale_writes_so_many_once_more_as_of_the_epoch_before() -> None:
    first, second = record(1), record(1, version=4)

    assert written("stale=1", first, second) == [first, record(1, epoch=4), first, second]


def test_back_writes_so_many_once_more_as_of_the_version_before() -> None:
    first, second = record(1), record(1, version=4)

    assert written("back=1", first, second) == [first, record(1, version=2), first, second]


def test_another_bucket_is_told_the_truth() -> None:
    assert written("lose=2", record(0, 1), bucket="other") == [record(0, 1)]


def test_lies_of_leaders_are_lies() -> None:
    assert set(OF_LEADERS) < set(LIES)


class Handed:
    """A client that keeps what was published."""

    def __init__(self) -> None:
        self.subjects: list[str] = []

    async def publish(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        self.subjects.append(subject)


def handed(lie: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is handed on of three partitions, of which the first is taken away after one message of each."""
    monkeypatch.setattr(relay, "LINGER_S", 0.0)
    client = Handed()

    async def work() -> None:
        worker = Relay(cast("Client", client), lambda: "worker-0", stream=False, lies=read_lies([lie]))
        for name in ("p0", "p1", "p2"):
            await worker.handle(message(f"in.{name}"))
        worker.lose(["p0"])
        await worker.handle(message("in.p1"))
        await worker.handle(message("in.p2"))

    asyncio.run(work())
    return client.subjects


def message(subject: str) -> Message:
    return Message(Msg(_client=cast("Client", None), subject=subject, reply="$JS.ACK.FM_IN.w.1.7.7.1500000000.0", data=b"x"))


def test_linger_hands_on_the_last_message_of_what_was_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert handed("linger=2", monkeypatch) == ["out.p0", "out.p1", "out.p2", "out.p0", "out.p0", "out.p1", "out.p2"]


def test_honest_workers_do_not_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    assert handed("lose=1", monkeypatch) == ["out.p0", "out.p1", "out.p2", "out.p1", "out.p2"]
