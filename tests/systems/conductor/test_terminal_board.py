"""The board: every event of a conductor finds its place, and an answer that came short is said to have."""

from __future__ import annotations

import typing

import pytest

from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.terminal.board import NOTICES_COUNT, Board
from floodmark.systems.conductor.terminal.paint import Kind

METADATA = say.ResponseMetadata(token_count=3, tokens_per_second=10.0, elapsed_ms=300.0, first_token_ms=100.0)


def board(*events: say.Event) -> Board:
    new = Board()
    new.apply([say.SessionInfo(session_id="s", model="m", ready=True), *events], 0.0)
    return new


def parts(of: Board, conversation_id: str = say.MAIN_ID) -> list[tuple[Kind, str]]:
    page = of.rooms[conversation_id].page
    page.absorb()
    return [(part.kind, part.source) for part in page._parts if part.source]


def test_board_takes_every_event_a_conductor_can_say() -> None:
    silent = {"HandshakeAck", "TaskUpdated", "TaskFocus", "StatisticsReport", "Token", "StreamToken"}

    handled = {kind.__name__ for kind in Board()._does}

    said = {kind.__name__ for kind in typing.get_args(say.ConductorEvent)}
    assert said - handled == silent


def test_board_pace_is_counted_from_the_sending_and_by_tokens() -> None:
    made = board()
    made.sent("evt_1", say.MAIN_ID, 10.0)
    made.apply([say.Ack(event_id="evt_1", message_id="a")], 10.1)
    made.apply([say.Token(message_id="a", text="one two", count=2)], 10.5)
    made.apply([say.Token(message_id="a", text=" three", count=1), say.Token(message_id="a", text=" four", count=1)], 11.5)

    pace = made.shown.pace
    assert pace is not None
    assert pace.ttft_s == pytest.approx(0.5)
    assert pace.tokens_count == 4
    assert pace.rate_hz == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("final", "words"),
    [
        pytest.param("one two", "", id="all-there"),
        pytest.param("one two three", "6 characters of it never came", id="lost"),
        pytest.param("one", "4 characters too many came", id="too-many"),
    ],
)
def test_board_answer_that_ends_is_held_against_what_came(final: str, words: str) -> None:
    made = board(
        say.Token(message_id="a", text="one "),
        say.Token(message_id="a", text="two"),
        say.StreamEnd(message_id="a", final_content=final, metadata=METADATA),
    )

    kind, foot = parts(made)[-1]
    assert (kind is Kind.ERROR) == bool(words)
    assert words in foot
    assert "3 tokens" in foot


def test_board_truncated_answer_is_not_called_incomplete() -> None:
    made = board(
        say.Token(message_id="a", text="one two"),
        say.StreamEnd(message_id="a", final_content="two", metadata=METADATA, truncated=True),
    )

    assert parts(made)[-1][0] is Kind.FOOT


def test_board_answer_without_any_token_is_said_to_have_lost_them() -> None:
    made = board(say.StreamEnd(message_id="a", final_content="never came", metadata=METADATA))

    assert "10 characters of it never came" in parts(made)[-1][1]


def test_board_tokens_of_two_conversations_stay_apart() -> None:
    made = board(say.ConversationCreated(conversation_id="c", title="T"))
    for number in range(10):
        made.apply(
            [say.Token(message_id="a", text=f"{number}"), say.StreamToken(conversation_id="c", message_id="b", text=f"{-number}")], 1.0
        )

    assert parts(made)[-1] == (Kind.MARKDOWN, "0123456789")
    assert parts(made, "c")[-1] == (Kind.MARKDOWN, "0-1-2-3-4-5-6-7-8-9")
    assert made.rooms["c"].unseen
    assert not made.shown.unseen


def test_board_removed_conversation_is_left_and_its_late_tokens_are_nobodys() -> None:
    made = board(say.ConversationCreated(conversation_id="c", title="T"), say.ConversationFocused(conversation_id="c"))

    made.apply(
        [
            say.ConversationRemoved(conversation_id="c"),
            say.StreamToken(conversation_id="c", message_id="b", text="late"),
            say.ConversationStreamEnd(conversation_id="c", message_id="b", final_content="late", metadata=METADATA),
        ],
        1.0,
    )

    assert list(made.rooms) == [say.MAIN_ID]
    assert made.focus_id == say.MAIN_ID


@pytest.mark.parametrize("acknowledged_first", [True, False])
def test_board_conversation_that_was_asked_for_is_told_once_it_is_there(acknowledged_first: bool) -> None:
    made = board()
    made.asked_new("evt_1")
    events = [say.Ack(event_id="evt_1", conversation_id="c"), say.ConversationCreated(conversation_id="c", title="T")]

    made.apply(events if acknowledged_first else reversed(events), 1.0)
    made.apply([say.ConversationCreated(conversation_id="d", title="of somebody else")], 1.0)

    assert list(made.arrived) == ["c"]


def test_board_snapshot_fills_empty_pages_and_doubles_nothing() -> None:
    made = board(say.Message(id="m1", role=say.Role.USER, content="known"))
    snapshot = say.StateSnapshot(
        state=say.ConductorState.READY,
        messages=(
            say.Message(id="m1", role=say.Role.USER, content="known"),
            say.Message(id="m2", role=say.Role.ASSISTANT, content="elsewhere", conversation_id="c"),
        ),
        conversations=(
            say.ConversationInfo(
                conversation_id="c", title="T", state=say.ConversationState.IDLE, priority=50, relevance=1.0, focused=True
            ),
        ),
    )

    made.apply([snapshot, snapshot], 1.0)

    assert sum(source == "known" for _, source in parts(made)) == 1
    assert sum(source == "elsewhere" for _, source in parts(made, "c")) == 1
    assert made.focus_id == "c"


def test_board_notices_that_nobody_shows_are_bounded() -> None:
    made = board(*(say.Notify(level=say.Level.INFO, text=f"{number}") for number in range(100)))

    assert len(made.notices) == NOTICES_COUNT
    assert made.notices[-1] == (say.Level.INFO, "99")


def test_board_messages_are_shown_after_their_kind() -> None:
    made = board(
        say.Message(id="1", role=say.Role.USER, content="a question"),
        say.Message(id="2", role=say.Role.SYSTEM, content="a note", content_type=say.ContentType.SYSTEM),
        say.Message(id="3", role=say.Role.ASSISTANT, content="a failure", content_type=say.ContentType.ERROR),
        say.SummaryReady(conversation_id=say.MAIN_ID, summary="a summary"),
    )

    shown = parts(made)
    assert (Kind.USER, "a question") in shown
    assert (Kind.NOTE, "a note") in shown
    assert (Kind.ERROR, "a failure") in shown
    assert (Kind.NOTE, "a summary") in shown


@pytest.mark.parametrize(("conversation_id", "told"), [(say.MAIN_ID, 0), ("c", 1)], ids=["shown", "elsewhere"])
def test_board_broken_answer_is_told_once_where_it_is_seen(conversation_id: str, told: int) -> None:
    made = board(
        say.ConversationCreated(conversation_id="c", title="T"),
        say.StreamError(message_id="a", reason="cut off: gone", conversation_id=conversation_id),
        say.Notify(level=say.Level.ERROR, text="The answer broke off: cut off: gone"),
    )

    assert len(made.notices) == told
    made.apply([say.Notify(level=say.Level.ERROR, text="The answer broke off: cut off: gone")], 1.0)
    assert len(made.notices) == told + 1  # the next one is another's
