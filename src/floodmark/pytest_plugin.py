"""Stress tests in pytest: the fixture `floodmark` plays a scenario and fails the test unless the verdict is the one that was expected.

    def test_chat_loses_nothing(floodmark):
        floodmark.run("chat.toml", scale=0.1)

Contract: a test passes on PASS alone. FAIL, UNKNOWN, an interrupt and a mistake in a scenario each fail it, with what was observed, where
the run folder is and how to run it again. Each run is `floodmark run` in a process of its own (`own_process.py`), which has ended when the
call returns or raises, be it by Ctrl-C or a test's timeout, and at the latest when the test has.

pytest loads this in every run of whoever has floodmark installed: so at its top it imports nothing of floodmark, and what a run needs is
imported when one is asked for. Limit: `arun` needs asyncio.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from floodmark import __version__

if TYPE_CHECKING:
    from floodmark.model.result import RunResult
    from floodmark.model.scenario import Scenario
    from floodmark.model.verdict import Verdict
    from floodmark.own_process import Ended, OwnProcess

INTERRUPTED = 130
SEED_LIMIT = 2**63
_MARK = "floodmark: a stress test; every test that asks for the fixture `floodmark` has this mark by itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on pytest's command line or in its configuration file. `out` is None for the test's own `tmp_path`."""

    scale: float
    seed: int
    out: Path | None
    skips_unknown: bool


_OPTIONS = pytest.StashKey[Options]()


