"""What holds for every wire fault: seeded, journalled, applied at once, healed without loss, and nothing at all at share 0."""

from __future__ import annotations

import asyncio
import statistics
import time

import pytest

from floodmark.core.errors import UsageError
from floodmark.faults.wire import WIRE_FAULTS
from floodmark.faults.wire.active import ActiveFault
from floodmark.faults.wire.choice import Choice
from floodmark.faults.wire.journal import Journal, Tally
from floodmark.faults.wire.parse import parse_fault
from floodmark.faults.wire.proxy import Proxy
from floodmark.faults.wire.spec import Direction
from tests.soonest import soonest

from .relay import ask, at_rest, client, clients, exchange, play, relay, silent, stream, until

# One of each, mild enough that an exchange gets through it; those that end connections or throw bytes away are apart.
SHAPING = [
    "latency=5ms..20ms",
    "latency=20ms,distribution=normal,most=40ms",
    "bandwidth=5MB/s",
    "slice=1KB,spread=200B",
    "slow_close=50ms",
    "corrupt=1KB",
    "partition",
]
ENDING = ["timeout=10ms", "reset", "limit=1B", "cut=0s", "refuse"]


def test_promises_cover_every_fault() -> None:
    assert {text.partition("=")[0] for text in SHAPING + ENDING} == set(WIRE_FAULTS)


@pytest.mark.parametrize("text", [*SHAPING, *ENDING])
def test_share_0_changes_nothing_and_attaches_nothing(text: str) -> None:
    payload = stream(500_000)

    async def job() -> tuple[bytes, list[tuple[int, ...]], int, list[str]]:
        async with relay(f"{text},share=0") as (proxy, _), client(proxy) as (reader, writer):
            added = proxy.add(parse_fault(f"{text},share=0%"))
            await ask(reader, writer, b"hello")
            at_work = [connection.faults for connection in proxy.connections()]
            assert all(not lane.stages and lane.direct for link in proxy._links.values() for lane in (link.upstream, link.downstream))
            answer, _ = await exchange(reader, writer, payload)
            return answer, at_work, added.hits, [entry.action for entry in proxy.journal().entries()]

    answer, at_work, hits, actions = play(job())

    assert answer == payload
    assert at_work == [()]
    assert hits == 0
    assert actions == ["added", "added"]


@pytest.mark.parametrize("text", ["corrupt", "corrupt=0%", "corrupt=0B", "latency=0ms", "slow_close=0s"])
def test_strength_0_attaches_nothing(text: str) -> None:
    async def job() -> bool:
        async with relay(text) as (proxy, _), client(proxy) as (reader, writer):
            await ask(reader, writer, b"hello")
            return all(lane.direct for link in proxy._links.values() for lane in (link.upstream, link.downstream))

    assert play(job())


def test_share_0_costs_no_time() -> None:
    """Round trips with and without a fault at share 0, in turns on the same proxy: the medians are the same, or are in the next try."""

    async def job() -> tuple[float, float]:
        async with relay() as (proxy, _), client(proxy) as (reader, writer):
            taken_s: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(150):
                for there in (False, True):
                    added = proxy.add(parse_fault("latency=1s,share=0")) if there else None
                    taken_s[there].append((await ask(reader, writer, bytes(100)))[1])
                    if added is not None:
                        proxy.remove(added)
            return statistics.median(taken_s[False]), statistics.median(taken_s[True])

    def beyond_s() -> float:
        without_s, with_s = play(job())
        return with_s - 1.5 * without_s

    assert soonest(beyond_s, 0.0005) < 0.0005


@pytest.mark.parametrize("text", SHAPING)
def test_removal_in_the_middle_of_a_transfer_lets_everything_through_in_order(text: str) -> None:
    payload = stream(4 << 20)

    async def job() -> tuple[bytes, float]:
        async with relay() as (proxy, _), client(proxy) as (reader, writer):
            added = proxy.add(parse_fault(text))
            exchanging = asyncio.create_task(exchange(reader, writer, payload))
            await until(lambda: added.hits or text.startswith("slow_close"))
            await asyncio.sleep(0.02)
            proxy.remove(added)
            hits = added.hits
            healed_s = time.monotonic()
            answer, _ = await exchanging
            assert added.hits == hits  # a healed fault touches nothing
            return answer, time.monotonic() - healed_s

    answer, after_s = play(job())

    assert len(answer) == len(payload)
    if not text.startswith("corrupt"):
        assert answer == payload
    assert after_s < 10


