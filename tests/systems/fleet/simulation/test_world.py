"""Whole histories: seeds without a violation, the same history again in any process, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from floodmark.systems.fleet.leader.publisher import Publisher
from floodmark.systems.fleet.settings import Handover
from floodmark.systems.fleet.simulation.plan import TEMPLATES, Act, Episode, plan_for
from floodmark.systems.fleet.simulation.run import Totals, Wish, play, play_many
from floodmark.systems.fleet.simulation.weather import CALM, CLIMATES
from floodmark.systems.fleet.simulation.world import World

SEEDS_COUNT = 150
LARGE_IN_BAD_WEATHER = 4913  # a seed of 49 workers whose store fails one operation in five
HASH_OF = "from floodmark.systems.fleet.simulation.run import play; print(*(play(seed).trace_hash for seed in range({count})))"


@pytest.mark.timeout(300)
def test_world_of_many_seeds_has_no_violation() -> None:
    totals = Totals()

    for seed in range(SEEDS_COUNT):
        outcome = play(seed)
        totals.add(outcome)
        assert outcome.violations == (), f"python -m floodmark.systems.fleet.simulation --seed {seed} --trace"

    assert totals.seeds_count == SEEDS_COUNT
    assert totals.losses_judged_count > 20  # the judges had something to judge
    assert totals.overlaps_count > 100
    assert totals.epochs_count > SEEDS_COUNT
    assert totals.rounds_count > 2 * SEEDS_COUNT


@pytest.mark.parametrize("episode", list(TEMPLATES))
def test_world_of_every_episode_plays_to_its_end(episode: str) -> None:
    outcome = play(3, Wish(episode=episode))

    assert outcome.violations == ()
    assert outcome.virtual_s > 1


@pytest.mark.parametrize("repeated", [True, False], ids=["as it is", "each write tried once"])
def test_world_of_a_large_fleet_whose_store_fails_has_no_lasting_overlap_because_writes_are_repeated(
    repeated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(LARGE_IN_BAD_WEATHER)
    assert plan.workers_count > 40
    assert plan.weather.fail_before_ratio + plan.weather.fail_after_ratio >= 0.2

    async def once(_publisher: Publisher, write: Callable[[bool], Awaitable[object]]) -> object:
        return await write(False)

    if not repeated:
        monkeypatch.setattr(Publisher, "_until_answered", once)
    outcome = play(LARGE_IN_BAD_WEATHER)

    assert [violation.invariant for violation in outcome.violations] == ([] if repeated else ["OVERLAP"])


def test_world_of_one_seed_is_the_same_history_in_any_process() -> None:
    ours = [play(seed).trace_hash for seed in range(6)]

    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", HASH_OF.format(count=6)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        assert [int(word) for word in run.stdout.split()] == ours

    assert len(set(ours)) == len(ours)


def test_play_many_on_processes_gives_what_one_process_gives() -> None:
    seeds = range(12)

    alone = [outcome.trace_hash for outcome in play_many(seeds, Wish(), processes_count=1)]
    together = [outcome.trace_hash for outcome in play_many(seeds, Wish(), processes_count=2)]

    assert together == alone


def test_world_whose_fleet_cannot_settle_says_what_is_not_as_it_must_be() -> None:
    plan = plan_for(3)
    plan = msgspec.structs.replace(plan, settings=msgspec.structs.replace(plan.settings, id_max=plan.workers_count - 2), episodes=())

    outcome = World(plan).run()

    assert [violation.invariant for violation in outcome.violations] == ["SETTLED"]
    assert "not Stable" in outcome.violations[0].sentence


def overlaps(handover: Handover) -> int:
    """How often two worked on one partition while a calm fleet grew."""
    count = 0
    for seed in range(10):
        plan = plan_for(seed, episode="scale")
        settings = msgspec.structs.replace(plan.settings, handover=handover)
        outcome = World(msgspec.structs.replace(plan, settings=settings, weather=CALM, clock_skew_ratio=0.0)).run()
        assert outcome.violations == ()
        count += outcome.overlaps_count
    return count


def test_world_with_a_confirmed_handover_has_no_overlap_where_a_direct_one_has() -> None:
    assert overlaps(Handover.DIRECT) > 20
    assert overlaps(Handover.CONFIRMED) == 0


def test_world_whose_worker_raises_says_error() -> None:
    world = World(msgspec.structs.replace(plan_for(3), episodes=()))

    async def fails() -> None:
        raise ZeroDivisionError("planted")

    def plant() -> None:
        world.keep(world.loop.start_in(world.members[0].node, fails(), name="planted"))

    world.loop.call_in(world.loop.world, 3.0, plant)
    outcome = world.run()

    assert [violation.invariant for violation in outcome.violations] == ["ERROR"]
    assert "ZeroDivisionError" in outcome.violations[0].sentence


def test_world_that_has_ended_leaves_no_task_behind() -> None:
    plan = plan_for(5)
    crash = Episode(name="crash", acts=(Act(at_s=0.0, do="crash"), Act(at_s=0.1, do="freeze", for_s=1.0)))
    world = World(msgspec.structs.replace(plan, episodes=(crash,)))

    outcome = world.run()
    tasks = [task for member in world.members for task in member.node.tasks_alive]
    del world
    gc.collect()

    assert outcome.violations == ()
    assert tasks == []
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_plan_of_a_seed_is_the_same_and_of_another_seed_another() -> None:
    assert plan_for(7) == plan_for(7)
    assert len({msgspec.json.encode(plan_for(seed)) for seed in range(50)}) == 50


def test_plans_of_many_seeds_play_every_episode_and_climate() -> None:
    plans = [plan_for(seed) for seed in range(400)]

    assert {episode.name for plan in plans for episode in plan.episodes} == set(TEMPLATES)
    assert {plan.weather.name for plan in plans} == {weather.name for weather in CLIMATES}
    assert max(plan.workers_count for plan in plans) > 40
