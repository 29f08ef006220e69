"""Each defect of the original is found when it is put back, and the seed that finds it is clean without it."""

from __future__ import annotations

import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.leader.decide import Planner
from floodmark.systems.fleet.simulation.defects import DEFECTS, put_back
from floodmark.systems.fleet.simulation.run import Wish, play

SEEDS = range(200)

# defect, the episode that calls it forth, the invariants that may find it
FOUND_BY = [
    ("D1", "crash masked by a join", {"LOSS", "GRACE"}),
    ("D2", "flapping", {"GRACE"}),
    ("D3", "crash in the cooldown", {"LOSS"}),
    ("D4", "crash in a window", {"LOSS"}),
    ("D5", "writes fail in a round", {"SETTLED", "OVERLAP"}),
    ("D6", "fault in a round", {"ORDER", "STALE", "SETTLED", "OVERLAP"}),
    ("D7", "zombie", {"OVERLAP", "SETTLED"}),
    ("D8", "refresh", {"ONE UPDATE"}),
]


@pytest.mark.parametrize(("defect", "episode", "invariants"), FOUND_BY, ids=[defect for defect, _, _ in FOUND_BY])
def test_simulation_with_a_defect_put_back_finds_it(defect: str, episode: str, invariants: set[str]) -> None:
    outcomes = (play(seed, Wish(defect=defect, episode=episode)) for seed in SEEDS)

    found = next((outcome for outcome in outcomes if outcome.violations), None)

    assert found is not None, f"no seed of {SEEDS} finds {defect}"
    assert found.violations[0].invariant in invariants
    assert play(found.seed, Wish(episode=episode)).violations == ()


def test_defects_are_all_tried() -> None:
    assert [defect for defect, _, _ in FOUND_BY] == list(DEFECTS)


def test_put_back_ends_with_its_block() -> None:
    check = Planner.check

    with put_back("D1"):
        assert Planner.check is not check

    assert Planner.check is check


def test_put_back_of_a_defect_that_there_is_not_says_which_there_are() -> None:
    with pytest.raises(UsageError, match="D1, D2"):
        put_back("D0")
