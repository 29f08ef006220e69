"""The fleet's driver against a nats-server and the least host: what goes in comes out, the script is played, the record is read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from floodmark.core.errors import UsageError
from floodmark.core.nats_server import EmbeddedNats
from floodmark.drivers.base import RefusedError, Tidying, Wanted
from floodmark.drivers.fleet import FleetDriver, partition_of
from floodmark.drivers.fleet_play import share_bytes
from tests.drivers.fleet_host import hosting, serving
from tests.drivers.harness import Recorder, eventually, on_loop, stamped, tcp_server


def driver(script: str = "0 start 2", **options: Any) -> FleetDriver:
    return FleetDriver({"script": script, "partitions": 4, "settle_s": 0.3, **options})


@on_loop
async def test_publish_what_goes_in_is_acknowledged_and_comes_out_of_its_partition() -> None:
    async with hosting() as (url, host):
        sink, fleet = Recorder(), driver()
        connection = await fleet.connect(url, "fm7.0", sink, limit_s=10)
        await connection.subscribe([Wanted(slot=number, channel=f"fm7.{number}") for number in range(4)])

        for number in range(4):
            connection.publish(f"fm7.{number}", stamped(number, "binary"), number + 1)
        await eventually(lambda: len(sink.frames) == 4 and len(sink.acks) == 4)

        assert sorted(sink.slots) == [0, 1, 2, 3]
        assert all(data.endswith(stamped(slot, "binary")) for slot, data, _ in sink.frames)
        assert sorted(sink.acks) == [1, 2, 3, 4]
        assert sink.refusals == []
        assert host.words[0] == {"do": "start", "count": 2}
        await connection.close()


@on_loop
async def test_publish_a_probe_goes_in_once_as_long_as_the_queue_moves() -> None:
    async with hosting() as (url, host):
        sink, fleet = Recorder(), driver()
        reader = await fleet.connect(url, "fm7.0", sink, limit_s=10)
        publisher = await fleet.connect(url, "fm7.1", Recorder(), limit_s=10)
        await reader.subscribe([Wanted(slot=0, channel="fm7.0"), Wanted(slot=1, channel="fm7.1")])

        for _ in range(5):
            publisher.publish("fm7.0", stamped(0, "binary"), 0)
        await eventually(lambda: len(sink.frames) == 1)
        publisher.publish("fm7.0", stamped(0, "binary"), 0)
        publisher.publish("fm7.1", stamped(0, "binary"), 0)
        publisher.publish("fm7.1", stamped(1, "binary"), 1)
        await eventually(lambda: len(sink.frames) == 3)

        assert (await host.js.stream_info("FM_IN")).state.last_seq == 3
        await publisher.close()
        await reader.close()


@on_loop
async def test_subscribe_after_a_position_gives_what_came_since_and_nothing_twice() -> None:
    async with hosting() as (url, _):
        first, fleet = Recorder(), driver()
        connection = await fleet.connect(url, "fm7.0", first, limit_s=10)
        await connection.subscribe([Wanted(slot=0, channel="fm7.0")])
        for seq in range(3):
            connection.publish("fm7.0", stamped(seq, "binary"), seq + 1)
        await eventually(lambda: len(first.frames) == 3)
        point = connection.resume_point(first.frames[0][1])

        second = Recorder()
        again = await fleet.connect(url, "fm7.0", second, limit_s=10)
        await again.subscribe([Wanted(slot=0, channel="fm7.0", after=point)])
        await eventually(lambda: len(second.frames) == 2)

        assert [data[-200:] for _, data, _ in second.frames] == [stamped(1, "binary"), stamped(2, "binary")]
        await again.close()
        await connection.close()


@on_loop
async def test_subscribe_where_no_stream_keeps_the_output_reads_it_as_it_comes() -> None:
    async with hosting(out_stream=False) as (url, _):
        sink, fleet = Recorder(), driver()
        connection = await fleet.connect(url, "fm7.0", sink, limit_s=10)
        await connection.subscribe([Wanted(slot=0, channel="fm7.0"), Wanted(slot=1, channel="fm7.1")])

        connection.publish("fm7.1", stamped(0, "binary"), 1)
        await eventually(lambda: len(sink.frames) == 1)

        assert sink.slots == [1]
        assert connection.resume_point(sink.frames[0][1]) is None
        await connection.close()


@on_loop
async def test_unsubscribe_what_comes_afterwards_is_nobodys() -> None:
    async with hosting() as (url, _):
        sink, fleet = Recorder(), driver()
        connection = await fleet.connect(url, "fm7.0", sink, limit_s=10)
        await connection.subscribe([Wanted(slot=0, channel="fm7.0"), Wanted(slot=1, channel="fm7.1")])
        await connection.unsubscribe([0])

        connection.publish("fm7.0", stamped(0, "binary"), 1)
        connection.publish("fm7.1", stamped(0, "binary"), 2)
        await eventually(lambda: len(sink.frames) == 1 and len(sink.acks) == 2)

        assert sink.slots == [1]
        await connection.close()


@on_loop
async def test_subscribe_where_it_reads_on_already_cannot_go_back() -> None:
    async with hosting() as (url, _):
        connection = await driver().connect(url, "fm7.0", Recorder(), limit_s=10)
        await connection.subscribe([Wanted(slot=0, channel="fm7.0")])

        with pytest.raises(RefusedError, match="resume on a new one"):
            await connection.subscribe([Wanted(slot=1, channel="fm7.1", after=3)])

        await connection.close()


@on_loop
async def test_publish_where_nothing_takes_messages_is_refused_in_words() -> None:
    async with hosting() as (url, host):
        sink, fleet = Recorder(), driver()
        connection = await fleet.connect(url, "fm7.0", sink, limit_s=10)
        await host.js.delete_stream("FM_IN")

        connection.publish("fm7.0", stamped(0, "binary"), 1)
        await eventually(lambda: len(sink.refusals) == 1)

        assert sink.refusals == [(1, "refused: has no stream for it")]
        await connection.close()


@on_loop
async def test_connection_that_is_lost_tells_its_sink_once() -> None:
    async with EmbeddedNats() as server, serving(server.url) as host:
        sink, fleet = Recorder(), driver()
        await fleet.connect(server.url, "fm7.0", sink, limit_s=10)
        await host.client.close()
        assert server.process is not None

        server.process.kill()
        await eventually(lambda: len(sink.closings) == 1)

        assert "closed" in sink.closings[0] or "broke" in sink.closings[0]


@on_loop
async def test_script_is_played_by_the_first_message_and_its_record_gives_the_figures() -> None:
    async with hosting() as (url, host):
        sink, fleet = Recorder(), driver("0 start 2; 0.01 measure; 0.05 start 1; 0.4 kill 9")
        connection = await fleet.connect(url, "fm7.0", sink, limit_s=10)
        await connection.subscribe([Wanted(slot=0, channel="fm7.0")])
        connection.publish("fm7.0", stamped(0, "binary"), 1)
        await eventually(lambda: len(host.words) == 4)
        await eventually(lambda: len(sink.frames) == 1)

        begun, figures = time.monotonic(), dict[str, float]()
        while time.monotonic() - begun < 3 and not (figures.get("words_failed") and figures.get("settled_points")):
            figures = await fleet.statistics(url) or {}

        assert (figures["words_said"], figures["words_failed"], figures["words_unsaid"]) == (2, 1, 0)
        assert (figures["versions"], figures["versions_load"]) == (2, 1)
        assert (figures["coverage_gaps"], figures["owners_twice"], figures["workers"], figures["assigned"]) == (0, 0, 3, 4)
        assert (figures["looks"], figures["tasks_max"]) == (1, 6)
        assert (figures["handovers"], figures["overlap_messages"]) == (0, 0)
        assert 0 < figures["stable_s"] < 5
        await connection.close()


@on_loop
async def test_script_same_is_whom_the_opposite_word_struck() -> None:
    async with hosting() as (url, host):
        fleet = driver("0 start 2; 0 pause worker-1; 0 resume same")
        connection = await fleet.connect(url, "fm7.0", Recorder(), limit_s=10)

        assert host.words[1:] == [{"do": "pause", "worker": "worker-1"}, {"do": "resume", "worker": 2}]
        await connection.close()


@on_loop
async def test_connect_a_second_agent_waits_for_the_first_and_says_nothing() -> None:
    async with hosting() as (url, host):
        one, two = driver(), driver()
        connection = await one.connect(url, "fm7.0", Recorder(), limit_s=10)
        other = await two.connect(url, "fm7.0", Recorder(), limit_s=10)

        assert [word["do"] for word in host.words] == ["start"]
        await other.close()
        await connection.close()


@on_loop
async def test_connect_another_run_on_the_same_server_begins_a_record_of_its_own() -> None:
    async with hosting() as (url, host):
        connection = await driver().connect(url, "fm7.0", Recorder(), limit_s=10)
        for worker in ("worker-0", "worker-1", "worker-0"):  # which is late, and none of the later run's
            await host.js.publish("out.p0", b"", headers={"Fm-Worker": worker})
        await connection.close()
        host.workers.clear()
        later = driver()
        connection = await later.connect(url, "fm8.0", Recorder(), limit_s=10)

        figures = await later.statistics(url)

        assert figures is not None
        assert figures["words_said"] == 1
        assert "overlap_messages" not in figures
        await connection.close()


@on_loop
async def test_connect_while_another_run_is_played_is_refused_and_its_record_stays() -> None:
    async with hosting() as (url, _):
        first = driver()
        connection = await first.connect(url, "fm7.0", Recorder(), limit_s=10)

        with pytest.raises(RefusedError, match="is played by the run fm7 now"):
            await driver().connect(url, "fm8.0", Recorder(), limit_s=10)

        figures = await first.statistics(url)
        assert figures is not None
        assert figures["words_said"] == 1
        await connection.close()


@on_loop
async def test_connect_while_another_run_gets_its_fleet_ready_is_refused() -> None:
    async with hosting() as (url, host):
        host.stands = False
        first = asyncio.create_task(driver().connect(url, "fm7.0", Recorder(), limit_s=3))
        await eventually(lambda: bool(host.words))

        with pytest.raises(RefusedError, match="is played by the run fm7 now"):
            await driver().connect(url, "fm8.0", Recorder(), limit_s=10)

        await (await first).close()


@pytest.mark.parametrize("description", ["", "a > b", "fm7.*"])
@on_loop
async def test_connect_a_record_that_no_run_has_made_is_replaced(description: str) -> None:
    async with hosting() as (url, host):
        await host.js.add_stream(name="FM_RECORD", subjects=["else.*"], description=description)

        connection = await driver().connect(url, "fm8.0", Recorder(), limit_s=10)

        assert (await host.js.stream_info("FM_RECORD")).config.description == "fm8"
        await connection.close()


@on_loop
async def test_tidy_removes_the_runs_record_and_no_other_and_may_come_twice() -> None:
    async with hosting() as (url, host):
        fleet = driver()
        connection = await fleet.connect(url, "fm7.0", Recorder(), limit_s=10)
        await connection.close()
        assert isinstance(fleet, Tidying)

        await fleet.tidy(url, ["fm8.0"])
        others = await fleet.statistics(url)
        await fleet.tidy(url, ["fm7.0", "fm7.1"])
        await fleet.tidy(url, ["fm7.0"])

        assert others is not None
        assert await fleet.statistics(url) is None
        assert {stream.config.name for stream in await host.js.streams_info()} >= {"FM_IN", "FM_OUT"}


@on_loop
async def test_tidy_of_a_server_that_is_gone_is_refused_in_words() -> None:
    with pytest.raises(RefusedError):
        await driver().tidy("nats://127.0.0.1:1", ["fm7.0"])


@on_loop
async def test_connect_a_fleet_that_does_not_stand_is_a_result_and_no_error() -> None:
    async with hosting() as (url, host):
        host.stands = False
        fleet = driver()
        connection = await fleet.connect(url, "fm7.0", Recorder(), limit_s=1)

        figures = await fleet.statistics(url)

        assert figures is not None
        assert "stable_s" not in figures
        await connection.close()


@on_loop
async def test_statistics_where_no_record_was_made_are_none() -> None:
    async with hosting() as (url, _):
        assert await driver().statistics(url) is None


@on_loop
async def test_statistics_of_nobody_are_none() -> None:
    assert await driver().statistics("nats://127.0.0.1:1") is None


@on_loop
async def test_connect_to_what_speaks_no_nats_is_refused_in_words() -> None:
    async def silent(reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 400 no\r\n\r\n")
        await reader.read()

    async with tcp_server(silent) as url:
        with pytest.raises(RefusedError, match="NATS"):
            await driver().connect(url.replace("ws://", "nats://").rstrip("/"), "fm7.0", Recorder(), limit_s=1)


def test_options_that_make_no_sense_are_one_sentence() -> None:
    with pytest.raises(UsageError, match="option 'partitions' of driver 'fleet' must be at least 1, got 0"):
        FleetDriver({"partitions": 0})
    with pytest.raises(UsageError, match="option 'settle_s' of driver 'fleet' must be above 0"):
        FleetDriver({"settle_s": 0.0})
    with pytest.raises(UsageError, match="unknown word 'kil'"):
        FleetDriver({"script": "5 kil leader"})


def test_parts_partitions_and_shares() -> None:
    assert partition_of("fm1a2b.17") == "p17"
    assert share_bytes(2**22 + 1) is None
