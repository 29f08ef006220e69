"""What the tests of lost connections share: a small load on the embedded hub or a server of theirs, played whole, with real processes."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.finding import Guarantee
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Fault, Phase, Population, Reconnect, Scenario, Target
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.session import Session, Settings

DURABLE = Path(__file__).with_name("durable.py")
RATE_HZ = 300.0
CONNECTIONS = 8
PUBLISHERS = 2
HUB = Target(system="hub", args=("--no-rate-limits", "--history", "10000"))
RESUMING = Reconnect(resume=True, backoff_s=0.02, backoff_max_s=0.1, limit_s=8.0)
PLAIN = msgspec.structs.replace(RESUMING, resume=False)


def durable(folder: Path, *words: str) -> Target:
    """A server that keeps acknowledged events on disk, or says so."""
    folder.mkdir(exist_ok=True)
    return Target(command=shlex.join([sys.executable, str(DURABLE), str(folder), *words]), ready_pattern=r"\bready (\S+)")


def scenario(
    *faults: Fault,
    target: Target = HUB,
    reconnect: Reconnect | None = RESUMING,
    criteria: Sequence[str] = ("recovered_ratio == 100%",),
    guarantee: Guarantee = Guarantee.EXACTLY_ONCE,
    load_s: float = 0.8,
    drain_limit_s: float = 15.0,
) -> Scenario:
    """Two channels, two publishers, eight subscribers."""
    return Scenario(
        id="lost",
        target=target,
        population=Population(connections=CONNECTIONS, channels=2, publishers=PUBLISHERS),
        phases=(Phase(arrival=Constant(rate_hz=RATE_HZ), duration_s=load_s),),
        faults=faults,
        reconnect=reconnect,
        criteria=tuple(parse(text) for text in criteria),
        guarantee=guarantee,
        connect_limit_s=8.0,
        drain_limit_s=drain_limit_s,
        lag_limit_s=10.0,  # the machine may be busy; no test here speaks of the generator
    )


def play(folder: Path, wanted: Scenario, *, seed: int = 1, agents: int = 1) -> ScenarioResult:
    """Run it to its verdict."""
    return asyncio.run(session(folder, wanted, seed=seed, agents=agents).play())


def session(folder: Path, wanted: Scenario, *, seed: int = 1, agents: int = 1) -> Session:
    """Make it ready to be played."""
    return Session(wanted, Settings(agents=agents, seed=seed), RunFolder(folder), Progress(quiet=True))


def broken(result: ScenarioResult) -> dict[str, str]:
    """The criteria that did not pass, by their text: the verdict's name."""
    return {criterion.text: criterion.verdict.value for criterion in result.criteria if criterion.verdict.value != "PASS"}


def log(folder: Path) -> str:
    """The target's log."""
    return (folder / "logs" / "lost.log").read_text()