async def says_and_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say something, end, and take what comes; so both ends of stream are on their way at the same time."""
    writer.write(b"said")
    writer.write_eof()
    await silent(reader, writer)


@pytest.mark.parametrize("texts", [["partition"], ["latency=10s"], ["latency=10s", "partition"], ["partition", "slice=1B", "latency=10s"]])
@pytest.mark.parametrize("newest_first", [False, True])
def test_removal_with_both_ends_of_stream_held_ends_the_connection(texts: list[str], newest_first: bool) -> None:
    async def job() -> bytes:
        async with relay(*texts, handler=says_and_ends) as (proxy, _), client(proxy) as (reader, writer):
            writer.write(b"and I")
            writer.write_eof()
            await until(lambda: proxy.faults()[0].hits == 4)  # two chunks, two ends
            for active in proxy.faults()[:: -1 if newest_first else 1]:
                proxy.remove(active)
            await until(lambda: not proxy.connections())
            summed = [(entry.fault, entry.direction) for entry in proxy.journal().entries() if entry.action == "touched"]
            assert len(summed) == len(set(summed)) == 2 * len(texts)  # one account each, and no more
            return await reader.read()

    assert play(job()) == b"said"


@pytest.mark.parametrize("text", SHAPING)
def test_close_with_bytes_held_ends_at_once(text: str) -> None:
    async def job() -> float:
        async with relay(text, "latency=10s") as (proxy, _), clients_without_answer(proxy, 5) as _:
            before_s = time.monotonic()
            await proxy.close()
            assert not proxy.connections()
            return time.monotonic() - before_s

    assert play(job()) < 2


class clients_without_answer:  # noqa: N801 - reads as the function `clients` does
    """Clients that have sent something and will hear nothing."""

    def __init__(self, proxy: Proxy, count: int) -> None:
        self._proxy = proxy
        self._count = count
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> None:
        for _ in range(self._count):
            _, writer = await asyncio.open_connection("127.0.0.1", self._proxy.port)
            self._writers.append(writer)
            writer.write(bytes(100_000))
        await until(lambda: sum(one.held_bytes > 0 for one in self._proxy.connections()) == self._count)

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 50), (0.5, 100), (1.0, 200)])
def test_share_of_200_open_connections_is_exact_and_hit_in_one_turn(share: float, count: int) -> None:
    async def job() -> int:
        async with relay(handler=silent_after_one) as (proxy, _), clients(proxy, 200):
            added = proxy.add(parse_fault(f"reset,share={share}"))
            hit_before_any_turn = added.hits  # add() gave no turn to the loop, so this is what the same turn did
            written = [entry for entry in proxy.journal().entries() if entry.action == "reset"]
            assert len(written) == count
            await until(lambda: len(proxy.connections()) == 200 - count)
            return hit_before_any_turn

    assert play(job()) == count


async def silent_after_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one byte and then only listen."""
    writer.write(await reader.readexactly(1))
    await silent(reader, writer)


def test_share_of_later_connections_is_exact() -> None:
    async def job(seed: int) -> list[int]:
        async with relay("latency=1ms,share=30%", seed=seed) as (proxy, _), clients(proxy, 60):
            return [one.number for one in proxy.connections() if one.faults]

    first, again, other = play(job(7)), play(job(7)), play(job(8))

    assert len(first) == len(other) == 18
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "text",
    ["latency=1ms..30ms,direction=upstream", "corrupt=500B,direction=upstream", "slice=50B,spread=40B"],
)
def test_same_seed_makes_the_same_decisions_and_another_does_not(text: str) -> None:
    """Asked of the fault itself, as sockets would chunk differently each time."""

    def decisions(seed: int) -> list[object]:
        journal = Journal(lambda: 0.0)
        active = ActiveFault(1, parse_fault(text), seed=seed, choice=Choice(1.0, seed=seed, fault=1, first_new=1))
        assert active.make is not None
        shaper = active.make(Direction.UPSTREAM, active.generator(1, Direction.UPSTREAM), Tally(journal, active.totals, connection=1))
        made: list[object] = [(shaper.admit(b"x", 0.0), shaper.cut(1000), shaper.touch(bytes(2000))) for _ in range(50)]
        return made

    assert decisions(7) == decisions(7)
    assert decisions(7) != decisions(8)


def test_corrupt_same_seed_damages_the_same_bytes_over_real_sockets() -> None:
    payload = bytes(1_000_000)

    async def job(seed: int, pause: int) -> bytes:
        async with relay("corrupt=1000B,direction=downstream", seed=seed) as (proxy, _), client(proxy) as (reader, writer):
            answer = b""
            for start in range(0, len(payload), pause):
                answer += (await ask(reader, writer, payload[start : start + pause]))[0]
            return answer

    first = play(job(7, 100_000))

    assert first == play(job(7, 77_777))  # however it is chunked
    assert first != play(job(8, 100_000))


