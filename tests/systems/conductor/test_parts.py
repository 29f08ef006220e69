"""The small parts: settings refuse what cannot work, errors pickle, figures add up, tables of states are whole."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Callable

import pytest

from floodmark.core.clock import ManualClock
from floodmark.core.errors import UsageError
from floodmark.systems.conductor import errors
from floodmark.systems.conductor.answer import Answer
from floodmark.systems.conductor.backend.base import Complete, TokenStream
from floodmark.systems.conductor.channel import Channel
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.conversations import Conversations
from floodmark.systems.conductor.figures import Figures
from floodmark.systems.conductor.session import Session
from floodmark.systems.conductor.settings import ConductorSettings, InputLimits, SessionSettings, StreamSettings
from floodmark.systems.conductor.states import CONDUCTOR_STEPS, CONVERSATION_STEPS, SESSION_STEPS, SessionState
from floodmark.systems.conductor.vocabulary import (
    ConductorEvent,
    ConductorState,
    ConversationState,
    Quit,
    ResponseMetadata,
    StreamEnd,
    SurfaceError,
    Token,
)
from tests.systems.conductor.scripted import Scripted


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: StreamSettings(limit_count=0),
        lambda: StreamSettings(buffer_count=0),
        lambda: StreamSettings(buffer_chars=0),
        lambda: StreamSettings(throttle_s=-1.0),
        lambda: StreamSettings(throttle_s=math.nan),
        lambda: StreamSettings(idle_limit_s=0.0),
        lambda: StreamSettings(idle_limit_s=math.inf),
        lambda: SessionSettings(messages_count=0),
        lambda: SessionSettings(kept_bytes=0),
        lambda: SessionSettings(message_kept_bytes=-1),
        lambda: InputLimits(message_bytes=0),
        lambda: InputLimits(messages_per_minute=0),
        lambda: ConductorSettings(context_window_count=-1),
        lambda: ConductorSettings(max_tokens_per_poll=0),
        lambda: ConductorSettings(channel_count=15),
        lambda: ConductorSettings(conversations_count=0),
        lambda: ConductorSettings(quit_limit_s=math.nan),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="must be"):
        wrong()


def test_defaults_are_those_of_the_requirements() -> None:
    settings = ConductorSettings()

    assert (settings.model, settings.context_window_count, settings.greet) == ("yollayah", 10, True)
    assert (settings.max_tokens_per_poll, settings.channel_count, settings.conversations_count) == (256, 256, 10)
    assert (settings.streams.limit_count, settings.streams.buffer_count, settings.streams.throttle_s) == (16, 1000, 0.033)
    assert (settings.session.messages_count, settings.session.kept_bytes) == (1000, 10 * 1024 * 1024)
    assert (settings.limits.message_bytes, settings.limits.messages_per_minute, settings.limits.args_count) == (100_000, 30, 10)


@pytest.mark.parametrize(
    "error",
    [
        errors.RefusedError("no"),
        errors.StreamLimitError(16),
        errors.StreamExistsError("main"),
        errors.ConversationLimitError(10),
        errors.UnknownConversationError("x"),
        errors.ChannelClosedError(),
        errors.BackendError("mock", "it is ill", retryable=True),
    ],
)
def test_errors_pickle_with_what_they_say(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    assert str(error)


def test_figures_add_up_and_the_worst_stays_the_worst() -> None:
    total, one, two = Figures(), Figures(), Figures()
    one.polls_count, one.poll_max_ns, one.errors_count = 3, 2_000_000, 1
    two.polls_count, two.poll_max_ns, two.quit_max_ns = 4, 1_000_000, 5_000_000

    total.add(one)
    total.add(two)

    report = total.report()
    assert {name: report[name] for name in ("polls", "poll_max_s", "quit_max_s", "errors")} == {
        "polls": 7.0,
        "poll_max_s": 0.002,
        "quit_max_s": 0.005,
        "errors": 1.0,
    }


def test_tables_of_states_have_one_end_and_a_way_back_from_every_other_state() -> None:
    assert [state for state in ConductorState if CONDUCTOR_STEPS.is_final(state)] == [ConductorState.SHUTTING_DOWN]
    assert [state for state in SessionState if SESSION_STEPS.is_final(state)] == [SessionState.ENDED]
    assert not [state for state in ConversationState if CONVERSATION_STEPS.is_final(state)]
    for state in ConductorState:
        assert state is ConductorState.SHUTTING_DOWN or CONDUCTOR_STEPS.allows(state, ConductorState.SHUTTING_DOWN)


def test_answer_with_a_clock_knows_its_first_token_and_its_rate() -> None:
    async def main() -> None:
        clock = ManualClock()
        answer = Answer(Conversations(clock).get(None), Session().open_answer(), TokenStream(), "small", clock)
        out: list[ConductorEvent] = []
        await clock.advance(2)
        answer.events(["a", "b"], None, coalesced=False, out=out)
        await clock.advance(4)
        answer.events(["c", "d"], [1, 5], coalesced=False, out=out)
        end = answer.ended(Complete(token_count=8))
        assert isinstance(end, StreamEnd)
        assert [event.count for event in out if isinstance(event, Token)] == [1, 1, 1, 5]
        assert end.metadata == ResponseMetadata(
            model_id="small", elapsed_ms=6000.0, first_token_ms=2000.0, token_count=8, tokens_per_second=2.0
        )

    asyncio.run(main())


@pytest.mark.parametrize("coalesced", [False, True])
def test_tokens_that_were_taken_out_whole_are_counted_by_the_next_event_or_at_the_end(coalesced: bool) -> None:
    answer = Answer(Conversations(ManualClock()).get(None), Session().open_answer(), TokenStream(), "small", ManualClock())
    out: list[ConductorEvent] = []

    for batch in (["a"], ["[yolla:wander]"], ["b", "c"], ["[yolla:show]"]):
        answer.events(batch, None, coalesced=coalesced, out=out)
    before_flush = sum(event.count for event in out if isinstance(event, Token))
    answer.flush(out)

    tokens = [event for event in out if isinstance(event, Token)]
    assert "".join(token.text for token in tokens) == "abc"
    assert (before_flush, sum(token.count for token in tokens), answer.emitted_count) == (4, 5, 5)


def test_answer_without_any_token_has_no_first_one_and_no_rate() -> None:
    answer = Answer(Conversations(ManualClock()).get(None), Session().open_answer(), TokenStream(), "small", ManualClock())
    out: list[ConductorEvent] = []

    shown = answer.flush(out)
    end = answer.ended(Complete(token_count=0, model="other"))

    assert isinstance(end, StreamEnd)
    assert (shown, out, end.final_content) == ("", [], "")
    assert end.metadata == ResponseMetadata(model_id="other")


def test_conductor_told_of_an_error_of_its_surface_counts_it() -> None:
    async def main() -> None:
        conductor = Conductor(Scripted())
        await conductor.handle(SurfaceError(event_id="e", reason="the screen is gone"))
        assert conductor.figures.errors_count == 1
        assert conductor.output.take_many() == []
        await conductor.quit()

    asyncio.run(main())


def test_backend_that_fails_while_it_is_closed_does_not_keep_the_conductor_from_quitting() -> None:
    class Clumsy(Scripted):
        async def aclose(self) -> None:
            raise errors.BackendError(self.name, "the connection was not there any more")

    async def main() -> list[ConductorEvent]:
        conductor = Conductor(Clumsy())
        await conductor.quit()
        return conductor.output.take_many()

    assert isinstance(asyncio.run(main())[-1], Quit)


def test_conductor_that_quits_while_it_starts_does_not_become_ready_again() -> None:
    async def main() -> None:
        go = asyncio.Event()

        class Slow(Scripted):
            async def health_check(self) -> None:
                await go.wait()

        conductor = Conductor(Slow())
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(conductor.start())
            await asyncio.sleep(0)
            await conductor.quit()
            go.set()
        assert conductor.state is ConductorState.SHUTTING_DOWN
        assert isinstance(conductor.output.take_many()[-1], Quit)

    asyncio.run(main())


def test_start_that_waits_for_a_mute_backend_ends_with_the_quit() -> None:
    async def main() -> None:
        class Mute(Scripted):
            async def health_check(self) -> None:
                await asyncio.Event().wait()

        clock = ManualClock()
        conductor = Conductor(Mute(), clock=clock)
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(conductor.start())
            await asyncio.sleep(0)
            await conductor.quit()
        assert conductor.state is ConductorState.SHUTTING_DOWN
        assert clock.waiting_count == 0

    asyncio.run(main())


def test_channel_with_a_writer_that_waits_belongs_to_that_writer() -> None:
    async def main() -> None:
        channel: Channel[int] = Channel(capacity_count=2)
        channel.put([1])
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(channel.put_many([2, 3]))
            await asyncio.sleep(0)
            assert channel.room() == 0
            late = tasks.create_task(channel.put_many([4]))  # would fit, and waits for its turn
            await asyncio.sleep(0)
            assert not writer.done()
            assert not late.done()
            assert channel.take_many() == [1]
            await writer
            assert channel.take_many() == [2, 3]
            await late
            assert channel.take_many() == [4]

    asyncio.run(main())
