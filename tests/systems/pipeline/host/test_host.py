"""The host, spoken to by the driver as in a run: what is offered comes out once and in order, and what goes wrong is told."""

from __future__ import annotations

import asyncio
import os
import struct
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from floodmark.drivers.base import Options, RefusedError, Wanted
from floodmark.drivers.pulled import PulledDriver
from floodmark.systems.pipeline.host import wire
from tests.drivers.harness import Recorder, eventually, on_loop
from tests.systems.pipeline.host.hosted import CHANNEL, hosted, offers, records


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"chunk_size": 7, "max_demand": 3, "demand": 10, "buffer_size": 5}, id="small-steps"),
        pytest.param({"transform": True}, id="transformer"),
        pytest.param({"store": "sqlite", "chunk_size": 64}, id="sqlite"),
        pytest.param({"store": "sqlite", "pager": "offset", "chunk_size": 64}, id="sqlite-offset"),
        pytest.param({"query_failures": 2, "query_failures_of": 5, "chunk_size": 50}, id="failing-queries"),
    ],
)
@on_loop
async def test_stream_gives_what_was_offered_once_and_in_order(options: Options, tmp_path: Path) -> None:
    sent = records(300)
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "300", **options})

        for at in range(0, 300, 60):
            connection.publish_batch(offers(sent[at : at + 60]), at + 1)
        await host.came(300)
        await eventually(lambda: host.server.figures.groups_checked == 10)
        figures = await host.statistics()
        await connection.close()

    assert host.payloads == sent
    assert sorted(host.recorder.acks) == [1, 61, 121, 181, 241]
    assert set(host.recorder.slots) == {3}
    assert (figures["published"], figures["delivered"], figures["completed"]) == (300, 300, 1)
    assert (figures["groups_wrong"], figures["unasked"]) == (0, 0)
    assert (figures["streams_live"], figures["entries_left"], figures["tasks_left"]) == (0, 0, 0)
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # a Path may not be asked here: pathlib blocks


@on_loop
async def test_channel_runs_one_stream_after_another(tmp_path: Path) -> None:
    sent = records(70)
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "10", "demand": 4, "max_demand": 4})

        connection.publish_batch(offers(sent), 1)
        await host.came(70)
        await eventually(lambda: host.server.figures.completed == 7)
        await connection.close()

    assert host.payloads == sent
    assert host.server.figures.groups_checked == 70


@on_loop
async def test_records_of_differing_lengths_come_out_as_they_went_in(tmp_path: Path) -> None:
    sent = [b"a", b"bb", b"cc", b"d", b"eeee"]
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "5", "groups": 1})

        connection.publish_batch(offers(sent), 1)
        await eventually(lambda: host.server.figures.completed == 1)
        await host.came(5)
        await connection.close()

    assert host.payloads == sent


@on_loop
async def test_demand_not_given_nothing_is_taken_from_the_source(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "100", "demand": 20, "chunk_size": 20, "max_demand": 20})
        connection.pause_reading()

        connection.publish_batch(offers(records(100)), 1)
        await eventually(lambda: host.server.figures.delivered == 20)
        figures = await host.statistics()
        connection.resume_reading()
        await host.came(100)
        await connection.close()

    assert (figures["delivered"], figures["ahead_max"], figures["in_flight_max"]) == (20, 0, 20)


@on_loop
async def test_intake_full_holds_up_whoever_offers(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "9000000", "demand": 10, "chunk_size": 10, "max_demand": 10})
        connection.pause_reading()

        sent = 0
        async with asyncio.timeout(10):
            while connection.writable:
                sent += 1
                connection.publish_batch(offers(records(200, length=1000)), sent)
                await asyncio.sleep(0)

        published = host.server.figures.published
        connection.abort()

    assert published < sent * 200


@on_loop
async def test_transformer_that_fails_skips_its_record_and_no_other(tmp_path: Path) -> None:
    sent = records(100)
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "100", "fail_id": 50})

        connection.publish_batch(offers(sent), 1)
        await eventually(lambda: host.server.figures.groups_checked == 10)
        await connection.close()

    assert host.payloads == sent[:50] + sent[51:]
    assert (host.server.figures.skipped, host.server.figures.groups_wrong) == (1, 0)


@on_loop
async def test_unsubscribe_in_mid_stream_stops_it_and_drops_what_still_comes(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "1000", "demand": 10, "chunk_size": 10, "max_demand": 10})
        connection.publish_batch(offers(records(10)), 1)
        await host.came(10)

        connection.publish_batch(offers(records(5)), 2)
        await connection.unsubscribe([3])
        connection.publish_batch(offers(records(10)), 3)
        await eventually(lambda: len(host.recorder.acks) == 3)
        figures = await host.statistics()
        await connection.close()

    assert len(host.payloads) == 10
    assert (figures["stopped"], figures["completed"], figures["subscriptions"]) == (1, 0, 0)
    assert (figures["streams_live"], figures["entries_left"], figures["tasks_left"]) == (0, 0, 0)