def test_faults_stack_in_the_order_they_were_added() -> None:
    """A limit before a delay: the bytes within the limit arrive, late, and then the close; a corruption behind the limit sees no more."""

    async def job() -> tuple[bytes, float, int]:
        async with relay("limit=500B,direction=upstream", "corrupt=100B,direction=upstream", "latency=100ms,direction=upstream") as (
            proxy,
            served,
        ):
            received = asyncio.get_running_loop().create_future()

            async def collects(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
                received.set_result(await reader.read(-1))

            served._handler = collects
            async with client(proxy) as (_, writer):
                before_s = time.monotonic()
                writer.write(bytes(2000))
                taken = await received
                return taken, time.monotonic() - before_s, proxy.faults()[1].hits

    received, taken_s, flips = play(job())

    assert len(received) == 500
    assert sum(byte != 0 for byte in received) == flips == 5
    assert taken_s > 0.099


def test_two_limits_reached_by_the_same_chunk_close_once() -> None:
    async def job() -> tuple[bytes, list[int]]:
        async with (
            relay("limit=100B,direction=downstream", "limit=100B,direction=downstream") as (proxy, _),
            client(proxy) as (reader, writer),
        ):
            writer.write(bytes(200))
            received = await reader.read(-1)
            await until(lambda: not proxy.connections())
            return received, [active.hits for active in proxy.faults()]

    assert play(job()) == (bytes(100), [1, 1])


def test_fault_for_named_connections_hits_no_other_and_none_that_comes_later() -> None:
    async def job() -> list[tuple[int, ...]]:
        async with relay() as (proxy, _), clients(proxy, 3):
            proxy.add(parse_fault("latency=1ms"), connections=[2])
            async with client(proxy) as (reader, writer):
                await ask(reader, writer, b"late")
                return [one.faults for one in proxy.connections()]

    assert play(job()) == [(), (1,), (), ()]


def test_unknown_connection_and_foreign_handle_are_usage_errors() -> None:
    async def job() -> None:
        async with relay() as (proxy, _), relay() as (other, _):
            with pytest.raises(UsageError, match="no connection 9; open now: none"):
                proxy.add(parse_fault("reset"), connections=[9])
            foreign = other.add(parse_fault("partition"))
            with pytest.raises(UsageError, match="not at work here"):
                proxy.remove(foreign)
            with pytest.raises(UsageError, match="about new connections"):
                proxy.add(parse_fault("refuse"), connections=[])

    play(job())


def test_journal_sums_up_what_each_connection_felt() -> None:
    async def job() -> list[tuple[int, int, str, int, int]]:
        async with relay() as (proxy, _), clients(proxy, 2) as opened:
            added = proxy.add(parse_fault("latency=1ms"))
            await ask(*opened[1], b"hello")
            proxy.remove(added)
            return [
                (entry.fault, entry.connection, entry.direction, entry.hits, entry.size_bytes)
                for entry in proxy.journal().entries()
                if entry.action == "touched"
            ]

    assert play(job()) == [(1, 1, "upstream", 0, 0), (1, 1, "downstream", 0, 0), (1, 2, "upstream", 1, 5), (1, 2, "downstream", 1, 5)]


def test_journal_has_the_sums_of_a_connection_that_was_reset_with_bytes_held() -> None:
    async def job() -> list[tuple[str, str, int, int]]:
        async with relay("latency=10s,direction=upstream", "latency=1ms,direction=downstream") as (proxy, _), client(proxy) as (_, writer):
            writer.write(b"never arrives")
            await until(lambda: proxy.connections() and proxy.connections()[0].held_bytes == 13)
            proxy.add(parse_fault("reset"))
            await until(lambda: not proxy.connections())
            return [
                (entry.action, entry.direction, entry.hits, entry.size_bytes)
                for entry in proxy.journal().entries()
                if entry.action != "added"
            ]

    assert play(job()) == [
        ("reset", "", 1, 13),
        ("touched", "upstream", 1, 13),
        ("touched", "downstream", 0, 0),
        ("dropped", "", 0, 13),
    ]


def test_added_fault_behind_a_blocked_one_does_not_stall_the_stream() -> None:
    """The reader stops, so the first fault waits for its socket; a second one comes between, then the reader goes on."""
    payload = stream(12 << 20)

    async def job() -> bytes:
        async with relay("latency=1ms,direction=downstream") as (proxy, _), client(proxy) as (reader, writer):
            writer.write(payload)
            await until(proxy.connections)
            await at_rest(lambda: proxy.connections()[0].downstream_bytes)
            added = proxy.add(parse_fault("latency=2ms,direction=downstream"))
            proxy.add(parse_fault("slice=64KiB,direction=downstream"))
            first = await reader.readexactly(6 << 20)
            proxy.remove(added)
            return first + await reader.readexactly(6 << 20)

    assert play(job()) == payload
