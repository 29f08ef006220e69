"""The host before a model's server, and the SSE driver before the same one: the whole way, also where the server lies."""

from __future__ import annotations

import pytest

from floodmark.systems.conductor.backend import BackendSettings, backend_of
from floodmark.systems.conductor.backend.numbered import text_of
from floodmark.systems.conductor.tokens.server import TokenSettings
from tests.drivers.asked import Answer, AskingRecorder, ask
from tests.drivers.harness import eventually, on_loop
from tests.drivers.test_sse import opened
from tests.systems.conductor.hosting import hosted
from tests.systems.conductor.serving import token_server

PROMPT = "numbered: stream=3 first=0 count=2000 size=10"


async def through_a_conductor(url: str, count: int) -> list[Answer]:
    """Ask a conductor whose backend is the server."""
    async with hosted(backend=backend_of("openai", BackendSettings(url=url))) as host:
        connection = await host.connect()
        for token in range(1, count + 1):
            await host.answer(connection, token, PROMPT)
        figures = await host.statistics()
        await connection.close()
    assert (figures["streams_live"], figures["delivered"]) == (0, sum(len(host.sink.of(token).chunks) for token in range(1, count + 1)))
    return [host.sink.of(token) for token in range(1, count + 1)]


async def directly(url: str, count: int) -> list[Answer]:
    """Ask the server itself."""
    sink = AskingRecorder()
    connection = await opened(url, sink)
    for token in range(1, count + 1):
        await eventually(lambda: connection.writable and connection.free(0))
        connection.ask(ask(token, PROMPT))
        await eventually(lambda: sink.of(token).ended)  # noqa: B023  awaited within the turn
    await connection.close()
    return [sink.of(token) for token in range(1, count + 1)]


@pytest.mark.parametrize("per_chunk", [1, 16])
@on_loop
async def test_answer_comes_whole_both_ways(per_chunk: int) -> None:
    async with token_server(settings=TokenSettings(group=per_chunk)) as (url, _):
        answers = [*await through_a_conductor(url, 2), *await directly(url, 2)]

    assert [answer.text.decode() for answer in answers] == [text_of(3, 0, 2000, 10)] * 4
    assert [answer.failed + answer.odd for answer in answers] == [[]] * 4
    assert [answer.finished for answer in answers[2:]] == [[2000]] * 2


@on_loop
async def test_server_that_breaks_answers_off_is_told_of_both_ways() -> None:
    for way in (through_a_conductor, directly):
        async with token_server("error=1", "no-end=1") as (url, server):
            answers = await way(url, 4)

        assert sum(bool(answer.failed) for answer in answers) == 2
        assert sum(len(answer.finished) for answer in answers) == 2
        assert server._lies.told == {"error": 1, "no-end": 1}


@on_loop
async def test_direct_answer_with_a_lie_of_each_kind_is_told_exactly() -> None:
    lies = {"truncate": 1, "error": 1, "no-end": 1, "usage": 1, "after": 1}
    async with token_server(*[f"{name}={count}" for name, count in lies.items()]) as (url, server):
        answers = await directly(url, 10)

    came = [len(answer.text) // 10 for answer in answers]
    proper = [answer for answer in answers if answer.finished]
    assert server._lies.told == lies
    assert sorted(answer.failed[0].split(":")[0] for answer in answers if answer.failed) == [
        "ended without its terminal event",
        "error event",
    ]
    assert sum(bool(answer.odd) for answer in answers) == 1
    assert sum(count < 2000 for count in came) == 2  # truncated, and the one with the error
    assert sum(answer.finished != [len(answer.text) // 10] for answer in proper) == 2  # the truncated one tells the full count
