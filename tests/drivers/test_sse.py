"""The driver of server-sent events: what it asks, what it makes of every kind of answer, and how it outlives its connections."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.drivers.asking import asks_of
from floodmark.drivers.base import Options, RefusedError, Wanted
from floodmark.drivers.sse import SSEDriver
from floodmark.drivers.sse_client import SSEConnection
from tests.drivers.asked import HEAD, PROPER, AskingRecorder, Respond, always, ask, chunked, delta, http_server, sse
from tests.drivers.harness import eventually, on_loop, tcp_server


async def opened(url: str, sink: AskingRecorder, options: Options | None = None) -> SSEConnection:
    connection = await SSEDriver(options or {}).connect(url, "a.0", sink, limit_s=15.0)
    await connection.subscribe([Wanted(slot=0, channel="a.0")])
    assert isinstance(connection, SSEConnection)
    return connection


async def answered(respond: Respond, options: Options | None = None, *, count: int = 1) -> AskingRecorder:
    """Ask `count` times, one after another; what the sink heard."""
    sink = AskingRecorder()
    async with http_server(respond) as (url, _):
        connection = await opened(url, sink, options)
        for token in range(1, count + 1):
            await eventually(lambda: connection.writable and connection.free(0))
            connection.ask(ask(token))
            await eventually(lambda: sink.of(token).ended)  # noqa: B023  awaited within the turn
        await eventually(lambda: connection.free(0) or not connection.writable)
        await connection.close()
    return sink


# -- proper answers ----------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_answer_in_chunks_reaches_the_sink_in_order() -> None:
    sink = await answered(always(HEAD, chunked(PROPER)))

    answer = sink.of(1)
    assert (answer.accepted, answer.text, answer.chunks) == (1, b"one two", [b"one ", b"two"])
    assert (answer.finished, answer.failed, answer.odd) == ([2], [], [])
    assert sink.turns > 0
    assert sink.closings == ["was left by us"]


@on_loop
async def test_answer_cut_at_every_byte_is_the_same() -> None:
    whole = HEAD + chunked(*[PROPER[at : at + 1] for at in range(len(PROPER))])

    sink = await answered(always(*[whole[at : at + 1] for at in range(len(whole))]))

    answer = sink.of(1)
    assert (answer.accepted, answer.text, answer.finished, answer.failed, answer.odd) == (1, b"one two", [2], [], [])


@on_loop
async def test_answers_one_after_another_share_a_connection() -> None:
    sink = AskingRecorder()
    async with http_server(always(HEAD, chunked(PROPER))) as (url, seen):
        connection = await opened(url, sink)
        for token in (1, 2, 3):
            connection.ask(ask(token, prompt=f'say "{token}"'))
            assert not connection.free(0)
            await eventually(lambda: connection.free(0))
        await connection.close()

    assert [sink.of(token).finished for token in (1, 2, 3)] == [[2], [2], [2]]
    assert seen.connections == 1
    assert json.loads(seen.bodies[1])["messages"] == [{"role": "user", "content": 'say "2"'}]
    assert json.loads(seen.bodies[1])["stream_options"] == {"include_usage": True}
    assert seen.heads[0].startswith("POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:")


@on_loop
async def test_answer_without_a_length_ends_with_its_connection_and_the_client_comes_back() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

    sink = await answered(always(head, PROPER, stays=False), count=3)

    assert [sink.of(token).finished for token in (1, 2, 3)] == [[2], [2], [2]]
    assert sink.closings == ["was left by us"]


@on_loop
async def test_answer_with_a_length_is_read() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(PROPER)

    sink = await answered(always(head, PROPER), count=2)

    assert [sink.of(token).finished for token in (1, 2)] == [[2], [2]]


@on_loop
async def test_answer_after_an_interim_one_is_read() -> None:
    sink = await answered(always(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", HEAD, chunked(PROPER)))

    assert (sink.of(1).accepted, sink.of(1).finished) == (1, [2])


# -- improper ones -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        pytest.param(
            b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 13\r\n\r\nslow down\nnow",
            "refused: HTTP 429 Too Many Requests: slow down",
            id="429",
        ),
        pytest.param(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "refused: HTTP 500 Oops", id="500"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            "refused: HTTP 200 OK with application/json instead of text/event-stream: {}",
            id="no-stream",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
            "refused: HTTP 200 OK encoded as gzip",
            id="gzip",
        ),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "refused: HTTP 302 Found", id="redirect"),
    ],
)
@on_loop
async def test_request_refused_is_told_with_its_status_and_first_line(wire: bytes, reason: str) -> None:
    sink = await answered(always(wire), count=2)

    assert [sink.of(token).failed for token in (1, 2)] == [[reason], [reason]]
    assert [sink.of(token).accepted for token in (1, 2)] == [0, 0]


@pytest.mark.parametrize(
    ("wire", "stays", "reason"),
    [
        pytest.param(chunked(sse(delta("a"))), True, "ended without its terminal event", id="no-end"),
        pytest.param(chunked(sse(delta("a"), {"error": {"message": "no room"}})), True, "error event: no room", id="error"),
        pytest.param(chunked(sse(delta("a")), last=False), False, "cut off: closed the connection", id="cut"),
        pytest.param(b"5\r\ndata", False, "cut off: closed the connection", id="cut-in-a-chunk"),
        pytest.param(b"zz\r\n", True, "cut off: broke the HTTP protocol", id="no-http"),
    ],
)
@on_loop
async def test_answer_that_does_not_end_properly_fails_and_the_next_one_does_not(wire: bytes, stays: bool, reason: str) -> None:
    async def respond(number: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(HEAD + (wire if not number else chunked(PROPER)))
        return stays or number > 0

    sink = await answered(respond, count=2)

    assert [failed[: len(reason)] for failed in sink.of(1).failed] == [reason]
    assert (sink.of(1).accepted, sink.of(1).finished) == (1, [])
    assert (sink.of(2).finished, sink.of(2).failed) == ([2], [])
    assert sink.closings == ["was left by us"]


@on_loop
async def test_answer_with_more_after_its_end_is_odd_and_finished_once() -> None:
    sink = await answered(always(HEAD, chunked(PROPER + sse(delta("more"), "[DONE]"))))

    assert (sink.of(1).finished, sink.of(1).text) == ([2], b"one two")
    assert len(sink.of(1).odd) == 2


@on_loop
async def test_bytes_after_an_answer_are_odd() -> None:
    sink = AskingRecorder()
    async with http_server(always(HEAD, chunked(PROPER) + b"data: more\n\n")) as (url, _):
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: bool(sink.of(1).odd))
        await connection.close()

    assert sink.of(1).finished == [2]
    assert sink.of(1).odd == ["sent bytes after the end of an answer"]


@on_loop
async def test_bytes_after_the_last_answer_of_a_connection_are_odd_by_their_name() -> None:
    sink = AskingRecorder()
    head = HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with http_server(always(head + chunked(PROPER) + b"and more")) as (url, _):
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: bool(sink.of(1).odd))
        await connection.close()

    assert sink.of(1).finished == [2]
    assert sink.of(1).odd == ["sent bytes after the end of an answer"]


@on_loop
async def test_second_answer_to_one_request_is_odd_and_not_read() -> None:
    sink = AskingRecorder()
    async with http_server(always(HEAD + chunked(PROPER) + HEAD + chunked(sse(delta("second"))))) as (url, _):
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: bool(sink.of(1).odd))
        await connection.close()

    assert (sink.of(1).text, sink.of(1).finished) == (b"one two", [2])
    assert sink.of(1).odd == ["sent bytes after the end of an answer"]


@pytest.mark.parametrize("answer", [PROPER, sse(delta("without an end"))], ids=["proper", "failed"])
@pytest.mark.parametrize("more", [b"and more", HEAD + chunked(sse(delta("second")))], ids=["bytes", "second answer"])
@on_loop
async def test_more_after_an_answer_is_not_held_against_the_next_request(answer: bytes, more: bytes) -> None:
    class Asking(AskingRecorder):
        """Asks again as soon as it may."""

        def turn(self) -> None:
            super().turn()
            if self.of(1).ended and 2 not in self.answers and connection.writable and connection.free(0):
                self.of(2)
                connection.ask(ask(2))

        def finished(self, token: int, tokens_told: int) -> None:
            super().finished(token, tokens_told)
            self.turn()

        def failed(self, token: int, reason: str) -> None:
            super().failed(token, reason)
            self.turn()

    async def respond(number: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(HEAD + chunked(PROPER if number else answer) + (b"" if number else more))
        return True

    sink = Asking()
    async with http_server(respond) as (url, seen):
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: seen.connections == 2 and connection.free(0))
        sink.turn()
        await eventually(lambda: sink.of(2).ended)
        await connection.close()

    assert sink.of(1).odd == ["sent bytes after the end of an answer"]
    assert (sink.of(2).finished, sink.of(2).failed) == ([2], [])


@on_loop
async def test_bytes_long_after_an_answer_are_odd_and_the_client_comes_back() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def respond(number: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(HEAD + chunked(PROPER))
        writers.append(writer)
        return True

    sink = AskingRecorder()
    async with http_server(respond) as (url, seen):
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: connection.free(0))
        writers[0].write(b"data: more\n\n")
        await eventually(lambda: seen.connections == 2 and connection.free(0))
        connection.ask(ask(2))
        await eventually(lambda: sink.of(2).ended)
        await connection.close()

    assert sink.of(1).odd == ["sent bytes that nobody had asked for"]
    assert (sink.of(2).finished, sink.of(2).odd) == ([2], [])


@on_loop
async def test_head_without_an_end_is_refused_at_the_limit() -> None:
    sink = await answered(always(b"HTTP/1.1 200 OK\r\n", *[b"X-%d: %s\r\n" % (number, b"y" * 900) for number in range(80)]))

    assert [reason[:25] for reason in sink.of(1).failed] == ["refused: sent a head of m"]


@on_loop
async def test_event_over_the_limit_fails_its_answer() -> None:
    sink = await answered(always(HEAD, chunked(b"data: " + b"x" * 3000)), {"event_limit_bytes": 1000})

    assert sink.of(1).failed == ["unreadable: an event of more than 1,000 bytes"]


@on_loop
async def test_connection_closed_before_the_head_is_a_refusal() -> None:
    sink = await answered(always(stays=False), count=2)

    assert sink.of(1).failed == ["refused: closed the connection without an answer"]
    assert sink.of(2).failed == ["refused: closed the connection without an answer"]


@on_loop
async def test_target_that_is_gone_closes_the_connection_once() -> None:
    sink = AskingRecorder()
    async with http_server(always(HEAD, chunked(sse(delta("a")), last=False))) as (url, _):
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: bool(sink.of(1).text))
    await eventually(lambda: bool(sink.closings))

    assert [reason[:8] for reason in sink.of(1).failed] == ["cut off:"]
    assert sink.closings == ["refuses connections: nothing listens there"]
    assert not connection.writable
    assert not connection.free(0)


@on_loop
async def test_server_that_closes_at_once_is_not_called_again_and_again() -> None:
    calls = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1

    sink = AskingRecorder()
    async with tcp_server(behave) as url:
        driver = SSEDriver({})
        try:
            await driver.connect(url.replace("ws", "http"), "a", sink, limit_s=15.0)
        except RefusedError:
            sink.closings.append("refused")
        await eventually(lambda: bool(sink.closings))

    assert calls == 1
    assert len(sink.closings) == 1


# -- leaving -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort"])
@on_loop
async def test_leaving_in_the_midst_of_an_answer_is_no_failure(how: str) -> None:
    sink = AskingRecorder()
    async with http_server(always(HEAD, chunked(sse(delta("a")), last=False))) as (url, _):
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: bool(sink.of(1).text))

        if how == "close":
            await connection.close()
        else:
            connection.abort()
        await eventually(lambda: bool(sink.closings))

    assert not sink.of(1).ended
    assert sink.closings == ["was left by us"]


@on_loop
async def test_answer_dropped_is_heard_of_no_more_and_another_can_be_asked() -> None:
    async def respond(number: int, writer: asyncio.StreamWriter) -> bool:
        writer.write(HEAD + (chunked(sse(delta("a")), last=False) if not number else chunked(PROPER)))
        return True

    sink = AskingRecorder()
    async with http_server(respond) as (url, seen):
        connection = await opened(url, sink)
        connection.ask(ask(1))
        await eventually(lambda: bool(sink.of(1).text))

        connection.drop_answer(1)
        await eventually(lambda: connection.writable and connection.free(0))
        connection.ask(ask(2))
        await eventually(lambda: sink.of(2).ended)
        await connection.close()

    assert not sink.of(1).ended
    assert sink.of(2).finished == [2]
    assert seen.connections == 2


@on_loop
async def test_reading_paused_holds_the_answer_back() -> None:
    sink = AskingRecorder()
    async with http_server(always(HEAD, chunked(PROPER))) as (url, seen):
        connection = await opened(url, sink)
        connection.pause_reading()
        connection.ask(ask(1))
        await eventually(lambda: len(seen.heads) == 1)
        heard = sink.of(1).text

        connection.resume_reading()
        await eventually(lambda: sink.of(1).ended)
        await connection.close()

    assert heard == b""
    assert sink.of(1).text == b"one two"


# -- what is asked -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "options", "line"),
    [
        ("", {}, "POST /v1/chat/completions HTTP/1.1"),
        ("/", {}, "POST /v1/chat/completions HTTP/1.1"),
        ("/v1", {}, "POST /v1/chat/completions HTTP/1.1"),
        ("/v1/chat/completions", {}, "POST /v1/chat/completions HTTP/1.1"),
        ("/proxy/v1", {}, "POST /proxy/v1/chat/completions HTTP/1.1"),
        ("/proxy", {}, "POST /proxy/v1/chat/completions HTTP/1.1"),
        ("", {"method": "GET", "path": "/say?q=$prompt&c=$channel"}, "GET /say?q=hello%20%22you%22&c=a.0 HTTP/1.1"),
        ("/feed", {"method": "GET", "path": ""}, "GET /feed HTTP/1.1"),
        ("", {"method": "GET", "path": ""}, "GET / HTTP/1.1"),
    ],
)
def test_request_goes_where_url_and_path_say(suffix: str, options: Options, line: str) -> None:
    driver = SSEDriver(options)

    request = driver.request(ask(1, prompt='hello "you"'), driver.place(f"http://127.0.0.1:8000{suffix}"))

    assert request.split(b"\r\n")[:2] == [line.encode(), b"Host: 127.0.0.1:8000"]


def test_request_carries_its_prompt_whatever_is_in_it() -> None:
    driver = SSEDriver({"model": 'm"1'})
    prompt = 'quote " backslash \\ line\nend $model é'

    head, _, body = driver.request(ask(1, prompt=prompt), driver.place("http://h:1")).partition(b"\r\n\r\n")

    assert json.loads(body)["messages"][0]["content"] == prompt
    assert json.loads(body)["model"] == 'm"1'
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")


def test_request_with_a_key_of_the_environment_carries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    driver = SSEDriver({"api_key_env": "SOME_KEY", "headers": '{"X-Org": "us"}'})

    lines = driver.request(ask(1), driver.place("http://h:1")).split(b"\r\n")

    assert b"Authorization: Bearer s3cret" in lines
    assert b"X-Org: us" in lines
    assert "s3cret" not in str(driver.options)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"protocol": "soap"}, "protocol"),
        ({"method": "PUT"}, "method"),
        ({"body": "$nobody"}, "$nobody"),
        ({"body": "$"}, "stray"),
        ({"path": "/$payload"}, "$payload"),
        ({"protocol": "plain", "text_path": "a..b"}, "text_path"),
        ({"event_limit_bytes": 0}, "event_limit_bytes"),
        ({"headers": "[]"}, "headers"),
        ({"api_key_env": "NO_SUCH_KEY_HERE"}, "NO_SUCH_KEY_HERE"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_options_that_are_wrong_are_refused_by_name(options: Options, word: str) -> None:
    with pytest.raises(UsageError) as raised:
        SSEDriver(options)

    assert word in str(raised.value)


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "http://", "127.0.0.1:80", "http://h:99999"])
@on_loop
async def test_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="driver 'sse' needs a URL"):
        await SSEDriver({}).connect(url, "a", AskingRecorder(), limit_s=1.0)


@on_loop
async def test_connect_where_nothing_listens_is_refused_in_words() -> None:
    async with http_server(always()) as (url, _):
        gone = url

    with pytest.raises(RefusedError, match="nothing listens there"):
        await SSEDriver({}).connect(gone, "a", AskingRecorder(), limit_s=1.0)


# -- plain streams, TLS, statistics ------------------------------------------------------------------------------------------------------


@on_loop
async def test_plain_stream_is_read_by_its_options() -> None:
    options: Options = {"protocol": "plain", "method": "GET", "path": "/s", "text_path": "t", "done": "event:end"}

    sink = await answered(always(HEAD, chunked(sse({"t": "a"}, {"t": "é"}) + b"event: end\ndata\n\n")), options)

    assert (sink.of(1).text, sink.of(1).finished, sink.of(1).odd) == ("aé".encode(), [-1], [])


@pytest.fixture
def unsigned(tmp_path: Path) -> ssl.SSLContext:
    """A server's side with a certificate that nobody signed."""
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-keyout",
            "key",
            "-out",
            "cert",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")

    return context


