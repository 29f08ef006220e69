"""The words of the command line, and the planted failure, without a process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.host.faulty import FaultyStore
from floodmark.systems.fleet.host.options import FailPut, read_options
from floodmark.systems.fleet.records import AssignmentRecord, assignment_key, encode
from floodmark.systems.fleet.store import MemoryStore, StoreUnavailableError


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"server": "far"}, "--server is inside or apart, got 'far'"),
        ({"server": "apart", "nats": "nats://x"}, "leave out --nats or --server"),
        ({"sync": "sometimes"}, "--sync is always, or how often, such as 10s or 2m; got 'sometimes'"),
        ({"sync": "2m }"}, "--sync is always"),
        ({"sync": "2m", "nats": "nats://x"}, "leave out --nats or --sync"),
        ({"strategy": "random"}, "no strategy 'random'; there are: consistent-hash"),
        ({"out": "file"}, "--out is stream or core, got 'file'"),
        ({"per_process": 0}, "--per-process must be 1 or more, got 0"),
        ({"batch": 0}, "--batch must be 1 or more, got 0"),
        ({"assignment_history": 65}, "NATS keeps 64 versions of a key at most, got 65"),
        ({"weights": "10x"}, "'10x' is no group; write for example 10x1 5x2 2x5"),
        ({"weights": "10x1", "partitions": 9}, "--partitions is 9, and --weights names 10"),
        ({"partitions": -1}, "--partitions must be between 0 and"),
        ({"chosen": ["heartbeat_s"]}, "'heartbeat_s' is no setting; write for example heartbeat_s=0.5"),
        ({"chosen": ["heart=1"]}, "no setting heart; there are"),
        ({"fail_put": "round=0,k=1"}, "'round=0,k=1' is no place"),
        ({"lie": ["flatter=1"]}, "'flatter=1' is no lie; there are: drop=N"),
        ({"lie": ["drop=0"]}, "N from 1"),
    ],
)
def test_read_options_of_what_cannot_be_says_what_can(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_options(**words)

    assert sentence in str(raised.value)


def test_read_options_gives_weights_to_partitions_in_their_order() -> None:
    options = read_options(weights="2x1 1x5", chosen=["heartbeat_s=0.25"], profile_name="fast", fail_put="round=2,k=3", lie=["drop=7"])

    assert [(one.id, one.weight) for one in options.partitions] == [("p0", 1), ("p1", 1), ("p2", 5)]
    assert options.settings.heartbeat_s == 0.25
    assert options.settings.assignment_history_count == 64
    assert options.fail_put == FailPut(round=2, k=3)
    assert options.lies == {"drop": 7}


def test_read_options_without_a_count_has_a_hundred_partitions() -> None:
    assert len(read_options().partitions) == 100


def test_faulty_store_fails_the_kth_record_of_the_nth_round_once() -> None:
    async def main() -> None:
        felt: list[str] = []
        store = FaultyStore(MemoryStore(), "assignments", FailPut(round=2, k=2), felt.append)
        bucket, other = await store.bucket("assignments"), await store.bucket("other")

        async def put(version: int, worker: str) -> None:
            record = AssignmentRecord(epoch=1, version=version, lifecycle="planned_scale", partitions=[])
            await bucket.put(assignment_key(worker), encode(record))

        for version, worker in [(1, "a"), (1, "b"), (1, "c"), (2, "a")]:
            await put(version, worker)
        await other.put(assignment_key("b"), b"")
        with pytest.raises(StoreUnavailableError, match="planted"):
            await put(2, "b")
        unwritten = await bucket.get(assignment_key("b"))
        for version, worker in [(2, "b"), (3, "a"), (3, "b")]:
            await put(version, worker)

        assert felt == ["fail_put"]
        assert unwritten is not None
        assert unwritten.revision == 2

    asyncio.run(main())
