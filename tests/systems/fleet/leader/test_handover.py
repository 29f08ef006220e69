"""The handover in two steps, without I/O: what is held back, until when, and what is not."""

from __future__ import annotations

import math

from floodmark.systems.fleet.leader.handover import Releases
from floodmark.systems.fleet.leader.layout import Layout
from floodmark.systems.fleet.partition import Partition

LIMIT_S = 5.0
A, B, C = (Partition(keys=(name,)) for name in "abc")
BEFORE: Layout = {"old": [A, B], "other": [C]}
TARGET: Layout = {"old": [A], "other": [C], "new": [B]}
WITHOUT_B: Layout = {"old": [A], "other": [C], "new": []}


class Told:
    """What the workers have told; everybody is there unless named in `gone`."""

    def __init__(self) -> None:
        self.applied: dict[str, tuple[int, int]] = {}
        self.gone: set[str] = set()

    def __call__(self, worker: str) -> tuple[int, int] | None:
        return None if worker in self.gone else self.applied.get(worker, (0, 0))


def moving(told: Told, *, version: int = 7) -> Releases:
    """The first step of B from old to new was published at 0 s under epoch 1."""
    handover = Releases(LIMIT_S)
    assert handover.hold_back(TARGET, BEFORE, 0.0, epoch=1, applied=told) == WITHOUT_B
    handover.published(version, 0.0)
    return handover


def test_handover_of_a_layout_that_moves_nothing_holds_nothing_back() -> None:
    handover = Releases(LIMIT_S)

    assert handover.hold_back(BEFORE, BEFORE, 0.0, epoch=1, applied=Told()) == BEFORE

    assert not handover.pending
    assert math.isinf(handover.ready_s(0.0, epoch=1, applied=Told()))


def test_handover_waits_for_the_word_of_the_old_worker() -> None:
    told = Told()
    handover = moving(told)

    told.applied["old"] = (1, 6)
    assert handover.owners == {"old"}
    assert handover.ready_s(1.0, epoch=1, applied=told) == LIMIT_S
    told.applied["old"] = (1, 7)
    assert handover.ready_s(2.0, epoch=1, applied=told) == 2.0

    assert handover.hold_back(TARGET, WITHOUT_B, 2.0, epoch=1, applied=told) == TARGET
    assert not handover.pending


def test_handover_at_its_limit_goes_on_without_a_word() -> None:
    told = Told()
    handover = moving(told)

    assert handover.hold_back(TARGET, WITHOUT_B, LIMIT_S - 0.1, epoch=1, applied=told) == WITHOUT_B
    assert handover.hold_back(TARGET, WITHOUT_B, LIMIT_S, epoch=1, applied=told) == TARGET


def test_handover_does_not_wait_for_a_worker_that_is_gone() -> None:
    told = Told()
    handover = moving(told)

    told.gone.add("old")

    assert handover.ready_s(1.0, epoch=1, applied=told) == 1.0


def test_handover_from_a_worker_that_was_gone_before_holds_nothing_back() -> None:
    told = Told()
    told.gone.add("old")

    assert Releases(LIMIT_S).hold_back(TARGET, BEFORE, 0.0, epoch=1, applied=told) == TARGET


def test_handover_back_to_the_old_worker_needs_no_word() -> None:
    handover = moving(Told())

    assert handover.hold_back(BEFORE, WITHOUT_B, 1.0, epoch=1, applied=Told()) == BEFORE
    assert not handover.pending


def test_handover_to_a_third_worker_waits_for_the_first_one_still() -> None:
    told = Told()
    handover = moving(told)

    layout = handover.hold_back({"old": [A], "other": [B, C], "new": []}, WITHOUT_B, 1.0, epoch=1, applied=told)
    handover.published(8, 1.0)

    assert layout == {"old": [A], "other": [C], "new": []}
    told.applied["old"] = (1, 7)  # the round that took it away is enough
    assert handover.ready_s(2.0, epoch=1, applied=told) == 2.0


def test_handover_whose_first_step_failed_counts_no_word_and_no_time_before_it_is_published() -> None:
    told = Told()
    handover = Releases(LIMIT_S)
    handover.hold_back(TARGET, BEFORE, 0.0, epoch=1, applied=told)
    told.applied["old"] = (1, 7)

    layout = handover.hold_back(TARGET, WITHOUT_B, 100.0, epoch=1, applied=told)  # it was written in part: old has lost B already
    handover.published(8, 100.0)

    assert layout == WITHOUT_B
    assert handover.ready_s(100.0, epoch=1, applied=told) == 100.0 + LIMIT_S
    told.applied["old"] = (1, 8)
    assert handover.ready_s(101.0, epoch=1, applied=told) == 101.0


def test_handover_of_a_partition_that_left_the_list_is_over() -> None:
    handover = moving(Told())

    handover.hold_back({"old": [A], "other": [C], "new": []}, WITHOUT_B, 1.0, epoch=1, applied=Told())

    assert not handover.pending
