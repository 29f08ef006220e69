"""The stream between a backend and the conductor: bounded, in order, with exactly one terminal."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.conductor.backend.base import Complete, Failed, Producers, Request, TokenStream

DONE = Complete(token_count=3)


def test_stream_gives_tokens_in_order_and_the_terminal_after_the_last_one() -> None:
    stream = TokenStream(capacity_count=10)

    stream.put(["a", "b", "c"])
    stream.finish(DONE)

    assert stream.terminal is None
    assert stream.take(2) == ["a", "b"]
    assert stream.terminal is None
    assert stream.take(2) == ["c"]
    assert stream.terminal == DONE
    assert stream.take(2) == []
    assert (stream.put_count, stream.taken_count) == (3, 3)


def test_stream_that_is_full_takes_no_more_and_has_room_again_once_taken() -> None:
    stream = TokenStream(capacity_count=3)
    stream.put(["a", "b", "c"])

    with pytest.raises(ValueError, match="do not fit"):
        stream.put(["d"])
    stream.take(2)

    assert stream.room() == 2


def test_stream_of_long_tokens_is_full_before_its_count() -> None:
    stream = TokenStream(capacity_count=100, capacity_chars=1000)

    stream.put(["x" * 5000])  # longer than the bound, and alone
    full = stream.room()
    stream.take(1)

    assert (full, stream.room()) == (0, 100)


def test_put_after_the_terminal_and_a_second_terminal_are_bugs() -> None:
    stream = TokenStream()
    stream.finish(DONE)

    with pytest.raises(RuntimeError, match="after its terminal"):
        stream.put(["a"])
    with pytest.raises(RuntimeError, match="ends once"):
        stream.finish(Failed(reason="no"))

    assert stream.terminal == DONE


def test_cancel_drops_what_waits_and_lets_the_producer_go() -> None:
    async def main() -> bool:
        stream = TokenStream(capacity_count=2)
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            producer = tasks.create_task(stream.put_many(["a"] * 10))
            await asyncio.sleep(0)
            stream.cancel()
        assert stream.terminal == Failed(reason="cancelled")
        assert (stream.take(10), stream.room(), stream.cancelled) == ([], 0, True)
        stream.put(["late"])
        stream.finish(DONE)
        assert stream.terminal == Failed(reason="cancelled")
        return producer.result()

    assert asyncio.run(main()) is False


def test_cancel_after_the_end_changes_nothing() -> None:
    stream = TokenStream()
    stream.finish(DONE)

    stream.cancel()

    assert stream.terminal == DONE
    assert not stream.cancelled


def test_put_many_waits_while_full_and_keeps_the_order() -> None:
    async def main() -> list[str]:
        stream = TokenStream(capacity_count=3)
        texts = [str(number) for number in range(20)]
        taken: list[str] = []
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.put_many(texts))
            while len(taken) < 20:
                await stream.wait()
                assert stream.available_count <= 3
                taken += stream.take(2)
        return taken

    assert asyncio.run(main()) == [str(number) for number in range(20)]


def test_listener_hears_of_tokens_of_the_end_and_of_a_cancellation() -> None:
    heard: list[str] = []
    stream = TokenStream()
    stream.listen(lambda: heard.append("heard"))

    stream.put(["a"])
    stream.finish(DONE)
    other = TokenStream()
    other.listen(lambda: heard.append("cancelled"))
    other.cancel()

    assert heard == ["heard", "heard", "cancelled"]


def _produced(how: str) -> Failed | Complete | None:
    async def produce(stream: TokenStream) -> None:
        await stream.put_many(["a"])
        if how == "raises":
            raise OSError("the line is dead")
        if how == "ends":
            stream.finish(DONE)

    async def main() -> Failed | Complete | None:
        producers, stream = Producers(), TokenStream()
        producers.start(stream, produce(stream))
        async with asyncio.timeout(5):
            while stream.terminal is None:
                await stream.wait()
                stream.take(10)
        await producers.aclose()
        assert producers.live_count == 0
        return stream.terminal

    return asyncio.run(main())


def test_producer_that_vanishes_or_fails_fails_its_stream_and_one_that_ends_does_not() -> None:
    vanished, raised, ended = _produced("vanishes"), _produced("raises"), _produced("ends")

    assert isinstance(vanished, Failed)
    assert vanished.reason == "unexpected: the backend vanished without ending its answer"
    assert isinstance(raised, Failed)
    assert raised.reason == "unexpected: the backend failed with OSError: the line is dead"
    assert ended == DONE


def test_producers_closed_in_mid_stream_leave_no_task_and_every_stream_ended() -> None:
    async def main() -> list[Failed | Complete | None]:
        producers, streams = Producers(), [TokenStream(capacity_count=1) for _ in range(5)]

        async def endless(stream: TokenStream) -> None:
            while True:
                await stream.put_many(["x"])

        for stream in streams:
            producers.start(stream, endless(stream))
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
            await producers.aclose()
        assert producers.live_count == 0
        for stream in streams:
            stream.take(10)
        return [stream.terminal for stream in streams]

    assert asyncio.run(main()) == [Failed(reason="unexpected: the backend was stopped")] * 5


def test_request_clamps_its_temperature() -> None:
    assert [Request(prompt="", temperature=value).temperature for value in (-1.0, 0.3, 7.0, float("nan"))] == [0.0, 0.3, 1.0, 0.0]


@given(st.lists(st.one_of(st.lists(st.text(max_size=4), max_size=5), st.integers(0, 5)), max_size=40))
def test_stream_beside_a_plain_list_gives_the_same_tokens(steps: list[list[str] | int]) -> None:
    stream, model, put = TokenStream(capacity_count=7, capacity_chars=12), list[str](), 0

    for step in steps:
        if isinstance(step, int):
            assert stream.take(step) == model[:step]
            del model[:step]
        elif len(step) <= stream.room():
            stream.put(step)
            model += step
            put += len(step)
        assert stream.available_count == len(model) <= 7
        assert (stream.room() == 0) == (len(model) == 7 or sum(map(len, model)) >= 12)

    assert stream.put_count == put == stream.taken_count + len(model)
