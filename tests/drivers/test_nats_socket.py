"""The reader of the NATS protocol: however the reads are cut the same messages come out; what breaks the rules is refused in words."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.nats_server import EmbeddedNats
from floodmark.drivers import build
from floodmark.drivers.base import RefusedError
from floodmark.drivers.nats_address import ADDRESS_DEFAULTS, address_of
from floodmark.drivers.nats_nkey import parse_seed, write_seed
from floodmark.drivers.nats_socket import Inlet, NatsSocket
from floodmark.ledger.stamp import read
from tests.drivers.harness import Behaviour, Recorder, eventually, on_loop, stamped, tcp_server
from tests.drivers.nats_server import OneByOne, a_run, joined, want

INFO = b'INFO {"server_id":"x","max_payload":1048576,"headers":true}\r\n'
SEED = write_seed(bytes(range(32)))


def message(subject: str, sid: int, payload: bytes, *, reply: str = "", headers: bytes = b"") -> bytes:
    """One message as a server sends it."""
    place = f"{subject} {sid} {reply + ' ' if reply else ''}".encode()
    if headers:
        return b"HMSG %b%d %d\r\n%b%b\r\n" % (place, len(headers), len(headers) + len(payload), headers, payload)
    return b"MSG %b%d\r\n%b\r\n" % (place, len(payload), payload)


async def worked_off(reads: list[bytes], sink: Recorder) -> list[tuple[int, int]]:
    """What a connection makes of these reads: slot and sequence of each message, -1 for one that is not intact."""
    socket = NatsSocket(address_of("nats", "nats://127.0.0.1", ADDRESS_DEFAULTS), sink)
    for slot in range(4):
        socket.listen(b"%d" % slot, Inlet(slot))
    for octets in reads:
        socket.data_received(octets)
    return [(slot, stamp.seq if (stamp := read(frame, "binary")) is not None and stamp.intact else -1) for slot, frame, _ in sink.frames]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[int], list[bytes]]:
    """Runs of like messages with others between them: the bytes, the slots, and the bytes cut into reads."""
    octets, slots = bytearray(), []
    for _ in range(draw(st.integers(1, 6))):
        slot, reply, headers = draw(st.integers(0, 3)), draw(st.booleans()), draw(st.booleans())
        size = draw(st.sampled_from([44, 60, 300]))
        for number in range(draw(st.sampled_from([1, 2, 40]))):
            payload = stamped(number, "binary", size)
            head = b"NATS/1.0\r\nNats-Msg-Id: %d\r\n\r\n" % (1000 + number) if headers else b""
            octets += message("fm.0", slot, payload, reply=f"$JS.ACK.s.c.1.{1000 + number}.1.1.0" if reply else "", headers=head)
            slots.append(slot)
        octets += draw(st.sampled_from([b"", b"PING\r\n", b"+OK\r\n", message("other", 9, b"nobody's")]))
    cuts = sorted(draw(st.lists(st.integers(0, len(octets)), max_size=6)))
    whole = bytes(octets)
    return whole, slots, [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@given(streams())
def test_reads_however_they_are_cut_give_the_same_messages_as_blocks_and_one_by_one(stream: tuple[bytes, list[int], list[bytes]]) -> None:
    whole, slots, reads = stream

    async def both() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        return await worked_off(reads, Recorder()), await worked_off([whole], OneByOne())

    cut, single = asyncio.run(both())

    assert [slot for slot, _ in single] == slots
    assert cut == single
    assert all(seq >= 0 for _, seq in single)


def test_reads_of_a_long_run_come_as_blocks() -> None:
    recorder = Recorder()
    run = b"".join(message("fm.0", 1, stamped(number, "binary")) for number in range(100))

    frames = asyncio.run(worked_off([run], recorder))

    assert len(frames) == 100
    assert recorder.blocks == 1


def test_run_with_a_message_that_only_looks_alike_is_cut_there() -> None:
    recorder = Recorder()
    like = [message("fm.0", 1, stamped(number, "binary", 60), reply="$JS.ACK.1") for number in range(40)]
    like[20] = message("fm.0", 1, stamped(20, "binary", 59), reply="$JS.ACK.12")  # as long, but its reply and its payload are not

    frames = asyncio.run(worked_off([b"".join(like)], recorder))

    assert frames == [(1, number) for number in range(40)]
    assert recorder.blocks == 2  # what came before it, and what came behind


def speaking(*after_connect: bytes, info: bytes = INFO) -> Behaviour:
    """A server that introduces itself, answers the first PING with these words, and then waits."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(info)
        while line := await reader.readline():
            if line == b"PING\r\n":
                for words in after_connect:
                    writer.write(words)
                if not after_connect:
                    return
                await writer.drain()

    return behave


