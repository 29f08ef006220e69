"""What fails in a load agent where nobody awaits it ends the run as UNKNOWN, and never accuses the target."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from floodmark.core.errors import SystemUnderTestError
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.model.verdict import Verdict
from floodmark.report import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.agent.unheard import Unheard
from floodmark.runner.session import Session, Settings
from floodmark.runner.wire import Message, Trouble


class Breaking(asyncio.Protocol):
    """A protocol whose code fails at the first bytes."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        raise KeyError("planted")

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()


async def in_a_protocol() -> None:
    """Let bytes come to it."""
    near, far = socket.socketpair()
    with far:
        _, breaking = await asyncio.get_running_loop().create_connection(Breaking, sock=near)
        far.send(b"x")
        await breaking.gone.wait()


async def in_a_callback() -> None:
    """Twice, of which the first is told."""

    def fail() -> None:
        raise KeyError("planted")

    for _ in range(2):
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def forgotten(error: Exception) -> Callable[[], object]:
    """A task that fails and that nobody looks at."""

    async def fail() -> None:
        raise error

    async def forget() -> None:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        gc.collect()

    return forget


def heard(job: Callable[[], object]) -> list[str]:
    """What the runner is told of it."""
    told: list[Message] = []

    async def play() -> None:
        asyncio.get_running_loop().set_exception_handler(Unheard(told.append))
        async with asyncio.timeout(10):
            await job()  # type: ignore[misc]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())
    assert all(isinstance(one, Trouble) and one.kind == "target" for one in told)
    return [one.text for one in told if isinstance(one, Trouble)]


@pytest.mark.parametrize(
    ("job", "place"), [(in_a_protocol, "data_received"), (in_a_callback, "fail"), (forgotten(KeyError("planted")), "fail")]
)
def test_failure_that_nobody_awaits_is_told_once_with_its_place(
    job: Callable[[], object], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "asyncio"):
        (text,) = heard(job)

    assert text.startswith(f"a load agent failed where nobody awaits it: KeyError: 'planted' (in {place}, test_unheard.py:")
    assert "planted" in caplog.text  # whole, in the agent's log


@pytest.mark.parametrize("error", [ConnectionResetError("the network"), SystemUnderTestError("refused, when nobody asked any more")])
def test_failure_of_the_network_or_the_target_is_no_failure_of_the_agent(error: Exception) -> None:
    assert heard(forgotten(error)) == []


OWN_DRIVER = """
import asyncio
from floodmark.drivers.graphql_ws import GraphQLDriver

class Broken(GraphQLDriver):
    '''One that loses the target's answers by a mistake of its own.'''

    async def connect(self, url, channel, sink, **options):
        made = await super().connect(url, channel, sink, **options)
        if {broken}:
            asyncio.get_running_loop().call_later(0.2, self.mistake)
        return made

    def mistake(self):
        raise KeyError("planted")
"""


def played(folder: Path, *, broken: bool) -> ScenarioResult:
    """A load on an honest hub by a driver of one's own."""
    driver = folder / f"own_{broken}.py"
    driver.write_text(OWN_DRIVER.format(broken=broken))
    wanted = Scenario(
        id="own",
        driver=f"{driver}:Broken",
        target=Target(system="hub", args=("--no-rate-limits",)),
        population=Population(connections=2, channels=1),
        phases=(Phase(arrival=Constant(rate_hz=100.0), duration_s=0.5),),
        criteria=(parse("lost == 0"),),
        lag_limit_s=10.0,
    )
    (folder / "run").mkdir()
    return asyncio.run(Session(wanted, Settings(agents=1, seed=7), RunFolder(folder / "run"), Progress(quiet=True)).play())


def test_run_with_a_driver_that_fails_unheard_is_unknown_with_the_reason(tmp_path: Path) -> None:
    result = played(tmp_path, broken=True)

    assert result.verdict is Verdict.UNKNOWN
    assert "a load agent failed where nobody awaits it: KeyError: 'planted' (in mistake, own_True.py:" in result.note


def test_run_with_its_honest_twin_passes(tmp_path: Path) -> None:
    result = played(tmp_path, broken=False)

    assert result.verdict is Verdict.PASS, result.note
