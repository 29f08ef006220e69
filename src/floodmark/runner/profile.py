"""Profile the target while a scenario is played: py-spy looks at it from outside (cpu), or memray runs it (memory).

Contract: `require` refuses before anything is started what cannot be profiled; `words` may change the command that starts the target;
`begin` and `end` stand around the load and the drain; `close` comes when the target has ended, ends what runs, and keeps a `Profile` in the
run folder, also one that only says why there is none. `marked` takes from the verdict what a profiled target cannot prove:

    cpu       sampling stops the target for a moment, a hundred times a second. A broken criterion about times or rates is UNKNOWN, since
              the profiler alone could have broken it; what holds in spite of it holds.
    memory    every allocation is recorded, so times, rates and memory are those of another program: UNKNOWN, broken or not.

What was delivered, lost or duplicated stands in both. Limits: Python targets that floodmark starts; of a target that a fault starts again,
the cpu profile ends with the first of its processes. The memory profile does not look into processes that the target executes.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import IO

import msgspec
import psutil

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.core.units import Dimension
from floodmark.model import criterion
from floodmark.model.metrics import Metric
from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict, worst
from floodmark.report import figures
from floodmark.report.folder import RunFolder
from floodmark.report.profiled import Profile, spots_of_allocations, spots_of_flame_graph
from floodmark.runner.python import find_py_spy, has_memray, python_of, require_python, why_not_py_spy
from floodmark.runner.start import own_death

RATE_HZ = 100
ATTACH_LIMIT_S = 15.0
WRITE_LIMIT_S = 60.0
ANALYSE_LIMIT_S = 300.0
_POLL_S = 0.02
_ENDING_FAULTS = ("process.kill", "process.terminate", "process.restart")
_TIMES = (Dimension.TIME, Dimension.RATE)
_BY_RATE = ("degraded",)  # a count, but one that is worked out from rates
_BY_PROFILER = ("fds_peak", "threads_peak")


class Profiler:
    """No profile at all, and the steps that every profiler has."""

    kind = ""

    def require(self) -> None:
        """Refuse what cannot be profiled. Raises: UsageError."""

    def words(self, words: list[str]) -> list[str]:
        """The command that starts the target under this profiler."""
        return words

    async def begin(self, pid: int | None) -> None:
        """The load is about to start; `pid` is the target's root."""

    def end(self) -> None:
        """The drain is over. Does not wait for anything, since what is measured goes on."""

    async def close(self) -> None:
        """The target has ended, whatever happened. Leaves nothing running, also when cancelled."""

    def marked(self, result: ScenarioResult) -> ScenarioResult:
        """The result, less what a profiled target cannot prove."""
        return result


def profiler(kind: str | None, scenario: Scenario, folder: RunFolder | None) -> Profiler:
    """The profiler of that kind for one scenario; None profiles nothing."""
    if kind is None:
        return Profiler()
    return KINDS[kind](scenario, folder)


class _Kept(Profiler):
    """What both have in common: a scenario, a place in its run folder, and a result that says that it was profiled."""

    tool = ""

    def __init__(self, scenario: Scenario, folder: RunFolder | None) -> None:
        self._scenario = scenario
        self._folder = folder
        self._cost = ""

    def _place(self, ending: str) -> Path:
        if self._folder is None:
            raise HarnessBugError("a scenario that is to be profiled needs a run folder")
        return self._folder.profile_path(self._scenario.id, ending)

    def _keep(self, **found: object) -> None:
        """Keep the profile; what was found says `total` and `spots`, or the `trouble` that left none."""
        assert self._folder is not None
        tool = f"{self.tool} {metadata.version(self.tool)}"
        profile = Profile(scenario=self._scenario.id, kind=self.kind, tool=tool, cost=self._cost)
        self._folder.add_profile(msgspec.structs.replace(profile, **found))

    def _said(self) -> str:
        return f"profiled ({self.kind}, {self.tool}): its figures are those of a target under a profiler, see optimization_targets.md"

    def marked(self, result: ScenarioResult) -> ScenarioResult:
        criteria = tuple(self._marked(one) for one in result.criteria)
        verdict = worst(one.verdict for one in criteria)
        if result.verdict is Verdict.UNKNOWN and verdict is Verdict.PASS:
            verdict = Verdict.UNKNOWN
        note = "; ".join(text for text in (result.note, self._said()) if text)
        return msgspec.structs.replace(result, criteria=criteria, verdict=verdict, note=note)

    def _marked(self, one: CriterionResult) -> CriterionResult:
        if one.verdict is Verdict.UNKNOWN or not self._spoils(one):
            return one
        why = f"measured on a target under {self.tool}, so it says nothing about the target alone"
        return msgspec.structs.replace(one, verdict=Verdict.UNKNOWN, note=f"{one.note}; {why}" if one.note else why)

    def _spoils(self, one: CriterionResult) -> bool:
        raise NotImplementedError


