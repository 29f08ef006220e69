"""The ready-made line connection, through the example's driver: `examples/echo_driver.py` must be worth copying."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.drivers import build
from floodmark.drivers.base import Connection, Driver, RefusedError, Wanted
from tests.drivers.harness import Behaviour, Recorder, eventually, on_loop, stamped, tcp_server

EXAMPLE = Path(__file__).parents[2] / "examples" / "echo_driver.py"


def driver() -> Driver:
    return build(f"{EXAMPLE}:EchoDriver", {})


async def connect(url: str, recorder: Recorder) -> Connection:
    return await driver().connect(url.replace("ws://", "tcp://"), "room", recorder, limit_s=15.0)


def answering(answer: Callable[[bytes], bytes]) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(answer(line))

    return behave


def honest(line: bytes) -> bytes:
    match line.split():
        case [b"PUB", room, token, text]:
            return b"MSG %b %b\nOK %b\n" % (room, text, token)
        case _:
            return b"DONE\n"


@on_loop
async def test_subscribe_publish_unsubscribe_make_the_round() -> None:
    recorder = Recorder()
    async with tcp_server(answering(honest)) as url:
        connection = await connect(url, recorder)
        await connection.subscribe([Wanted(slot=4, channel="a"), Wanted(slot=5, channel="b")])

        connection.publish("b", stamped(0), 1)
        connection.publish("a", stamped(1), 2)
        await eventually(lambda: len(recorder.acks) == 2)
        await connection.unsubscribe([4, 5])
        await connection.close()

    assert recorder.slots == [5, 4]
    assert [frame for _, frame, _ in recorder.frames] == [stamped(0), stamped(1)]
    assert recorder.acks == [1, 2]
    assert recorder.closings == ["was left by us"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"WHAT\n", "sent b'WHAT', which is none of MSG, OK and DONE"),
        (b"OK twelve\n", "sent a line that its driver could not read: b'OK twelve' (ValueError"),
        (b"MSG nowhere x\n", "sent a line that its driver could not read: b'MSG nowhere x' (KeyError"),
        (b"", "closed the connection"),
        (b"half a li", "closed the connection"),
    ],
)
@on_loop
async def test_subscribe_nonsense_is_refused_in_words(answer: bytes, reason: str) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()

    recorder = Recorder()
    async with tcp_server(once) as url:
        connection = await connect(url, recorder)

        with pytest.raises(RefusedError) as caught:
            await connection.subscribe([Wanted(slot=0, channel="a")])

        assert caught.value.reason.startswith(reason)
        assert recorder.closings == [caught.value.reason]
        assert not connection.writable
        connection.publish("a", stamped(), 1)  # nothing happens on a dead connection
        with pytest.raises(RefusedError):
            await connection.subscribe([Wanted(slot=0, channel="a")])


@on_loop
async def test_line_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floodmark.drivers.streams.LINE_BYTES_MAX", 10_000)

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()

    recorder = Recorder()
    async with tcp_server(endless) as url:
        await connect(url, recorder)
        await eventually(lambda: bool(recorder.closings))

    assert recorder.closings == ["sent a line of more than 10,000 bytes"]


@on_loop
async def test_connect_nobody_listens_is_refused() -> None:
    async with tcp_server(answering(honest)) as url:
        pass

    with pytest.raises(RefusedError, match="refuses connections: nothing listens there"):
        await connect(url, Recorder())


@on_loop
async def test_connect_without_a_port_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="needs a URL like tcp://"):
        await connect("tcp://127.0.0.1", Recorder())


@on_loop
async def test_pause_reading_holds_lines_back_until_resumed() -> None:
    recorder = Recorder()
    async with tcp_server(answering(honest)) as url:
        connection = await connect(url, recorder)
        connection.pause_reading()
        connection.publish("a", stamped(), 1)
        await asyncio.sleep(0.05)  # the absence of an answer has no event
        held = len(recorder.acks)

        connection.resume_reading()
        await eventually(lambda: bool(recorder.closings))  # a message of no subscription: its driver could not read it

    assert held == 0
    assert "KeyError" in recorder.closings[0]


@on_loop
async def test_writable_turns_false_while_the_server_does_not_read() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    recorder = Recorder()
    async with tcp_server(deaf) as url:
        connection = await connect(url, recorder)
        for token in range(5000):
            connection.publish("a", stamped(payload_bytes=20_000), token)
            if not connection.writable:
                break
        writable = connection.writable
        connection.abort()
        await eventually(lambda: bool(recorder.closings))

    assert not writable
