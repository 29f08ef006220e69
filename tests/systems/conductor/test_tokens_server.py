"""The token server over HTTP: every route, lies to the number, slow and leaving clients, and an end in mid-stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend.numbered import text_of
from floodmark.systems.conductor.backend.prose import ANSWERS
from floodmark.systems.conductor.tokens.lies import LIES
from floodmark.systems.conductor.tokens.server import TokenSettings
from tests.systems.conductor.serving import ask, documents, eventually, scenario, text_in, token_server

USAGE = {"stream_options": {"include_usage": True}}


async def statistics(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(f"{url}/statistics") as response:
        found: dict[str, Any] = await response.json()
        return found


async def posted(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, Any]:
    async with session.post(f"{url}/v1/chat/completions", data=body) as response:
        return response.status, json.loads(await response.read())


def body_of(prompt: str, **fields: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": prompt}], **fields}).encode()


@scenario
async def test_server_streams_numbered_text_of_the_last_user_message() -> None:
    messages = [
        {"role": "system", "content": "numbered: count=1"},
        {"role": "user", "content": "numbered: count=2"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [{"type": "text", "text": "please\nnumbered: stream=5 first=7 count=1000 size=12"}]},
    ]
    async with token_server() as (url, _), aiohttp.ClientSession() as session:
        found = documents(await ask(session, url, "", messages=messages, model="mine"))

    assert text_in(found) == text_of(5, 7, 1000, 12)
    assert {one["model"] for one in found[:-1]} == {"mine"}
    assert len({one["id"] for one in found[:-1]}) == 1
    assert found[-1] == "[DONE]"
    assert "usage" not in found[-2]  # it was not asked for


@pytest.mark.parametrize("per_chunk", [1, 5])
@scenario
async def test_server_streams_prose_for_humans_with_quotes_and_line_ends(per_chunk: int) -> None:
    settings = TokenSettings(prose_rate_hz=0, group=per_chunk)
    async with token_server(settings=settings) as (url, _), aiohttp.ClientSession() as session:
        texts = {text_in(documents(await ask(session, url, f"question {number}"))) for number in range(12)}

    assert texts == set(ANSWERS)


@scenario
async def test_server_gives_a_whole_answer_when_not_asked_to_stream() -> None:
    async with token_server("truncate=3", "usage=3") as (url, _), aiohttp.ClientSession() as session:
        status, found = await posted(session, url, body_of("numbered: count=100 size=5", max_tokens=7))

    assert status == 200
    assert found["choices"][0]["message"] == {"role": "assistant", "content": text_of(0, 0, 7, 5)}
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}


@scenario
async def test_server_whole_answer_broken_by_its_prompt_is_an_error_or_a_cut() -> None:
    async with token_server() as (url, _), aiohttp.ClientSession() as session:
        status, found = await posted(session, url, body_of("numbered: fail_after=5"))
        assert (status, found["error"]["type"]) == (500, "server_error")
        with pytest.raises(aiohttp.ClientError):
            await posted(session, url, body_of("numbered: cut_after=5"))


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "malformed|truncated"),
        (b"{}", "messages"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "utf-8"),
        (body_of("numbered: size=1"), "size=1"),
        (body_of("numbered: count=1000000000", stream=False), "must be streamed"),
    ],
)
@scenario
async def test_server_refuses_what_it_cannot_do_as_openai_would(body: bytes, part: str) -> None:
    async with token_server() as (url, server), aiohttp.ClientSession() as session:
        status, found = await posted(session, url, body)

        assert status == 400
        assert found["error"]["type"] == "invalid_request_error"
        assert any(each in found["error"]["message"] for each in part.split("|"))
        assert server.statistics.refused == 1


@scenario
async def test_server_full_refuses_with_503_until_a_stream_ends() -> None:
    settings = TokenSettings(prose_rate_hz=0, max_streams=1)
    async with token_server(settings=settings) as (url, server), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/chat/completions", data=body_of("numbered: hang_after=1", stream=True)) as hanging:
            await hanging.content.readany()
            assert (await posted(session, url, body_of("hello")))[0] == 503
        await eventually(lambda: not server.statistics.live)

        assert (await posted(session, url, body_of("hello")))[0] == 200


@scenario
async def test_server_names_its_model_and_its_health() -> None:
    async with token_server() as (url, _), aiohttp.ClientSession() as session:
        async with session.get(f"{url}/v1/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["floodmark-numbered"]
        async with session.get(f"{url}/health") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("name", [name for name in LIES if name != "stall"])
@scenario
async def test_server_lie_is_told_exactly_so_often_and_seen_by_the_client(name: str) -> None:
    honest = text_of(1, 0, 40, 6)
    async with token_server(f"{name}=3") as (url, _), aiohttp.ClientSession() as session:
        bodies = [await ask(session, url, "numbered: stream=1 count=40 size=6", **USAGE) for _ in range(12)]
        counts = await statistics(session, url)

    found = [documents(body) for body in bodies]
    whole = [text_in(each) == honest for each in found]
    ended = [each[-1] == "[DONE]" for each in found]
    told_usage = [each[-2]["usage"]["completion_tokens"] if each[-1] == "[DONE]" else None for each in found]
    assert counts["lies"] == {name: 3}
    assert counts["streams"] == 12
    seen = {
        "truncate": sum(ok and end and not same for ok, end, same in zip([told == 40 for told in told_usage], ended, whole, strict=True)),
        "error": sum("error" in each[-1] for each in found),
        "no-end": sum(same and not end for same, end in zip(whole, ended, strict=True)),
        "usage": sum(same and told == 47 for same, told in zip(whole, told_usage, strict=True)),
        "after": sum("[DONE]" in each[:-1] for each in found),
        "repeat": sum(len(text_in(each)) - len(honest) for each in found) // 6,
        "drop": sum(len(honest) - len(text_in(each)) for each in found) // 6,
    }
    assert seen[name] == 3
    assert sum(ended) == (9 if name in ("error", "no-end", "after") else 12)
    assert sum(whole) >= 9 or name in LIES[-2:]
    assert counts["tokens_sent"] == sum(len(text_in(each).removesuffix("after the end")) for each in found) / 6


@scenario
async def test_server_honest_twin_tells_no_lie() -> None:
    async with token_server() as (url, _), aiohttp.ClientSession() as session:
        bodies = [await ask(session, url, "numbered: count=40 size=6", **USAGE) for _ in range(12)]
        counts = await statistics(session, url)

    assert len({text_in(documents(body)) for body in bodies}) == 1
    assert (counts["lies"], counts["completed"], counts["broken"], counts["tokens_sent"]) == ({}, 12, 0, 480)


@scenario
async def test_server_client_that_leaves_frees_its_stream_and_its_lie() -> None:
    async with token_server("truncate=1") as (url, server), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/chat/completions", data=body_of("numbered: count=100 rate=10", stream=True)) as response:
            await response.content.readany()
        await eventually(lambda: not server.statistics.live)
        for _ in range(2):
            await ask(session, url, "numbered: count=10")
        counts = await statistics(session, url)

    assert (counts["abandoned"], counts["completed"], counts["lies"]) == (1, 2, {"truncate": 1})


@scenario
async def test_server_ends_at_once_with_streams_of_every_kind_under_way() -> None:
    prompts = ["numbered: count=1000000000 size=5", "numbered: rate=1", "numbered: hang_after=0", "numbered: count=1000000 size=60000"]
    async with aiohttp.ClientSession() as session:
        async with token_server() as (url, server):
            responses = [await session.post(f"{url}/v1/chat/completions", data=body_of(prompt, stream=True)) for prompt in prompts]
            started_s = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started_s < 20  # none of them would ever end
        assert server.statistics.abandoned == len(prompts)
        for response in responses:
            response.close()


@scenario
async def test_server_many_idle_streams_are_all_served() -> None:
    async with token_server() as (url, server), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(session, url, f"numbered: stream={number} count=10 size=5 rate=20")) for number in range(200)]

        assert all(text_in(documents(task.result())) == text_of(number, 0, 10, 5) for number, task in enumerate(tasks))
        assert server.statistics.completed == 200


@pytest.mark.parametrize("settings", [{"prose_rate_hz": -1.0}, {"prose_rate_hz": float("nan")}, {"group": 0}, {"max_streams": 0}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--"):
        TokenSettings(**settings)
