"""Moving tokens: never blocking, losing none, staying small, and quitting at any moment."""

from __future__ import annotations

import asyncio
import random
import time
import tracemalloc

import pytest

from floodmark.systems.conductor import vocabulary as v
from floodmark.systems.conductor.backend.base import Complete, Failed, Request, TokenStream
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.settings import ConductorSettings, Overflow, SessionSettings, StreamSettings, stress_settings
from floodmark.systems.conductor.surface.headless import HeadlessSurface
from tests.soonest import soonest
from tests.systems.conductor.scripted import Scripted, conducting, hangs, says, until

LITTLE = stress_settings(channel_count=16)


async def endless(stream: TokenStream, request: Request) -> None:
    """Give tokens for as long as somebody takes them."""
    while await stream.put_many(["word "] * 64):
        pass


def numbers(count: int, start: int = 0) -> list[str]:
    return [f"{number} " for number in range(start, start + count)]


async def ready(backend: Scripted, settings: ConductorSettings) -> Conductor:
    conductor = Conductor(backend, settings)
    await conductor.start()
    conductor.output.take_many()
    return conductor


# ---- poll_streaming


def test_poll_with_nothing_to_do_says_so() -> None:
    async def main() -> None:
        conductor = await ready(Scripted(hangs), LITTLE)
        assert not conductor.poll_streaming()
        await conductor.handle(v.UserMessage(text="go"))
        conductor.output.take_many()
        assert not conductor.poll_streaming()
        await conductor.quit()

    asyncio.run(main())


def test_poll_moves_at_most_its_limit_and_leaves_the_rest_with_the_backend() -> None:
    async def main() -> None:
        backend = Scripted(says(numbers(1000), batch_count=1000), capacity_count=1000)
        conductor = await ready(backend, stress_settings())
        await conductor.handle(v.UserMessage(text="go"))
        await asyncio.sleep(0)
        conductor.output.take_many()
        assert conductor.poll_streaming()
        assert conductor.figures.tokens_polled_count == 256
        assert backend.streams[0].available_count == 744
        await conductor.quit()

    asyncio.run(main())


def test_poll_with_a_full_channel_takes_nothing_and_the_backend_waits() -> None:
    async def main() -> None:
        backend = Scripted(endless, capacity_count=64)
        conductor = await ready(backend, LITTLE)
        await conductor.handle(v.UserMessage(text="go"))
        for _ in range(100):
            conductor.poll_streaming()
            await asyncio.sleep(0)
        assert len(conductor.output) <= 16
        assert not conductor.poll_streaming()
        assert backend.streams[0].room() == 0
        assert backend.streams[0].put_count - conductor.figures.tokens_polled_count == 64
        await conductor.quit()

    asyncio.run(main())


def test_poll_one_moves_exactly_one_token_and_waits_for_it() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def slow(stream: TokenStream, request: Request) -> None:
            await stream.put_many(["a", "b"])
            await go.wait()
            await stream.put_many(["c"])
            stream.finish(Complete(token_count=3))

        conductor = await ready(Scripted(slow), LITTLE)
        assert not await conductor.poll_one()
        await conductor.handle(v.UserMessage(text="go"))
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            for expected in (1, 2):
                assert await conductor.poll_one()
                assert conductor.figures.tokens_polled_count == expected
            third = tasks.create_task(conductor.poll_one())
            await asyncio.sleep(0)
            assert not third.done()
            go.set()
            assert await third
            assert not await conductor.poll_one()
        assert conductor.figures.streams_completed_count == 1
        await conductor.quit()

    asyncio.run(main())


# ---- nothing is lost


