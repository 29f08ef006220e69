"""Every scenario that comes with floodmark: it builds at any scale, is fit to run, and carries the name and number it is known by."""

from __future__ import annotations

import itertools
import re

import pytest

from floodmark import drivers, suites
from floodmark.core.errors import UsageError
from floodmark.faults import plan
from floodmark.model.metrics import metric_of
from floodmark.model.read import checked
from floodmark.model.scenario import Scenario
from floodmark.model.trial import Trial
from floodmark.suites import fleet_liars, pipeline_liars
from floodmark.suites.entry import Entry
from floodmark.systems.fleet.host.lies import LIES as FLEET_LIES
from floodmark.systems.hub.lies import parse_lie
from floodmark.systems.pipeline.host.lies import LIES as PIPELINE_LIES

SUBSCRIPTIONS = {
    "connections-10k": "S1",
    "subscriptions-50k": "S2",
    "latency-1000ms": "S3",
    "jitter": "S4",
    "random-drops": "S5",
    "cascade": "S6",
    "saturation": "S7",
    "large-payload": "S8",
    "day": "S9",
    "thundering-herd": "S10",
    "combined": "S11",
    "churn": "S12",
    "hold-connections": "2.3 connections",
    "hold-subscriptions": "2.3 subscriptions",
    "sustained": "2.3 sustained",
    "broadcast": "2.3 broadcast",
    "nothing-left": "2.3 leak",
    "connections-10k-pause": "S1 + pause",
    "saturation-stuck": "S7 + stuck readers",
    "large-payload-bandwidth": "S8 + bandwidth",
    "thundering-herd-starved": "S10 + starvation",
    "churn-jitter": "S12 + jitter",
    "failures-exact": "2.5 failures, exact",
    "failures-rate": "2.5 failures, rate",
    "creation-failures": "2.5 creation failures",
    "failing-half": "2.5 cascade",
    "gradual-restoration": "2.5 gradual restoration",
    "bus-down": "2.5 bus down",
    "buses-down": "2.5 both buses down",
    "circuit-breaker": "2.5 circuit breaker",
    "bus-paused": "",
    "pause": "",
    "partitions": "",
    "memory-limit": "",
    "descriptor-limit": "",
    "restart": "",
    "restart-durable": "",
    "reset-storm": "",
    "vanished": "",
}
LIES = {"drop", "duplicate", "reorder", "flip", "misroute", "forget", "stall", "leak", "stats"}
LIES |= {"skip", "again", "down", "drift", "slow", "queue"}  # about recovery
ENTRIES = [pytest.param(entry, id=entry.id) for entry in suites.entries().values()]


def scenarios(entry: Entry, scale: float) -> tuple[Scenario, ...]:
    """What an entry runs."""
    built = entry.build(scale)
    return (built.honest, built.lying) if isinstance(built, Trial) else (built,)


@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("entry", ENTRIES)
def test_entry_at_any_scale_is_fit_to_run(entry: Entry, scale: float) -> None:
    for scenario in scenarios(entry, scale):
        assert checked(scenario) == scenario
        driver = drivers.build(scenario.driver, scenario.driver_options)
        for fault in scenario.faults:
            assert not getattr(plan(fault), "resume", False) or driver.resumes
        assert scenario.title
        assert all(metric_of(criterion.metric) is not None for criterion in scenario.criteria)


@pytest.mark.parametrize("entry", ENTRIES)
def test_entry_states_no_criterion_that_no_figure_can_break(entry: Entry) -> None:
    stated = [criterion for scenario in scenarios(entry, 1.0) for criterion in scenario.criteria if not criterion.reference]

    assert [criterion.text for criterion in stated if criterion.operator == ">=" and criterion.limit <= 0] == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_entry_is_what_it_says(entry: Entry) -> None:
    built = entry.build(1.0)

    assert built.id == entry.id
    assert built.plan == entry.plan
    assert entry.text
    assert entry.quick_scale is None or 0 < entry.quick_scale <= 1
    assert any(entry in suite for suite in suites.SUITES.values())


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.id) for entry in suites.SUITES["subscriptions"]])
def test_subscriptions_have_their_names_and_numbers(entry: Entry) -> None:
    suite, _, name = entry.id.partition(".")

    assert suite == "subscriptions"
    assert SUBSCRIPTIONS[name] == entry.plan


def test_ids_and_numbers_are_unique() -> None:
    all_entries = [entry for suite in suites.SUITES.values() for entry in suite]
    plans = [entry.plan for entry in all_entries if entry.plan]

    assert len(suites.entries()) == len(all_entries)
    assert len(set(plans)) == len(plans)
    assert all(re.fullmatch(r"[a-z]+\.[a-z0-9-]+", entry.id) for entry in all_entries)


def test_liars_there_is_one_for_every_lie_that_the_hub_knows() -> None:
    told: set[str] = set()
    for entry in suites.SUITES["liars"]:
        trial = entry.build(1.0)
        assert isinstance(trial, Trial)
        if trial.lying.target.system == "hub":
            told |= {parse_lie(lie).name for lie in lies_of(trial.lying)}

    assert told == LIES


def test_liars_there_is_one_for_every_lie_that_the_pipeline_knows() -> None:
    trials = [entry.build(1.0) for entry in pipeline_liars.ENTRIES]

    told = [lie.partition("=")[0] for trial in trials if isinstance(trial, Trial) for lie in lies_of(trial.lying)]

    assert sorted(told) == sorted(PIPELINE_LIES)


def test_liars_there_is_one_for_every_lie_that_the_fleet_knows() -> None:
    trials = [entry.build(1.0) for entry in fleet_liars.ENTRIES]

    told = [lie.partition("=")[0] for trial in trials if isinstance(trial, Trial) for lie in lies_of(trial.lying)]

    assert sorted(told) == sorted(FLEET_LIES)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.id) for entry in suites.SUITES["liars"]])
def test_liar_and_its_twin_differ_in_the_lie_alone(entry: Entry) -> None:
    trial = entry.build(1.0)

    assert isinstance(trial, Trial)
    assert lies_of(trial.honest) == []
    assert len(lies_of(trial.lying)) == 1
    assert trial.caught
    for name in ("population", "phases", "criteria", "driver", "faults", "guarantee", "order", "warmup", "drain_limit_s"):
        assert getattr(trial.honest, name) == getattr(trial.lying, name)
    assert trial.lying.target.args[: len(trial.honest.target.args)] == trial.honest.target.args


def lies_of(scenario: Scenario) -> list[str]:
    """What the target is told to do wrong."""
    args = scenario.target.args
    return [after for word, after in itertools.pairwise(args) if word == "--lie"]


@pytest.mark.parametrize(("typo", "meant"), [("subscriptions.churm", "subscriptions.churn"), ("lairs", "liars")])
def test_find_an_unknown_name_suggests_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        suites.find(typo)
