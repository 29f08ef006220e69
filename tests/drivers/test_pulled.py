"""The driver of pulled systems: what it asks, what it checks by itself, and what a host that talks nonsense gets to hear."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.drivers import build
from floodmark.drivers.base import BatchConnection, Options, RefusedError, Wanted, batches_of
from floodmark.drivers.drained import Group, Groups, wrong_groups
from floodmark.drivers.pulled import DEFAULTS, MEANINGS, Kind, PulledDriver
from tests.drivers.harness import Behaviour, Recorder, eventually, on_loop, tcp_server

Say = Callable[[int, bytes], None]


def frame(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("<IB", 1 + len(body), kind) + body


def host(answer: Callable[[int, bytes, Say], None]) -> Behaviour:
    """A host that answers each frame as a test says."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length, kind = struct.unpack("<IB", await reader.readexactly(5))
            answer(kind, await reader.readexactly(length - 1), lambda kind, body: writer.write(frame(kind, body)))

    return behave


class Played:
    """A host that opens whatever it is asked to, and keeps what it hears."""

    def __init__(self, then: Callable[[int, bytes, Say], None] = lambda kind, body, say: None) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self._then = then

    def __call__(self, kind: int, body: bytes, say: Say) -> None:
        self.heard.append((kind, body))
        if kind == Kind.OPEN:
            say(Kind.OPENED, body[:4])
        self._then(kind, body, say)

    def of(self, kind: int) -> list[bytes]:
        return [body for heard, body in self.heard if heard == kind]


async def drained(url: str, recorder: Recorder, options: Options | None = None) -> BatchConnection:
    connection = await PulledDriver(options or {}).connect(url.replace("ws://", "tcp://"), "a.0", recorder, limit_s=15.0)
    await connection.subscribe([Wanted(slot=9, channel="a.0")])
    return connection  # type: ignore[return-value]


def rows(handle: bytes, *payloads: bytes) -> bytes:
    return handle + struct.pack("<I", len(payloads[0])) + b"".join(payloads)


# -- demand ------------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_demand_is_asked_again_only_when_all_of_it_has_come() -> None:
    def give(kind: int, body: bytes, say: Say) -> None:
        if kind == Kind.OFFER:
            say(Kind.ROWS, rows(struct.pack("<I", 1), *[b"x"] * 4))

    played, recorder = Played(give), Recorder()
    async with tcp_server(host(played)) as url:
        connection = await drained(url, recorder, {"demand": 8})

        connection.publish("a.0", b"y", 1)
        await eventually(lambda: len(recorder.frames) == 4)
        asked_half_way = len(played.of(Kind.ASK))
        connection.publish("a.0", b"y", 2)
        await eventually(lambda: len(played.of(Kind.ASK)) == 2)
        await connection.close()

    assert asked_half_way == 1
    assert [struct.unpack("<II", body)[1] for body in played.of(Kind.ASK)] == [8, 8]
    assert played.of(Kind.REPORT) == []


@on_loop
async def test_demand_exceeded_is_reported_to_the_record() -> None:
    def give_too_much(kind: int, body: bytes, say: Say) -> None:
        if kind == Kind.OFFER:
            say(Kind.ROWS, rows(struct.pack("<I", 1), *[b"x"] * 11))

    played, recorder = Played(give_too_much), Recorder()
    async with tcp_server(host(played)) as url:
        connection = await drained(url, recorder, {"demand": 8})

        connection.publish("a.0", b"y", 1)
        await eventually(lambda: bool(played.of(Kind.REPORT)))
        await connection.close()

    assert [struct.unpack("<III", body) for body in played.of(Kind.REPORT)] == [(3, 0, 0)]
    assert len(recorder.frames) == 11


# -- groups ------------------------------------------------------------------------------------------------------------------------------


def counted(records: int, groups: int, laps: int, without: int) -> list[Group]:
    """The slow and obvious way."""
    found: dict[str, list[int]] = {}
    for _ in range(laps):
        for number in range(records):
            if number != without:
                found.setdefault(f"group_{number % groups}", []).append(10 * number)
    return [Group(key, len(values), sum(values)) for key, values in found.items()]


SIZES = {"records": st.integers(1, 60), "groups": st.integers(1, 70), "laps": st.integers(1, 3), "without": st.integers(-1, 60)}


@given(**SIZES)
def test_wrong_groups_of_a_right_count_are_none(records: int, groups: int, laps: int, without: int) -> None:
    told = Groups(records, groups, laps, counted(records, groups, laps, without))

    assert wrong_groups(told, without=without) == 0


@given(**SIZES, at=st.integers(0, 100), how=st.sampled_from(["count", "sum", "missing", "beyond"]))
def test_wrong_groups_each_is_counted_once(records: int, groups: int, laps: int, without: int, at: int, how: str) -> None:
    found = counted(records, groups, laps, without)
    if found:
        at %= len(found)
        one = found[at]
        changed = {
            "count": [Group(one.key, one.count + 1, one.value_sum)],
            "sum": [Group(one.key, one.count, one.value_sum - 1)],
            "missing": [],
            "beyond": [one, Group("nobody's", 1, 0)],
        }[how]
        found[at : at + 1] = changed

        assert wrong_groups(Groups(records, groups, laps, found), without=without) == 1


