"""The simulated network: what its faults do to operations and watches, and that they end."""

from __future__ import annotations

import asyncio
import random

import pytest

from floodmark.systems.fleet.simulation.loop import Node, VirtualLoop, virtual
from floodmark.systems.fleet.simulation.network import Link, Server
from floodmark.systems.fleet.simulation.store import SimulatedBucket, SimulatedStore
from floodmark.systems.fleet.simulation.weather import CALM, Weather
from floodmark.systems.fleet.store.base import Entry, StoreUnavailableError, WrongRevisionError

LIMIT_S = 5.0


class Bench:
    """One server and one node with a bucket on it."""

    def __init__(self, weather: Weather = CALM, *, clock_rate: float = 1.0) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.server = Server(loop)
        self.node: Node = loop.node("n0", clock_rate=clock_rate)
        self.link = Link(self.server, self.node, weather, operation_s=LIMIT_S, rng=random.Random(1))

    async def bucket(self, *, ttl_s: float = 0.0) -> SimulatedBucket:
        """Open the bucket, as the node."""
        return await SimulatedStore(self.link).bucket("b", ttl_s=ttl_s)

    async def value(self, key: str) -> bytes | None:
        """What the server has."""
        entry = await self.server.backend.bucket("b").get(key)
        return None if entry is None else entry.value


@virtual
async def test_operation_on_a_calm_link_takes_its_time_and_has_its_effect() -> None:
    bench = Bench()
    bucket = await bench.bucket()
    began_s = bench.loop.now_s

    revision = await bucket.create("k", b"v")

    assert 0 < bench.loop.now_s - began_s < 0.1
    assert (await bench.value("k"), revision) == (b"v", 1)
    with pytest.raises(WrongRevisionError):
        await bucket.update("k", b"w", 7)


@virtual
async def test_operation_that_fails_before_has_no_effect() -> None:
    bench = Bench()
    bucket = await bench.bucket()
    bench.link.weather = Weather(name="bad", fail_before_ratio=1.0)

    with pytest.raises(StoreUnavailableError):
        await bucket.put("k", b"v")

    await asyncio.sleep(1)
    assert await bench.value("k") is None


@virtual
async def test_operation_that_fails_after_has_had_its_effect() -> None:
    bench = Bench()
    bucket = await bench.bucket()
    bench.link.weather = Weather(name="bad", fail_after_ratio=1.0)

    with pytest.raises(StoreUnavailableError):
        await bucket.put("k", b"v")

    assert await bench.value("k") == b"v"


@virtual
async def test_cut_lets_an_operation_wait_for_its_limit() -> None:
    bench = Bench(Weather(name="slow to notice", detect_limit_s=100.0))
    bucket = await bench.bucket()
    bench.link.cut()
    began_s = bench.loop.now_s

    with pytest.raises(StoreUnavailableError, match="no answer"):
        await bucket.put("k", b"v")

    assert bench.loop.now_s - began_s == pytest.approx(LIMIT_S, abs=0.01)
    assert await bench.value("k") is None


@virtual
async def test_cut_that_heals_lets_what_was_on_its_way_arrive_late() -> None:
    bench = Bench(Weather(name="slow to notice", detect_limit_s=1000.0))
    bucket = await bench.bucket()
    bench.link.cut()

    with pytest.raises(StoreUnavailableError):
        await bucket.put("k", b"late")
    bench.link.heal()

    assert await bench.value("k") == b"late"


@virtual
async def test_cut_of_the_way_back_loses_the_answer_and_not_the_effect() -> None:
    bench = Bench(Weather(name="slow to notice", detect_limit_s=100.0))
    bucket = await bench.bucket()
    bench.link.cut(out=False)

    with pytest.raises(StoreUnavailableError):
        await bucket.put("k", b"v")

    assert await bench.value("k") == b"v"


