"""The proxy without faults: a plain, byte-exact relay that passes on whatever TCP can say."""

from __future__ import annotations

import asyncio
import hashlib
import socket

import pytest

from floodmark.core.errors import UsageError
from floodmark.faults.wire.endpoint import linger_zero
from floodmark.faults.wire.parse import parse_fault
from floodmark.faults.wire.proxy import Proxy, running

from .relay import HOST, SEED, Reader, Writer, ask, client, clients, exchange, free_port, how_it_ends, play, relay, silent, stream, until


def test_relay_64_mb_both_ways_are_byte_exact() -> None:
    payload = stream(64 << 20)

    async def job() -> tuple[bytes, int, int]:
        async with relay() as (proxy, _), client(proxy) as (reader, writer):
            answer, _ = await exchange(reader, writer, payload)
            await until(lambda: not proxy.connections())
            return answer, proxy.journal().forgotten_count, len(proxy.journal().entries())

    answer, _, entries = play(job())

    assert hashlib.sha256(answer).digest() == hashlib.sha256(payload).digest()
    assert entries == 0


def test_relay_200_connections_keep_their_streams_apart() -> None:
    async def job() -> list[bool]:
        async with relay() as (proxy, _), clients(proxy, 200) as opened:
            assert len(proxy.connections()) == 200
            payloads = [stream(20_000, seed=number) for number in range(200)]
            answers = await asyncio.gather(*(ask(*one, payload) for one, payload in zip(opened, payloads, strict=True)))
            return [answer == payload for (answer, _), payload in zip(answers, payloads, strict=True)]

    assert play(job()) == [True] * 200


def test_relay_on_the_loop_of_the_standard_library_is_byte_exact() -> None:
    payload = stream(8 << 20)

    async def job() -> bytes:
        async with relay() as (proxy, _), client(proxy) as (reader, writer):
            added = proxy.add(parse_fault("latency=5ms"))
            exchanging = asyncio.create_task(exchange(reader, writer, payload))
            await until(lambda: added.hits > 3)
            proxy.remove(added)
            answer, _ = await exchanging
            await until(lambda: not proxy.connections())
            return answer

    assert asyncio.run(job()) == payload


def test_relay_half_close_lets_the_other_direction_go_on() -> None:
    async def answers_at_the_end(reader: Reader, writer: Writer) -> None:
        received = await reader.read(-1)
        writer.write(b"after your end: " + received)

    async def job() -> bytes:
        async with relay(handler=answers_at_the_end) as (proxy, _), client(proxy) as (reader, writer):
            writer.write(b"question")
            writer.write_eof()
            return await reader.read(-1)

    assert play(job()) == b"after your end: question"


def test_relay_target_that_speaks_first_is_heard() -> None:
    async def greets(reader: Reader, writer: Writer) -> None:
        writer.write(b"220 ready\n")
        await reader.read(-1)

    async def job() -> list[bytes]:
        async with relay(handler=greets) as (proxy, _):
            lines = []
            for _ in range(50):
                async with client(proxy) as (reader, _writer):
                    lines.append(await reader.readline())
            return lines

    assert play(job()) == [b"220 ready\n"] * 50


def test_relay_reset_by_the_client_resets_the_target() -> None:
    async def job() -> list[str]:
        async with relay() as (proxy, served), client(proxy) as (reader, writer):
            await ask(reader, writer, b"hello")
            linger_zero(writer.get_extra_info("socket").fileno())
            writer.transport.abort()
            await until(lambda: served.errors and not proxy.connections())
            return [type(error).__name__ for error in served.errors]

    assert play(job()) == ["ConnectionResetError"]


def test_relay_reset_by_the_target_resets_the_client() -> None:
    async def job() -> str:
        async with relay() as (proxy, served), client(proxy) as (reader, writer):
            await ask(reader, writer, b"hello")
            linger_zero(served.writers[0].get_extra_info("socket").fileno())
            served.writers[0].transport.abort()
            ended = await how_it_ends(reader)
            await until(lambda: not proxy.connections())
            return ended

    assert play(job()) == "reset"


