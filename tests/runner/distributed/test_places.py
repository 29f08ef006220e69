"""Who gets a slice: whoever has it keeps it, and the roomiest takes what is free."""

from __future__ import annotations

import pytest

from floodmark.runner.remote import FLEET, Places
from floodmark.systems.fleet import Partition
from floodmark.systems.fleet.strategy.base import NoWorkersError

SLICES = [Partition(keys=("run", str(index))) for index in range(4)]


def test_slices_go_to_those_with_room_and_are_spread() -> None:
    given = Places({"agent-0": 1, "agent-1": 3}).assign(["agent-1", "agent-0"], SLICES)

    assert [len(given["agent-0"]), len(given["agent-1"])] == [1, 3]


def test_slice_that_is_held_does_not_move_when_an_agent_comes() -> None:
    places = Places({"agent-0": 4, "agent-1": 4})
    before = places.assign(["agent-0"], SLICES)

    after = places.assign(["agent-0", "agent-1"], SLICES, before)

    assert after == {"agent-0": before["agent-0"], "agent-1": []}


def test_slice_of_an_agent_that_is_gone_goes_to_another() -> None:
    places = Places({"agent-0": 2, "agent-1": 2, "agent-2": 1})
    before = places.assign(["agent-0", "agent-1"], SLICES)

    after = places.assign(["agent-1", "agent-2"], SLICES, before)

    assert set(before["agent-1"]) <= set(after["agent-1"])
    assert sorted(partition for held in after.values() for partition in held) == SLICES


def test_nobody_is_an_error() -> None:
    with pytest.raises(NoWorkersError):
        Places({}).assign([], SLICES)


def test_settings_of_the_fleet_have_no_doubts_but_its_short_times() -> None:
    assert [doubt.split()[0] for doubt in FLEET.warnings()] == ["rebalance_interval_s"]
