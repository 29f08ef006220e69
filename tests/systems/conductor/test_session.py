"""What a session remembers, and what it forgets first."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.states import IllegalTransitionError
from floodmark.systems.conductor.session import Session, StoredMessage, newest, size_bytes
from floodmark.systems.conductor.settings import MIB, SessionSettings
from floodmark.systems.conductor.states import SessionState
from floodmark.systems.conductor.vocabulary import MAIN_ID, Role


def _held(session: Session) -> list[StoredMessage]:
    return list(session)


def test_messages_beyond_the_count_are_pruned_oldest_first() -> None:
    session = Session(SessionSettings(messages_count=3))

    for number in range(5):
        session.say(Role.USER, f"message {number}")

    assert [message.content() for message in session] == ["message 2", "message 3", "message 4"]
    assert (session.pruned_count, session.kept_bytes) == (2, 27)


def test_messages_beyond_the_bytes_are_pruned_oldest_first() -> None:
    session = Session(SessionSettings(kept_bytes=100))

    for number in range(5):
        session.say(Role.USER, str(number) * 40)

    assert [message.content()[0] for message in session] == ["3", "4"]
    assert session.kept_bytes == 80


def test_answer_that_is_streamed_survives_all_pruning_until_it_is_closed() -> None:
    session = Session(SessionSettings(messages_count=3, kept_bytes=1000))
    answer = session.open_answer()
    session.append(answer, "x" * 900)

    for _ in range(10):
        session.say(Role.USER, "y" * 300)
    while_streaming = [message.id for message in session]
    session.append(answer, "x" * 100)
    session.close_answer(answer)
    session.say(Role.USER, "z")

    assert answer.id in while_streaming
    assert [message.content() for message in session] == ["z"]
    assert session.kept_bytes == 1


def test_answer_longer_than_what_is_kept_keeps_its_newest_part_and_counts_the_rest() -> None:
    session = Session(SessionSettings(message_kept_bytes=1000))
    answer = session.open_answer()
    text = "".join(f"{number:05d}" for number in range(10_000))

    for start in range(0, len(text), 35):
        session.append(answer, text[start : start + 35])

    assert answer.truncated
    assert answer.said_bytes == 50_000
    assert answer.content() == text[-1000:]
    assert session.kept_bytes == answer.kept_bytes == 1000


def test_answer_of_a_hundred_megabytes_in_batches_costs_a_megabyte() -> None:
    session = Session()
    answer = session.open_answer()
    batch = "x" * 25_600

    for _ in range(4_000):
        session.append(answer, batch)

    assert answer.said_bytes == 4_000 * 25_600
    assert answer.kept_bytes <= MIB
    assert session.kept_bytes == len(answer.content()) == answer.kept_bytes


def test_answer_within_what_is_kept_is_whole() -> None:
    session = Session()
    answer = session.open_answer()

    for number in range(2_000):
        session.append(answer, f"{number} ")

    assert answer.content() == "".join(f"{number} " for number in range(2_000))
    assert not answer.truncated


@given(st.lists(st.text(max_size=12), max_size=60), st.integers(1, 40))
def test_kept_part_beside_plain_bytes_is_the_end_of_what_was_said(texts: list[str], limit_bytes: int) -> None:
    message = StoredMessage("msg_1", Role.ASSISTANT, MAIN_ID, Session().say(Role.USER, "x").content_type, streaming=True)
    changed = sum(message.append(text, limit_bytes) for text in texts)

    said = "".join(texts)
    kept = message.content()

    assert said.endswith(kept)
    assert changed == message.kept_bytes == len(kept.encode()) <= limit_bytes
    assert message.said_bytes == len(said.encode())
    if not message.truncated:
        assert kept == said
    elif said.isascii():
        assert len(kept) == limit_bytes


@pytest.mark.parametrize(("text", "limit", "kept"), [("abc", 5, "abc"), ("abcdef", 2, "ef"), ("aéé", 3, "é"), ("é", 1, ""), ("abc", 0, "")])
def test_newest_part_of_a_text_never_ends_inside_a_character(text: str, limit: int, kept: str) -> None:
    assert newest(text, limit) == kept
    assert size_bytes(kept) <= limit


def test_context_holds_the_newest_whole_messages_of_one_conversation_and_no_notices() -> None:
    session = Session()
    for number in range(8):
        session.say(Role.USER, f"question {number}")
        session.say(Role.ASSISTANT, f"answer {number}")
        session.say(Role.USER, "elsewhere", conversation_id="other")
        session.say(Role.SYSTEM, "a notice")
    session.open_answer()

    context = session.context(MAIN_ID, 3)

    assert [message.content for message in context] == ["answer 6", "question 7", "answer 7"]
    assert session.context(MAIN_ID, 0) == ()


def test_last_messages_come_oldest_first_and_clear_leaves_other_conversations_and_the_stream() -> None:
    session = Session()
    session.say(Role.USER, "one")
    session.say(Role.USER, "two", conversation_id="other")
    answer = session.open_answer()

    assert [message.content for message in session.last(2)] == ["two", ""]
    assert session.clear(MAIN_ID) == 1
    assert [message.id for message in _held(session)] == ["msg_2", answer.id]


def test_summary_is_made_of_the_words_of_the_conversation() -> None:
    session = Session()
    assert session.summary(MAIN_ID) == "Nothing has been asked yet."
    session.say(Role.USER, "What\nis   a flood mark?")
    session.say(Role.ASSISTANT, "A line " + "very " * 40 + "high.")

    summary = session.summary(MAIN_ID)

    assert summary.splitlines()[:2] == ["2 messages, 1 of them questions.", "First question: What is a flood mark?"]
    assert summary.endswith("...")
    assert len(summary.splitlines()[2]) < 100


def test_session_ids_differ_and_an_ended_session_stays_ended() -> None:
    session = Session()
    session.move_to(SessionState.BUSY)
    session.move_to(SessionState.ENDED)

    assert session.id != Session().id
    assert session.id.startswith("session_")
    with pytest.raises(IllegalTransitionError):
        session.move_to(SessionState.ACTIVE)


def test_concurrent_writers_while_pruning_corrupt_nothing() -> None:
    settings = SessionSettings(messages_count=50, kept_bytes=20_000, message_kept_bytes=2_000)

    async def writer(session: Session, number: int) -> None:
        dice = random.Random(number)
        for turn in range(40):
            session.say(Role.USER, f"{number}.{turn} " + "q" * dice.randrange(500))
            answer = session.open_answer(conversation_id=str(number))
            said = ""
            for _ in range(dice.randrange(20)):
                piece = f"{number}.{turn} " + "a" * dice.randrange(200)
                said += piece
                session.append(answer, piece)
                await asyncio.sleep(0)
                assert said.endswith(answer.content())
                assert answer.id in {message.id for message in session}
            session.close_answer(answer)

    async def main() -> Session:
        session = Session(settings)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for number in range(16):
                tasks.create_task(writer(session, number))
        return session

    session = asyncio.run(main())

    assert session.kept_bytes == sum(size_bytes(message.content()) for message in session) <= settings.kept_bytes
    assert 0 < len(session) <= settings.messages_count
    assert session.pruned_count == 16 * 40 * 2 - len(session)


@given(st.lists(st.tuples(st.sampled_from(["say", "open", "grow", "close"]), st.integers(0, 30)), max_size=60))
def test_limits_hold_after_every_step_unless_only_streams_are_left(steps: list[tuple[str, int]]) -> None:
    session, streaming = Session(SessionSettings(messages_count=4, kept_bytes=100, message_kept_bytes=60)), list[StoredMessage]()

    for step, size in steps:
        if step == "say":
            session.say(Role.USER, "x" * size)
        elif step == "open":
            streaming.append(session.open_answer())
        elif streaming and step == "grow":
            session.append(streaming[size % len(streaming)], "y" * size)
        elif streaming:
            session.close_answer(streaming.pop(size % len(streaming)))
        held = _held(session)
        assert session.kept_bytes == sum(len(message.content()) for message in held)
        assert {message.id for message in streaming} <= {message.id for message in held}
        assert (session.kept_bytes <= 100 and len(held) <= 4) or all(message.streaming for message in held)