def test_relay_target_down_resets_the_client_and_says_so() -> None:
    async def job() -> tuple[str, list[str]]:
        async with running((HOST, 0), (HOST, free_port()), seed=SEED) as proxy, client(proxy) as (reader, _):
            ended = await how_it_ends(reader)
            await until(lambda: not proxy.connections())
            return ended, [entry.action for entry in proxy.journal().entries()]

    assert play(job()) == ("reset", ["target unreachable"])


def test_relay_target_that_closes_mid_stream_ends_the_client_behind_its_bytes() -> None:
    async def breaks_off(reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1)
        writer.write(stream(1 << 20))

    async def job() -> bytes:
        async with relay(handler=breaks_off) as (proxy, _), client(proxy) as (reader, writer):
            writer.write(b"!")
            received = await reader.read(-1)
            writer.close()
            await until(lambda: not proxy.connections())
            return received

    assert play(job()) == stream(1 << 20)


@pytest.mark.parametrize(
    "faults", [(), ("latency=100ms,hold_bytes=1MiB",), ("bandwidth=1GB/s",), ("slice=32KiB", "latency=20ms,hold=1MiB")]
)
def test_relay_slow_reader_stops_the_writer_within_bounded_memory(faults: tuple[str, ...]) -> None:
    """A target that never reads: what the client can get rid of is what sockets and holds take, far below the 256 MiB it has."""

    async def job() -> tuple[int, int]:
        listener = socket.create_server((HOST, 0))  # accepts in the kernel, nobody reads
        port = listener.getsockname()[1]
        try:
            async with running((HOST, 0), (HOST, port), seed=SEED) as proxy:
                for text in faults:
                    proxy.add(parse_fault(text))
                reader, writer = await asyncio.open_connection(HOST, proxy.port)
                writer.transport.set_write_buffer_limits(high=1 << 16)
                sent, still = 0, 0
                while sent < 256 << 20 and still < 3:  # stuck three times in a row, 0.3 s each, is stopped
                    writer.write(bytes(1 << 20))
                    sent += 1 << 20
                    try:
                        async with asyncio.timeout(0.3):
                            await writer.drain()
                        still = 0
                    except TimeoutError:
                        still += 1
                        sent -= 1 << 20
                held = proxy.connections()[0].held_bytes
                writer.transport.abort()
                del reader
                return sent, held
        finally:
            listener.close()

    sent, held = play(job())

    assert sent < 64 << 20
    assert held <= 5 << 20  # bandwidth holds the most, 4 MiB, and a stage takes one chunk beyond its bound


def test_relay_close_ends_open_connections_and_frees_the_port() -> None:
    async def job() -> tuple[set[str], int]:
        async with relay(handler=silent) as (proxy, _):
            opened = [await asyncio.open_connection(HOST, proxy.port) for _ in range(20)]
            await until(lambda: len(proxy.connections()) == 20)
            await proxy.close()
            ends = {await how_it_ends(reader) for reader, _ in opened}
            for _, writer in opened:
                writer.close()
            with socket.create_server((HOST, proxy.port)) as again:
                return ends, again.getsockname()[1] - proxy.port

    assert play(job()) == ({"closed"}, 0)


def test_relay_close_while_connections_are_being_opened_leaves_nothing() -> None:
    async def job() -> int:
        async with relay(handler=silent) as (proxy, _):
            socks = [socket.create_connection((HOST, proxy.port)) for _ in range(30)]
            proxy._accept()
            await proxy.close()
            for sock in socks:
                sock.close()
            return len(proxy.connections())

    assert play(job()) == 0


def test_proxy_port_in_use_is_a_usage_error() -> None:
    async def job() -> None:
        with socket.create_server((HOST, 0)) as taken:
            await Proxy((HOST, taken.getsockname()[1]), (HOST, 1), seed=SEED).start()

    with pytest.raises(UsageError, match="cannot listen on"):
        play(job())
