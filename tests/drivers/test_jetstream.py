"""The driver `jetstream` against a real server: every kind of consumer, resuming, what comes again, what is refused, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from floodmark.core.errors import UsageError
from floodmark.drivers import build, jetstream, jetstream_consumers
from floodmark.drivers.base import Options, RefusedError
from floodmark.drivers.jetstream import JetStreamConnection, JetStreamDriver
from floodmark.drivers.jetstream_api import ask
from floodmark.drivers.nats import NOBODY
from floodmark.drivers.nats_address import ADDRESS_DEFAULTS, address_of
from floodmark.drivers.nats_socket import Answer, NatsSocket, open_nats
from floodmark.ledger.stamp import read
from tests.drivers.harness import Recorder, eventually, on_loop, stamped
from tests.drivers.nats_server import OneByOne, a_run, joined, pair, serving, want

COUNT = 200
CONSUMERS: list[Options] = [
    {"consumer": "ordered"},
    *({"consumer": consumer, "ack": ack} for consumer in ("pull", "push") for ack in ("each", "all", "twice", "none")),
    {"consumer": "pull", "batch": 7},
    {"consumer": "pull", "message_ids": False, "ack": "all"},
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("--sync", "2m") as url:
        yield url


def seqs(recorder: Recorder, slot: int = 0) -> list[int]:
    """The sequences that a subscription got, in order; -1 for one that is damaged."""
    stamps = [read(frame, "binary") for at, frame, _ in recorder.frames if at == slot]
    return [stamp.seq if stamp is not None and stamp.intact else -1 for stamp in stamps]


async def asked(url: str, subject: str, body: object = None) -> dict[str, Any]:
    """Ask the server, past the driver."""
    address = address_of("jetstream", url, ADDRESS_DEFAULTS)
    socket = await open_nats(lambda: NatsSocket(address, NOBODY, told=False), address, name="test", limit_s=15.0, local_host=None)
    try:
        return await ask(socket, subject, body)
    finally:
        socket.abort()


async def acknowledged_by(url: str, stream: str) -> list[tuple[int, int]]:
    """(messages delivered and not acknowledged, redelivered ones) of each consumer of a stream."""
    consumers = (await asked(url, f"CONSUMER.LIST.{stream}"))["consumers"]
    return [(consumer["num_ack_pending"], consumer["num_redelivered"]) for consumer in consumers]


@pytest.mark.parametrize("options", CONSUMERS, ids=lambda options: "-".join(map(str, options.values())))
@on_loop
async def test_every_kind_of_consumer_gets_all_in_order_and_acknowledges_it(url: str, options: Options) -> None:
    channels = a_run()
    stream = f"floodmark-{channels[0].partition('.')[0]}"
    async with pair("jetstream", url, channels[0], options) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0]), want(1, channels[1])])
        for number in range(COUNT):
            writer.publish(channels[number % 2], stamped(number, "binary"), number + 1)
        await eventually(lambda: len(recorder.frames) == COUNT and len(recorder.acks) == COUNT)
        state = await acknowledged_by(url, stream)
        async with asyncio.timeout(20.0):
            while any(pending for pending, _ in state):
                await asyncio.sleep(0.01)  # the server tells it only when it is asked
                state = await acknowledged_by(url, stream)

    assert seqs(recorder, 0) == list(range(0, COUNT, 2))
    assert seqs(recorder, 1) == list(range(1, COUNT, 2))
    assert sorted(recorder.acks) == list(range(1, COUNT + 1))
    assert state == [(0, 0)] * 2


@pytest.mark.parametrize("options", [{"consumer": "ordered"}, {"consumer": "pull"}, {"consumer": "push"}], ids=str)
@on_loop
async def test_resume_brings_what_was_missed_and_nothing_again(url: str, options: Options) -> None:
    channels = a_run()
    driver, recorder = build("jetstream", options), OneByOne()
    async with joined(driver, url, channels[0], recorder) as writer:
        reader = await driver.connect(url, channels[0], recorder, limit_s=15.0)
        await reader.subscribe([want(0, channels[0])])
        for number in range(COUNT):
            writer.publish(channels[0], stamped(number, "binary"), number + 1)
        await eventually(lambda: len(recorder.frames) == COUNT)
        point = reader.resume_point(recorder.frames[-1][1])
        await reader.close()
        for number in range(COUNT, 2 * COUNT):
            writer.publish(channels[0], stamped(number, "binary"), number + 1)
        await eventually(lambda: len(recorder.acks) == 2 * COUNT)

        async with joined(driver, url, channels[0], recorder) as again:
            await again.subscribe([want(0, channels[0], after=point)])
            await eventually(lambda: len(recorder.frames) >= 2 * COUNT)

    assert point == COUNT
    assert seqs(recorder) == list(range(2 * COUNT))


@pytest.mark.parametrize("kind", ["pull", "push"])
@on_loop
async def test_resume_of_a_durable_consumer_that_is_gone_begins_behind_the_position(url: str, kind: str) -> None:
    channels = a_run()
    stream = f"floodmark-{channels[0].partition('.')[0]}"
    driver, recorder = build("jetstream", {"consumer": kind}), OneByOne()
    async with joined(driver, url, channels[0], recorder) as writer:
        reader = await driver.connect(url, channels[0], recorder, limit_s=15.0)
        await reader.subscribe([want(0, channels[0])])
        writer.publish(channels[0], stamped(0, "binary"), 1)
        await eventually(lambda: len(recorder.frames) == 1)
        point = reader.resume_point(recorder.frames[-1][1])
        await reader.close()
        (consumer,) = (await asked(url, f"CONSUMER.NAMES.{stream}"))["consumers"]
        await asked(url, f"CONSUMER.DELETE.{stream}.{consumer}")
        writer.publish(channels[0], stamped(1, "binary"), 2)
        await eventually(lambda: len(recorder.acks) == 2)

        for seq in (2, 3):  # the second time it is there again, and was made otherwise than at first
            async with joined(driver, url, channels[0], recorder) as again:
                await again.subscribe([want(0, channels[0], after=point)])
                writer.publish(channels[0], stamped(seq, "binary"), seq + 1)
                await eventually(lambda seq=seq: len(recorder.frames) > seq)  # type: ignore[misc]

    assert seqs(recorder) == [0, 1, 2, 3]


@on_loop
async def test_pull_that_has_expired_is_asked_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream, "PULL_EXPIRES_S", 0.1)
    channels = a_run()
    async with pair("jetstream", url, channels[0], {"batch": 10}) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        consumer = reader._consumers[0]  # type: ignore[attr-defined]
        expired, on_status = list[int](), consumer.on_status

        def noted(answer: Answer) -> None:
            expired.append(answer.status)
            on_status(answer)

        consumer.on_status = noted
        await eventually(lambda: len(expired) >= 2)

        for number in range(30):
            writer.publish(channels[0], stamped(number, "binary"), number + 1)
        await eventually(lambda: len(recorder.frames) >= 30)

    assert set(expired) == {408}
    assert seqs(recorder) == list(range(30))


@on_loop
async def test_pull_that_nobody_answers_is_tried_again_after_a_pause(url: str) -> None:
    channels = a_run()
    async with pair("jetstream", url, channels[0], {"batch": 4}) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        consumer = reader._consumers[0]  # type: ignore[attr-defined]
        name, on_status, refused = consumer.name, consumer.on_status, list[int]()

        def noted(answer: Answer) -> None:
            refused.append(answer.status)
            on_status(answer)

        consumer.on_status = noted
        consumer.name = "away"
        for number in range(4):
            writer.publish(channels[0], stamped(number, "binary"), number + 1)
        await eventually(lambda: len(refused) >= 2)
        consumer.name = name
        for number in range(4, 20):
            writer.publish(channels[0], stamped(number, "binary"), number + 1)
        await eventually(lambda: len(recorder.frames) >= 20)

    assert set(refused) == {503}
    assert seqs(recorder) == list(range(20))
    assert recorder.ends == []


@on_loop
async def test_pull_that_nobody_answers_for_long_ends_the_subscription(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream_consumers, "PAUSES_S", (0.01, 0.02))
    channels = a_run()
    async with pair("jetstream", url, channels[0], {"batch": 4}) as (reader, writer, recorder):
        await reader.subscribe([want(5, channels[0])])
        reader._consumers[5].name = "away"  # type: ignore[attr-defined]
        for number in range(4):
            writer.publish(channels[0], stamped(number, "binary"), number + 1)
        await eventually(lambda: bool(recorder.ends))

    assert recorder.ends == [(5, "the server refused 3 pulls in a row: nobody answers them (503)")]


@on_loop
async def test_pull_that_was_refused_is_not_tried_again_once_the_subscription_is_over(url: str) -> None:
    channels = a_run()
    async with pair("jetstream", url, channels[0], {"batch": 4}) as (reader, _, _):
        await reader.subscribe([want(0, channels[0]), want(1, channels[0])])
        consumers = dict(reader._consumers)  # type: ignore[attr-defined]
        for consumer in consumers.values():
            consumer.on_status(Answer(b"s", b"NATS/1.0 503\r\n\r\n", b""))
        waiting = [consumer._again for consumer in consumers.values()]
        await reader.unsubscribe([0])
        unsubscribed = [timer.cancelled() for timer in waiting]

    assert unsubscribed == [True, False]
    assert all(timer.cancelled() for timer in waiting)


@on_loop
async def test_message_that_is_not_acknowledged_comes_again(url: str) -> None:
    channels = a_run()
    async with pair("jetstream", url, channels[0], {"ack_wait_s": 0.2}) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        consumer = reader._consumers[0]  # type: ignore[attr-defined]
        consumer.acknowledge = lambda: consumer._replies.clear()
        writer.publish(channels[0], stamped(0, "binary"), 1)
        await eventually(lambda: len(recorder.frames) >= 2)

    assert set(seqs(recorder)) == {0}


@on_loop
async def test_twice_does_not_handle_again_what_was_never_confirmed_but_acknowledges_it(url: str) -> None:
    channels = a_run()
    stream = f"floodmark-{channels[0].partition('.')[0]}"
    async with pair("jetstream", url, channels[0], {"ack": "twice", "ack_wait_s": 0.2}) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        consumer = reader._consumers[0]  # type: ignore[attr-defined]
        acknowledge = consumer.acknowledge
        consumer.acknowledge = lambda: consumer._replies.clear()  # the first one is lost on its way
        writer.publish(channels[0], stamped(0, "binary"), 1)
        await eventually(lambda: len(recorder.frames) == 1)
        waiting = set(consumer._unconfirmed)
        consumer.acknowledge = acknowledge
        await eventually(lambda: not consumer._unconfirmed)
        state = await acknowledged_by(url, stream)

    assert waiting == {1}
    assert seqs(recorder) == [0]
    assert [pending for pending, _ in state] == [0]


@on_loop
async def test_message_id_that_is_sent_again_is_stored_once_and_acknowledged_again(url: str) -> None:
    channels = a_run()
    async with pair("jetstream", url, channels[0]) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        for token in (1, 2, 1, 2, 3):
            writer.publish(channels[0], stamped(token, "binary"), token)
        await eventually(lambda: len(recorder.acks) == 5 and len(recorder.frames) == 3)

    assert seqs(recorder) == [1, 2, 3]


@on_loop
async def test_without_message_ids_the_same_is_stored_twice(url: str) -> None:
    channels = a_run()
    async with pair("jetstream", url, channels[0], {"message_ids": False}) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        for _ in range(2):
            writer.publish(channels[0], stamped(1, "binary"), 1)
        await eventually(lambda: len(recorder.frames) == 2)

    assert seqs(recorder) == [1, 1]


@on_loop
async def test_work_queue_holds_nothing_that_was_acknowledged_and_refuses_a_second_reader(url: str) -> None:
    channels = a_run()
    stream = f"floodmark-{channels[0].partition('.')[0]}"
    async with pair("jetstream", url, channels[0], {"retention": "workqueue"}) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0])])
        for number in range(COUNT):
            writer.publish(channels[0], stamped(number, "binary"), number + 1)
        await eventually(lambda: len(recorder.frames) == COUNT)
        left = COUNT
        async with asyncio.timeout(20.0):
            while left:
                left = (await asked(url, f"STREAM.INFO.{stream}"))["state"]["messages"]
        with pytest.raises(RefusedError, match=r"refused CONSUMER\.CREATE"):
            await reader.subscribe([want(1, channels[0])])

    assert seqs(recorder) == list(range(COUNT))


@on_loop
async def test_publish_that_the_stream_does_not_take_is_refused_by_its_token(url: str) -> None:
    channels = a_run()
    async with pair("jetstream", url, channels[0]) as (_, writer, recorder):
        writer.publish(channels[0] + ".deeper", stamped(0, "binary"), 1)
        writer.publish(channels[0], stamped(1, "binary"), 2)
        await eventually(lambda: len(recorder.acks) + len(recorder.refusals) == 2)

    assert recorder.acks == [2]
    assert recorder.refusals == [(1, "no stream takes this subject")]


@on_loop
async def test_publish_that_the_stream_has_no_room_for_is_refused_in_the_servers_words(url: str) -> None:
    name = a_run()[0].partition(".")[0]
    config = {"name": f"own-{name}", "subjects": [f"{name}.*"], "max_msgs": 2, "discard": "new", "retention": "limits", "storage": "memory"}
    await asked(url, f"STREAM.CREATE.own-{name}", config)
    async with pair("jetstream", url, f"{name}.0", {"stream": f"own-{name}"}) as (_, writer, recorder):
        for token in (1, 2, 3):
            writer.publish(f"{name}.0", stamped(token, "binary"), token)
        await eventually(lambda: len(recorder.acks) + len(recorder.refusals) == 3)

    assert recorder.acks == [1, 2]
    assert recorder.refusals == [(3, "maximum messages exceeded")]


@on_loop
async def test_consumer_that_somebody_removes_is_told_as_ended(url: str) -> None:
    channels = a_run()
    stream = f"floodmark-{channels[0].partition('.')[0]}"
    async with pair("jetstream", url, channels[0]) as (reader, _, recorder):
        await reader.subscribe([want(5, channels[0])])
        (consumer,) = (await asked(url, f"CONSUMER.NAMES.{stream}"))["consumers"]

        await asked(url, f"CONSUMER.DELETE.{stream}.{consumer}")
        await eventually(lambda: bool(recorder.ends))

    assert recorder.ends == [(5, "the server ended the consumer: Consumer Deleted")]


@on_loop
async def test_unsubscribe_removes_the_consumer(url: str) -> None:
    channels = a_run()
    stream = f"floodmark-{channels[0].partition('.')[0]}"
    async with pair("jetstream", url, channels[0]) as (reader, writer, recorder):
        await reader.subscribe([want(0, channels[0]), want(1, channels[0])])
        await reader.unsubscribe([0, 77])
        writer.publish(channels[0], stamped(0, "binary"), 1)
        await eventually(lambda: bool(recorder.frames))
        left = (await asked(url, f"CONSUMER.NAMES.{stream}"))["consumers"]

    assert recorder.slots == [1]
    assert [name.rpartition("-")[2] for name in left] == ["1"]


@on_loop
async def test_tidy_removes_the_runs_stream_and_no_other_and_may_come_twice(url: str) -> None:
    mine, others = a_run(), a_run()
    driver = JetStreamDriver({})
    for channels in (mine, others):
        async with joined(driver, url, channels[0], Recorder()):
            pass

    await driver.tidy(url, mine)
    await driver.tidy(url, mine)
    names = (await asked(url, "STREAM.NAMES"))["streams"]

    assert f"floodmark-{mine[0].partition('.')[0]}" not in names
    assert f"floodmark-{others[0].partition('.')[0]}" in names


@on_loop
async def test_tidy_with_keep_or_a_stream_of_the_users_leaves_it(url: str) -> None:
    channels = a_run()
    async with joined(JetStreamDriver({}), url, channels[0], Recorder()):
        pass

    await JetStreamDriver({"keep": True}).tidy(url, channels)
    await JetStreamDriver({"stream": f"floodmark-{channels[0].partition('.')[0]}"}).tidy(url, channels)

    assert f"floodmark-{channels[0].partition('.')[0]}" in (await asked(url, "STREAM.NAMES"))["streams"]


def test_resume_point_of_a_frame_that_is_no_delivery_is_none() -> None:
    async def made() -> None:
        driver = JetStreamDriver({})
        connection = JetStreamConnection(driver, address_of("jetstream", "nats://h", ADDRESS_DEFAULTS), Recorder())
        assert connection.resume_point(b"MSG a 1 5\r\nhello") is None
        assert connection.resume_point(b"") is None

    asyncio.run(made())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"storage": "tape"}, "file or memory"),
        ({"consumer": "pulled"}, "pull or push or ordered"),
        ({"ack": "some"}, "each or all or twice or none"),
        ({"retention": "ever"}, "limits or interest or workqueue"),
        ({"batch": 0}, "must be above 0"),
        ({"ack_wait_s": float("nan")}, "must be above 0"),
        ({"retry_s": -1.0}, "must be 0 or more"),
        ({"subject": "$channel.>"}, "is no subject"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(options: Options, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        build("jetstream", options)
