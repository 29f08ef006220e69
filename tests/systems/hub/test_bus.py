"""The bus over NATS, its fallback, and several processes on one port, with a real nats-server."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import psutil
import pytest

from floodmark.core.breaker import BreakerState, CircuitBreaker
from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.hub import Hub, HubError, HubSettings
from floodmark.systems.hub.bus.guarded import GuardedBus
from floodmark.systems.hub.bus.memory import MemoryBus
from floodmark.systems.hub.dispatch import Dispatcher
from floodmark.systems.hub.errors import EventBusError
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.intake import Intake, PublishJob
from floodmark.systems.hub.log import ChannelLog
from floodmark.systems.hub.metrics import Counters
from floodmark.systems.hub.testing import EVENTS, PUBLISH, HubClient, connected, eventually, scenario


def over(server: EmbeddedNats, **changes: object) -> HubSettings:
    return HubSettings(rate_limits=False, bus=server.url, history_events=10_000, message_bytes=1_000_000, **changes)  # type: ignore[arg-type]


async def events(client: HubClient, count: int) -> list[tuple[int, object]]:
    """Offset and data of the next events, answers to publishes left out."""
    got: list[tuple[int, object]] = []
    while len(got) < count:
        message = await client.recv()
        if message["type"] == "next" and "events" in message["payload"]["data"]:
            found = message["payload"]["data"]["events"]
            got.append((found["offset"], found["data"]))
    return got


@scenario
async def test_two_hubs_on_one_bus_see_all_events_in_the_same_order() -> None:
    async with (
        EmbeddedNats() as server,
        Hub(over(server)) as left,
        Hub(over(server)) as right,
        connected(left.url) as a,
        connected(right.url) as b,
    ):
        await a.subscribe("s", "x/ü *>")
        await b.subscribe("s", "x/ü *>")
        for number in range(300):
            a.start(f"p{number}", PUBLISH, c="x/ü *>", d=["a", number])
            b.start(f"p{number}", PUBLISH, c="x/ü *>", d=["b", number])
        seen_a, seen_b = await events(a, 600), await events(b, 600)

        assert seen_a == seen_b
        assert [offset for offset, _ in seen_a] == sorted({offset for offset, _ in seen_a})
        for name in ("a", "b"):
            assert [data for _, data in seen_a if data[0] == name] == [[name, number] for number in range(300)]  # type: ignore[index]


@scenario
async def test_acknowledged_offset_is_the_one_delivered_and_can_be_resumed() -> None:
    async with (
        EmbeddedNats() as server,
        Hub(over(server)) as left,
        Hub(over(server)) as right,
        connected(left.url) as publisher,
        connected(right.url) as reader,
    ):
        await reader.subscribe("s", "x")
        offsets = [(await publisher.ask(str(number), PUBLISH, c="x", d=number))["publish"]["offset"] for number in range(20)]
        live = await events(reader, 20)
        reader.start("again", EVENTS, c="x", a=offsets[9])

        assert live == [(offset, number) for number, offset in enumerate(offsets)]
        assert await events(reader, 10) == live[10:]


@scenario
async def test_stats_and_metrics_are_summed_over_the_hubs() -> None:
    async with (
        EmbeddedNats() as server,
        Hub(over(server)) as left,
        Hub(over(server)) as right,
        connected(left.url) as a,
        connected(right.url) as b,
    ):
        await a.subscribe("s", "x")
        await b.subscribe("s", "x")
        for number in range(10):
            a.start(f"p{number}", PUBLISH, c="x", d=number)
        await events(a, 10)
        await events(b, 10)
        await eventually(lambda: left.snapshot().stats()["totalDelivered"] == 20 == right.snapshot().stats()["totalDelivered"])
        stats = await right.stats()

        assert stats == {
            "totalEvents": 10,
            "totalDelivered": 20,
            "totalSubscriptions": 2,
            "activeSubscribers": 2,
            "activeConnections": 2,
            "mode": "nats-jetstream",
            "breaker": "closed",
        }


@scenario
async def test_stats_with_a_fallback_are_summed_and_one_process_still_answers_when_the_bus_is_down() -> None:
    async with (
        EmbeddedNats() as server,
        Hub(over(server, bus_fallback="memory", breaker_failures=1)) as left,
        Hub(over(server, bus_fallback="memory", breaker_failures=1)) as right,
        connected(left.url),
        connected(right.url),
    ):
        both = (await left.stats())["activeConnections"], (await right.stats())["activeConnections"]
        assert server.process is not None
        server.process.kill()
        await server.process.wait()
        await left.publish("x", 1)
        alone = await left.stats()

        assert both == (2, 2)
        assert (alone["totalEvents"], alone["mode"]) == (1, "in-memory (fallback)")


@scenario
async def test_stats_are_summed_too_once_a_bus_comes_up_that_was_down_at_the_start() -> None:
    async with EmbeddedNats(keep=True, again_after_s=4.0) as server:
        assert server.process is not None
        server.process.kill()
        await server.process.wait()
        async with Hub(over(server, bus_fallback="memory")) as left, Hub(over(server, bus_fallback="memory")) as right:
            async with connected(left.url), connected(right.url):
                at_once = left.snapshot().mode

                await eventually(lambda: all(hub.snapshot().stats()["activeConnections"] == 2 for hub in (left, right)), 20)

            assert at_once == "in-memory (fallback)"


@scenario
async def test_slow_subscriber_of_one_hub_holds_back_a_publisher_of_another() -> None:
    slow = {"queue_events": 10, "write_buffer_bytes": 16_384, "socket_send_bytes": 16_384}
    async with (
        EmbeddedNats() as server,
        Hub(over(server, **slow)) as left,
        Hub(over(server)) as right,
        connected(left.url, receive_bytes=16_384) as stuck,
        connected(right.url) as publisher,
    ):
        await stuck.subscribe("s", "x")
        stuck.stop_reading()
        for number in range(300):
            publisher.start(f"p{number}", PUBLISH, c="x", d=[number, "z" * 20_000])
        await eventually(lambda: left.intake.parked_count == 1)
        deepest = left.snapshot().maxima["queue_depth_max"]
        stuck.read_again()
        got = await events(stuck, 300)

        assert deepest <= 10
        assert [data[0] for _, data in got] == list(range(300))  # type: ignore[index]


@scenario
async def test_publish_many_larger_than_a_message_arrives_whole() -> None:
    query = 'mutation($d: [JSON!]!) { publishMany(channel: "x", data: $d) { firstOffset count } }'
    async with EmbeddedNats() as server, Hub(over(server)) as hub, connected(hub.url) as client:
        await client.subscribe("s", "x")
        client.start("p", query, d=[[number, "z" * 9000] for number in range(100)])
        messages = [await client.recv() for _ in range(102)]
        got = [m["payload"]["data"]["events"] for m in messages if m["id"] == "s"]
        answer = next(m["payload"]["data"]["publishMany"] for m in messages if m["id"] == "p" and m["type"] == "next")

        assert [found["data"][0] for found in got] == list(range(100))
        assert answer == {"firstOffset": got[0]["offset"], "count": 100}


@scenario
async def test_bus_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(EventBusError, match=r"nats://127\.0\.0\.1:1 cannot be used"):
        await Hub(HubSettings(bus="nats://127.0.0.1:1")).start()


@scenario
async def test_fallback_takes_over_when_the_bus_never_came_up() -> None:
    async with Hub(HubSettings(bus="nats://127.0.0.1:1", bus_fallback="memory")) as hub, connected(hub.url) as client:
        await client.subscribe("s", "x")
        await hub.publish("x", 1)

        assert (await client.recv())["payload"]["data"]["events"] == {"data": 1, "offset": 1}
        assert hub.stats_now()["mode"] == "in-memory (fallback)"
        assert await hub.bus.healthy()


class ToyBus:
    """A bus that fails when it is told to."""

    waiting_count = 0
    retried_count = 0
    takes_mixed = False

    def __init__(self, mode: str) -> None:
        self.mode, self.full, self.broken = mode, True, False
        self.took: list[PublishJob] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def healthy(self) -> bool:
        return not self.broken

    def give_up(self, error: EventBusError) -> None: ...

    def publish(self, job: PublishJob) -> bool:
        if not self.broken:
            self.took.append(job)
            job.admitted_count = len(job.events)
        job.done(job, EventBusError("broken") if self.broken else None)
        return True


@scenario
async def test_fallback_loses_no_publish_and_returns_when_the_first_bus_is_back() -> None:
    first, second, clock = ToyBus("first"), ToyBus("second"), [0.0]
    breaker = CircuitBreaker(failure_limit=3, success_limit=2, open_s=0.5)
    bus = GuardedBus(first, second, breaker, clock_s=lambda: clock[0])
    await bus.start()
    errors: list[Exception | None] = []
    event = Event("1", "event", b"1", "x", 0.0, None)
    publish: Callable[[], bool] = lambda: bus.publish(PublishJob([event], lambda _job, error: errors.append(error)))  # noqa: E731

    publish()
    first.broken = True
    for _ in range(5):
        publish()
    open_then, mode_then = breaker.state, bus.mode
    first.broken, clock[0] = False, 0.6
    for _ in range(3):
        publish()

    assert errors == [None] * 9
    assert (len(first.took), len(second.took)) == (4, 5)
    assert (open_then, mode_then) == (BreakerState.OPEN, "second (fallback)")
    assert (breaker.state, bus.mode) == (BreakerState.CLOSED, "first")


@scenario
async def test_fallback_numbers_up_to_the_next_message_of_the_stream_and_no_further() -> None:
    dispatcher = Dispatcher(HubSettings(), Counters(), asyncio.get_running_loop())
    bus = MemoryBus(dispatcher, Intake(dispatcher), offsets_apart=8)
    numbered: list[int] = []
    errors: list[Exception | None] = []

    def publish(channel: str, count: int) -> None:
        job = PublishJob([Event("1", "event", b"1", channel, 0.0, None) for _ in range(count)], lambda _job, error: errors.append(error))
        bus.publish(job)
        numbered.extend(event.offset for event in job.events[: job.admitted_count])

    def from_the_stream(seq: int) -> None:
        dispatcher.append(Event("1", "event", b"1", "x", 0.0, None, offset=8 * seq))

    publish("x", 5)  # before any message: up to 7, the stream begins with 8
    publish("x", 3)
    publish("x", 2)
    from_the_stream(3)
    publish("x", 7)
    publish("x", 1)
    publish("y", 1)
    from_the_stream(4)
    publish("x", 1)

    assert numbered == [1, 2, 3, 4, 5, 6, 7, 25, 26, 27, 28, 29, 30, 31, 1, 33]
    assert [type(error) for error in errors] == [type(None), EventBusError, *[type(None)] * 2, EventBusError, *[type(None)] * 2]
    assert "no number left" in str(errors[1])


@scenario
async def test_fallback_that_refuses_counts_no_event_as_having_gone_its_way() -> None:
    first, second = ToyBus("first"), ToyBus("second")
    first.broken = second.broken = True
    bus = GuardedBus(first, second)
    await bus.start()

    bus.publish(PublishJob([Event("1", "event", b"1", "x", 0.0, None)], lambda _job, _error: None))
    refused_count = bus.fallback_count
    second.broken = False
    bus.publish(PublishJob([Event("1", "event", b"1", "x", 0.0, None)], lambda _job, _error: None))

    assert (refused_count, bus.fallback_count) == (0, 1)


@scenario
async def test_fallback_sets_numbers_aside_for_what_waits_for_room() -> None:
    dispatcher = Dispatcher(HubSettings(), Counters(), asyncio.get_running_loop())
    intake = Intake(dispatcher)
    bus = MemoryBus(dispatcher, intake, offsets_apart=4)
    dispatcher.logs["x"] = ChannelLog("x", history_events=10, history_bytes=1000)
    dispatcher.logs["x"].waiters = deque([PublishJob([], lambda _job, _error: None)])  # whom nobody overtakes
    errors: list[Exception | None] = []

    for _ in range(4):
        bus.publish(PublishJob([Event("1", "event", b"1", "x", 0.0, None)], lambda _job, error: errors.append(error)))

    assert intake.parked_count == 3
    assert [type(error) for error in errors] == [EventBusError]


@scenario
async def test_publish_when_the_server_dies_ends_in_an_error_after_the_retries() -> None:
    async with EmbeddedNats() as server, Hub(over(server)) as hub:
        await hub.publish("x", 1)
        assert server.process is not None
        server.process.kill()
        await server.process.wait()
        with pytest.raises(HubError):
            await hub.publish("x", 2)

        assert not await hub.bus.healthy()


# Processes


@asynccontextmanager
async def service(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`python -m floodmark.systems.hub ...` and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "floodmark.systems.hub", "--no-rate-limits", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("floodmark hub ready ws://"), line
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(20):
            await process.communicate()


@scenario
async def test_workers_share_one_port_one_order_and_one_set_of_figures() -> None:
    async with service("--workers", "2") as (process, url):
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(url)) for _ in range(12)]
            for client in clients:
                await client.subscribe("s", "x")
            for number in range(50):
                clients[number % 12].start(f"p{number}", PUBLISH, c="x", d=number)
            seen = [await events(client, 50) for client in clients]
            async with connected(url) as asker:
                stats = (await asker.ask("q", "{ stats { totalEvents totalDelivered activeSubscribers activeConnections mode } }"))["stats"]
        workers = [child for child in psutil.Process(process.pid).children() if "hub.workers" in " ".join(child.cmdline())]
        process.send_signal(signal.SIGTERM)
        code = await process.wait()

        assert len(workers) == 2
        assert all(each == seen[0] for each in seen)
        assert stats == {
            "totalEvents": 50, "totalDelivered": 600, "activeSubscribers": 12, "activeConnections": 13, "mode": "nats-jetstream",
        }  # fmt: skip
        assert code == 0
        assert not any(worker.is_running() for worker in workers)


@scenario
async def test_worker_that_dies_takes_the_service_down_with_a_message() -> None:
    async with service("--workers", "2") as (process, _):
        children = psutil.Process(process.pid).children()
        victim = next(child for child in children if "hub.workers" in " ".join(child.cmdline()))
        victim.kill()
        async with asyncio.timeout(20):
            _, errors = await process.communicate()

        assert process.returncode == 70
        assert f"hub worker {victim.pid} ended" in errors.decode()
        assert not any(child.is_running() for child in children)


@scenario
async def test_parent_killed_takes_workers_and_server_along() -> None:
    async with service("--workers", "2") as (process, _):
        children = psutil.Process(process.pid).children()
        process.kill()
        await process.wait()
        await eventually(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 15)

        assert len(children) == 3
