"""`/metrics` and `/healthz`: exact, live and well-formed."""

from __future__ import annotations

import asyncio
import json

from floodmark.systems.hub import Hub, HubSettings
from floodmark.systems.hub.metrics import Counters, Histogram, Snapshot
from floodmark.systems.hub.testing import PUBLISH, connected, eventually, scenario

NAMES = {
    "total_connections", "active_connections", "total_subscriptions", "active_subscriptions", "total_events_published",
    "total_events_delivered", "events_by_type", "latency_seconds", "event_delivery_latency_seconds", "message_size_bytes",
    "connection_uptime_seconds", "per_connection_max", "rate_limit_rejections", "errors",
}  # fmt: skip


async def get(port: int, path: str) -> tuple[int, str]:
    """A plain GET; gives status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


def values(text: str) -> dict[str, float]:
    """Metric lines by name and labels."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@scenario
async def test_metrics_are_exact_and_drop_with_what_they_count() -> None:
    async with Hub(HubSettings(rate_limits=False)) as hub, connected(hub.url) as publisher:
        async with connected(hub.url) as client:
            for number in range(3):
                await client.subscribe(str(number), "x")
            await client.subscribe("other", "y")
            for number in range(10):
                await publisher.ask(str(number), PUBLISH, c="x", d="z" * 98)
            for _ in range(30):
                await client.recv()
            client.start("bad", "{")
            await client.recv()
            during = values((await get(hub.port, "/metrics"))[1])
        await eventually(lambda: len(hub.connections) == 1)
        after = values((await get(hub.port, "/metrics"))[1])

        wanted = {
            "total_connections": 2, "active_connections": 2, "total_subscriptions": 4, "active_subscriptions": 4,
            "total_events_published": 10, "total_events_delivered": 30, "total_events_dropped": 0, "per_connection_max": 4,
            "lagging_subscriptions": 0, 'events_by_type{event_type="event"}': 10, 'errors{code="GRAPHQL_VALIDATION_FAILED"}': 1,
            "latency_seconds_count": 10, "event_delivery_latency_seconds_count": 30, "message_size_bytes_sum": 1000,
            'message_size_bytes_bucket{le="64.0"}': 0, 'message_size_bytes_bucket{le="256.0"}': 10, "connection_uptime_seconds_count": 0,
        }  # fmt: skip
        assert {name: during[f"floodmark_hub_{name}"] for name in wanted} == wanted
        assert after["floodmark_hub_active_subscriptions"] == 0
        assert after["floodmark_hub_active_connections"] == 1
        assert after["floodmark_hub_per_connection_max"] == 0
        assert after["floodmark_hub_connection_uptime_seconds_count"] == 1
        assert after["floodmark_hub_total_events_delivered"] == 30


@scenario
async def test_metrics_have_every_promised_name() -> None:
    async with Hub(HubSettings()) as hub:
        status, text = await get(hub.port, "/metrics")
        named = {line.split()[2].removeprefix("floodmark_hub_") for line in text.splitlines() if line.startswith("# TYPE")}

        assert status == 200
        assert named >= NAMES


@scenario
async def test_healthz_is_ok_and_says_so() -> None:
    async with Hub(HubSettings()) as hub, connected(hub.url):
        status, body = await get(hub.port, "/healthz")

        assert status == 200
        assert json.loads(body) == {"status": "ok", "connections": 1, "mode": "in-memory"}


@scenario
async def test_healthz_while_draining_is_503() -> None:
    async with Hub(HubSettings()) as hub:
        hub.draining = True
        status, body = await get(hub.port, "/healthz")

        assert status == 503
        assert json.loads(body)["status"] == "draining"


def test_histogram_buckets_are_cumulative_in_the_text() -> None:
    histogram = Histogram.over((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    text = snapshot(histogram).prometheus()

    assert [line.rpartition(" ")[2] for line in text.splitlines() if "_bucket" in line] == ["2", "3", "4"]
    assert "floodmark_hub_h_sum 12\n" in text


def snapshot(histogram: Histogram, **counters: int) -> Snapshot:
    return Snapshot(
        mode="m", counters=counters, gauges={"g": 1}, maxima={"m": counters.get("a", 0)}, labelled={"errors": {'a"b': 1}},
        histograms={"h": histogram},
    )  # fmt: skip


def test_snapshots_add_up_and_leave_the_other_alone() -> None:
    first, second = Histogram.over((1.0,)), Histogram.over((1.0,))
    first.observe(0.5)
    second.observe(5.0, 3)
    total, other = snapshot(first, a=1), snapshot(second, a=2, b=3)
    total.add(other)

    assert total.counters == {"a": 3, "b": 3}
    assert (total.gauges, total.maxima) == ({"g": 2}, {"m": 2})
    assert total.labelled == {"errors": {'a"b': 2}}
    assert (total.histograms["h"].buckets, total.histograms["h"].count, total.histograms["h"].sum) == ([1, 3], 4, 15.5)
    assert second.count == 3


def test_label_is_escaped() -> None:
    assert 'errors{code="a\\"b"} 1' in snapshot(Histogram.over((1.0,))).prometheus()


def test_event_types_beyond_their_bound_count_as_other() -> None:
    counters = Counters()
    for number in range(1500):
        counters.count_type(f"t{number}", 1)

    assert len(counters.events_by_type) == 1001
    assert counters.events_by_type["other"] == 500
