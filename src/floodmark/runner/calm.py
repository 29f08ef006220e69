"""Wait until a target that is not ours to start again has got over the trial before: a URL, between two trials.

Its processes may be on another machine, so it is asked in its own protocol: a few messages to one subscriber, which take about as long as
they did before the first trial once the backlog is gone. A target that answers nobody, before anything was done to it, gets a pause.
Not here: any verdict. What is measured stays in a temporary folder.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.scenario import Phase, Population, Scenario
from floodmark.model.verdict import Verdict
from floodmark.report.display import Displays
from floodmark.report.folder import RunFolder
from floodmark.runner.session import Session, Settings

LIMIT_S = 30.0
PAUSE_S = 2.0
FACTOR = 2.0
ROOM_NS = 10_000_000


class Calm:
    """The state of rest of one target, as a probe sees it. `first` before the first trial, `wait` before each further one."""

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        self._probe = msgspec.structs.replace(
            scenario,
            id=f"{scenario.id}@rest",
            population=Population(connections=1),
            phases=(Phase(name="rest", arrival=Constant(rate_hz=20), payload_bytes=scenario.phases[0].payload_bytes, messages=10),),
            faults=(),
            reconnect=None,
            second_load=False,
            criteria=(parse("delivered > 0"),),
        )
        self._settings = msgspec.structs.replace(settings, agents=1, profile=None)
        self._rest_ns: int | None = None

    async def first(self) -> None:
        """Measure the target at rest; once more where that fails: a moment in which we were late ourselves must not be all there is."""
        self._rest_ns = await self._look()
        if self._rest_ns is None:
            self._rest_ns = await self._look()

    async def wait(self) -> bool:
        """Wait until it is at rest again, for `LIMIT_S` at most; returns False where it was seen not to be."""
        if self._rest_ns is None:
            await asyncio.sleep(PAUSE_S)
            return True
        wanted_ns = max(self._rest_ns * FACTOR, self._rest_ns + ROOM_NS)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + LIMIT_S
        while loop.time() < until_s:
            seen_ns = await self._look()
            if seen_ns is not None and seen_ns <= wanted_ns:
                return True
        return False

    async def _look(self) -> int | None:
        """The median response of a few messages, nanoseconds; None when they did not all come."""
        with tempfile.TemporaryDirectory(prefix="floodmark-rest-") as place:
            result = await Session(self._probe, self._settings, RunFolder(Path(place)), Displays()).play()
        return result.latency_ns.response.p50 if result.verdict is Verdict.PASS else None