@pytest.mark.parametrize("coalesce", [False, True])
@pytest.mark.parametrize("channel_count", [16, 256])
def test_slow_surface_sees_every_token_in_order_and_the_end_after_them(channel_count: int, coalesce: bool) -> None:
    texts = numbers(5_000)

    async def pause(count: int) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        surface = HeadlessSurface(capabilities=v.Capabilities(coalesce=coalesce), keep_texts=True, pause=pause)
        async with conducting(Scripted(says(texts)), stress_settings(channel_count=channel_count), surface=surface) as (conductor, seen):
            await conductor.handle(v.UserMessage(text="go"))
            await until(lambda: seen.completed_count == 1)
            (answer,) = seen.answers.values()
            assert answer.text == "".join(texts)
            assert (answer.tokens_count, answer.ends_count, answer.late_count) == (5_000, 1, 0)
            assert answer.end is not None
            assert answer.end.final_content == "".join(texts)
            assert conductor.output.buffered_max <= channel_count
            assert (answer.events_count == 5_000) or coalesce

    asyncio.run(main())


def test_sixteen_streams_at_once_lose_nothing_and_get_their_own_text() -> None:
    async def main() -> None:
        scripts = [says(numbers(700, start=number * 1000)) for number in range(10)]
        settings = stress_settings(channel_count=64)
        async with conducting(Scripted(*scripts), settings) as (conductor, seen):
            ids = [v.MAIN_ID] + [conductor.conversations.create("").id for _ in range(9)]
            for conversation_id in ids:
                await conductor.handle(v.UserMessage(text="go", conversation_id=conversation_id))
            await until(lambda: seen.completed_count == 10)
            found = sorted((answer.text for answer in seen.answers.values()), key=lambda text: int(text.split()[0]))
            assert found == ["".join(numbers(700, start=number * 1000)) for number in range(10)]
            assert conductor.state is v.ConductorState.READY

    asyncio.run(main())


def test_screen_with_a_throttle_sees_fewer_updates_and_the_whole_text() -> None:
    texts = numbers(400)

    async def main() -> None:
        async def drip(stream: TokenStream, request: Request) -> None:
            for text in texts:
                await stream.put_many([text])
                await asyncio.sleep(0)
            stream.finish(Complete(token_count=len(texts)))

        surface = HeadlessSurface(capabilities=v.Capabilities(coalesce=True, throttle=True), keep_texts=True)
        async with conducting(Scripted(drip), surface=surface) as (conductor, seen):
            await conductor.handle(v.UserMessage(text="go"))
            await until(lambda: seen.completed_count == 1)
            (answer,) = seen.answers.values()
            assert (answer.text, answer.tokens_count) == ("".join(texts), 400)
            assert answer.events_count < 40
            assert conductor.report()["coalesced"] == 400 - answer.events_count

    asyncio.run(main())


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.CONCATENATE])
def test_declared_overflow_lets_the_backend_run_ahead_and_counts_what_it_did(overflow: Overflow) -> None:
    async def main() -> None:
        texts = numbers(3_000)
        settings = ConductorSettings(greet=False, channel_count=16, streams=StreamSettings(buffer_count=100, overflow=overflow))
        backend = Scripted(says(texts))
        conductor = await ready(backend, settings)
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(conductor.run())
            await conductor.handle(v.UserMessage(text="go"))
            await until(lambda: backend.streams[0].taken_count == 3_000)  # although nobody reads the channel
            surface = HeadlessSurface(keep_texts=True)
            while not surface.completed_count:
                await conductor.output.wait()
                surface.take(conductor.output.take_many())
            await conductor.quit()
            await run
        (answer,) = surface.answers.values()
        report = conductor.report()
        assert answer.tokens_count + report["tokens_dropped"] == 3_000
        if overflow is Overflow.CONCATENATE:
            assert answer.text == "".join(texts)
            assert report["tokens_concatenated"] > 2_000
        else:
            assert answer.text.endswith("".join(numbers(100, start=2_900)))
            assert report["tokens_dropped"] > 2_000

    asyncio.run(main())


def test_answer_far_longer_than_what_is_kept_costs_little_and_says_that_it_is_cut() -> None:
    async def main() -> None:
        batch = ["x" * 100] * 256

        async def flood(stream: TokenStream, request: Request) -> None:
            for _ in range(800):
                await stream.put_many(batch)
            stream.finish(Complete(token_count=800 * 256))

        surface = HeadlessSurface()
        settings = ConductorSettings(greet=False, session=SessionSettings(message_kept_bytes=100_000))
        async with conducting(Scripted(flood), settings, surface=surface) as (conductor, seen):
            tracemalloc.start()
            await conductor.handle(v.UserMessage(text="go"))
            await until(lambda: seen.completed_count == 1)
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        (answer,) = seen.answers.values()
        assert answer.chars_count == 800 * 256 * 100
        assert answer.end is not None
        assert answer.end.truncated
        assert answer.end.final_content == "x" * 100_000
        assert peak_bytes < 2_000_000

    asyncio.run(main())