async def refusal(behave: Behaviour, *, name: str = "nats", scheme: str = "nats") -> str:
    """Why a connection to such a server is refused."""
    async with tcp_server(behave) as url:
        with pytest.raises(RefusedError) as caught:
            await build(name, {}).connect(url.replace("ws://", f"{scheme}://"), "fm1.0", Recorder(), limit_s=0.5)
    return str(caught.value)


@on_loop
async def test_connect_to_a_server_that_says_nothing_is_refused_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert "did not speak NATS within 0.5 s" in await refusal(silent)


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (speaking(b"HTTP/1.1 400 Bad Request\r\n"), "broke the NATS protocol"),
        (speaking(b"550 no such word\r\n"), "does not speak NATS"),
        (speaking(b"-ERR 'Authorization Violation'\r\n", b""), "did not speak NATS|Authorization Violation"),
        (speaking(), "closed the connection"),
        (speaking(b"MSG a 1 -5\r\n"), "broke the NATS protocol"),
        (speaking(b"MSG a 1 99999999999\r\n"), "broke the NATS protocol"),
        (speaking(b"INFO {\r\n"), "broke the NATS protocol"),
        (speaking(info=INFO.replace(b"}", b',"tls_required":true}')), "wants TLS"),
        (speaking(info=b"SSH-2.0-OpenSSH_9.2\r\n"), "does not speak NATS"),
    ],
)
@on_loop
async def test_connect_to_what_breaks_the_rules_is_refused_in_words(behave: Behaviour, reason: str) -> None:
    assert re.search(reason, await refusal(behave))


@on_loop
async def test_connect_by_tls_to_a_server_without_is_refused() -> None:
    assert "speaks no TLS" in await refusal(speaking(b"PONG\r\n"), scheme="tls")


@on_loop
async def test_jetstream_on_a_server_without_it_is_refused_in_words() -> None:
    nobody = b"HMSG _INBOX.x.r.1 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        while line := await reader.readline():
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
            elif line.startswith(b"PUB $JS.API."):
                await reader.readline()
                writer.write(nobody)

    assert "is JetStream switched on" in await refusal(behave, name="jetstream")


@asynccontextmanager
async def exchanging(url: str, **options: str | bool) -> AsyncIterator[Recorder]:
    """Connect, and see one message through."""
    recorder, channel = Recorder(), a_run()[0]
    async with joined(build("nats", options), url, channel, recorder) as connection:
        await connection.subscribe([want(0, channel)])
        connection.publish(channel, stamped(0, "binary"), 1)
        await eventually(lambda: bool(recorder.frames and recorder.acks))
        yield recorder


def authorization(**words: object) -> tuple[str, ...]:
    return (f"authorization {json.dumps(words)}",)


@on_loop
async def test_login_by_user_token_and_nkey_is_taken_and_a_wrong_one_refused(tmp_path: Path) -> None:
    (tmp_path / "seed").write_text(SEED)
    async with EmbeddedNats(lines=authorization(user="me", password="secret")) as server:
        place = server.url.removeprefix("nats://")
        async with exchanging(f"nats://me:secret@{place}"):
            pass
        with pytest.raises(RefusedError, match="Authorization Violation") as caught:
            await build("nats", {}).connect(f"nats://me:wrong@{place}", "fm1.0", Recorder(), limit_s=15.0)
    by_key = (f'authorization {{ users: [ {{ nkey: "{parse_seed(SEED).public}" }} ] }}',)
    async with EmbeddedNats(lines=by_key) as server, exchanging(server.url, credentials=str(tmp_path / "seed")):
        pass

    assert "wrong" not in str(caught.value)


@on_loop
async def test_tls_is_spoken_and_a_certificate_that_nobody_trusts_is_refused(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    process = await asyncio.create_subprocess_exec(*made, *names, stderr=subprocess.DEVNULL)
    assert await process.wait() == 0
    async with EmbeddedNats(lines=(f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}',)) as server:
        url = server.url.replace("nats://", "tls://")
        async with exchanging(url, tls_ca=str(certificate)):
            pass
        async with exchanging(url, verify_tls=False):
            pass
        with pytest.raises(RefusedError, match="cannot be trusted"):
            await build("nats", {}).connect(url, "fm1.0", Recorder(), limit_s=15.0)
        with pytest.raises(RefusedError, match="wants TLS"):
            await build("nats", {}).connect(url.replace("tls", "nats"), "fm1.0", Recorder(), limit_s=15.0)