@virtual
async def test_cut_that_is_noticed_breaks_watches_and_refuses_until_it_has_healed() -> None:
    bench = Bench(Weather(name="quick", detect_limit_s=0.5, reconnect_limit_s=0.5))
    store = SimulatedStore(bench.link)
    bucket = await store.bucket("b")
    watch = await bucket.watch()
    assert await anext(aiter(watch)) is None

    bench.link.cut()
    with pytest.raises(StoreUnavailableError):
        await anext(aiter(watch))
    assert not store.connected
    with pytest.raises(StoreUnavailableError, match="not connected"):
        await bucket.get("k")
    bench.link.heal()
    await asyncio.sleep(1)

    assert store.connected
    assert await bucket.put("k", b"v") == 1
    await watch.aclose()


@virtual
async def test_outage_of_the_server_keeps_the_data() -> None:
    bench = Bench()
    bucket = await bench.bucket()
    await bucket.put("k", b"v")

    bench.server.set_down(True)
    with pytest.raises(StoreUnavailableError):
        await bucket.get("k")
    bench.server.set_down(False)
    await asyncio.sleep(1)

    entry = await bucket.get("k")
    assert entry is not None
    assert entry.value == b"v"


@virtual
async def test_planted_failure_strikes_the_nth_write_and_no_other() -> None:
    bench = Bench()
    bucket = await bench.bucket()
    bench.server.plant_failure("b", 2)

    await bucket.put("k", b"1")
    with pytest.raises(StoreUnavailableError):
        await bucket.put("k", b"2")
    await bucket.put("k", b"3")

    assert [entry.value for entry in await bench.server.backend.bucket("b").history("k")] == [b"3"]


async def watched(weather: Weather, *, keys: int, writes: int) -> list[Entry]:
    bench = Bench(weather)
    bucket = await bench.bucket()
    watch = await bucket.watch()
    seen: list[Entry] = []
    for number in range(keys * writes):
        await bench.server.backend.bucket("b").put(f"k{number % keys}", str(number).encode())
    async for entry in watch:
        if entry is not None:
            seen.append(entry)
        if len(seen) == keys * writes:
            break
    await watch.aclose()
    return seen


@virtual
async def test_watch_in_order_tells_in_the_order_of_writing() -> None:
    seen = await watched(Weather(name="wild", spread=2.0, limit_s=5.0), keys=3, writes=10)

    assert [entry.revision for entry in seen] == sorted(entry.revision for entry in seen)


@virtual
async def test_watch_out_of_order_keeps_the_order_of_each_key() -> None:
    seen = await watched(Weather(name="wild", spread=2.0, limit_s=5.0, in_order=False), keys=3, writes=10)

    assert [entry.revision for entry in seen] != sorted(entry.revision for entry in seen)
    for key in ("k0", "k1", "k2"):
        revisions = [entry.revision for entry in seen if entry.key == key]
        assert revisions == sorted(revisions)


@virtual
async def test_watch_that_loses_an_event_breaks() -> None:
    bench = Bench()
    bucket = await bench.bucket()
    watch = await bucket.watch()
    bench.link.weather = Weather(name="bad", watch_loss_ratio=1.0)

    await bench.server.backend.bucket("b").put("k", b"v")

    assert await anext(aiter(watch)) is None
    with pytest.raises(StoreUnavailableError, match="watch broke"):
        await anext(aiter(watch))


@virtual
async def test_entry_seen_by_a_node_has_the_time_of_its_clock() -> None:
    bench = Bench(clock_rate=1.01)
    bucket = await bench.bucket()
    await bucket.put("k", b"v")

    entry = await bucket.get("k")

    assert entry is not None
    assert entry.written_s == pytest.approx(bench.loop.now_s * 1.01, abs=0.1)


@virtual
async def test_frozen_node_finds_its_answer_when_it_thaws() -> None:
    bench = Bench()
    bucket = await bench.bucket()
    task = bench.loop.start_in(bench.node, bucket.put("k", b"v"))
    await asyncio.sleep(0)

    bench.loop.freeze(bench.node)
    await asyncio.sleep(100)
    assert not task.done()
    assert await bench.value("k") is None  # it had not sent anything
    bench.loop.thaw(bench.node)

    assert await task == 1