# ---- it sleeps when there is nothing to do


def test_run_does_not_poll_while_nothing_happens_or_the_channel_is_full() -> None:
    async def main() -> None:
        backend = Scripted(hangs, endless)
        conductor = await ready(backend, LITTLE)
        other = conductor.conversations.create("")
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(conductor.run())
            await conductor.handle(v.UserMessage(text="go"))
            for _ in range(20):
                await asyncio.sleep(0)
            conductor.output.take_many()
            quiet = conductor.figures.polls_count
            for _ in range(200):
                await asyncio.sleep(0)
            assert conductor.figures.polls_count - quiet <= 1
            await conductor.handle(v.UserMessage(text="go", conversation_id=other.id))
            for _ in range(200):
                await asyncio.sleep(0)
            full = conductor.figures.polls_count
            for _ in range(200):
                await asyncio.sleep(0)
            assert conductor.output.room() == 0 or len(conductor.output) >= 15
            assert conductor.figures.polls_count == full
            await conductor.quit()
            await run

    asyncio.run(main())


def test_run_goes_on_as_soon_as_a_reader_makes_room_although_nothing_else_happens() -> None:
    async def main() -> None:
        conductor, surface = await ready(Scripted(says(numbers(100))), LITTLE), HeadlessSurface(keep_texts=True)
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(conductor.run())
            await conductor.handle(v.UserMessage(text="go"))
            for _ in range(30):
                for _ in range(20):
                    await asyncio.sleep(0)  # the conductor has long gone to sleep
                surface.take(conductor.output.take_many())
            assert surface.completed_count == 1
            (answer,) = surface.answers.values()
            assert answer.text == "".join(numbers(100))
            await conductor.quit()
            await run

    asyncio.run(main())


def test_run_does_not_spin_while_a_stream_has_hung_and_there_is_no_room_to_say_so() -> None:
    async def main() -> None:
        settings = ConductorSettings(greet=False, channel_count=16, streams=StreamSettings(idle_limit_s=0.01))
        conductor = await ready(Scripted(hangs), settings)
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(conductor.run())
            await conductor.handle(v.UserMessage(text="go"))
            conductor.output.put([v.Ping(seq=number) for number in range(conductor.output.room())])
            ends_s = time.monotonic() + 0.05
            await until(lambda: time.monotonic() > ends_s)
            assert conductor.figures.polls_count <= 3
            conductor.output.take_many()
            await until(lambda: conductor.streaming_count == 0)
            assert [type(event) for event in conductor.output.take_many()][:2] == [v.StreamError, v.Notify]
            await conductor.quit()
            await run

    asyncio.run(main())


# ---- the end, at any moment


def test_quit_with_a_full_channel_that_nobody_reads_ends_everything_at_once() -> None:
    async def main() -> float:
        backend = Scripted(endless)
        conductor = await ready(backend, LITTLE)
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            run = tasks.create_task(conductor.run())
            await conductor.handle(v.UserMessage(text="go"))
            await until(lambda: len(conductor.output) >= 15)
            waiting = [tasks.create_task(conductor.handle(v.NewConversation(event_id=f"evt_{number}"))) for number in range(3)]
            await asyncio.sleep(0)
            began_s = time.monotonic()
            await conductor.quit(event_id="evt_9")
            took_s = time.monotonic() - began_s
            await run
            await asyncio.wait(waiting)
        events = conductor.output.take_many()
        assert [type(event) for event in events[-5:]] == [v.Ack, v.State, v.StreamError, v.ConversationStateChanged, v.Quit]
        assert backend.producers.live_count == 0
        assert conductor.streaming_count == 0
        assert conductor.report()["quit_max_s"] > 0
        return max(took_s, conductor.report()["quit_max_s"])

    assert soonest(lambda: asyncio.run(main()), 0.1) < 0.1


