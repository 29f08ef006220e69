"""What the harness did not do to the target: UNKNOWN with the reason, never a PASS and never the target's FAIL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from floodmark.judge.verdict import Observations, judge
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.scenario import Fault, Phase, Population, Reconnect, Scenario, Target
from floodmark.model.shortfall import Shortfall
from floodmark.model.verdict import Verdict
from floodmark.report import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.caveats import caveats
from floodmark.runner.evidence import Evidence
from floodmark.runner.gathering import record_of
from floodmark.runner.session import Session, Settings
from floodmark.runner.undone import unprovoked
from tests.runner.test_aftermath import scenario

WHY = "1 of the 2 words of the script are not recorded as done"
SHORT = Shortfall(why=WHY, count=1, stands=frozenset({"leaders_twice"}))


def seen(**statistics: float) -> Observations:
    return Observations(delivered=10, statistics=statistics, shortfall=SHORT)


@pytest.mark.parametrize("observed", [0.0, 1.0])
def test_judge_statistic_that_the_shortfall_concerns_is_unknown_with_the_reason(observed: float) -> None:
    (result,) = judge([parse("target.words_unsaid == 0")], seen(words_unsaid=observed))

    assert result.verdict is Verdict.UNKNOWN
    assert result.note == f"target.words_unsaid says nothing here: {WHY}"


@pytest.mark.parametrize(("observed", "verdict"), [(0.0, Verdict.PASS), (2.0, Verdict.FAIL)])
def test_judge_statistic_that_stands_is_judged(observed: float, verdict: Verdict) -> None:
    (result,) = judge([parse("target.leaders_twice == 0")], seen(leaders_twice=observed))

    assert result.verdict is verdict


def test_judge_without_a_shortfall_a_word_unsaid_fails() -> None:
    (result,) = judge([parse("target.words_unsaid == 0")], msgspec.structs.replace(seen(words_unsaid=1.0), shortfall=None))

    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("text", "short", "verdict"),
    [
        ("disconnects >= 1", SHORT, Verdict.UNKNOWN),
        ("disconnects >= 1", None, Verdict.FAIL),
        ("disconnects <= 1", SHORT, Verdict.FAIL),
        ("throughput >= 1/s", SHORT, Verdict.FAIL),
    ],
)
def test_unprovoked_only_what_a_missing_deed_explains_is_excused(text: str, short: Shortfall | None, verdict: Verdict) -> None:
    broken = CriterionResult(text=text, observed=0.0, verdict=Verdict.FAIL, note="it was 0")

    assert unprovoked(parse(text), broken, short).verdict is verdict


@pytest.mark.parametrize("count", [1, None])
def test_caveats_whatever_the_criteria_say_a_shortfall_is_unknown(count: int | None) -> None:
    told = Evidence()
    told.shortfall = Shortfall(why=WHY, count=count)
    asked = scenario()

    (found,) = [one for one in caveats(asked, told, record_of(asked, told, ())) if one.text == "undone == 0"]

    assert (found.verdict, found.observed, found.note) == (Verdict.UNKNOWN, count, WHY)
    told.shortfall = None
    assert not [one for one in caveats(asked, told, record_of(asked, told, ())) if one.text == "undone == 0"]


IDLE_DRIVER = """
from floodmark.drivers.graphql_ws import GraphQLDriver
from floodmark.model.shortfall import Shortfall

class Idle(GraphQLDriver):
    '''One that was to strike the target, and finds out that it did not.'''
    shortfall = None

    async def statistics(self, url):
        self.shortfall = Shortfall(why="the blow was not struck", count=1)
        return {**(await super().statistics(url) or {}), "blows": 0.0}
"""


def play(folder: Path, *, restarted: bool) -> ScenarioResult:
    """A run with the idle driver; the target may be started again meanwhile."""
    driver = folder / "idle.py"
    driver.write_text(IDLE_DRIVER)
    wanted = Scenario(
        id="undone",
        driver=f"{driver}:Idle",
        target=Target(system="hub", args=("--no-rate-limits",)),
        population=Population(connections=2, channels=1),
        phases=(Phase(arrival=Constant(rate_hz=100.0), messages=100 if restarted else 20),),
        faults=(Fault(kind="process.restart", at_s=0.3, for_s=0.2),) if restarted else (),
        reconnect=Reconnect(backoff_max_s=0.2) if restarted else None,
        criteria=(parse("lost == 0"), parse("target.blows == 1")),
        drain_limit_s=15.0,
        lag_limit_s=10.0,
    )
    run = RunFolder(folder / "run")
    run.path.mkdir()
    return asyncio.run(Session(wanted, Settings(agents=1, seed=7), run, Progress(quiet=True)).play())


def test_run_whose_driver_left_something_undone_is_unknown_with_the_reason(tmp_path: Path) -> None:
    result = play(tmp_path, restarted=False)

    told = {one.text: (one.verdict, one.note) for one in result.criteria}
    assert result.verdict is Verdict.UNKNOWN
    assert told["lost == 0"][0] is Verdict.PASS
    assert told["target.blows == 1"] == (Verdict.UNKNOWN, "target.blows says nothing here: the blow was not struck")
    assert told["undone == 0"] == (Verdict.UNKNOWN, "the blow was not struck")
    assert result.metrics["target.blows"] == 0.0


def test_run_whose_target_was_started_again_is_told_of_what_was_undone_all_the_same(tmp_path: Path) -> None:
    result = play(tmp_path, restarted=True)

    told = {one.text: (one.verdict, one.note) for one in result.criteria}
    assert result.verdict is Verdict.UNKNOWN
    assert told["lost == 0"][0] is Verdict.PASS
    assert told["undone == 0"] == (Verdict.UNKNOWN, "the blow was not struck")
    assert "target.blows" not in result.metrics  # its own figures are of the last start alone
