"""Which test proves which word of which fault: the whole table, so that a new fault without its proofs fails here.

A proof is a test over `kind`; it counts for the kinds that its parameters really have, read off the test itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

import pytest

from floodmark.faults import CLIENT_FAULTS, FAULTS
from floodmark.faults.process import PROCESS_FAULTS
from floodmark.faults.wire import WIRE_FAULTS
from tests.faults import test_words_client, test_words_process, test_words_wire

EVERY = [*CLIENT_FAULTS, *(f"wire.{kind}" for kind in WIRE_FAULTS), *(f"process.{kind}" for kind in PROCESS_FAULTS)]

#: word: what it says, and the tests that prove it in the clients, on the wire and on processes
PROOFS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "seeded": (
        "the same seed has the same victims and draws, another seed others",
        ("test_same_seed_hits_the_same_victims_and_another_hits_others",),
        (
            "test_same_seed_hits_the_same_connections_and_another_hits_others",
            "test_decisions_are_the_seeds_and_without_a_range_nobodys",
        ),
        ("test_same_seed_hits_the_same_victims_and_another_hits_others",),
    ),
    "journalled": (
        "who was touched, when, and that it was healed",
        ("test_report_of_a_fault_counts_exactly_what_the_server_saw_and_the_seed_names_it",),
        ("test_journal_tells_who_was_touched_when_and_that_it_was_healed",),
        ("test_journal_tells_who_was_touched_when_and_that_it_was_healed",),
    ),
    "atomic": (
        "all at once or none: nobody sees half a fault",
        ("test_fault_at_ratio_1_misses_nobody_from_the_first_message_on",),
        (
            "test_add_and_remove_reach_all_connections_before_the_loop_does_anything_else",
            "test_add_that_fails_half_way_is_undone_and_hits_nobody",
            "test_control_that_fails_at_the_second_relay_takes_the_fault_off_the_first",
        ),
        (
            "test_fault_that_fails_half_way_has_hit_nobody",
            "test_fault_cancelled_at_any_moment_has_hit_all_or_nobody_and_leaves_nobody_in_its_hands",
        ),
    ),
    "healed": (
        "the effect is measured while it is on and gone after, also when cancelled",
        (
            "test_effect_is_felt_while_the_fault_is_on_and_gone_when_it_is_off",
            "test_agent_cancelled_under_a_fault_leaves_nothing_of_it_in_place",
        ),
        (
            "test_effect_is_felt_while_the_fault_is_on_and_gone_when_it_is_off",
            "test_fault_cancelled_with_bytes_in_its_hands_is_healed",
        ),
        (
            "test_effect_is_felt_while_the_fault_is_on_and_put_right_when_it_is_off",
            "test_fault_cancelled_at_any_moment_has_hit_all_or_nobody_and_leaves_nobody_in_its_hands",
        ),
    ),
    "zero": (
        "probability 0 is the same bytes and operations, no draw and no hit",
        ("test_ratio_0_is_the_same_operations_and_draws_nothing",),
        (
            "test_share_0_passes_the_bytes_as_they_are_draws_nothing_and_hits_nobody",
            "test_share_0_leaves_the_choice_of_every_other_fault_as_it_is",
        ),
        ("test_ratio_0_signals_nobody_draws_nothing_and_says_so",),
    ),
}
ROOMS: tuple[tuple[ModuleType, str], ...] = ((test_words_client, ""), (test_words_wire, "wire."), (test_words_process, "process."))


def kinds_of(proof: Callable[..., None]) -> set[str]:
    """The kinds that a test runs over."""
    marks: list[pytest.Mark] = getattr(proof, "pytestmark", [])
    return {kind for mark in marks if mark.name == "parametrize" and mark.args[0] == "kind" for kind in mark.args[1]}


def proven(word: str) -> dict[str, set[str]]:
    """The proofs of each kind, by what the tests say of themselves."""
    found: dict[str, set[str]] = {}
    for (module, prefix), names in zip(ROOMS, PROOFS[word][1:], strict=True):
        for name in names:
            for kind in kinds_of(getattr(module, name)):
                found.setdefault(prefix + kind, set()).add(name)
    return found


def test_every_is_every_fault_that_a_scenario_may_name_and_those_from_python() -> None:
    assert set(FAULTS) <= set(EVERY)
    assert set(EVERY) - set(FAULTS) <= {"process.restart"}


@pytest.mark.parametrize("word", PROOFS)
@pytest.mark.parametrize("kind", EVERY)
def test_every_fault_has_a_proof_of_every_word(kind: str, word: str) -> None:
    assert kind in proven(word), f"no test proves that {kind} is {word}: {PROOFS[word][0]}"


@pytest.mark.parametrize("kind", EVERY)
def test_every_proof_of_a_room_is_for_all_its_faults(kind: str) -> None:
    room = next(place for place, (_, prefix) in reversed(list(enumerate(ROOMS))) if kind.startswith(prefix))
    wanted = {name for _, *rooms in PROOFS.values() for name in rooms[room]}

    assert {name for name in wanted if kind.removeprefix(ROOMS[room][1]) not in kinds_of(getattr(ROOMS[room][0], name))} == set()


def test_every_test_over_the_table_is_a_proof_of_something() -> None:
    """A test that runs over all kinds of a room and stands in no row would be one whose word nobody knows."""
    for room, (module, _) in enumerate(ROOMS, start=1):
        over = {name for name, one in inspect.getmembers(module, inspect.isfunction) if name.startswith("test_") and kinds_of(one)}

        assert over == {name for row in PROOFS.values() for name in row[room]}
