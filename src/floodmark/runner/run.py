"""Run several scenarios one after another and keep the run folder up to date after each.

Every scenario is checked before the first one starts, so that a mistake in the last is told at once. An interrupt ends the scenario that is
running, keeps what was measured, and leaves the others out.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path

import msgspec

from floodmark import __version__
from floodmark.core.errors import HarnessBugError
from floodmark.judge.verdict import Observations
from floodmark.model.read import checked
from floodmark.model.result import RunResult, ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.trial import Trial
from floodmark.model.verdict import Verdict, worst
from floodmark.report import Machine, RunFolder, fingerprint, write_reports
from floodmark.report.display import Display, Planned
from floodmark.runner.doctor import require_space, require_writable
from floodmark.runner.session import Session, Settings
from floodmark.runner.trial import verdict_on_trial

REPORT_PAUSE_S = 0.002
SPACE_BYTES = 64 * 1024 * 1024


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how: `name` goes into the folder's name, `command` is what a person types to run the same again."""

    name: str
    items: tuple[Scenario | Trial, ...]
    settings: Settings
    scale: float
    out: Path
    command: str


class Run:
    """One run. `folder` is there once the scenarios have been found fit."""

    def __init__(self, order: Order, display: Display) -> None:
        self._order = order
        self._display = display
        self._results: list[ScenarioResult] = []
        self._twins: dict[bytes, ScenarioResult] = {}
        self._started = datetime.now().astimezone()
        self._started_s = time.monotonic()
        self._took_s = 0.0
        self._machine: Machine = fingerprint()
        self._interrupted = False
        for scenario in self._scenarios():
            self._session(checked(scenario), None).check_feasible()
        require_writable(order.out)
        require_space(order.out, SPACE_BYTES)
        self.folder = RunFolder.create(order.out, order.name, self._started)

    async def play(self) -> RunResult:
        """Run everything; returns also when interrupted, with what there is.

        Raises: UsageError, HarnessBugError; the run folder then holds the scenarios before.
        """
        self._display.opened(
            self.folder.path, [_planned(item) for item in self._order.items], seed=self._order.settings.seed, command=self._order.command
        )
        for item in self._order.items:
            try:
                result = await (self._try(item) if isinstance(item, Trial) else self._play(item))
            except asyncio.CancelledError:
                self._interrupted = True
                self._keep()
                break
            except HarnessBugError:
                self._keep()
                raise
            self._results.append(result)
            self._display.done(result)
            self._keep()
        await self._report()
        return self.result()

    async def _report(self) -> None:
        """Write the reports; an interrupt meanwhile still finds them whole, and they say so."""
        try:
            write_reports(self.folder)
            await asyncio.sleep(REPORT_PAUSE_S)  # reports are made without a pause; what was asked of us meanwhile is heard here
        except asyncio.CancelledError:
            self._interrupted = True
            self._keep()
            write_reports(self.folder)

    def result(self) -> RunResult:
        """The result so far."""
        verdicts = [result.verdict for result in self._results]
        if self._interrupted:
            verdicts.append(Verdict.UNKNOWN)
        return RunResult(
            version=__version__,
            seed=self._order.settings.seed,
            scale=min((result.scale for result in self._results), default=self._order.scale),
            verdict=worst(verdicts),
            run=str(self.folder.path),
            scenarios=tuple(self._results),
            interrupted=self._interrupted,
            duration_s=self._took_s,
        )

    def _scenarios(self) -> list[Scenario]:
        return [scenario for item in self._order.items for scenario in ((item.honest, item.lying) if isinstance(item, Trial) else (item,))]

    def _session(self, scenario: Scenario, folder: RunFolder | None) -> Session:
        return Session(scenario, self._order.settings, folder, self._display)

    async def _play(self, scenario: Scenario) -> ScenarioResult:
        result, _ = await self._watched(scenario)
        return result

    async def _watched(self, scenario: Scenario) -> tuple[ScenarioResult, Observations]:
        """Play one scenario; also gives the figures behind its result."""
        session = self._session(scenario, self.folder)
        try:
            return await session.play(), session.observed
        except asyncio.CancelledError:
            partial = session.partial()
            self._results.append(partial)
            self._display.done(partial)
            raise

    async def _try(self, trial: Trial) -> ScenarioResult:
        """Run the honest twin, unless the same one has run already, then the liar."""
        key = msgspec.msgpack.encode(msgspec.structs.replace(trial.honest, id="twin", title=""))
        honest = self._twins.get(key)
        if honest is None:
            honest = self._twins[key] = await self._play(trial.honest)
        lying, observed = await self._watched(trial.lying)
        return verdict_on_trial(trial.id, trial.title, honest=honest, lying=lying, observed=observed, caught=trial.caught)

    def _keep(self) -> None:
        self._took_s = time.monotonic() - self._started_s
        self.folder.write_result(self.result(), self._scenarios(), self._machine, command=self._order.command, started=self._started)


def _planned(item: Scenario | Trial) -> Planned:
    """What a display is told of an item beforehand."""
    if isinstance(item, Trial):
        return Planned(id=item.id, title=item.title, parts=(item.honest.id, item.lying.id))
    lengths = [phase.duration_s for phase in item.phases]
    known = [length for length in lengths if length is not None]
    return Planned(id=item.id, title=item.title, load_s=sum(known) if len(known) == len(lengths) else None)
