"""Liars between the NATS drivers and a real server: whole runs, and the ledger has each lie with its exact count, the honest twin none."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path

import pytest

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.finding import Guarantee
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.session import Session, Settings

MESSAGES, EVERY, READERS = 400, 20, 3
LIED = MESSAGES // EVERY  # messages that are lied about
ROOT = Path(__file__).parents[2]
JETSTREAM: dict[str, str | int | float | bool] = {"consumer": "ordered", "storage": "memory"}


def play(
    folder: Path, driver: str, lie: str, *, guarantee: Guarantee = Guarantee.EXACTLY_ONCE, **options: str | float | bool
) -> ScenarioResult:
    command = shlex.join([sys.executable, str(Path(__file__).with_name("nats_liar.py")), lie, str(EVERY)])
    scenario = Scenario(
        id="liar",
        target=Target(command=f"env PYTHONPATH={shlex.quote(str(ROOT))} {command}", ready_pattern=r"liar ready (\S+)"),
        driver=driver,
        driver_options={**JETSTREAM, **options} if driver == "jetstream" else {},
        population=Population(connections=READERS),
        phases=(Phase(arrival=Constant(rate_hz=1_000), messages=MESSAGES),),
        criteria=(parse("delivered > 0"),),
        guarantee=guarantee,
        drain_limit_s=15.0 if lie == "cut" else 1.0,  # a publisher that is cut twenty times takes its time
        lag_limit_s=10.0,
    )
    return asyncio.run(Session(scenario, Settings(agents=1, seed=7), RunFolder(folder), Progress(quiet=True)).play())


def anomalies(result: ScenarioResult) -> dict[str, int]:
    names = ("lost", "duplicated", "reordered", "corrupted", "unexpected")
    return {name: count for name in names if (count := getattr(result.delivery, name))}


@pytest.mark.parametrize("driver", ["nats", "jetstream"])
@pytest.mark.parametrize(
    ("lie", "found"),
    [
        ("lose", {"lost": LIED * READERS}),
        ("forget", {"lost": LIED * READERS}),
        ("duplicate", {"duplicated": LIED * READERS}),
        ("swap", {"reordered": (LIED - 1) * READERS, "lost": READERS}),  # the last one is held for a next one that never comes
        ("flip", {"corrupted": LIED * READERS}),
    ],
)
def test_liar_is_caught_with_the_exact_count(driver: str, lie: str, found: dict[str, int], tmp_path: Path) -> None:
    result = play(tmp_path, driver, lie)

    assert anomalies(result) == found
    assert result.delivery.acknowledged == MESSAGES * READERS
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize("driver", ["nats", "jetstream"])
def test_honest_twin_of_the_liars_is_not_accused(driver: str, tmp_path: Path) -> None:
    result = play(tmp_path, driver, "none")

    assert anomalies(result) == {}
    assert result.delivery.delivered == MESSAGES * READERS
    assert result.verdict is Verdict.PASS


def test_retries_with_message_ids_through_a_cut_wire_store_each_message_once(tmp_path: Path) -> None:
    result = play(tmp_path, "jetstream", "cut", retry_s=5.0)

    assert anomalies(result) == {}
    assert result.delivery.acknowledged == result.delivery.delivered == MESSAGES * READERS
    assert result.metrics["unanswered"] == 0
    assert result.verdict is Verdict.PASS


def test_retries_without_message_ids_through_a_cut_wire_are_caught_as_duplicates(tmp_path: Path) -> None:
    result = play(tmp_path, "jetstream", "cut", retry_s=5.0, message_ids=False)

    assert result.delivery.duplicated >= LIED * READERS
    assert result.delivery.lost == 0
    assert result.verdict is Verdict.FAIL


def test_no_retries_through_a_cut_wire_leave_what_nobody_answered_open(tmp_path: Path) -> None:
    result = play(tmp_path, "jetstream", "cut")

    assert anomalies(result) == {}
    assert result.metrics["unanswered"] > 0  # it was stored and delivered, which nobody told the publisher
    assert result.delivery.acknowledged < result.delivery.delivered
    assert result.delivery.dropped_by_us > 0  # nobody was left to send the rest


def test_loss_under_at_most_once_is_counted_and_no_violation(tmp_path: Path) -> None:
    result = play(tmp_path, "nats", "lose", guarantee=Guarantee.AT_MOST_ONCE)

    assert result.delivery.lost == LIED * READERS
    assert not any(finding.violation for finding in result.findings)