class CpuProfile(_Kept):
    """py-spy, as a process of its own beside the target."""

    kind, tool = "cpu", "py-spy"

    def __init__(self, scenario: Scenario, folder: RunFolder | None) -> None:
        super().__init__(scenario, folder)
        self._process: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] | None = None
        self._begun_s = self._ended_s = 0.0
        self._trouble = ""

    def require(self) -> None:
        require_python(self._scenario, self.kind)
        why = why_not_py_spy()
        if why:
            raise UsageError(f"--profile cpu: {why}")

    async def begin(self, pid: int | None) -> None:
        assert pid is not None  # `require` wants a target that floodmark starts
        program = find_py_spy()
        assert program is not None
        self._log = self._place("cpu.log").open("wb")
        picture = self._place("cpu.svg")
        options = ["--rate", str(RATE_HZ), "--subprocesses", "--format", "flamegraph", "--output", str(picture)]
        self._process = await asyncio.create_subprocess_exec(
            *(str(program), "record", "--pid", str(pid), *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            preexec_fn=own_death,
        )
        until_s = time.monotonic() + ATTACH_LIMIT_S
        while b"Sampling process" not in self._place("cpu.log").read_bytes():
            if self._process.returncode is not None or time.monotonic() > until_s:
                self._trouble = f"py-spy could not look into the target: {self._last_words()}"
                return
            await asyncio.sleep(_POLL_S)
        self._begun_s = time.monotonic()

    def end(self) -> None:
        process = self._process
        if process is None or self._ended_s:
            return
        self._ended_s = time.monotonic()
        try:
            seen = psutil.Process(process.pid)
            used = seen.cpu_times()
            took_s, held_bytes = used.user + used.system, seen.memory_info().rss
            self._cost = (
                f"py-spy stopped the target {RATE_HZ} times a second, for {figures.time_s(self._ended_s - self._begun_s)}; it took "
                f"{figures.time_s(took_s)} of processor time, which is counted as floodmark's own, and {figures.size(held_bytes)}"
            )
        except psutil.Error:
            self._cost = f"py-spy stopped the target {RATE_HZ} times a second, until the process that it looked into had ended"
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)

    async def close(self) -> None:
        process = self._process
        if process is None:
            return
        try:
            self.end()
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_LIMIT_S):
                    await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if self._log is not None:
                self._log.close()
        self._read()

    def _read(self) -> None:
        """Turn the flame graph into a profile."""
        picture = self._place("cpu.svg")
        try:
            total, spots = spots_of_flame_graph(picture.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            self._keep(trouble=self._trouble or f"py-spy left {exc if isinstance(exc, ValueError) else 'no picture'}: {self._last_words()}")
            return
        files = (f"{picture.parent.name}/{picture.name}",)
        self._keep(total=total, spots=spots, files=files, seconds=self._ended_s - self._begun_s)

    def _last_words(self) -> str:
        lines = self._place("cpu.log").read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1][:300] if said else "it said nothing"

    def _spoils(self, one: CriterionResult) -> bool:
        metric = metric_of(one)
        return one.verdict is Verdict.FAIL and metric is not None and (metric.dimension in _TIMES or metric.name in _BY_RATE)


class MemoryProfile(_Kept):
    """memray, which runs the target's program and records what it allocates."""

    kind, tool = "memory", "memray"

    def __init__(self, scenario: Scenario, folder: RunFolder | None) -> None:
        super().__init__(scenario, folder)
        self._python = ""

    def require(self) -> None:
        ending = [fault.kind for fault in self._scenario.faults if fault.kind in _ENDING_FAULTS]
        if ending:
            raise UsageError(f"--profile memory: scenario {self._scenario.id!r} ends its target by {ending[0]!r}, and memray ends with it")
        python, *_ = require_python(self._scenario, self.kind)
        if not has_memray(python):
            raise UsageError(f"--profile memory: {python} has no memray, which has to run the target; install memray there")

    def words(self, words: list[str]) -> list[str]:
        parts = python_of(words)
        assert parts is not None
        self._python, flags, program = parts
        return [self._python, *flags, "-m", "memray", "run", "--quiet", "--force", "--output", str(self._place("memory.bin")), *program]

    async def close(self) -> None:
        record = self._place("memory.bin")
        if not self._python or not record.exists():
            self._keep(trouble="memray left no record: the target was never started or could not be recorded")
            return
        try:
            await self._analyse(record)
        finally:
            record.unlink(missing_ok=True)  # large, and of use to this version of memray only

    async def _analyse(self, record: Path) -> None:
        took = figures.size(record.stat().st_size)  # noqa: ASYNC240  # one look at one file, when nothing is measured any more
        self._cost = f"memray recorded every allocation from within the target ({took} on disk), so its times and memory are not its own"
        picture, table = self._place("memory.html"), self._place("memory.csv")
        said = await self._memray("transform", "--force", "--output", str(table), "csv", str(record))
        if not said:
            said = await self._memray("flamegraph", "--force", "--no-web", "--output", str(picture), str(record))
        try:
            total, spots = spots_of_allocations(table.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            self._keep(trouble=f"memray's record could not be read: {said or exc}")
            return
        finally:
            table.unlink(missing_ok=True)
        files = (f"{picture.parent.name}/{picture.name}",) if picture.exists() else ()
        self._keep(total=total, spots=spots, files=files, trouble=f"there is no flame graph: {said}" if said else "")

    async def _memray(self, *words: str) -> str:
        """Run one of memray's reports; returns its last words when it failed."""
        process = await asyncio.create_subprocess_exec(
            *(self._python, "-m", "memray", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=own_death,
        )
        said = b""
        try:
            async with asyncio.timeout(ANALYSE_LIMIT_S):
                _, said = await process.communicate()
        except TimeoutError:
            said = f"it took longer than {ANALYSE_LIMIT_S:g} s".encode()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return "" if process.returncode == 0 else (lines[-1][:300] if lines else f"it ended with {process.returncode}")

    def _spoils(self, one: CriterionResult) -> bool:
        metric = metric_of(one)
        if metric is None:
            return False
        spoilt = (*_TIMES, Dimension.BYTES, Dimension.FACTOR)
        return metric.dimension in spoilt or metric.name in (*_BY_RATE, *_BY_PROFILER)


KINDS: dict[str, type[_Kept]] = {"cpu": CpuProfile, "memory": MemoryProfile}


def metric_of(one: CriterionResult) -> Metric | None:
    """What a criterion is about; None for a caveat in words."""
    try:
        return criterion.parse(one.text).known
    except UsageError:
        return None