# -- options ---------------------------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Each option can be written into the configuration file too, as `floodmark_scale` and so on."""
    group = parser.getgroup("floodmark", "stress tests")
    for name, metavar, text in (
        ("scale", "F", "multiplies the scale of every run"),
        ("seed", "N", "fixes every random choice; a new one for each session unless given, told in the header"),
        ("out", "DIR", "where run folders go, a folder for each test; the test's tmp_path unless given"),
        ("unknown", "fail|skip", "what an UNKNOWN verdict does to a test: no evidence is no pass, so fail unless given"),
    ):
        group.addoption(f"--floodmark-{name}", metavar=metavar, help=f"floodmark: {text}")
        parser.addini(f"floodmark_{name}", f"floodmark: {text}", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, once, so that a mistake in them is told before the first test."""
    config.addinivalue_line("markers", _MARK)
    config.stash[_OPTIONS] = Options(
        scale=_scale(_asked(config, "scale") or "1"),
        seed=_seed(config, _asked(config, "seed")),
        out=_out(config),
        skips_unknown=_unknown(_asked(config, "unknown") or "fail") == "skip",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """pytest-xdist: all workers play with the one seed that the header tells."""
    node.workerinput["floodmark_seed"] = node.config.stash[_OPTIONS].seed  # type: ignore[attr-defined]


def pytest_report_header(config: pytest.Config) -> str:
    """Say what it takes to play the same runs again."""
    options = config.stash[_OPTIONS]
    scale = f", scale {options.scale:g}" if options.scale != 1 else ""
    return f"floodmark {__version__}: seed {options.seed}{scale}{f', runs in {options.out}' if options.out else ''}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark stress tests, so that `-m 'not floodmark'` leaves them out."""
    if "floodmark" in getattr(item, "fixturenames", ()):
        item.add_marker("floodmark")


def _asked(config: pytest.Config, name: str) -> str:
    given = config.getoption(f"floodmark_{name}")
    return str(config.getini(f"floodmark_{name}") if given is None else given).strip()


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale < math.inf:
        raise pytest.UsageError(f"--floodmark-scale must be a number greater than 0, got {text!r}")
    return scale


def _seed(config: pytest.Config, text: str) -> int:
    chosen = getattr(config, "workerinput", {}).get("floodmark_seed")
    if chosen is not None:
        return int(chosen)
    if not text:
        return int.from_bytes(os.urandom(4), "big") >> 1
    if not (text.isascii() and text.isdecimal() and int(text) < SEED_LIMIT):
        raise pytest.UsageError(f"--floodmark-seed must be a whole number between 0 and 2^63 - 1, got {text!r}")
    return int(text)


def _out(config: pytest.Config) -> Path | None:
    """From the command line it starts where pytest was started, from a configuration file where that file is."""
    text = _asked(config, "out")
    beside = config.inipath if config.getoption("floodmark_out") is None else None
    return ((beside.parent if beside is not None else config.invocation_params.dir) / text) if text else None


def _unknown(text: str) -> str:
    if text not in ("fail", "skip"):
        raise pytest.UsageError(f"--floodmark-unknown must be fail or skip, got {text!r}")
    return text


# -- the fixture -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="floodmark")
def floodmark_fixture(request: pytest.FixtureRequest) -> Iterator[Floodmark]:
    """Play scenarios and judge them: `floodmark.run(...)`, and in an async test `await floodmark.arun(...)`."""
    node: pytest.Item = request.node
    options = request.config.stash[_OPTIONS]
    if options.out is None:
        out: Path = request.getfixturevalue("tmp_path") / "floodmark"
    else:
        out = options.out / _slug(node.nodeid)
    played = Floodmark(options, out, node)
    yield played
    played.end()


class Floodmark:
    """What a test gets. Every run of one test has its run folder in `out`."""

    def __init__(self, options: Options, out: Path, node: pytest.Item) -> None:
        self.out = out
        self._options = options
        self._node = node
        self._runs_count = 0
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
        from floodmark import pytest_words

        if result.verdict.value == "UNKNOWN" and self._options.skips_unknown and not result.interrupted:
            pytest.skip(f"floodmark: UNKNOWN: {pytest_words.why_unknown(result)}; run folder {result.run}")
        pytest.fail(pytest_words.told(result, expected, again=self._again(result.seed)))

    def end(self) -> None:
        """End what still runs, as when a task was left behind that awaits `arun`."""
        for own in self._going:
            own.end()

    def _process(self, words: Sequence[str]) -> OwnProcess:
        from floodmark.own_process import OwnProcess

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
        self._runs_count += 1
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
        from floodmark.core.errors import UsageError
        from floodmark.model.read import checked, to_toml

        try:
            scenario = checked(what)
        except UsageError as exc:
            _fail(f"{exc}{'' if hasattr(what, 'phases') else '; or the id of one, or the path of a file'}")
        number = f"-{self._runs_count}" if self._runs_count > 1 else ""
        path = self.out / f"{_slug(scenario.id)}{number}.toml"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_toml(scenario), encoding="utf-8")
        except OSError as exc:
            _fail(f"cannot write {path}: {exc.strerror}; choose another place with --floodmark-out")
        return str(path)

    def _result(self, ended: Ended, expected: Verdict | None) -> RunResult:
        """Read what a run came to. INVARIANT: no result without both the document and the exit code of its verdict."""
        import msgspec

        from floodmark import pytest_words
        from floodmark.model.result import RunResult

        __tracebackhide__ = True
        try:
            result = msgspec.json.decode(ended.stdout, type=RunResult)
        except msgspec.DecodeError:
            _fail(pytest_words.without_result(ended))
        if ended.code not in (result.verdict.exit_code, INTERRUPTED):
            _fail(f"the run says {result.verdict.value} and ended with exit code {ended.code}, so there is no verdict; see {result.run}")
        self._node.user_properties += pytest_words.properties(result, self._runs_count)
        if expected is not None:
            self.check(result, expect=expected)
        return result

    def _again(self, seed: int) -> str:
        scale = f" --floodmark-scale {self._options.scale:g}" if self._options.scale != 1 else ""
        return f"pytest '{self._node.nodeid}' --floodmark-seed {seed}{scale}"


# -- checks --------------------------------------------------------------------------------------------------------------------------------


def _verdict(expect: Verdict | str) -> Verdict:
    from floodmark.model.verdict import Verdict

    __tracebackhide__ = True
    try:
        return Verdict(expect)
    except ValueError:
        _fail(f'expect must be a Verdict or one of "PASS", "FAIL" and "UNKNOWN", got {expect!r}')


def _on_a_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "test"


def _fail(sentence: str) -> NoReturn:
    __tracebackhide__ = True
    raise pytest.fail.Exception(f"floodmark: {sentence}") from None  # what it was found out by is of no use to whoever reads it