# -- answers -----------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_answers_reach_the_sink_under_their_tokens_and_slots() -> None:
    def answer(kind: int, body: bytes, say: Say) -> None:
        if kind == Kind.OFFER:
            say(Kind.TAKEN, struct.pack("<QQ", 5, 6))
            say(Kind.REFUSED, struct.pack("<Q", 7) + b"no room")
            say(Kind.ENDED, struct.pack("<I", 1) + b"it broke")

    recorder = Recorder()
    async with tcp_server(host(Played(answer))) as url:
        connection = await drained(url, recorder)

        connection.publish_batch([("a.0", b"x"), ("b.1", b"yy")], 5)
        await eventually(lambda: bool(recorder.ends))
        await connection.close()

    assert recorder.acks == [5, 6]
    assert recorder.refusals == [(7, "no room")]
    assert recorder.ends == [(9, "it broke")]
    assert recorder.closings == ["was left by us"]


@on_loop
async def test_publish_batch_names_each_channel_once_and_keeps_the_order() -> None:
    played = Played()
    async with tcp_server(host(played)) as url:
        connection = await drained(url, Recorder())

        connection.publish_batch([("a.0", b"x"), ("b.1", b"yy"), ("a.0", b"z")], 5)
        connection.publish("b.1", b"w", 6)
        await eventually(lambda: len(played.of(Kind.OFFER)) == 2)
        await connection.close()

    names = {struct.unpack_from("<I", body)[0]: body[4:].decode() for body in played.of(Kind.NAME)}
    batch = played.of(Kind.OFFER)[0]
    token, count, *numbers = struct.unpack_from("<QI6I", batch)
    assert len(played.of(Kind.NAME)) == 2
    assert (token, count, numbers[3:], batch[36:]) == (5, 3, [1, 2, 1], b"xyyz")
    assert [names[handle] for handle in numbers[:3]] == ["a.0", "b.1", "a.0"]


@on_loop
async def test_statistics_are_the_hosts_numbers() -> None:
    def answer(kind: int, body: bytes, say: Say) -> None:
        if kind == Kind.STATISTICS:
            say(Kind.STATISTICS, json.dumps({"delivered": 3, "first_record_s": 0.5}).encode())

    async with tcp_server(host(answer)) as url:
        found = await PulledDriver({}).statistics(url.replace("ws://", "tcp://"))

    assert found == {"delivered": 3.0, "first_record_s": 0.5}


@on_loop
async def test_stream_refused_is_told_in_the_hosts_words() -> None:
    def refuse(kind: int, body: bytes, say: Say) -> None:
        say(Kind.REJECTED, body[:4] + b"not today")

    async with tcp_server(host(refuse)) as url:
        with pytest.raises(RefusedError, match="refused a stream: not today"):
            await drained(url, Recorder())


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another-protocol"),
        pytest.param(frame(99), id="unknown-kind"),
        pytest.param(frame(Kind.ROWS, struct.pack("<II", 77, 1) + b"x"), id="unknown-handle"),
        pytest.param(frame(Kind.ROWS, struct.pack("<II", 1, 2) + b"xyz"), id="odd-rows"),
        pytest.param(frame(Kind.ROWS, struct.pack("<II", 1, 0)), id="rows-of-no-length"),
        pytest.param(frame(Kind.TAKEN, b"123"), id="half-a-token"),
        pytest.param(frame(Kind.GROUPS, struct.pack("<I", 1) + b"{"), id="broken-json"),
    ],
)
@on_loop
async def test_nonsense_from_the_host_ends_the_connection_with_the_reason(nonsense: bytes) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length, _ = struct.unpack("<IB", await reader.readexactly(5))
        await reader.readexactly(length - 1)
        writer.write(frame(Kind.OPENED, struct.pack("<I", 1)) + nonsense)
        await reader.read()

    recorder = Recorder()
    async with tcp_server(behave) as url:
        try:
            await drained(url, recorder)
            await eventually(lambda: bool(recorder.closings))
            reason = recorder.closings[0]
        except RefusedError as exc:
            reason = str(exc)

    assert "its driver could not read" in reason


# -- options -----------------------------------------------------------------------------------------------------------------------------


def test_options_each_has_a_meaning_and_reaches_the_stream() -> None:
    driver = PulledDriver({"records": "7", "chunk_size": 3, "fail_id": 2, "measure_records": 5})

    first, second = driver.stream_options("fm7.0"), driver.stream_options("fm7.1")

    assert set(MEANINGS) == set(DEFAULTS)
    assert (first["records"], first["chunk_size"], first["fail_id"], first["measure_records"]) == (7, 3, 2, 5)
    assert "measure_records" not in second
    assert not {"min_demand", "watch", "demand"} & set(first)
    assert batches_of(build("pulled", {}))


def test_records_as_a_list_are_dealt_to_channels_in_turn() -> None:
    driver = PulledDriver({"records": "2x100 30"})

    lengths = [driver.stream_options(f"fm7.{number}")["records"] for number in range(5)]

    assert lengths == [100, 100, 30, 100, 100]


@pytest.mark.parametrize("records", ["", "0", "x5", "2x", "-3", "many", "2x0", "0x5", "1000000000000x1"])
def test_records_anything_else_is_a_usage_error(records: str) -> None:
    with pytest.raises(UsageError, match="option 'records'"):
        PulledDriver({"records": records})


def test_demand_of_nothing_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="option 'demand' of driver 'pulled' must be at least 1"):
        PulledDriver({"demand": 0})


@pytest.mark.parametrize("url", ["tcp://127.0.0.1", "127.0.0.1:5", "pipeline"])
@on_loop
async def test_url_without_host_and_port_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="needs a URL like tcp://"):
        await PulledDriver({}).connect(url, "a.0", Recorder(), limit_s=1.0)
