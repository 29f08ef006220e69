"""A table of states refuses what it does not name."""

from __future__ import annotations

import enum
import pickle

import pytest

from floodmark.core.states import IllegalTransitionError, Transitions


class Door(enum.Enum):
    OPEN = "open"
    SHUT = "shut"
    GONE = "gone"


STEPS = Transitions({Door.OPEN: {Door.SHUT, Door.GONE}, Door.SHUT: {Door.OPEN}, Door.GONE: ()})


def test_transitions_a_named_step_is_taken() -> None:
    STEPS.check(Door.OPEN, Door.SHUT)

    assert STEPS.allows(Door.OPEN, Door.GONE)


def test_transitions_another_step_is_refused_with_those_there_are() -> None:
    with pytest.raises(IllegalTransitionError, match="shut cannot become gone: only open may follow") as raised:
        STEPS.check(Door.SHUT, Door.GONE)

    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_transitions_a_final_state_says_so() -> None:
    with pytest.raises(IllegalTransitionError, match="gone cannot become open: it is final"):
        STEPS.check(Door.GONE, Door.OPEN)

    assert [door for door in Door if STEPS.is_final(door)] == [Door.GONE]


def test_transitions_a_table_with_a_hole_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing about gone"):
        Transitions({Door.OPEN: {Door.SHUT}, Door.SHUT: {Door.OPEN}})
