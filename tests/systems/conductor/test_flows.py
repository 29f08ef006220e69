"""What a surface says, and what is answered: every flow of the conductor, event by event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from floodmark.core.clock import ManualClock, settle
from floodmark.systems.conductor import vocabulary as v
from floodmark.systems.conductor.backend.base import Failed, Request, TokenStream
from floodmark.systems.conductor.conductor import COMMANDS, FLOWS, HELP, Conductor
from floodmark.systems.conductor.settings import ConductorSettings, InputLimits, StreamSettings
from floodmark.systems.conductor.states import SessionState
from tests.systems.conductor.scripted import Scripted, hangs, says

CALM = ConductorSettings()


def talk(scenario: Callable[[Conductor], Awaitable[None]], backend: Scripted | None = None, settings: ConductorSettings = CALM) -> None:
    """Play a scenario with a conductor that was started and told its first words; nothing runs beside it."""

    async def main() -> None:
        conductor = Conductor(backend or Scripted(), settings)
        async with asyncio.timeout(20):
            await conductor.start()
            heard(conductor)
            try:
                await scenario(conductor)
            finally:
                await conductor.quit()

    asyncio.run(main())


def heard(conductor: Conductor) -> list[v.ConductorEvent]:
    return conductor.output.take_many()


def kinds(events: list[v.ConductorEvent]) -> list[str]:
    return [v.kind_of(type(event).__name__) for event in events]


async def said(conductor: Conductor, event: v.Input) -> list[v.ConductorEvent]:
    await conductor.handle(event)
    return heard(conductor)


async def refusal(conductor: Conductor, event: v.Input) -> str:
    events = await said(conductor, event)
    assert kinds(events) == ["notify"]
    notice = events[0]
    assert isinstance(notice, v.Notify)
    assert (notice.level, notice.event_id) == (v.Level.ERROR, event.event_id)
    return notice.text


async def finished(conductor: Conductor) -> list[v.ConductorEvent]:
    """Poll until nothing is streamed any more."""
    while conductor.streaming_count:
        if not conductor.poll_streaming():
            await asyncio.sleep(0)
    return heard(conductor)


# ---- start, connect, handshake


def test_start_tells_the_states_and_the_session() -> None:
    async def main() -> None:
        conductor = Conductor(Scripted())
        await conductor.start()
        events = heard(conductor)
        assert events[:2] == [v.State(state=v.ConductorState.INITIALIZING), v.State(state=v.ConductorState.READY)]
        assert events[2:] == [v.SessionInfo(session_id=conductor.session.id, model="yollayah", ready=True)]
        await conductor.quit()

    asyncio.run(main())


def test_start_with_an_ill_backend_warns_and_is_ready_all_the_same() -> None:
    async def main() -> None:
        conductor = Conductor(Scripted(ill="nobody listens on port 11434"))
        await conductor.start()
        events = heard(conductor)
        assert kinds(events) == ["state", "notify", "state", "session_info"]
        assert events[1] == v.Notify(level=v.Level.WARNING, text="The backend is not well: scripted: nobody listens on port 11434")
        await conductor.quit()

    asyncio.run(main())


def test_start_with_a_backend_that_says_nothing_warns_after_its_limit() -> None:
    class Mute(Scripted):
        async def health_check(self) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        clock = ManualClock()
        conductor = Conductor(Mute(), clock=clock)
        async with asyncio.TaskGroup() as tasks:
            start = tasks.create_task(conductor.start())
            await clock.advance(4.9)
            assert not start.done()
            await clock.advance(0.2)
        events = heard(conductor)
        assert "did not say within 5 s how it is" in str(events[1])
        assert conductor.state is v.ConductorState.READY
        await conductor.quit()

    asyncio.run(main())


def test_start_that_is_not_announced_keeps_its_warning_for_the_handshake() -> None:
    async def main() -> None:
        conductor = Conductor(Scripted(ill="asleep"))
        await conductor.start(announce=False)
        assert heard(conductor) == []
        events = await said(conductor, v.Handshake(event_id="evt_1"))
        assert kinds(events) == ["handshake_ack", "ack", "state", "session_info", "state_snapshot", "notify"]
        await conductor.quit()

    asyncio.run(main())


def test_connected_surface_is_greeted() -> None:
    async def scenario(conductor: Conductor) -> None:
        events = await said(conductor, v.Connected(event_id="evt_1", surface_type=v.SurfaceType.TUI))
        assert kinds(events) == ["ack", "state", "session_info", "message"]
        assert events[0] == v.Ack(event_id="evt_1")
        assert isinstance(events[3], v.Message)
        assert (events[3].role, events[3].content) == (v.Role.ASSISTANT, CALM.greeting)
        assert conductor.capabilities.throttle

    talk(scenario)


def test_greeting_is_generated_or_left_out_as_the_settings_say() -> None:
    async def generated(conductor: Conductor) -> None:
        events = await said(conductor, v.Connected(event_id="evt_1"))
        assert kinds(events) == ["ack", "state", "session_info", "conversation_state_changed", "state"]
        assert "token" in kinds(await finished(conductor))

    async def silent(conductor: Conductor) -> None:
        assert kinds(await said(conductor, v.Connected(event_id="evt_1"))) == ["ack", "state", "session_info"]

    talk(generated, settings=ConductorSettings(generate_greeting=True))
    talk(silent, settings=ConductorSettings(greet=False))


def test_handshake_shows_the_last_twenty_messages() -> None:
    async def scenario(conductor: Conductor) -> None:
        for number in range(25):
            conductor.session.say(v.Role.USER, f"message {number}")
        events = await said(conductor, v.Handshake(event_id="evt_1", capabilities=v.Capabilities(coalesce=True)))
        assert kinds(events) == ["handshake_ack", "ack", "state", "session_info", "state_snapshot"]
        assert events[0] == v.HandshakeAck(accepted=True, connection_id=conductor.connection_id)
        assert isinstance(events[4], v.StateSnapshot)
        assert [message.content for message in events[4].messages] == [f"message {number}" for number in range(5, 25)]
        assert [info.conversation_id for info in events[4].conversations] == [v.MAIN_ID]
        assert conductor.capabilities.coalesce

    talk(scenario)


def test_handshake_of_another_version_is_rejected_with_the_reason() -> None:
    async def scenario(conductor: Conductor) -> None:
        events = await said(conductor, v.Handshake(event_id="evt_1", protocol_version=2))
        assert events == [v.HandshakeAck(accepted=False, rejection_reason="protocol version 2 is not spoken here; 1 is")]

    talk(scenario)


# ---- messages


def test_message_is_acknowledged_echoed_thought_about_answered_and_ended() -> None:
    async def scenario(conductor: Conductor) -> None:
        events = await said(conductor, v.UserMessage(event_id="evt_5", text="Hello"))
        assert kinds(events) == ["ack", "message", "conversation_state_changed", "state"]
        assert isinstance(events[0], v.Ack)
        assert isinstance(events[1], v.Message)
        message_id = events[0].message_id or ""
        assert (events[0].event_id, message_id[:4], events[1].content, events[1].role) == ("evt_5", "msg_", "Hello", v.Role.USER)
        assert events[3] == v.State(state=v.ConductorState.THINKING)
        answered = await finished(conductor)
        assert kinds(answered) == ["state", "token", "token", "token", "stream_end", "conversation_state_changed", "state"]
        assert answered[0] == v.State(state=v.ConductorState.RESPONDING)
        assert answered[1:4] == [v.Token(message_id=message_id, text=text) for text in ("Hi ", "you ", "there")]
        end = answered[4]
        assert isinstance(end, v.StreamEnd)
        assert (end.message_id, end.final_content, end.truncated) == (message_id, "Hi you there", False)
        assert (end.metadata.token_count, end.metadata.usage_count, end.metadata.model_id) == (3, 3, "scripted")
        assert answered[-1] == v.State(state=v.ConductorState.READY)

    talk(scenario, Scripted(says(["Hi ", "you ", "there"], usage=3)))


def test_backend_is_told_the_last_messages_of_the_conversation_only() -> None:
    backend = Scripted()

    async def scenario(conductor: Conductor) -> None:
        other = conductor.conversations.create("other")
        for number in range(4):
            await said(conductor, v.UserMessage(text=f"question {number}"))
            await finished(conductor)
        await said(conductor, v.UserMessage(text="elsewhere", conversation_id=other.id))
        assert [message.content for message in backend.requests[3].context] == ["ok", "question 2", "ok"]
        assert (backend.requests[3].prompt, backend.requests[3].system) == ("question 3", "Be brief.")
        assert backend.requests[4].context == ()

    talk(scenario, backend, ConductorSettings(context_window_count=3, system_prompt="Be brief."))


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (v.UserMessage(event_id="evt_1", text=""), "the message is empty"),
        (v.UserMessage(event_id="evt_1", text="x" * 100_001), "100,001 bytes"),
        (v.UserMessage(event_id="evt_1", text="a\x07"), "control character"),
        (v.UserMessage(event_id="evt_1", text="hi", conversation_id="nowhere"), "there is no conversation 'nowhere'"),
        (v.UserCommand(event_id="evt_1", command="dance"), "there is no command /dance; /help lists"),
        (v.UserCommand(event_id="evt_1", command="model", args=("huge",)), "the backend has no model 'huge'"),
        (v.UserCommand(event_id="evt_1", command="rm -rf"), "is no command"),
        (v.CancelStream(event_id="evt_1"), "nothing is being answered"),
        (v.RemoveConversation(event_id="evt_1", conversation_id=v.MAIN_ID), "cannot be removed"),
        (v.FocusConversation(event_id="evt_1", conversation_id="nowhere"), "there is no conversation"),
        (v.NewConversation(event_id="evt_1", title="a\x00"), "control character"),
    ],
)
def test_what_cannot_be_done_is_refused_with_one_notice_and_no_acknowledgement(event: v.Input, why: str) -> None:
    async def scenario(conductor: Conductor) -> None:
        assert why in await refusal(conductor, event)
        assert conductor.streaming_count == 0
        assert len(conductor.session) == 0
        assert conductor.figures.refused_count == 1

    talk(scenario)


def test_message_while_its_conversation_is_answered_is_refused_and_another_conversation_is_not() -> None:
    async def scenario(conductor: Conductor) -> None:
        other = conductor.conversations.create("other")
        await said(conductor, v.UserMessage(text="first"))
        assert "answered already" in await refusal(conductor, v.UserMessage(event_id="evt_2", text="second"))
        assert kinds(await said(conductor, v.UserMessage(text="third", conversation_id=other.id)))[0] == "ack"
        assert [message.content() for message in conductor.session if message.role is v.Role.USER] == ["first", "third"]

    talk(scenario, Scripted(hangs))


def test_message_beyond_the_most_streams_is_refused_and_leaves_nothing() -> None:
    async def scenario(conductor: Conductor) -> None:
        ids = [conductor.conversations.create("").id for _ in range(2)]
        for conversation_id in (None, ids[0]):
            await said(conductor, v.UserMessage(text="go", conversation_id=conversation_id))
        before = len(conductor.session)
        assert "2 answers are being streamed" in await refusal(conductor, v.UserMessage(text="go", conversation_id=ids[1]))
        assert len(conductor.session) == before

    talk(scenario, Scripted(hangs), ConductorSettings(streams=StreamSettings(limit_count=2)))


def test_message_that_the_backend_cannot_take_is_refused_and_leaves_nothing() -> None:
    backend = Scripted()
    backend.refuse = "out of memory"

    async def scenario(conductor: Conductor) -> None:
        assert await refusal(conductor, v.UserMessage(event_id="evt_1", text="go")) == "scripted: out of memory"
        assert (len(conductor.session), conductor.streaming_count, conductor.state) == (0, 0, v.ConductorState.READY)

    talk(scenario, backend)


def test_thirty_first_message_of_a_minute_is_refused_and_a_load_may_send_more() -> None:
    async def scenario(conductor: Conductor) -> None:
        for _ in range(30):
            await said(conductor, v.UserMessage(text="go"))
            await finished(conductor)
        assert "30 messages a minute" in await refusal(conductor, v.UserMessage(text="go"))

    async def load(conductor: Conductor) -> None:
        for _ in range(100):
            await said(conductor, v.UserMessage(text="go"))
            await finished(conductor)
        assert conductor.figures.published_count == 100

    talk(scenario)
    talk(load, settings=ConductorSettings(limits=InputLimits(messages_per_minute=None)))


def test_message_before_the_start_is_refused() -> None:
    async def main() -> None:
        conductor = Conductor(Scripted())
        assert "still starting" in await refusal(conductor, v.UserMessage(text="early"))
        await conductor.quit()

    asyncio.run(main())


def test_answer_that_fails_becomes_an_error_a_notice_and_a_usable_session() -> None:
    async def fails(stream: TokenStream, request: Request) -> None:
        await stream.put_many(["half ", "an "])
        stream.finish(Failed(reason="the model crashed"))

    async def scenario(conductor: Conductor) -> None:
        await said(conductor, v.UserMessage(text="go"))
        events = await finished(conductor)
        assert kinds(events) == ["state", "token", "token", "stream_error", "notify", "conversation_state_changed", "state"]
        assert isinstance(events[3], v.StreamError)
        assert events[3].reason == "the model crashed"
        assert conductor.conversations.focused.state is v.ConversationState.ERROR
        await said(conductor, v.UserMessage(text="again"))
        assert "stream_end" in kinds(await finished(conductor))

    talk(scenario, Scripted(fails, says(["fine"])))


def test_answer_whose_sender_vanishes_is_an_error_and_never_a_success() -> None:
    async def vanishes(stream: TokenStream, request: Request) -> None:
        await stream.put_many(["half"])

    async def scenario(conductor: Conductor) -> None:
        await said(conductor, v.UserMessage(text="go"))
        events = await finished(conductor)
        assert "stream_end" not in kinds(events)
        error = next(event for event in events if isinstance(event, v.StreamError))
        assert error.reason.startswith("unexpected: the backend vanished")

    talk(scenario, Scripted(vanishes))


def test_answer_that_hangs_is_found_out_and_the_session_stays_usable() -> None:
    async def main() -> None:
        clock = ManualClock()
        conductor = Conductor(Scripted(hangs, says(["fine"])), ConductorSettings(streams=StreamSettings(idle_limit_s=0.1)), clock=clock)
        await conductor.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(conductor.run())
            await conductor.handle(v.UserMessage(text="go"))
            heard(conductor)
            await clock.advance(0.09)
            assert heard(conductor) == []
            await clock.advance(0.02)
            assert kinds(heard(conductor)) == ["stream_error", "notify", "conversation_state_changed", "state"]
            await conductor.handle(v.UserMessage(text="again"))
            await settle()
            assert "stream_end" in kinds(heard(conductor))
            await conductor.quit()

    asyncio.run(main())


def test_cancelled_answer_ends_with_an_error_that_says_so_and_stops_its_backend() -> None:
    backend = Scripted(hangs)

    async def scenario(conductor: Conductor) -> None:
        await said(conductor, v.UserMessage(text="go"))
        events = await said(conductor, v.CancelStream(event_id="evt_2"))
        assert kinds(events) == ["ack", "stream_error", "conversation_state_changed", "state"]
        assert isinstance(events[1], v.StreamError)
        assert events[1].reason == "cancelled: the user stopped it"
        assert conductor.state is v.ConductorState.READY
        await settle()
        assert backend.producers.live_count == 0

    talk(scenario, backend)


def test_embedded_commands_are_taken_out_of_the_answer_and_every_token_is_counted() -> None:
    texts = ["Hi", " [yol", "la:mood ha", "ppy]", "you", " [a]", "[yolla:wander]", " [yolla:"]

    async def scenario(conductor: Conductor) -> None:
        for coalesce in (False, True):
            await said(conductor, v.CapabilitiesReport(capabilities=v.Capabilities(coalesce=coalesce)))
            await said(conductor, v.UserMessage(text="go"))
            events = await finished(conductor)
            tokens = [event for event in events if isinstance(event, v.Token)]
            end = next(event for event in events if isinstance(event, v.StreamEnd))
            assert "".join(token.text for token in tokens) == end.final_content == "Hi you [a] [yolla:"
            assert sum(token.count for token in tokens) == end.metadata.token_count == len(texts)
            assert end.metadata.commands == ("mood happy", "wander")
        figures = conductor.figures
        assert figures.tokens_emitted_count == figures.tokens_polled_count == figures.tokens_sent_count == 2 * len(texts)

    talk(scenario, Scripted(says(texts, batch_count=3)))


# ---- commands and conversations


def test_help_is_a_message_of_the_system_that_names_every_command() -> None:
    async def scenario(conductor: Conductor) -> None:
        events = await said(conductor, v.UserCommand(event_id="evt_1", command="HELP"))
        assert kinds(events) == ["ack", "message"]
        assert isinstance(events[1], v.Message)
        assert (events[1].role, events[1].content_type) == (v.Role.SYSTEM, v.ContentType.SYSTEM)
        assert all(f"/{name}" in HELP for name in COMMANDS)

    talk(scenario)


def test_model_command_shows_the_model_and_takes_another() -> None:
    backend = Scripted()

    async def scenario(conductor: Conductor) -> None:
        events = await said(conductor, v.UserCommand(command="model"))
        assert isinstance(events[0], v.Message)
        assert events[0].content == "The model is yollayah. There are: small, large."
        events = await said(conductor, v.UserCommand(command="model", args=("large",)))
        assert events == [v.SessionInfo(session_id=conductor.session.id, model="large", ready=True)]
        await said(conductor, v.UserMessage(text="go"))
        assert backend.requests[-1].model == "large"

    talk(scenario, backend)


def test_clear_empties_the_conversation_in_front() -> None:
    async def scenario(conductor: Conductor) -> None:
        await said(conductor, v.UserMessage(text="go"))
        await finished(conductor)
        events = await said(conductor, v.UserCommand(event_id="evt_1", command="clear"))
        assert kinds(events) == ["ack", "state_snapshot"]
        assert len(conductor.session) == 0

    talk(scenario)


@pytest.mark.parametrize("event", [v.UserCommand(event_id="evt_1", command="exit"), v.QuitRequested(event_id="evt_1")])
def test_quitting_is_acknowledged_and_quit_is_the_last_word(event: v.Input) -> None:
    async def scenario(conductor: Conductor) -> None:
        await said(conductor, v.UserMessage(text="go"))
        events = await said(conductor, event)
        assert kinds(events) == ["ack", "state", "stream_error", "conversation_state_changed", "quit"]
        assert events[1] == v.State(state=v.ConductorState.SHUTTING_DOWN)
        assert conductor.output.drained
        assert conductor.session.state is SessionState.ENDED
        assert await said(conductor, v.UserMessage(text="late")) == []

    talk(scenario, Scripted(hangs))


def test_new_conversation_is_answered_apart_and_can_be_removed_in_mid_stream() -> None:
    async def scenario(conductor: Conductor) -> None:
        events = await said(conductor, v.NewConversation(event_id="evt_1", title="Side"))
        assert kinds(events) == ["ack", "conversation_created"]
        assert isinstance(events[0], v.Ack)
        conversation_id = events[0].conversation_id or ""
        assert events[1] == v.ConversationCreated(conversation_id=conversation_id, title="Side", priority=50)
        await said(conductor, v.UserMessage(text="go", conversation_id=conversation_id))
        answered = await finished(conductor)
        assert kinds(answered) == ["state", "stream_token", "conversation_stream_end", "conversation_state_changed", "state"]
        assert await said(conductor, v.FocusConversation(conversation_id=conversation_id)) == [
            v.ConversationFocused(conversation_id=conversation_id)
        ]
        await said(conductor, v.UserMessage(text="go", conversation_id=conversation_id))
        removed = await said(conductor, v.RemoveConversation(event_id="evt_2", conversation_id=conversation_id))
        assert kinds(removed) == [
            "ack",
            "stream_error",
            "conversation_state_changed",
            "state",
            "conversation_removed",
            "conversation_focused",
        ]
        assert len(conductor.session) == 0

    talk(scenario, Scripted(says(["ok"]), hangs))


def test_focus_goes_round_and_gives_its_stream_the_larger_share() -> None:
    async def scenario(conductor: Conductor) -> None:
        first, second = conductor.conversations.create("first"), conductor.conversations.create("second")
        seen = [event for _ in range(3) for event in await said(conductor, v.FocusNextConversation())]
        assert seen == [v.ConversationFocused(conversation_id=one) for one in (first.id, second.id, v.MAIN_ID)]
        await said(conductor, v.FocusPrevConversation())
        assert conductor._streams.focus_id == second.id

    talk(scenario)


def test_summary_of_a_conversation_is_given_on_request() -> None:
    async def scenario(conductor: Conductor) -> None:
        await said(conductor, v.UserMessage(text="What is this?"))
        await finished(conductor)
        events = await said(conductor, v.RequestSummary(event_id="evt_1"))
        assert kinds(events) == ["ack", "summary_ready"]
        assert "What is this?" in str(events[1])
        assert kinds(await said(conductor, v.ExitSummary(event_id="evt_2"))) == ["ack"]

    talk(scenario)


def test_typing_is_listened_to_and_a_message_is_thought_about() -> None:
    async def scenario(conductor: Conductor) -> None:
        assert await said(conductor, v.UserTyping()) == [v.State(state=v.ConductorState.LISTENING)]
        assert await said(conductor, v.UserTyping(typing=False)) == [v.State(state=v.ConductorState.READY)]
        await said(conductor, v.UserTyping())
        assert (await said(conductor, v.UserMessage(text="go")))[-1] == v.State(state=v.ConductorState.THINKING)
        assert await said(conductor, v.UserTyping()) == []

    talk(scenario)


def test_surface_that_goes_and_comes_back_finds_no_stream_and_its_messages() -> None:
    async def scenario(conductor: Conductor) -> None:
        await said(conductor, v.UserMessage(text="go"))
        await conductor.handle(v.Disconnected())
        assert (conductor.streaming_count, conductor.session.state, heard(conductor)) == (0, SessionState.PAUSED, [])
        assert "its surface has gone" in await refusal(conductor, v.UserMessage(text="ghost"))
        events = await said(conductor, v.Handshake(event_id="evt_2"))
        assert isinstance(events[4], v.StateSnapshot)
        assert events[4].messages[0].content == "go"
        assert kinds(await said(conductor, v.UserMessage(text="again")))[0] == "ack"

    talk(scenario, Scripted(hangs))


def test_statistics_are_reported_by_name() -> None:
    async def scenario(conductor: Conductor) -> None:
        await said(conductor, v.UserMessage(text="go"))
        await finished(conductor)
        (report,) = await said(conductor, v.Statistics())
        assert isinstance(report, v.StatisticsReport)
        expected = {"published": 1, "tokens_sent": 2, "tokens_polled": 2, "tokens_emitted": 2, "streams_completed": 1, "streams_live": 0}
        assert {name: report.figures[name] for name in expected} == expected
        assert 0 < report.figures["poll_max_s"] < 20

    talk(scenario, Scripted(says(["a", "b"])))


def test_every_event_of_a_surface_has_a_flow() -> None:
    missing = {kind for kind in v.SurfaceEvent.__args__ if kind not in FLOWS}

    assert missing == set()


@pytest.mark.parametrize(
    "event",
    [
        v.Pong(event_id="e", seq=1),
        v.UserScrolled(event_id="e"),
        v.MessageReceived(event_id="e", message_id="m"),
        v.Resized(event_id="e", columns=100, rows=30),
    ],
)
def test_event_that_changes_nothing_is_acknowledged(event: v.Input) -> None:
    async def scenario(conductor: Conductor) -> None:
        assert await said(conductor, event) == [v.Ack(event_id="e")]

    talk(scenario)
