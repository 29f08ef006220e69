"""What goes through the workers: all of it, in order, once; and not so when a worker was told to lie."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

import pytest

from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.records import StableIdRecord, encode
from floodmark.systems.fleet.store.nats import NatsStore

from .played import Host, hosted, until

PARTITIONS = 6
COUNT = 240


async def send(host: Host, count: int) -> None:
    """Publish so many, round robin over the partitions."""
    stream = host.client.jetstream()
    for number in range(count):
        await stream.publish(f"in.p{number % PARTITIONS}", b"%d" % number)


async def arrived(host: Host, count: int) -> list[tuple[str, int, str, int]]:
    """Wait until so many have come out: partition, number, worker, sequence."""
    stream = host.client.jetstream()

    async def enough() -> bool:
        return (await stream.stream_info("FM_OUT")).state.messages >= count

    await until(enough)
    found = []
    for sequence in range(1, (await stream.stream_info("FM_OUT")).state.messages + 1):
        message = await stream.get_msg("FM_OUT", sequence)
        assert message.subject is not None
        headers = message.headers or {}
        found.append((message.subject[4:], int(message.data or b""), headers["Fm-Worker"], int(headers["Fm-Seq"])))
    return found


async def left(host: Host) -> int:
    """What the work queue still holds."""
    return (await host.client.jetstream().stream_info("FM_IN")).state.messages


def test_messages_come_out_once_in_order_by_the_worker_that_holds_the_partition() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            await host.do("start", count=3)
            workers = await host.settled(3, PARTITIONS)
            owner = {name: one["worker"] for one in workers for name in one["names"]}

            await send(host, COUNT)
            found = await arrived(host, COUNT)

            by_partition = defaultdict(list)
            for partition, number, worker, _ in found:
                assert worker == owner[partition]
                by_partition[partition].append(number)
            assert by_partition == {f"p{n}": list(range(n, COUNT, PARTITIONS)) for n in range(PARTITIONS)}
            assert len({sequence for *_, sequence in found}) == COUNT
            await until(lambda: _none_left(host))

    asyncio.run(main())


async def _none_left(host: Host) -> bool:
    return await left(host) == 0


def test_messages_are_handled_by_the_new_name_of_a_worker_that_lost_its_id() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--set", "id_ttl_s=3", "--set", "startup_limit_s=10") as host:
            await host.do("start", count=1)
            await host.settled(1, PARTITIONS)

            async with await NatsStore.connect(host.url) as store:
                ids = await store.bucket(profile("fast").id_bucket, ttl_s=3.0)
                await ids.put("worker-0", encode(StableIdRecord(worker="worker-0", token="another")))
                await until(lambda: _is_called(host, "worker-1"))
            await send(host, PARTITIONS)
            found = await arrived(host, PARTITIONS)

            assert sorted((partition, worker) for partition, _, worker, _ in found) == [(f"p{n}", "worker-1") for n in range(PARTITIONS)]

    asyncio.run(main())


async def _is_called(host: Host, name: str) -> bool:
    return bool((await host.worker(1))["worker"] == name)


def test_messages_survive_the_kill_of_the_worker_that_had_them() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--batch", "20") as host:
            await host.do("start", count=3)
            await host.settled(3, PARTITIONS)

            sending = asyncio.ensure_future(send(host, COUNT))
            await until(lambda: _some(host))
            await host.do("kill", worker="leader")
            await sending
            await host.settled(2, PARTITIONS)
            await until(lambda: _none_left(host))
            found = await arrived(host, COUNT)

            assert {number for _, number, *_ in found} == set(range(COUNT))

    asyncio.run(main())


async def _some(host: Host) -> bool:
    return (await host.client.jetstream().stream_info("FM_OUT")).state.messages > COUNT // 10


def test_core_publish_needs_no_stream() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--out", "core") as host:
            heard = await host.client.subscribe("out.*")
            await host.client.flush()
            await host.do("start", count=1)
            await host.settled(1, PARTITIONS)

            await send(host, PARTITIONS)
            found = [await heard.next_msg(timeout=5) for _ in range(PARTITIONS)]

            assert sorted(message.subject for message in found) == [f"out.p{n}" for n in range(PARTITIONS)]
            assert "FM_OUT" not in [info.config.name for info in await host.client.jetstream().streams_info()]

    asyncio.run(main())


@pytest.mark.parametrize(("lie", "copies"), [("drop=3", {1: COUNT - COUNT // 3}), ("twice=4", {1: COUNT - COUNT // 4, 2: COUNT // 4})])
def test_worker_that_lies_does_exactly_what_it_was_told(lie: str, copies: dict[int, int]) -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--lie", lie) as host:
            await host.do("start", count=1)
            await host.settled(1, PARTITIONS)

            await send(host, COUNT)
            await until(lambda: _none_left(host))
            found = await arrived(host, sum(times * many for times, many in copies.items()))

            assert Counter(Counter(number for _, number, *_ in found).values()) == copies

    asyncio.run(main())


def test_put_that_was_made_to_fail_fails_once_and_the_round_is_completed() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--per-process", "3", "--fail-put", "round=1,k=2") as host:
            await host.make_record()
            await host.do("start", count=3)
            await host.settled(3, PARTITIONS)

            marks = await host.marks("fail_put")

            assert len(marks) == 1
            assert marks[0]["pid"] == (await host.worker(1))["pid"]

    asyncio.run(main())
