"""What a driver makes on a target is gone after the run, with several agents and after a run that was broken off; what is not is a note."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from floodmark.drivers.jetstream import JetStreamDriver
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner import plan
from floodmark.runner.session import Session, Settings
from floodmark.runner.tidy import tidy
from tests.drivers.nats_server import serving
from tests.drivers.test_jetstream import asked


def scenario(url: str, **options: str | int | float | bool) -> Scenario:
    return Scenario(
        id="tidy",
        target=Target(url=url),
        driver="jetstream",
        driver_options=options,
        population=Population(connections=4, channels=2, publishers=2),
        phases=(Phase(arrival=Constant(rate_hz=200), messages=40),),
        criteria=(parse("lost == 0"), parse("delivered == 80")),
    )


def play(folder: Path, wanted: Scenario, *, agents: int = 2) -> ScenarioResult:
    folder.mkdir(exist_ok=True)
    return asyncio.run(Session(wanted, Settings(agents=agents, seed=7), RunFolder(folder), Progress(quiet=True)).play())


def streams(url: str) -> list[str]:
    """The streams that the server has."""
    return asyncio.run(asked(url, "STREAM.NAMES"))["streams"] or []


def test_run_of_two_agents_leaves_no_stream_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    with serving() as url:
        result = play(tmp_path / "one", scenario(url))
        left = streams(url)
        kept = play(tmp_path / "two", scenario(url, keep=True))
        left_on_purpose = streams(url)

    assert (result.verdict, result.note, left) == (Verdict.PASS, "", [])
    assert kept.verdict is Verdict.PASS
    assert len(left_on_purpose) == 1


def test_stream_that_cannot_be_removed_is_a_note_and_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(driver: JetStreamDriver, url: str, channels: list[str]) -> None:
        raise TimeoutError

    monkeypatch.setattr(JetStreamDriver, "tidy", refuse)
    with serving() as url:
        result = play(tmp_path, scenario(url))

    assert result.verdict is Verdict.PASS
    assert result.note == "what the run made on the target was not removed: not within 10 s"


def test_tidy_of_a_driver_that_makes_nothing_does_nothing() -> None:
    wanted = Scenario(
        id="none",
        target=Target(url="nats://127.0.0.1:1"),
        driver="nats",
        population=Population(connections=1),
        phases=(Phase(messages=1),),
        criteria=(parse("lost == 0"),),
    )

    assert asyncio.run(tidy(wanted, "nats://127.0.0.1:1", plan.channel_names(1, wanted.population))) == ""


def test_tidy_where_nobody_listens_any_more_is_a_note_in_words() -> None:
    wanted = scenario("nats://127.0.0.1:1")

    note = asyncio.run(tidy(wanted, "nats://127.0.0.1:1", ["fm1.0"]))

    assert note.startswith("what the run made on the target was not removed: nats://127.0.0.1:1 refuses connections")