@on_loop
async def test_connection_lost_takes_its_streams_along_and_no_other(tmp_path: Path) -> None:
    other = Recorder()
    async with hosted(tmp_path) as host:
        going = await host.connect({"records": "1000", "demand": 10, "chunk_size": 10, "max_demand": 10})
        staying = await host.connect({"records": "20"}, channel="room.1", recorder=other)
        going.publish_batch(offers(records(10)), 1)
        await host.came(10)

        going.abort()
        await eventually(lambda: host.server.figures.stopped == 1)
        staying.publish_batch(offers(records(20), "room.1"), 2)
        await eventually(lambda: len(other.frames) == 20)
        await staying.close()

    assert host.recorder.closings == ["was left by us"]
    assert host.server.channels == {}


@on_loop
async def test_stream_that_fails_ends_its_channel_with_the_reason(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "10", "query_failures": 4, "query_failures_of": 5, "chunk_size": 5})

        connection.publish_batch(offers(records(10)), 1)
        await eventually(lambda: bool(host.recorder.ends))
        figures = await host.statistics()
        await connection.close()

    assert host.recorder.ends[0][0] == 3
    assert "query 5 fails" in host.recorder.ends[0][1]
    assert (figures["failed"], figures["queries_failed"], figures["retries"]) == (1, 4, 3)


@on_loop
async def test_second_drain_of_a_channel_is_refused(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({})

        with pytest.raises(RefusedError, match=r"'room\.0' is drained already"):
            await connection.subscribe([Wanted(slot=4, channel=CHANNEL)])
        await connection.close()


@on_loop
async def test_options_that_make_no_sense_are_refused_in_words(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        with pytest.raises(RefusedError, match="chunk_size must be at least 1"):
            await host.connect({"chunk_size": 0})


@on_loop
async def test_measured_stream_is_in_the_statistics_and_its_groups_are_checked(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "10", "measure_records": 150_000, "measure_groups": 7, "measure_chunk": 999})

        figures = await host.statistics()
        await connection.close()

    assert figures["measured_hz"] > 0
    assert (figures["groups_checked"], figures["groups_wrong"]) == (7, 0)


@on_loop
async def test_what_nobody_has_measured_is_not_in_the_statistics(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "10", "watch": True})

        figures = await host.statistics()
        await connection.close()

    assert figures["subscriptions"] == 1
    assert not [name for name in figures if name.startswith(("first_", "ahead_", "in_flight_", "measured_"))]


@on_loop
async def test_drain_times_the_first_record_of_every_stream_but_the_first(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "20", "demand": 10, "chunk_size": 10})

        connection.publish_batch(offers(records(100)), 1)
        await host.came(100)
        await eventually(lambda: host.server.figures.completed == 5)
        figures = await host.statistics()
        await connection.close()

    assert (figures["first_record_count"], figures["first_seen_count"]) == (5, 4)
    assert 0 < figures["first_seen_median_s"] <= figures["first_seen_p99_s"] == figures["first_seen_s"] < 5


@on_loop
async def test_records_taken_on_are_watched_from_outside(tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "100", "demand": 20, "chunk_size": 20, "max_demand": 20, "watch": True})

        for number, payload in enumerate(records(100), 1):
            connection.publish_batch(offers([payload]), number)
        await host.came(100)
        await eventually(lambda: len(host.recorder.acks) == 100)
        figures = await host.statistics()
        await connection.close()

    assert figures["ahead_seen"] == 0
    assert figures["in_flight_seen"] == 20


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another-protocol"),
        pytest.param(wire.frame(99), id="unknown-kind"),
        pytest.param(wire.frame(wire.ASK, wire.TWO.pack(5, 1)), id="a-handle-never-named"),
        pytest.param(wire.frame(wire.OFFER, wire.OFFER_HEAD.pack(1, 1), wire.TWO.pack(1, 10), b"short"), id="lengths-that-do-not-add-up"),
        pytest.param(wire.frame(wire.OFFER, b"cut"), id="a-frame-cut-short"),
        pytest.param(struct.pack("<I", 0), id="an-empty-frame"),
        pytest.param(wire.frame(wire.SEEN, wire.SEEN_BODY.pack(9, 1)), id="something-unknown-seen"),
    ],
)
@on_loop
async def test_client_that_breaks_the_protocol_is_cut_off_and_nobody_else(said: bytes, tmp_path: Path) -> None:
    async with hosted(tmp_path) as host:
        connection = await host.connect({"records": "10"})
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(host.url).port)

        writer.write(said)
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        writer.transport.abort()
        connection.publish_batch(offers(records(10)), 1)
        await host.came(10)
        await connection.close()

    assert rest == b""


@on_loop
async def test_statistics_of_nobody_are_none_or_refused() -> None:
    with pytest.raises(RefusedError):
        await PulledDriver({}).statistics("tcp://127.0.0.1:1")
