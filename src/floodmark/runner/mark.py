"""Play the trials of a search for the mark: one scenario again and again, with another value each time, in one run folder.

Each trial is a whole run of the scenario: a target started anew, ledger, verdict. A target given by URL is used as it is, once it has
calmed down (`runner/calm.py`). The folder, `mark.json` in it too, is brought up to date after each trial; an interrupt ends the one that is
running, keeps what was measured, and the mark is as far as the search had come.
Not here: which value is next (`judge/mark.py`), and what a trial has found (`judge/mark_trial.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import msgspec

from floodmark import __version__
from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.judge.mark import Search, next_value
from floodmark.judge.mark_trial import trial_of, with_carried
from floodmark.judge.mark_words import conclude
from floodmark.model.mark import Mark, MarkTrial, Outcome, amount
from floodmark.model.read import checked
from floodmark.model.result import RunResult, ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.vary import Vary, varied
from floodmark.report import Machine, RunFolder, fingerprint, write_reports
from floodmark.report.display import Display
from floodmark.runner.calm import Calm
from floodmark.runner.doctor import require_space, require_writable
from floodmark.runner.run import REPORT_PAUSE_S
from floodmark.runner.session import Session, Settings

FILE = "mark.json"
SPACE_BYTES = 64 * 1024 * 1024
GOES_ON = "the search was still going on"


class MarkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to search and how: `name` goes into the folder's name, `command` is what a person types to search the same again.

    No trial begins that would end after `limit_s`, as far as the longest one before it tells; one that goes on that long is ended.
    """

    name: str
    scenario: Scenario
    vary: Vary
    search: Search
    settings: Settings
    limit_s: float
    out: Path
    command: str


class MarkRun:
    """One search. `folder` is there once both ends of the range have been found fit."""

    def __init__(self, order: MarkOrder, display: Display) -> None:
        self._order = order
        self._display = display
        self._trials: list[MarkTrial] = []
        self._results: list[ScenarioResult] = []
        self._played: list[Scenario] = []
        self._times: Counter[float] = Counter()
        self._started = datetime.now().astimezone()
        self._started_s = time.monotonic()
        self._took_s = self._longest_s = 0.0
        self._machine: Machine = fingerprint()
        self._stopped = ""
        self._interrupted = False
        for value in (order.search.lo, order.search.hi):
            try:
                self._session(checked(varied(order.scenario, order.vary, value)), None).check_feasible()
            except UsageError as error:
                raise UsageError(f"--vary {order.vary.name}={value:.12g}: {error}") from None
        url = order.scenario.target.command is None and order.scenario.target.system is None
        self._calm = Calm(order.scenario, order.settings) if url else None
        require_writable(order.out)
        require_space(order.out, SPACE_BYTES)
        self.folder = RunFolder.create(order.out, order.name, self._started)

    async def play(self) -> RunResult:
        """Search; returns also when interrupted, with what there is.

        Raises: UsageError, HarnessBugError; the run folder then holds the trials before.
        """
        self._display.opened(self.folder.path, [], seed=self._order.settings.seed, command=self._order.command)
        try:
            await self._search()
        except asyncio.CancelledError:
            self._interrupted = True
            self._stopped = "interrupted"
        except HarnessBugError:
            self._keep(GOES_ON)
            raise
        self._keep(self._stopped)
        await self._report()
        return self.result()

    async def _report(self) -> None:
        """Write the reports; an interrupt meanwhile still finds them whole, and they say so."""
        try:
            write_reports(self.folder)
            await asyncio.sleep(REPORT_PAUSE_S)  # what was asked of us meanwhile is heard here
        except asyncio.CancelledError:
            self._interrupted = True
            self._keep(self._stopped)
            write_reports(self.folder)

    def result(self) -> RunResult:
        """The result so far."""
        mark = self.mark(self._stopped)
        return RunResult(
            version=__version__,
            seed=self._order.settings.seed,
            scale=self._order.scenario.scale,
            verdict=mark.verdict,
            run=str(self.folder.path),
            scenarios=tuple(self._results),
            interrupted=self._interrupted,
            duration_s=self._took_s,
            mark=mark,
        )

    def mark(self, stopped: str) -> Mark:
        """The mark as the trials so far have it. Args: stopped: what ended the search before its time."""
        vary = self._order.vary
        return conclude(self._order.search, self._trials, vary=vary.name, unit=vary.unit, stopped=stopped)

    async def _search(self) -> None:
        if self._calm is not None:
            await self._calm.first()
        while (value := next_value(self._order.search, self._trials)) is not None:
            rested = await self._calm.wait() if self._calm is not None and self._trials else True
            begun_s = time.monotonic()
            left_s = self._started_s + self._order.limit_s - begun_s
            if self._longest_s > left_s:
                self._stopped = f"another trial would have gone beyond the limit of {self._order.limit_s:g} s"
                return
            try:
                async with asyncio.timeout(left_s) as limit:
                    await self._try(value, rested=rested)
            except TimeoutError:
                if not limit.expired():
                    raise
                self._stopped = f"the limit of {self._order.limit_s:g} s ended a trial, which counts for nothing"
                return
            self._longest_s = max(self._longest_s, time.monotonic() - begun_s)
            self._keep(GOES_ON)

    async def _try(self, value: float, *, rested: bool) -> None:
        """Play one trial; an interrupted one is kept, and counts for nothing. A target that was not `rested` may have broken before it."""
        order = self._order
        self._times[value] += 1
        title = f"{order.scenario.title or order.scenario.id}, {order.vary.name} {amount(value, order.vary.unit)}"
        scenario = msgspec.structs.replace(
            varied(order.scenario, order.vary, value), id=order.vary.id(order.scenario, value, self._times[value]), title=title
        )
        self._played.append(scenario)
        session = self._session(checked(scenario), self.folder)
        try:
            result = with_carried(scenario, await session.play())
        except asyncio.CancelledError:
            partial = session.partial()
            self._results.append(partial)
            self._display.done(partial)
            raise
        self._results.append(result)
        trial = trial_of(value, result)
        if trial.outcome is Outcome.BROKE and not rested:
            why = f"the target had not come to rest after the trial before, so this says nothing of this value: {trial.by}"
            trial = msgspec.structs.replace(trial, outcome=Outcome.UNKNOWN, by="", why=why)
        self._trials.append(trial)
        self._display.done(result)

    def _session(self, scenario: Scenario, folder: RunFolder | None) -> Session:
        return Session(scenario, self._order.settings, folder, self._display)

    def _keep(self, stopped: str) -> None:
        self._took_s = time.monotonic() - self._started_s
        mark = self.mark(stopped)
        result = msgspec.structs.replace(self.result(), mark=mark, verdict=mark.verdict)
        self.folder.write_result(result, self._played, self._machine, command=self._order.command, started=self._started)
        self.folder.write_text(FILE, msgspec.json.format(msgspec.json.encode(mark), indent=2).decode() + "\n")
