"""The embedded backend: exact text, exact counts, pace, back-pressure, errors on demand, and quitting in mid-stream."""

from __future__ import annotations

import asyncio
import time

import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend import BACKENDS, BackendSettings, backend_of
from floodmark.systems.conductor.backend.base import Backend, Complete, Failed, Request
from floodmark.systems.conductor.backend.mock import MODEL, MockBackend, MockSettings
from floodmark.systems.conductor.backend.numbered import Numbered, text_of
from floodmark.systems.conductor.backend.prose import ANSWERS
from floodmark.systems.conductor.errors import BackendError
from tests.soonest import soonest_in_loop
from tests.systems.conductor.serving import drained, scenario


@scenario
async def test_mock_numbered_gives_every_token_and_counts_it() -> None:
    backend = MockBackend()

    stream = backend.send_streaming(Request(prompt="numbered: stream=2 first=5 count=30000 size=7"))
    texts = await drained(stream)

    assert "".join(texts) == text_of(2, 5, 30_000, 7)
    assert len(texts) == backend.sent_count == 30_000
    assert stream.terminal == Complete(token_count=30_000, usage=30_000, model=MODEL)
    assert (backend.stream_count, backend.completed_count, backend.failed_count) == (1, 1, 0)
    await backend.aclose()


@scenario
async def test_mock_with_an_order_of_its_own_gives_it_to_every_prompt() -> None:
    backend = MockBackend(MockSettings(order=Numbered(count=12, size=5)))

    assert await backend.send(Request(prompt="hello")) == text_of(0, 0, 12, 5)

    await backend.aclose()


@scenario
async def test_mock_prose_is_whole_and_the_same_every_time() -> None:
    backend = MockBackend(MockSettings(prose_rate_hz=0))

    answers = {await backend.send(Request(prompt="who are you?")) for _ in range(3)}

    assert len(answers) == 1
    assert answers < set(ANSWERS)
    await backend.aclose()


@scenario
async def test_mock_max_tokens_ends_the_answer() -> None:
    backend = MockBackend()

    stream = backend.send_streaming(Request(prompt="numbered: count=100 size=5", max_tokens=9))

    assert len(await drained(stream)) == 9
    assert stream.terminal == Complete(token_count=9, usage=9, model=MODEL)
    await backend.aclose()


@scenario
async def test_mock_paced_takes_its_time_and_never_runs_ahead() -> None:
    backend = MockBackend()
    started_s = time.monotonic()

    stream = backend.send_streaming(Request(prompt="numbered: count=5000 size=5 rate=10000"))
    got = 0
    while stream.terminal is None:
        await stream.wait()
        got += len(stream.take(100_000))
        assert got <= (time.monotonic() - started_s) * 10_000 + 1  # token k is due at k/rate

    assert got == 5000
    assert time.monotonic() - started_s >= 0.4999
    await backend.aclose()


@scenario
async def test_mock_unread_waits_at_its_bound_and_loses_nothing() -> None:
    backend = MockBackend(MockSettings(queue_count=100))

    stream = backend.send_streaming(Request(prompt="numbered: count=1000 size=5"))
    for _ in range(200):
        await asyncio.sleep(0)

    assert stream.available_count == backend.sent_count == 100
    assert "".join(await drained(stream)) == text_of(0, 0, 1000, 5)
    assert backend.sent_count == 1000
    await backend.aclose()


@pytest.mark.parametrize(
    ("key", "reason"), [("fail_after", "error event: the backend failed on purpose"), ("cut_after", "ended without its terminal event")]
)
@pytest.mark.parametrize("after", [0, 1, 50])
@scenario
async def test_mock_broken_on_demand_fails_after_exactly_so_many(key: str, reason: str, after: int) -> None:
    backend = MockBackend()

    stream = backend.send_streaming(Request(prompt=f"numbered: count=50 size=5 {key}={after}"))

    assert len(await drained(stream)) == after
    assert stream.terminal == Failed(reason=reason)
    assert (backend.completed_count, backend.failed_count, backend.sent_count) == (0, 1, after)
    await backend.aclose()


@scenario
async def test_mock_hanging_gives_its_tokens_and_then_nothing_until_cancelled() -> None:
    backend = MockBackend()

    stream = backend.send_streaming(Request(prompt="numbered: count=50 size=5 hang_after=20"))
    got = 0
    while got < 20:
        await stream.wait()
        got += len(stream.take(100))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await stream.wait()

    assert got == 20
    assert stream.terminal is None
    stream.cancel()
    assert isinstance(stream.terminal, Failed)
    await backend.aclose()
    assert backend.live_count == 0


@scenario
async def test_mock_closed_in_mid_stream_ends_at_once() -> None:
    assert await soonest_in_loop(closed_in_mid_stream_s, 0.1) < 0.1


async def closed_in_mid_stream_s() -> float:
    """How long it takes to close a backend with 16 answers under way."""
    backend = MockBackend()
    streams = [backend.send_streaming(Request(prompt=f"numbered: count=1000000 size=5 stream={number} rate=1000")) for number in range(16)]
    await streams[0].wait()
    started_s = asyncio.get_running_loop().time()

    await backend.aclose()

    took_s = asyncio.get_running_loop().time() - started_s
    assert backend.live_count == 0
    for stream in streams:
        stream.take(100_000)
        assert isinstance(stream.terminal, Failed)
    return took_s


@scenario
async def test_mock_asked_for_what_cannot_be_fails_with_the_reason() -> None:
    backend = MockBackend()

    with pytest.raises(BackendError, match="refused: numbered: size=3"):
        await backend.send(Request(prompt="numbered: size=3"))

    await backend.aclose()


@scenario
async def test_every_backend_is_made_by_name_and_closes_unused() -> None:
    for name in BACKENDS:
        backend: Backend = backend_of(name, BackendSettings(url="" if name == "mock" else "http://127.0.0.1:9", model="m"))
        assert backend.name == name
        await backend.aclose()
        await backend.aclose()


def test_backend_of_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'openai'"):
        backend_of("opena")


@pytest.mark.parametrize(("name", "url"), [("mock", "http://127.0.0.1:9"), ("openai", "ftp://x"), ("ollama", "nowhere")])
def test_backend_of_unusable_url_is_refused(name: str, url: str) -> None:
    with pytest.raises(UsageError, match=url):
        backend_of(name, BackendSettings(url=url))


def test_settings_shown_hide_the_key() -> None:
    assert "sk-1" not in f"{BackendSettings(api_key='sk-1')!r} {BackendSettings(api_key='sk-1')}"