@on_loop
async def test_stream_over_tls_is_read_and_a_certificate_that_nobody_signed_refused(unsigned: ssl.SSLContext) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + chunked(PROPER))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(behave, "127.0.0.1", 0, ssl=unsigned)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sink = AskingRecorder()
        with pytest.raises(RefusedError, match="TLS"):
            await SSEDriver({}).connect(url, "a", sink, limit_s=15.0)
        connection = await opened(url, sink, {"verify_tls": False})
        connection.ask(ask(1))
        await eventually(lambda: sink.of(1).ended)
        await connection.close()

    assert sink.of(1).finished == [2]


def page(body: bytes, status: bytes = b"200 OK") -> Respond:
    return always(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)), body)


@pytest.mark.parametrize(
    ("respond", "options", "figures"),
    [
        (page(b'{"sent":7,"ratio":0.5,"lies":{"a":1},"on":true,"name":"x"}'), {}, {"sent": 7.0, "ratio": 0.5}),
        (page(b"{}", b"404 Not Found"), {}, None),
        (page(b"<html>"), {}, None),
        (page(b"[1]"), {}, None),
        (page(b'{"a":1}' + b" " * 2**20), {}, None),
        (always(stays=False), {}, None),
        (page(b'{"sent":7}'), {"statistics_path": ""}, None),
    ],
)
@on_loop
async def test_statistics_are_the_numbers_of_the_page_or_none(respond: Respond, options: Options, figures: dict[str, float] | None) -> None:
    async with http_server(respond) as (url, seen):
        found = await SSEDriver(options).statistics(url)

    assert found == figures
    assert len(seen.heads) == ("statistics_path" not in options)


def test_driver_says_that_it_asks() -> None:
    assert asks_of(SSEDriver({}))