def test_quit_at_many_moments_always_ends_with_quit_and_one_end_for_every_answer() -> None:
    async def once(turns: int, dice: random.Random) -> None:
        backend = Scripted(says(numbers(300), batch_count=7), endless, hangs)
        surface = HeadlessSurface()
        async with conducting(backend, LITTLE, surface=surface) as (conductor, seen):
            ids = [v.MAIN_ID, conductor.conversations.create("").id, conductor.conversations.create("").id]
            acknowledged = 0
            for conversation_id in ids:
                await conductor.handle(v.UserMessage(event_id="e", text="go", conversation_id=conversation_id))
                acknowledged += 1
            for _ in range(turns):
                await asyncio.sleep(0)
        assert seen.quit is not None
        assert seen.state is v.ConductorState.SHUTTING_DOWN
        assert [answer.ends_count for answer in seen.answers.values()] == [1] * acknowledged
        assert all(answer.late_count == 0 for answer in seen.answers.values())
        assert backend.producers.live_count == 0

    async def main() -> None:
        dice = random.Random(7)
        for _ in range(40):
            await once(dice.randrange(60), dice)

    asyncio.run(main())


def test_quit_with_a_backend_that_does_not_let_go_takes_no_longer_than_its_limit() -> None:
    class Clinging(Scripted):
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        conductor = await ready(Clinging(), ConductorSettings(quit_limit_s=0.05))
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(conductor.quit())
            second = tasks.create_task(conductor.quit())
            await asyncio.wait([first, second])
        assert 0.04 < time.monotonic() - began_s < 20
        assert isinstance(conductor.output.take_many()[-1], v.Quit)

    asyncio.run(main())


def test_backend_that_is_shared_outlives_the_conductor_that_quits() -> None:
    async def main() -> None:
        backend = Scripted(endless)
        first, second = (Conductor(backend, LITTLE, owns_backend=False) for _ in range(2))
        for conductor in (first, second):
            await conductor.start()
            await conductor.handle(v.UserMessage(text="go"))
        await first.quit()
        await until(lambda: backend.producers.live_count == 1)
        assert second.streaming_count == 1
        await second.quit()
        await backend.aclose()

    asyncio.run(main())


def test_run_cancelled_at_any_moment_leaves_nothing_and_another_run_loses_nothing() -> None:
    async def main() -> None:
        texts = numbers(2_000)
        backend, surface = Scripted(says(texts, batch_count=11)), HeadlessSurface(keep_texts=True)
        conductor = await ready(backend, LITTLE)
        await conductor.handle(v.UserMessage(text="go"))
        dice = random.Random(3)
        async with asyncio.timeout(20):
            while not surface.completed_count:
                run = asyncio.create_task(conductor.run())  # awaited below, in the same turn of this loop
                for _ in range(dice.randrange(1, 8)):
                    await asyncio.sleep(0)
                    surface.take(conductor.output.take_many(dice.randrange(1, 8)))
                run.cancel()
                await asyncio.wait([run])
        (answer,) = surface.answers.values()
        assert (answer.text, answer.ends_count) == ("".join(texts), 1)
        await conductor.quit()

    asyncio.run(main())


def test_message_cancelled_while_its_acknowledgement_waits_was_never_sent() -> None:
    async def main() -> None:
        backend = Scripted(endless, says(["fine"]))
        conductor = await ready(backend, LITTLE)
        other = conductor.conversations.create("")
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            run = tasks.create_task(conductor.run())
            await conductor.handle(v.UserMessage(text="go"))
            await until(lambda: len(conductor.output) >= 15)
            message = tasks.create_task(conductor.handle(v.UserMessage(event_id="evt_2", text="ghost", conversation_id=other.id)))
            await asyncio.sleep(0)
            assert not message.done()
            message.cancel()
            await asyncio.wait([message])
            assert conductor.streaming_count == 1
            assert len(list(conductor.session)) == 2
            assert other.state is v.ConversationState.IDLE
            surface = HeadlessSurface()
            surface.take(conductor.output.take_many())
            assert conductor.figures.published_count == 1
            await conductor.handle(v.CancelStream())
            surface.take(conductor.output.take_many())
            assert (surface.failed_count, len(surface.answers)) == (1, 1)
            await conductor.quit()
            await run

    asyncio.run(main())


