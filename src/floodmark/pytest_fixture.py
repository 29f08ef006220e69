"""What a test gets from the fixture `floodmark`: play a scenario, hold the result to a verdict, fail the test otherwise.

Contract: nothing but the expected verdict of a whole run lets a test go on; half a result, or one that its exit code does not agree with,
is none. Each run is `floodmark run` in a process of its own (`own_process.py`), which has ended when the call returns or raises, be it by
Ctrl-C or a test's timeout, and at the latest when the test has. Not here: pytest's options (`pytest_plugin.py`), and what a failing test
says (`pytest_words.py`). Limit: `arun` needs asyncio.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from floodmark import pytest_words
from floodmark.core.errors import UsageError
from floodmark.model.read import checked, to_toml
from floodmark.model.result import RunResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict
from floodmark.own_process import Ended, OwnProcess
from floodmark.pytest_plugin import Options

INTERRUPTED = 130
NAME_LIMIT = 150


class Floodmark:
    """What a test gets. Every run of one test has its run folder in `out`."""

    def __init__(self, options: Options, out: Path, node: pytest.Item) -> None:
        self.out = out
        self._options = options
        self._node = node
        self._results_count = 0
        self._going: list[OwnProcess] = []

    def run(
        self,
        what: str | os.PathLike[str] | Scenario,
        *,
        target: str | None = None,
        driver: str | None = None,
        scale: float = 1.0,
        seed: int | None = None,
        agents: int | None = None,
        expect: Verdict | str = "PASS",
        judge: bool = True,
    ) -> RunResult:
        """Play a scenario, or all of a suite or file, and hold it to a verdict.

        Args:
            what: a scenario's id, a suite, the path of a .toml or .py file (from the current directory), or a Scenario.
            target, driver, agents: as those of `floodmark run`, for all of its scenarios.
            scale: multiplies the sizes of the plan; --floodmark-scale multiplies it once more.
            seed: instead of the session's.
            expect: the verdict without which the test fails: "FAIL" for a test that a broken system is caught.
            judge: False leaves it to the caller to look at the result, or to hand it to `check`; `expect` is not looked at.
        Returns: the result, as `floodmark run --json` prints it.
        """
        __tracebackhide__ = True
        expected = _verdict(expect)
        if _on_a_loop():
            _fail("run would hold up the event loop that this test runs on, and all that is served there; write: await floodmark.arun(...)")
        with self._process(self._words(what, target, driver, scale, seed, agents)) as own:
            ended = own.wait()
        return self._result(ended, expected if judge else None)

    async def arun(
        self,
        what: str | os.PathLike[str] | Scenario,
        *,
        target: str | None = None,
        driver: str | None = None,
        scale: float = 1.0,
        seed: int | None = None,
        agents: int | None = None,
        expect: Verdict | str = "PASS",
        judge: bool = True,
    ) -> RunResult:
        """Do what `run` does while the event loop goes on; cancelled, it ends the run first. For asyncio, uvloop too."""
        __tracebackhide__ = True
        expected = _verdict(expect)
        if not _on_a_loop():
            _fail("arun needs a running asyncio event loop, and there is none here; in a test that is no coroutine use floodmark.run(...)")
        with self._process(self._words(what, target, driver, scale, seed, agents)) as own:
            ended = await own.wait_beside()
        return self._result(ended, expected if judge else None)

    def check(self, result: RunResult, *, expect: Verdict | str = "PASS") -> None:
        """Fail the test unless this is the verdict of a whole run: one that was interrupted comes up to no expectation."""
        __tracebackhide__ = True
        expected = _verdict(expect)
        if result.verdict is expected and not result.interrupted:
            return
        if result.verdict is Verdict.UNKNOWN and self._options.skips_unknown and not result.interrupted:
            pytest.skip(f"floodmark: UNKNOWN: {pytest_words.why_unknown(result)}; run folder {result.run}")
        pytest.fail(pytest_words.told(result, expected, again=self._again(result.seed)))

    def end(self) -> None:
        """End what still runs, as when a task was left behind that awaits `arun`."""
        for own in self._going:
            own.end()

    def _process(self, words: Sequence[str]) -> OwnProcess:
        __tracebackhide__ = True
        if any("\0" in word for word in words):
            _fail("a word that is handed to a program cannot hold a NUL character; leave it out")
        own = OwnProcess(words, lambda text: sys.stderr.write(text))  # looked up each time, since pytest exchanges it
        self._going.append(own)
        return own

    def _words(
        self,
        what: str | os.PathLike[str] | Scenario,
        target: str | None,
        driver: str | None,
        scale: float,
        seed: int | None,
        agents: int | None,
    ) -> list[str]:
        """The command line of a run."""
        __tracebackhide__ = True
        for name, value in (("target", target), ("driver", driver)):
            if value is not None and not isinstance(value, str):
                _fail(f"{name} must be text, as after --{name} of floodmark run, got {value!r}")
        for name, number in (("seed", seed), ("agents", agents)):
            if number is not None and type(number) is not int:
                _fail(f"{name} must be a whole number, got {number!r}")
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale * self._options.scale < math.inf:
            _fail(f"scale must be a number greater than 0, got {scale!r}")
        given = {
            "--target": target,
            "--driver": driver,
            "--scale": repr(float(scale * self._options.scale)),
            "--seed": str(self._options.seed if seed is None else seed),
            "--agents": None if agents is None else str(agents),
            "--out": str(self.out),
        }
        return ["run", self._named(what), *(f"{name}={value}" for name, value in given.items() if value is not None), "--json", "--plain"]

    def _named(self, what: str | os.PathLike[str] | Scenario) -> str:
        """What the command line calls it; a Scenario is written down first, beside its run folder."""
        __tracebackhide__ = True
        if isinstance(what, str | os.PathLike):
            name = os.fspath(what)
            if not isinstance(name, str) or name.startswith("-"):
                _fail(f"{name!r} is neither a scenario's id nor a suite nor a file; a file is given as ./NAME when its name begins with -")
            return name
        try:
            scenario = checked(what)
        except UsageError as exc:
            _fail(f"{exc}{'' if hasattr(what, 'phases') else '; or the id of one, or the path of a file'}")
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            path = _written(to_toml(scenario), self.out, slug(scenario.id))
        except OSError as exc:
            _fail(f"cannot write into {self.out}: {exc.strerror}; choose another place with --floodmark-out")
        return str(path)

    def _result(self, ended: Ended, expected: Verdict | None) -> RunResult:
        """Read what a run came to. INVARIANT: no result without both the document and the exit code of its verdict."""
        __tracebackhide__ = True
        try:
            result = msgspec.json.decode(ended.stdout, type=RunResult)
        except msgspec.DecodeError:
            _fail(pytest_words.without_result(ended))
        if ended.code not in (result.verdict.exit_code, INTERRUPTED):
            _fail(f"the run says {result.verdict.value} and ended with exit code {ended.code}, so there is no verdict; see {result.run}")
        self._results_count += 1
        self._node.user_properties += pytest_words.properties(result, self._results_count)
        if expected is not None:
            self.check(result, expect=expected)
        return result

    def _again(self, seed: int) -> str:
        scale = f" --floodmark-scale {self._options.scale:g}" if self._options.scale != 1 else ""
        quoted = self._node.nodeid.replace("'", "'\\''")  # a parameter may have one, and brackets are the shell's
        return f"pytest '{quoted}' --floodmark-seed {seed}{scale}"


def slug(name: str) -> str:
    """A name for a file or folder; one that is too long for that is cut, which may make it that of another."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:NAME_LIMIT] or "test"


def _verdict(expect: Verdict | str) -> Verdict:
    __tracebackhide__ = True
    try:
        return Verdict(expect)
    except ValueError:
        _fail(f'expect must be a Verdict or one of "PASS", "FAIL" and "UNKNOWN", got {expect!r}')


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _written(text: str, folder: Path, name: str) -> Path:
    """Write a file that nobody else has: a test of the same short name, on another worker, must not play the scenario of this one."""
    for number in itertools.count(1):
        path = folder / f"{name}{f'-{number}' if number > 1 else ''}.toml"
        with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(text)
            break
    return path


def _fail(sentence: str) -> NoReturn:
    __tracebackhide__ = True
    raise pytest.fail.Exception(f"floodmark: {sentence}") from None  # what it was found out by is of no use to whoever reads it
