"""Backends over HTTP against servers that refuse, break off, fall silent or do not stop; and against the honest token server."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend import base
from floodmark.systems.conductor.backend.base import ChatMessage, Complete, Failed, Request
from floodmark.systems.conductor.backend.numbered import text_of
from floodmark.systems.conductor.backend.ollama import OllamaBackend
from floodmark.systems.conductor.backend.openai import OpenAIBackend
from floodmark.systems.conductor.errors import BackendError
from floodmark.systems.conductor.tokens.server import TokenSettings
from floodmark.systems.conductor.vocabulary import Role
from tests.systems.conductor.serving import DONE, drained, event, eventually, refuses, says, scenario, token_server, told

HELLO = Request(prompt="hello", model="m")
BUSY = refuses(503, b'{"error": {"message": "busy"}}')
GOOD = says(event("a") + event("b"), DONE)


async def asked_of(url: str, request: Request = HELLO, *, piece_limit_s: float = 30.0) -> tuple[list[str], base.Terminal | None]:
    """The tokens and the end of one answer."""
    backend = OpenAIBackend(url, api_key="sk-secret", piece_limit_s=piece_limit_s)
    stream = backend.send_streaming(request)
    texts = await drained(stream)
    await backend.aclose()
    return texts, stream.terminal


@pytest.mark.parametrize("per_chunk", [1, 7])
@scenario
async def test_openai_reads_the_token_server_to_the_last_token(per_chunk: int) -> None:
    async with token_server(settings=TokenSettings(group=per_chunk)) as (url, server):
        texts, terminal = await asked_of(url, Request(prompt="numbered: stream=1 count=20000 size=9"))

        assert "".join(texts) == text_of(1, 0, 20_000, 9)
        assert len(texts) == -(-20_000 // per_chunk)
        assert terminal == Complete(token_count=20_000, usage=20_000, model="floodmark-numbered")
        assert server.statistics.completed == 1


@scenario
async def test_openai_sends_what_it_was_asked() -> None:
    request = Request(
        prompt="now",
        model="m",
        system="be brief",
        max_tokens=5,
        temperature=0.5,
        context=(ChatMessage(role=Role.ASSISTANT, content="before"),),
    )
    async with told(GOOD) as (url, asked):
        await asked_of(url, request)

    assert b"POST /v1/chat/completions " in asked.heads[0]
    assert b"Authorization: Bearer sk-secret" in asked.heads[0]
    body = json.loads(asked.bodies[0])
    assert [(said["role"], said["content"]) for said in body["messages"]] == [
        ("system", "be brief"),
        ("assistant", "before"),
        ("user", "now"),
    ]
    assert (body["model"], body["stream"], body["max_tokens"], body["temperature"]) == ("m", True, 5, 0.5)


@pytest.mark.parametrize("failures", [1, 2])
@scenario
async def test_openai_busy_server_is_tried_again(failures: int) -> None:
    async with told(*[BUSY] * failures, GOOD) as (url, asked):
        texts, terminal = await asked_of(url)

    assert (texts, terminal) == (["a", "b"], Complete(token_count=2))
    assert len(asked.heads) == failures + 1


@scenario
async def test_openai_server_that_stays_busy_is_given_up_after_three_tries() -> None:
    async with told(BUSY) as (url, asked):
        texts, terminal = await asked_of(url)

    assert (texts, terminal) == ([], Failed(reason="refused: HTTP 503: busy", retryable=True))
    assert len(asked.heads) == 3


@scenario
async def test_openai_refusal_for_good_is_not_tried_again_and_never_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with told(refuses(401, b'{"error": {"message": "wrong key sk-secret"}}')) as (url, asked):
            _, terminal = await asked_of(url)

    assert terminal == Failed(reason="refused: HTTP 401: wrong key ...")
    assert len(asked.heads) == 1
    assert "sk-secret" not in caplog.text


@scenario
async def test_openai_error_event_never_shows_the_key() -> None:
    async with told(says(b'data: {"error": {"message": "sk-secret is out of money"}}\n\n')) as (url, _):
        _, terminal = await asked_of(url)

    assert terminal == Failed(reason="error event: ... is out of money")


@scenario
async def test_openai_broken_off_before_the_first_token_is_tried_again_and_after_it_is_not() -> None:
    async with told(says(end=b""), GOOD) as (url, asked):
        assert await asked_of(url) == (["a", "b"], Complete(token_count=2))
        assert len(asked.heads) == 2
    async with told(says(event("a"), end=b""), GOOD) as (url, asked):
        texts, terminal = await asked_of(url)

    assert texts == ["a"]
    assert isinstance(terminal, Failed)
    assert terminal.reason.startswith("cut off: ")
    assert len(asked.heads) == 1


@pytest.mark.parametrize("pieces", [(), (event("a"),), (event("a"), b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n')])
@scenario
async def test_openai_clean_end_without_terminal_event_is_a_failure(pieces: tuple[bytes, ...]) -> None:
    async with told(says(*pieces)) as (url, asked):
        _, terminal = await asked_of(url)

    assert terminal == Failed(reason="ended without its terminal event")
    assert len(asked.heads) == 1


@scenario
async def test_openai_done_without_its_empty_line_is_an_end() -> None:
    async with told(says(event("a"), DONE[:-1])) as (url, _):
        assert await asked_of(url) == (["a"], Complete(token_count=1))


@scenario
async def test_openai_silent_server_is_a_failure_after_its_limit() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(event("a"), end=b"")(reader, writer)
        await reader.read()  # until the client goes

    async with told(hang) as (url, asked):
        texts, terminal = await asked_of(url, piece_limit_s=0.1)

    assert (texts, terminal) == (["a"], Failed(reason="cut off: nothing came for 0.1 s"))
    assert len(asked.heads) == 1


@scenario
async def test_openai_refusal_without_its_reason_is_a_failure_after_the_limit() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 No\r\nContent-Length: 100\r\n\r\nbecause")
        await reader.read()  # until the client goes

    async with told(hang) as (url, _):
        texts, terminal = await asked_of(url, piece_limit_s=0.1)

    assert (texts, terminal) == ([], Failed(reason="cut off: nothing came for 0.1 s"))


@scenario
async def test_openai_nobody_there_is_told_in_one_sentence() -> None:
    async with told(GOOD) as (url, _):
        pass  # the port is free again
    backend = OpenAIBackend(url)

    with pytest.raises(BackendError, match=r"Connect call failed|Cannot connect"):
        await backend.health_check()
    _, terminal = await asked_of(url)

    assert isinstance(terminal, Failed)
    assert terminal.reason.startswith("refused: ")
    assert terminal.retryable
    await backend.aclose()


@scenario
async def test_openai_slow_reader_holds_the_server_up_and_loses_nothing() -> None:
    async with token_server() as (url, server):
        backend = OpenAIBackend(url, model="m", piece_limit_s=0.5)
        stream = backend.send_streaming(Request(prompt="numbered: count=1500 size=60000"))
        await stream.wait()
        sent = -1
        while sent != server.statistics.tokens_sent:  # until it sends no more
            sent = server.statistics.tokens_sent
            await asyncio.sleep(0.6)  # longer than a silence may last: time in which nobody reads does not count

        assert 0 < sent < 1200  # of 90 MB: sockets and the stream hold some, the rest waits in the server
        assert "".join(await drained(stream)) == text_of(0, 0, 1500, 60_000)
        assert isinstance(stream.terminal, Complete)
        await backend.aclose()


@scenario
async def test_openai_cancelled_stream_closes_its_connection_at_once() -> None:
    async with token_server() as (url, server):
        backend = OpenAIBackend(url)
        stream = backend.send_streaming(Request(prompt="numbered: count=100000 size=5 rate=1000"))
        await stream.wait()

        stream.cancel()
        started_s = asyncio.get_running_loop().time()
        await eventually(lambda: server.statistics.abandoned == 1)

        assert asyncio.get_running_loop().time() - started_s < 20  # its answer would take 100 s
        assert stream.terminal == Failed(reason="cancelled")
        assert backend.live_count == 0
        await backend.aclose()


@scenario
async def test_openai_closed_with_streams_and_tries_under_way_leaves_nothing() -> None:
    async with token_server() as (url, _), told(BUSY) as (busy_url, asked):
        backends = [OpenAIBackend(url), OpenAIBackend(busy_url, model="m")]
        streams = [backends[0].send_streaming(Request(prompt="numbered: hang_after=0")), backends[1].send_streaming(HELLO)]
        await eventually(lambda: bool(asked.heads))

        for backend in backends:
            await backend.aclose()

        assert all(isinstance(stream.terminal, Failed) for stream in streams)


@scenario
async def test_openai_models_and_whole_answers() -> None:
    async with token_server() as (url, _):
        backend = OpenAIBackend(f"{url}/v1/")
        await backend.health_check()

        assert await backend.list_models() == ["floodmark-numbered"]
        assert await backend.has_model("floodmark-numbered")
        assert not await backend.has_model("other")
        assert await backend.send(Request(prompt="numbered: count=3 size=5")) == text_of(0, 0, 3, 5)
        with pytest.raises(BackendError, match="error event"):
            await backend.send(Request(prompt="numbered: fail_after=3"))
        await backend.aclose()


@pytest.mark.parametrize("play", [refuses(200, b"[]"), refuses(200, b"<html>"), refuses(404, b"")])
@scenario
async def test_openai_health_of_something_else_is_an_error(play: object) -> None:
    async with told(play) as (url, _):  # type: ignore[arg-type]
        backend = OpenAIBackend(url)

        with pytest.raises(BackendError):
            await backend.health_check()

        await backend.aclose()


def test_openai_takes_url_and_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="needs the address"):
        OpenAIBackend()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")

    assert OpenAIBackend()._headers() == {"Authorization": "Bearer sk-env"}


# ---- Ollama

LINE = b'{"model":"m","response":"%s","done":false}\n'
LAST = b'{"model":"m","response":"","done":true,"done_reason":"stop","eval_count":2}\n'


@scenario
async def test_ollama_reads_lines_and_sends_the_conversation() -> None:
    before = (ChatMessage(role=Role.USER, content="hi"), ChatMessage(role=Role.ASSISTANT, content="yes"))
    request = Request(prompt="and now?", model="m", system="brief", max_tokens=5, context=before)
    async with told(says(LINE % b"a", LINE % b"b" + LAST)) as (url, asked):
        backend = OllamaBackend(url)
        stream = backend.send_streaming(request)
        texts = await drained(stream)
        await backend.aclose()

    assert (texts, stream.terminal) == (["a", "b"], Complete(token_count=2, usage=2, model="m"))
    assert b"POST /api/generate " in asked.heads[0]
    body = json.loads(asked.bodies[0])
    assert body["prompt"] == "User: hi\n\nAssistant: yes\n\nUser: and now?\n\nAssistant:"
    assert (body["system"], body["options"]) == ("brief", {"temperature": 0.7, "num_predict": 5})


@scenario
async def test_ollama_cut_off_is_a_failure() -> None:
    async with told(says(LINE % b"a")) as (url, _):
        backend = OllamaBackend(url, model="m")

        with pytest.raises(BackendError, match="ended without its terminal event"):
            await backend.send(Request(prompt="x"))

        await backend.aclose()


@scenario
async def test_ollama_names_its_models_and_uses_the_first() -> None:
    tags = refuses(200, b'{"models":[{"name":"first:7b"},{"name":"second:latest"}]}')
    async with told(*[tags] * 4, says(LAST)) as (url, asked):
        backend = OllamaBackend(url)

        assert await backend.list_models() == ["first:7b", "second:latest"]
        assert await backend.has_model("second")
        assert not await backend.has_model("first")
        assert await backend.send(Request(prompt="plain")) == ""
        await backend.aclose()

    assert b"GET /api/tags " in asked.heads[0]
    assert json.loads(asked.bodies[4]) == {"model": "first:7b", "prompt": "plain", "stream": True, "options": {"temperature": 0.7}}