def test_quit_while_an_acknowledgement_waits_ends_no_answer_that_nobody_has_heard_of() -> None:
    async def main() -> None:
        backend = Scripted(endless)
        conductor = await ready(backend, LITTLE)
        other = conductor.conversations.create("")
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(conductor.run())
            await conductor.handle(v.UserMessage(text="go"))
            await until(lambda: len(conductor.output) >= 15)
            tasks.create_task(conductor.handle(v.UserMessage(event_id="evt_2", text="ghost", conversation_id=other.id)))
            await asyncio.sleep(0)
            await conductor.quit()
        events = conductor.output.take_many()
        errors = [event for event in events if isinstance(event, v.StreamError)]
        assert [event.conversation_id for event in errors] == [v.MAIN_ID]
        assert isinstance(events[-1], v.Quit)
        assert [stream.cancelled for stream in backend.streams] == [True]
        assert [message.conversation_id for message in conductor.session] == [v.MAIN_ID] * 2

    asyncio.run(main())


@pytest.mark.parametrize("stops", [v.CancelStream, v.RemoveConversation])
@pytest.mark.parametrize("then", ["quit", "cancelled"])
def test_answer_whose_stopping_waits_for_room_ends_once_whatever_happens_meanwhile(
    stops: type[v.CancelStream | v.RemoveConversation], then: str
) -> None:
    async def main() -> None:
        surface = HeadlessSurface()
        conductor = await ready(Scripted(endless), LITTLE)
        asked = conductor.conversations.create("")
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(conductor.run())
            await conductor.handle(v.UserMessage(text="go", conversation_id=asked.id))
            await until(lambda: len(conductor.output) >= 15)
            stopping = tasks.create_task(conductor.handle(stops(event_id="evt_2", conversation_id=asked.id)))
            await asyncio.sleep(0)
            assert not stopping.done()
            if then == "cancelled":
                stopping.cancel()
                await asyncio.wait([stopping])
                for _ in range(20):  # the answer goes on
                    surface.take(conductor.output.take_many())
                    await asyncio.sleep(0)
                assert conductor.streaming_count == 1
            await conductor.quit()
            surface.take(conductor.output.take_many())
        (answer,) = surface.answers.values()
        assert (answer.ends_count, answer.late_count) == (1, 0)
        assert surface.quit is not None

    asyncio.run(main())


def test_streams_that_end_in_every_way_at_once_leave_the_session_small_and_ready() -> None:
    async def main() -> None:
        async def fails(stream: TokenStream, request: Request) -> None:
            await stream.put_many(numbers(50))
            stream.finish(Failed(reason="broke"))

        async def vanishes(stream: TokenStream, request: Request) -> None:
            await stream.put_many(numbers(50))

        backend = Scripted(*[says(numbers(100)), fails, vanishes] * 40)
        settings = ConductorSettings(greet=False, session=SessionSettings(messages_count=20), limits=stress_settings().limits)
        async with conducting(backend, settings) as (conductor, seen):
            ids = [v.MAIN_ID] + [conductor.conversations.create("").id for _ in range(5)]
            for turn in range(20):
                for conversation_id in ids:
                    await conductor.handle(v.UserMessage(text=f"turn {turn}", conversation_id=conversation_id))
                expected = (turn + 1) * len(ids)
                await until(lambda expected=expected: seen.completed_count + seen.failed_count == expected)  # type: ignore[misc]
            assert (seen.completed_count, seen.failed_count) == (40, 80)
            assert seen.tokens_count == 40 * 200
            assert all(answer.ends_count == 1 and not answer.late_count for answer in seen.answers.values())
            assert len(conductor.session) <= 20
            assert conductor.report()["pruned"] == 2 * 120 - len(conductor.session)
            assert conductor.state is v.ConductorState.READY

    asyncio.run(main())
