"""The driver `nats` against a real server: what is confirmed, who gets what, what is refused, and how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from floodmark.core.errors import UsageError
from floodmark.core.nats_server import EmbeddedNats
from floodmark.drivers import build
from floodmark.drivers.base import RefusedError
from floodmark.ledger.stamp import read
from tests.drivers.harness import Recorder, eventually, on_loop, stamped
from tests.drivers.nats_server import a_run, joined, pair, serving, want

COUNT = 300


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("--max-payload", "1MB", "--max-pending", "2MB", "--write-deadline", "2s") as url:
        yield url


def seqs(recorder: Recorder, slot: int) -> list[int]:
    """The sequences that a subscription got, in order; -1 for one that is damaged."""
    stamps = [read(frame, "binary") for at, frame, _ in recorder.frames if at == slot]
    return [stamp.seq if stamp is not None and stamp.intact else -1 for stamp in stamps]


@on_loop
async def test_publish_reaches_every_subscription_of_its_channel_and_no_other(url: str) -> None:
    channels = a_run()
    async with pair("nats", url, channels[0]) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0]), want(1, channels[0]), want(2, channels[1])])
        for number in range(COUNT):
            writer.publish(channels[0], stamped(number, "binary"), number + 1)
        await eventually(lambda: len(recorder.frames) == 2 * COUNT and len(recorder.acks) == COUNT)

    assert seqs(recorder, 0) == seqs(recorder, 1) == list(range(COUNT))
    assert seqs(recorder, 2) == []
    assert recorder.acks == list(range(1, COUNT + 1))
    assert recorder.closings == ["was left by us"] * 2


@on_loop
async def test_publish_with_headers_and_text_arrives_as_it_is(url: str) -> None:
    channels = a_run()
    options = {"encoding": "text", "headers": '{"Source": "a test"}', "subject": "stress.$channel"}
    async with pair("nats", url, channels[0], options) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        for number in range(COUNT):
            writer.publish(channels[0], stamped(number), number + 1)
        await eventually(lambda: len(recorder.frames) == COUNT)

    stamps = [read(frame, "text") for _, frame, _ in recorder.frames]
    assert [stamp.seq for stamp in stamps if stamp is not None and stamp.intact] == list(range(COUNT))


@on_loop
async def test_confirm_none_tells_nothing(url: str) -> None:
    channels = a_run()
    async with pair("nats", url, channels[0], {"confirm": "none"}) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        writer.publish(channels[0], stamped(0, "binary"), 1)
        await eventually(lambda: bool(recorder.frames))

    assert recorder.acks == []


@on_loop
async def test_unsubscribe_ends_one_and_leaves_the_others(url: str) -> None:
    channels = a_run()
    async with pair("nats", url, channels[0]) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0]), want(1, channels[0])])
        await reader.unsubscribe([0, 99])
        writer.publish(channels[0], stamped(0, "binary"), 1)
        await eventually(lambda: bool(recorder.frames and recorder.acks))

    assert recorder.slots == [1]


@on_loop
async def test_queue_group_gives_each_message_to_one_member_and_uses_them_all(url: str) -> None:
    channels = a_run()
    driver, recorder = build("nats", {"queue_members": 3}), Recorder()
    async with joined(driver, url, channels[0], recorder) as reader, joined(driver, url, channels[0], recorder) as writer:
        await reader.subscribe([want(0, channels[0]), want(1, channels[0])])
        members = [reader, *reader._others]  # type: ignore[attr-defined]
        taken = Counter[int]()
        for place, member in enumerate(members):
            member._work_off = counting(member._work_off, taken, place)
        for number in range(COUNT):
            writer.publish(channels[0], stamped(number, "binary"), number + 1)
        await eventually(lambda: len(recorder.frames) >= 2 * COUNT)
        await asyncio.sleep(0.05)  # the absence of a second copy has no event

    for slot in (0, 1):
        assert sorted(seqs(recorder, slot)) == list(range(COUNT))
    assert len(members) == len(taken) == 3


def counting(work_off: object, taken: Counter[int], place: int) -> object:
    """Count the reads of a member that brought messages."""

    def counted(data: bytes, received_ns: int) -> int:
        taken[place] += b"MSG " in data
        used: int = work_off(data, received_ns)  # type: ignore[operator]
        return used

    return counted


@on_loop
async def test_queue_group_that_loses_a_member_is_told_as_lost_once(url: str) -> None:
    channels = a_run()
    driver, recorder = build("nats", {"queue_members": 3}), Recorder()
    reader = await driver.connect(url, channels[0], recorder, limit_s=15.0)
    await reader.subscribe([want(0, channels[0])])

    reader._others[1].abort()  # type: ignore[attr-defined]
    await eventually(lambda: bool(recorder.closings))

    assert len(recorder.closings) == 1
    assert "a member of its queue groups" in recorder.closings[0]


@on_loop
async def test_publish_larger_than_the_server_takes_is_refused_and_the_connection_stays(url: str) -> None:
    channels = a_run()
    async with pair("nats", url, channels[0]) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        writer.publish(channels[0], stamped(0, "binary", 1_500_000), 1)
        writer.publish(channels[0], stamped(1, "binary", 900_000), 2)
        await eventually(lambda: len(recorder.frames) == 1 and recorder.acks == [2])

    assert seqs(recorder, 0) == [1]
    assert [token for token, _ in recorder.refusals] == [1]
    assert "1,048,576 bytes" in recorder.refusals[0][1]


@on_loop
async def test_permissions_refuse_a_publish_by_its_token_and_a_subscribe_in_words() -> None:
    rights = 'permissions: { publish: ["open.>"], subscribe: ["open.>", "_INBOX.>"] }'
    async with EmbeddedNats(lines=(f"authorization {{ users: [ {{ user: me, password: secret, {rights} }} ] }}",)) as server:
        url = server.url.replace("nats://", "nats://me:secret@")
        async with pair("nats", url, "open.0") as (reader, writer, recorder):
            writer.publish("open.0", stamped(0, "binary"), 1)
            writer.publish("closed.0", stamped(1, "binary"), 2)
            writer.publish("open.0", stamped(2, "binary"), 3)
            await eventually(lambda: len(recorder.acks) + len(recorder.refusals) == 3)
            with pytest.raises(RefusedError, match="Permissions Violation for Subscription"):
                await reader.subscribe([want(0, "closed.0")])
            await reader.subscribe([want(1, "open.0")])

    assert recorder.acks == [1, 3]
    assert [token for token, _ in recorder.refusals] == [2]


@on_loop
async def test_reader_that_does_not_read_is_cut_off_and_the_server_counts_it(url: str) -> None:
    channels = a_run()
    async with pair("nats", url, channels[0]) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        reader.pause_reading()
        for number in range(40):
            writer.publish(channels[0], stamped(number, "binary", 500_000), number + 1)
            await eventually(lambda: writer.writable)
        await eventually(lambda: len(recorder.acks) == 40)
        reader.resume_reading()
        await eventually(lambda: bool(recorder.closings))
        statistics = await build("nats", {}).statistics(url)

    assert statistics is not None
    assert statistics["slow_consumers"] >= 1
    assert len(recorder.frames) < 40


@on_loop
async def test_statistics_of_a_server_that_does_not_tell_are_none() -> None:
    assert await build("nats", {}).statistics("nats://127.0.0.1:1") is None


@on_loop
async def test_connect_where_nobody_listens_is_refused_in_words() -> None:
    with pytest.raises(RefusedError, match="nothing listens there"):
        await build("nats", {}).connect("nats://127.0.0.1:1", "fm1.0", Recorder(), limit_s=1.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"confirm": "maybe"}, "must be 'ping' or 'none'"),
        ({"encoding": "json"}, "must be 'text' or 'binary'"),
        ({"queue_members": -1}, "must be 0 or more"),
        ({"subject": "a b"}, "is no subject"),
        ({"subject": "all.>"}, "is no subject"),
        ({"headers": "{"}, "must be a JSON object"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(options: dict[str, str | int], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        build("nats", options)
