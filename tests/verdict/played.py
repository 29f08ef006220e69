"""Play one small scenario against a hostile system, whole: target, agents, load, drain, account, verdict.

The load is always 100 messages over two channels, 50 each, to four connections with one subscription each: 200 deliveries, 100 per
channel. So a count in a test can be worked out by hand.
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

SERVER = Path(__file__).with_name("hostile.py")
MESSAGES = 100
DELIVERIES = 200
RATE_HZ = 2_000.0
JSON_OPTIONS: dict[str, str | int | float | bool] = {
    "subscribe": '{"op":"sub","ch":"$channel","after":"$after"}',
    "publish": '{"op":"pub","ch":"$channel","t":$token,"p":"$payload"}',
    "subscribed": '"subscribed"',
    "acknowledged": r'"ack": (\d+)',
    "refused": r'"no": (\d+)',
    "channel_key": "ch",
    "resume_key": "offset",
}
CLEAN = {"lost": 0, "duplicated": 0, "reordered": 0, "corrupted": 0, "unexpected": 0, "indeterminate": 0}


def scenario(trick: str, *criteria: str, driver: str = "websocket", **changes: object) -> Scenario:
    """The load of every test against one trick; `changes` are fields of the scenario."""
    made = Scenario(
        id=f"verdict.{trick}",
        target=Target(command=shlex.join([sys.executable, str(SERVER), trick]), ready_pattern=r"\bready (\S+)"),
        driver=driver,
        driver_options=JSON_OPTIONS if driver == "websocket" else {},
        population=Population(connections=4, channels=2, publishers=2),
        phases=(Phase(arrival=Constant(rate_hz=RATE_HZ), messages=MESSAGES),),
        criteria=tuple(parse(text) for text in criteria or ("latency_p99 < 60s",)),
        connect_limit_s=10.0,
        drain_limit_s=20.0 if trick == "Honest" else 1.5,  # an honest run ends as soon as all is there
        lag_limit_s=10.0,  # the machine may be busy; no test here speaks of the generator
    )
    return msgspec.structs.replace(made, **changes)


def play(folder: Path, wanted: Scenario, *, agents: int = 1) -> ScenarioResult:
    """Run it to its verdict."""
    session = Session(wanted, Settings(agents=agents), RunFolder(folder), Progress(quiet=True))
    return asyncio.run(session.play())


def counts(result: ScenarioResult) -> dict[str, int]:
    """The account, but for what was dropped by the harness, which must be nothing."""
    account = msgspec.structs.asdict(result.delivery)
    assert account.pop("dropped_by_us") == 0
    return account


def account(**changes: int) -> dict[str, int]:
    """The account of a flawless run, with what a trick changes in it."""
    return {"attempted": DELIVERIES, "acknowledged": DELIVERIES, "delivered": DELIVERIES, **CLEAN, **changes}


def broken(result: ScenarioResult) -> dict[str, str]:
    """The criteria that did not pass, by their text: the verdict's name."""
    return {criterion.text: criterion.verdict.value for criterion in result.criteria if criterion.verdict.value != "PASS"}


def failed(result: ScenarioResult) -> set[str]:
    """The criteria that failed."""
    return {text for text, verdict in broken(result).items() if verdict == "FAIL"}
