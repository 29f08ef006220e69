"""Several conversations: the main one, focus, the stack, relevance."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.core.clock import ManualClock
from floodmark.core.states import IllegalTransitionError
from floodmark.systems.conductor.conversations import Conversations
from floodmark.systems.conductor.errors import ConversationLimitError, RefusedError, UnknownConversationError
from floodmark.systems.conductor.vocabulary import MAIN_ID, ConversationState


def test_main_conversation_is_there_first_with_the_nil_id_and_cannot_be_removed() -> None:
    conversations = Conversations(ManualClock())

    assert conversations.get(None) is conversations.get(MAIN_ID) is conversations.focused
    assert conversations.focused.priority == 100
    with pytest.raises(RefusedError, match="cannot be removed"):
        conversations.remove(MAIN_ID)


def test_eleventh_conversation_is_refused_and_fits_once_another_is_removed() -> None:
    conversations = Conversations(ManualClock())
    opened = [conversations.create("") for _ in range(9)]

    with pytest.raises(ConversationLimitError, match="10 conversations are open"):
        conversations.create("one too many")
    conversations.remove(opened[0].id)
    conversations.create("fits")

    assert len(conversations) == 10
    assert all(conversation.priority == 50 for conversation in opened)
    with pytest.raises(UnknownConversationError):
        conversations.get(opened[0].id)


def test_focus_brings_to_the_front_and_removal_gives_it_to_the_one_looked_at_before() -> None:
    conversations = Conversations(ManualClock())
    first, second = conversations.create("first"), conversations.create("second")

    assert conversations.focus(first.id)
    assert conversations.focus(second.id)
    assert not conversations.focus(second.id)
    assert conversations.stack == [second.id, first.id, MAIN_ID]
    conversations.remove(second.id)

    assert conversations.focused is first


def test_focus_chosen_by_the_user_is_not_taken_away_by_anybody_else() -> None:
    conversations = Conversations(ManualClock())
    first, second = conversations.create("first"), conversations.create("second")

    assert conversations.focus(first.id, by_user=False)
    conversations.focus(second.id)

    assert not conversations.focus(first.id, by_user=False)
    assert conversations.focused is second


def test_neighbours_go_round_in_the_order_in_which_conversations_were_opened() -> None:
    conversations = Conversations(ManualClock())
    first, second = conversations.create("first"), conversations.create("second")

    assert conversations.neighbour(1) is first
    assert conversations.neighbour(-1) is second
    conversations.focus(second.id)
    assert conversations.neighbour(1).id == MAIN_ID


def test_relevance_follows_age_streaming_priority_and_errors() -> None:
    async def main() -> None:
        clock = ManualClock()
        conversations = Conversations(clock)
        main, other = conversations.get(None), conversations.create("other")
        assert (main.relevance(), other.relevance()) == pytest.approx((1 + 2.0, 1 + 1.0))
        await clock.advance(10)
        assert main.relevance() == pytest.approx(0.5 + 2.0)
        other.move_to(ConversationState.STREAMING)
        assert other.relevance() == pytest.approx(1 + 2 + 1.0)
        assert [conversation.id for conversation in conversations.by_relevance()] == [other.id, MAIN_ID]
        other.move_to(ConversationState.ERROR)
        assert other.relevance() == pytest.approx((1 + 1.0) / 2)
        assert [info.relevance for info in conversations.infos()] == pytest.approx([2.5, 1.0])

    asyncio.run(main())


def test_conversation_takes_only_the_steps_of_its_table() -> None:
    conversation = Conversations(ManualClock()).get(None)

    assert not conversation.move_to(ConversationState.IDLE)
    assert conversation.move_to(ConversationState.STREAMING)
    with pytest.raises(IllegalTransitionError):
        conversation.move_to(ConversationState.WAITING_FOR_AGENT)
