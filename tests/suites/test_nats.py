"""The NATS suite bites: what is planted against its scenarios fails them by the criterion that is about it; beside it they pass.

Whole runs with a real nats-server, at a small scale. What is planted is a setting under which NATS itself promises less.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from floodmark import suites
from floodmark.model.finding import Guarantee
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.session import Session, Settings

SHORT = (
    *("fan-out", "flood", "queue-groups", "large-payload", "at-least-once"),
    *("stream-flood", "exactly-once", "killed-synced", "killed-durable"),
)

PROMISED = {
    "fan-out": ("nats", Guarantee.AT_MOST_ONCE),
    "flood": ("nats", Guarantee.AT_MOST_ONCE),
    "queue-groups": ("nats", Guarantee.AT_MOST_ONCE),
    "slow-consumer": ("nats", Guarantee.AT_MOST_ONCE),
    "large-payload": ("nats", Guarantee.AT_MOST_ONCE),
    "at-least-once": ("jetstream", Guarantee.AT_LEAST_ONCE),
    "stream-flood": ("jetstream", Guarantee.EXACTLY_ONCE),
    "exactly-once": ("jetstream", Guarantee.EXACTLY_ONCE),
    "killed-synced": ("jetstream", Guarantee.EXACTLY_ONCE),
    "killed-durable": ("jetstream", Guarantee.AT_LEAST_ONCE),
    "killed-default": ("jetstream", Guarantee.EXACTLY_ONCE),
    "killed-memory": ("jetstream", Guarantee.AT_MOST_ONCE),  # a server that is killed forgets it
    "partition": ("jetstream", Guarantee.EXACTLY_ONCE),
    "memory": ("jetstream", Guarantee.AT_LEAST_ONCE),
}

TIMES = ("latency", "throughput", "recovery", "backlog", "load_time")


def built(name: str, scale: float, *args: str, drain_limit_s: float = 15.0, **options: str | int | float | bool) -> Scenario:
    """A scenario with more options for its server and its driver. How fast the machine of the tests is, nobody here judges.

    One whose server is killed plays half its time, and loses the server sooner: what its criteria count is not how much was sent.
    """
    scenario = suites.entries()[f"nats.{name}"].build(scale)
    assert isinstance(scenario, Scenario)
    target = msgspec.structs.replace(scenario.target, args=(*scenario.target.args, *args))
    if name.startswith("killed"):
        phases = tuple(msgspec.structs.replace(phase, duration_s=4.0) for phase in scenario.phases)
        faults = tuple(msgspec.structs.replace(fault, at_s=1.0) for fault in scenario.faults)
        scenario = msgspec.structs.replace(scenario, phases=phases, faults=faults)
    return msgspec.structs.replace(
        scenario,
        target=target,
        driver_options={**scenario.driver_options, **options},
        criteria=tuple(criterion for criterion in scenario.criteria if not criterion.metric.startswith(TIMES)),
        drain_limit_s=drain_limit_s,
        lag_limit_s=10.0,
    )


def play(folder: Path, scenario: Scenario) -> ScenarioResult:
    return asyncio.run(Session(scenario, Settings(agents=1, seed=7), RunFolder(folder), Progress(quiet=True)).play())


def broken(result: ScenarioResult) -> set[str]:
    return {criterion.text for criterion in result.criteria if criterion.verdict is Verdict.FAIL}


def test_guarantees_are_what_nats_promises() -> None:
    stated = {}
    for entry in suites.SUITES["nats"]:
        scenario = entry.build(1.0)
        assert isinstance(scenario, Scenario)
        stated[entry.id.removeprefix("nats.")] = (scenario.driver, scenario.guarantee)

    assert stated == PROMISED


@pytest.mark.parametrize(
    ("name", "args", "options", "criterion"),
    [
        ("at-least-once", (), {"ack_wait_s": 0.0001}, "duplicated == 0"),  # it comes again before anybody can have acknowledged it
        ("large-payload", ("--max-payload", "1MB"), {}, "delivered == 20"),
        ("queue-groups", (), {"queue_members": 0, "subject": "one.subject"}, "unexpected == 0"),
        ("killed-synced", (), {"storage": "memory"}, "lost == 0"),
        ("killed-default", ("--store", ""), {"storage": "memory"}, "lost == 0"),
    ],
)
def test_scenario_with_less_promised_fails_by_what_it_is_about(
    name: str, args: tuple[str, ...], options: dict[str, Any], criterion: str, tmp_path: Path
) -> None:
    result = play(tmp_path, built(name, 0.1, *args, drain_limit_s=1.0, **options))  # what is lost takes all the time that it is given

    assert criterion in broken(result)
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize("name", SHORT)
def test_scenario_against_an_honest_server_passes(name: str, tmp_path: Path) -> None:
    result = play(tmp_path, built(name, 0.1))

    assert broken(result) == set()
    assert result.verdict is Verdict.PASS
