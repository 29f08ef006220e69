"""Play one small scenario whose streams are answers, whole: four channels on two connections, two requests each, 50 tokens an answer.

So there are 8 requests and 400 tokens, and a count in a test can be worked out by hand.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path

import msgspec

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.session import Session, Settings

SERVER = Path(__file__).with_name("asking_server.py")
DRIVER = f"{Path(__file__).with_name('asking_driver.py')}:AskingLines"
REQUESTS, TOKENS = 8, 50
ALL = REQUESTS * TOKENS
CLEAN = {"lost": 0, "duplicated": 0, "reordered": 0, "corrupted": 0, "unexpected": 0, "indeterminate": 0, "dropped_by_us": 0}


def scenario(server: str = "", *criteria: str, options: dict[str, str | int | float | bool] | None = None, **changes: object) -> Scenario:
    """The load of every test; `server` are the words that plant a fault, `changes` fields of the scenario."""
    made = Scenario(
        id="asked",
        target=Target(command=shlex.join([sys.executable, str(SERVER), *server.split()]), ready_pattern=r"\bready (\S+)"),
        driver=DRIVER,
        driver_options={"tokens": str(TOKENS), **(options or {})},
        population=Population(connections=2, subscriptions_per_connection=2, channels=4),
        phases=(Phase(arrival=Constant(rate_hz=100.0), messages=REQUESTS),),
        criteria=tuple(parse(text) for text in criteria or ("ttft_p99 < 60s",)),
        connect_limit_s=10.0,
        drain_limit_s=1.5 if server else 20.0,  # an honest run ends as soon as all is there
        lag_limit_s=10.0,  # the machine may be busy; no test here speaks of the generator
    )
    return msgspec.structs.replace(made, **changes)


def play(folder: Path, wanted: Scenario, *, agents: int = 1) -> ScenarioResult:
    """Run it to its verdict."""
    folder.mkdir(exist_ok=True)
    session = Session(wanted, Settings(agents=agents), RunFolder(folder), Progress(quiet=True))
    return asyncio.run(session.play())


def account(result: ScenarioResult) -> dict[str, int]:
    """The account as a dict."""
    return dict(msgspec.structs.asdict(result.delivery))


def expected(**changes: int) -> dict[str, int]:
    """The account of a flawless run, with what a fault changes in it."""
    return {"attempted": ALL, "acknowledged": ALL, "delivered": ALL, **CLEAN, **changes}


def broken(result: ScenarioResult) -> dict[str, str]:
    """The criteria that did not pass, by their text: the verdict's name."""
    return {criterion.text: criterion.verdict.value for criterion in result.criteria if criterion.verdict.value != "PASS"}
