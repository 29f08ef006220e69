"""The pytest plugin: PASS passes and nothing else does; what a failing test says; options; and that no run outlives its test.

Whole runs are played by a pytest of their own (pytester), as a user would; how a result becomes a failure is tried with made results,
printed by a small program in floodmark's place.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree as ET

import msgspec
import psutil
import pytest

from floodmark import own_process, pytest_plugin
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.finding import Anomaly, Finding
from floodmark.model.result import CriterionResult, Delivery, RunResult, ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario
from floodmark.model.verdict import Verdict
from floodmark.pytest_plugin import Floodmark, Options
from tests.runner.played import MARK, holders

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/test_hub.py"
GUIDE = (ROOT / "docs/pytest.md").read_text(encoding="utf-8")
NOBODY = "ws://127.0.0.1:1/"  # port 1: nothing listens there
#: Loaded by its name where it is installed as a plugin: given twice, pytest would refuse it.
INSTALLED = any(entry.value == "floodmark.pytest_plugin" for entry in importlib.metadata.entry_points(group="pytest11"))
LOAD = () if INSTALLED else ("-p", "floodmark.pytest_plugin")
Failed = pytest.fail.Exception
Skipped = pytest.skip.Exception


@pytest.fixture
def user(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run pytest as a user does, on what stands in `pytester.path`; nothing that was started by it is left afterwards."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(*arguments: str) -> pytest.RunResult:
        result = pytester.runpytest_subprocess(*LOAD, "-p", "no:cacheprovider", *arguments, timeout=100)
        assert holders(mark) == []
        return result

    return run


# -- whole runs ------------------------------------------------------------------------------------------------------------------------


def test_example_played_by_pytest_passes_and_leaves_run_folders_and_properties(
    pytester: pytest.Pytester, user: Callable[..., pytest.RunResult]
) -> None:
    shutil.copy(EXAMPLE, pytester.path)

    result = user("--floodmark-seed=7", "--floodmark-out=kept", "--junitxml=junit.xml")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["floodmark *: seed 7, runs in *kept"])
    honest, lying = ET.parse(pytester.path / "junit.xml").iter("testcase")
    figures, lost = ({one.get("name"): one.get("value") for one in case.iter("property")} for case in (honest, lying))
    assert (figures["floodmark.verdict"], figures["floodmark.hub.rooms.delivered"], figures["floodmark.seed"]) == ("PASS", "1000", "7")
    assert int(figures["floodmark.hub.rooms.response_p99_ns"] or 0) > 0
    assert (lost["floodmark.verdict"], lost["floodmark.hub.rooms.lost"]) == ("FAIL", "10")
    folder = Path(figures["floodmark.run"] or "")
    assert folder.parent.name == "test_hub.py-test_rooms_under_load_everybody_gets_everything"
    assert json.loads((folder / "run.json").read_bytes())["seed"] == 7
    assert (folder / "report.html").is_file()


def test_runs_that_do_not_pass_fail_their_tests_with_figures_on_xdist_too(
    pytester: pytest.Pytester, user: Callable[..., pytest.RunResult]
) -> None:
    shutil.copy(EXAMPLE, pytester.path / "hub.py")
    (pytester.path / "empty.toml").write_text(
        'id = "empty"\ncriteria = []\npopulation = { connections = 1 }\nphases = [{ messages = 1 }]\n'
    )
    pytester.makepyfile(f"""
        import msgspec
        from hub import LYING_HUB, ROOMS

        def test_lie(floodmark):
            floodmark.run(msgspec.structs.replace(ROOMS, target=LYING_HUB))

        def test_nobody(floodmark):
            floodmark.run(ROOMS, target="{NOBODY}")

        def test_mistake(floodmark):
            floodmark.run("empty.toml")
    """)

    result = user("-n1", "--floodmark-seed=7", "--show-capture=no")

    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines_random(
        [
            ">*floodmark.run(msgspec.structs.replace(ROOMS, target=LYING_HUB))",
            "E *floodmark: FAIL, not PASS: lost == 0: lost was 10, wanted == 0",
            "E *1 lost: acknowledged * next expected * missing *",
            "E *run folder     /*test_lie0/floodmark/*-hub.rooms",
            "E *run it again   pytest '*.py::test_lie' --floodmark-seed 7",
            f"E *floodmark: UNKNOWN, not PASS: {NOBODY} refuses connections: nothing listens there",
            "E *so there is no evidence for: lost == 0, *latency_p99 < 5s*",
            "E *floodmark: empty.toml: * no criteria, so it could never pass; add at least one",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")  # no frame of ours


def test_timeout_in_a_run_under_load_leaves_nothing_running(pytester: pytest.Pytester, user: Callable[..., pytest.RunResult]) -> None:
    shutil.copy(EXAMPLE, pytester.path / "hub.py")
    pytester.makepyfile("""
        import msgspec, os, pathlib, signal, threading, time
        import pytest
        from floodmark.model.arrival import Constant
        from floodmark.model.scenario import Phase
        from hub import ROOMS

        LONG = msgspec.structs.replace(ROOMS, phases=(Phase(arrival=Constant(rate_hz=100.0), duration_s=60.0),))

        def let_time_be_over(folder):
            until_s = time.monotonic() + 30
            while time.monotonic() < until_s and "steady" not in "".join(path.read_text() for path in folder.rglob("live.jsonl")):
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGALRM)  # as pytest-timeout's timer would

        @pytest.mark.timeout(60, method="signal")
        def test_long(floodmark):
            waiting = threading.Thread(target=let_time_be_over, args=(floodmark.out,))
            waiting.start()
            try:
                floodmark.run(LONG)
            finally:
                waiting.join()
    """)

    result = user()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*floodmark.run(LONG)", "E *Timeout*60*s*", "*interrupted in the phase 'steady'*"])
    result.stdout.no_fnmatch_line("*own_process.py*")


# -- pytest itself ---------------------------------------------------------------------------------------------------------------------


def test_plugin_that_is_not_used_loads_nothing_of_floodmark(pytester: pytest.Pytester, user: Callable[..., pytest.RunResult]) -> None:
    pytester.makeini("[pytest]\naddopts = --strict-markers -W error\nfloodmark_scale = 0.5\nfloodmark_out = kept\n")
    pytester.makepyfile("""
        import sys

        def test_plain():
            loaded = {name for name in sys.modules if name.partition(".")[0] == "floodmark"}
            assert loaded == {"floodmark", "floodmark.pytest_plugin"}
            assert not {"msgspec", "numpy", "polars", "rich", "typer"} & set(sys.modules)

        def test_stress(floodmark):
            raise AssertionError("left out by its mark, which it has by itself")
    """)

    result = user("-m", "not floodmark", "-p", "no:randomly")

    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines([f"floodmark *, scale 0.5, runs in {pytester.path}/kept"])


def test_option_that_cannot_be_ends_pytest_with_one_sentence(user: Callable[..., pytest.RunResult]) -> None:
    result = user("--co", "--floodmark-seed=-1")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == ["ERROR: --floodmark-seed must be a whole number between 0 and 2^63 - 1, got '-1'"]


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e400", "much", ""])
def test_scale_that_is_no_number_above_0_is_refused(text: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"--floodmark-scale must be a number greater than 0, got {text!r}"):
        pytest_plugin._scale(text)


@pytest.mark.parametrize("text", ["pass", "SKIP", ""])
def test_fate_of_unknown_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"--floodmark-unknown must be fail or skip, got {text!r}"):
        pytest_plugin._unknown(text)


# -- the guide -------------------------------------------------------------------------------------------------------------------------


def test_guide_shows_the_example_as_it_is_played_here() -> None:
    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```\n" in GUIDE


def test_guide_names_every_option_and_no_other() -> None:
    parser = pytest.Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    (group,) = [group for group in parser._groups if group.name == "floodmark"]

    options = {name for option in group.options for name in option.names()}

    assert set(re.findall(r"--floodmark-[a-z]+", GUIDE)) == options
    assert set(re.findall(r"`(floodmark_[a-z]+)`", GUIDE)) == set(parser._inidict)


# -- how a result is judged ------------------------------------------------------------------------------------------------------------

FINDING = Finding(
    anomaly=Anomaly.LOST, subscription=3, channel=0, publisher=0, count=2, first_seq=7, last_seq=10, violation=True, detail="missing 7, 10"
)


def made(verdict: Verdict, **changes: Any) -> RunResult:
    """The result of a run of one scenario."""
    note = "nobody was there" if verdict is Verdict.UNKNOWN else ""
    said = {Verdict.PASS: "", Verdict.FAIL: "lost was 2, wanted == 0", Verdict.UNKNOWN: f"lost was not observed: {note}"}[verdict]
    seen = {Verdict.PASS: 0.0, Verdict.FAIL: 2.0, Verdict.UNKNOWN: None}[verdict]
    scenario = ScenarioResult(
        id="made",
        plan="",
        verdict=verdict,
        scale=1.0,
        duration_s=1.0,
        criteria=(CriterionResult(text="lost == 0", observed=seen, verdict=verdict, note=said),),
        delivery=Delivery(attempted=20, delivered=18, lost=int(seen or 0)),
        findings=(FINDING,) * 7 if seen else (),
        note=note,
    )
    return msgspec.structs.replace(
        RunResult(version="0", seed=7, scale=1.0, verdict=verdict, run="runs/made", scenarios=(scenario,)), **changes
    )


def example(connections: int) -> Scenario:
    """A scenario that is never played."""
    return Scenario(
        id="example",
        population=Population(connections=connections),
        phases=(Phase(arrival=Constant(rate_hz=1.0), messages=1),),
        criteria=(parse("lost == 0"),),
    )


class Prints:
    """Puts a program in floodmark's place that prints this and ends so; `words` are what it was called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._words = folder / "words.json"

    def __call__(self, stdout: bytes | RunResult, code: int = 0, stderr: str = "") -> None:
        content = stdout if isinstance(stdout, bytes) else msgspec.json.encode(stdout)
        program = (
            f"import json, pathlib, sys; pathlib.Path({str(self._words)!r}).write_text(json.dumps(sys.argv[1:]))\n"
            f"sys.stdout.buffer.write({content!r}); sys.stderr.write({stderr!r}); sys.exit({code})"
        )
        self._monkeypatch.setattr(own_process, "CODE", program)

    @property
    def words(self) -> list[str]:
        words: list[str] = json.loads(self._words.read_text())
        return words


@pytest.fixture
def prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Prints:
    return Prints(monkeypatch, tmp_path)


def stress(folder: Path, **options: Any) -> Floodmark:
    """What the fixture gives, for a test of that name."""
    node = SimpleNamespace(nodeid="tests/test_it.py::test_it", user_properties=[])
    given = Options(scale=options.get("scale", 1.0), seed=7, out=None, skips_unknown=options.get("skips_unknown", False))
    return Floodmark(given, folder, cast("pytest.Item", node))


@pytest.mark.parametrize("expect", list(Verdict))
@pytest.mark.parametrize("came", list(Verdict))
def test_check_lets_nothing_through_but_the_expected_verdict(tmp_path: Path, came: Verdict, expect: Verdict) -> None:
    judge = stress(tmp_path)

    if came is expect:
        judge.check(made(came), expect=expect.value)
    else:
        with pytest.raises(Failed, match=rf"^floodmark: {came.value}, not {expect.value}: "):
            judge.check(made(came), expect=expect)


@pytest.mark.parametrize("came", list(Verdict))
def test_check_of_an_interrupted_run_fails_whatever_was_expected(tmp_path: Path, came: Verdict) -> None:
    judge = stress(tmp_path, skips_unknown=True)

    with pytest.raises(Failed, match="and interrupted, not"):
        judge.check(made(came, interrupted=True), expect=came)


@pytest.mark.parametrize(("came", "outcome"), [(Verdict.UNKNOWN, Skipped), (Verdict.FAIL, Failed)])
def test_check_when_unknown_is_to_be_skipped_skips_that_alone(tmp_path: Path, came: Verdict, outcome: type[BaseException]) -> None:
    judge = stress(tmp_path, skips_unknown=True)

    with pytest.raises(outcome) as caught:
        judge.check(made(came))

    if came is Verdict.UNKNOWN:
        assert str(caught.value) == "floodmark: UNKNOWN: nobody was there; run folder runs/made"


def test_check_of_a_run_without_scenarios_is_no_pass(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="No scenario ran, so nothing is proved"):
        stress(tmp_path).check(made(Verdict.UNKNOWN, scenarios=()))


def test_check_that_fails_says_what_broke_where_it_lies_and_how_to_see_it_again(tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        stress(tmp_path, scale=0.5).check(made(Verdict.FAIL))

    assert str(caught.value).splitlines() == [
        "floodmark: FAIL, not PASS: lost == 0: lost was 2, wanted == 0",
        "  FAIL made",
        "    FAIL lost == 0: lost was 2, wanted == 0",
        *["    2 lost: missing 7, 10"] * 5,
        "    and 2 more in findings.jsonl",
        "  run folder     runs/made",
        "  run it again   pytest 'tests/test_it.py::test_it' --floodmark-seed 7 --floodmark-scale 0.5",
    ]


@pytest.mark.parametrize(
    ("stdout", "code", "stderr", "said"),
    [
        (b"", 0, "", "the run ended with exit code 0 before it had a result; it said nothing"),
        (b'{"verdict": "PASS"}', 0, "", "the run ended with exit code 0 before it had a result"),
        (made(Verdict.PASS), 11, "", "the run says PASS and ended with exit code 11, so there is no verdict"),
        (made(Verdict.PASS), 1, "Traceback", "the run says PASS and ended with exit code 1"),
        (b"", 2, "floodmark: no such scenario\n", "floodmark: no such scenario$"),
        (b"", 70, "Traceback\nfloodmark: this is a bug in floodmark\n", "floodmark: this is a bug in floodmark$"),
        (b"", 1, "Traceback\nImportError: no x\n", "exit code 1 before it had a result; its last words: ImportError: no x"),
    ],
)
def test_run_without_a_whole_result_is_no_pass(tmp_path: Path, prints: Prints, stdout: bytes, code: int, stderr: str, said: str) -> None:
    prints(stdout, code, stderr)

    with pytest.raises(Failed, match=said):
        stress(tmp_path).run("a.toml", judge=False)


def test_run_that_is_not_to_be_judged_gives_its_result(tmp_path: Path, prints: Prints) -> None:
    prints(made(Verdict.FAIL), 10)

    result = stress(tmp_path).run("a.toml", judge=False)

    assert result == made(Verdict.FAIL)


def test_run_multiplies_scales_and_takes_the_seed_of_the_session(tmp_path: Path, prints: Prints) -> None:
    prints(made(Verdict.PASS))

    stress(tmp_path, scale=0.5).run("a.toml", scale=0.1, target="node a.js", agents=2)

    assert prints.words[:2] == ["run", "a.toml"]
    assert set(prints.words[2:]) == {
        *("--target=node a.js", "--scale=0.05", "--seed=7", "--agents=2", f"--out={tmp_path}", "--json", "--plain"),
    }


def test_run_of_a_second_scenario_of_one_name_keeps_the_file_of_the_first(tmp_path: Path, prints: Prints) -> None:
    prints(made(Verdict.PASS))
    judge = stress(tmp_path)
    node = judge._node

    for connections in (2, 3):
        judge.run(example(connections))

    written = sorted(path.read_text() for path in tmp_path.glob("example*.toml"))
    assert ["connections = 2" in text for text in written] == [True, False]
    names = [name for name, _ in node.user_properties]
    assert {"floodmark.made.lost", "floodmark.2.made.lost"} <= set(names)
    assert len(set(names)) == len(names)


MISTAKES: list[tuple[object, dict[str, Any], str]] = [
    ("--help", {}, "'--help' is neither a scenario's id nor a suite nor a file"),
    (3, {}, "a Scenario is needed, got int; or the id of one, or the path of a file"),
    (msgspec.structs.replace(example(2), population=3), {}, "scenario 'example': population must be a table"),
    ("a", {"expect": "pass"}, 'expect must be a Verdict or one of "PASS", "FAIL" and "UNKNOWN", got \'pass\''),
    ("a", {"scale": 0}, "scale must be a number greater than 0, got 0"),
    ("a", {"agents": "2"}, "agents must be a whole number, got '2'"),
    ("a", {"seed": True}, "seed must be a whole number, got True"),
    ("a", {"target": b"x"}, "target must be text, as after --target of floodmark run, got b'x'"),
    ("a\0b", {}, "cannot hold a NUL character"),
]


@pytest.mark.parametrize(("what", "given", "said"), MISTAKES)
def test_run_asked_for_what_cannot_be_is_one_sentence(tmp_path: Path, prints: Prints, what: Any, given: dict[str, Any], said: str) -> None:
    prints(made(Verdict.PASS))

    with pytest.raises(Failed) as caught:
        stress(tmp_path).run(what, **given)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_run_on_a_running_loop_says_what_to_write_and_arun_does_it(tmp_path: Path, prints: Prints) -> None:
    prints(made(Verdict.FAIL), 10)
    judge = stress(tmp_path)

    async def main() -> RunResult:
        with pytest.raises(Failed, match=r"write: await floodmark\.arun\(\.\.\.\)$"):
            judge.run("a.toml")
        with pytest.raises(Failed, match="FAIL, not PASS"):
            await judge.arun("a.toml")
        return await judge.arun("a.toml", expect=Verdict.FAIL)

    assert asyncio.run(main()).verdict is Verdict.FAIL


def test_arun_without_a_loop_says_what_to_write(tmp_path: Path) -> None:
    waiting = stress(tmp_path).arun("a.toml")

    with pytest.raises(Failed, match=r"arun needs a running asyncio event loop.* use floodmark\.run"):
        waiting.send(None)


def test_run_that_was_killed_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "CODE", "import os; os.kill(os.getpid(), 9)")

    with pytest.raises(Failed, match="the run was killed by signal 9 before it had a result; it said nothing"):
        stress(tmp_path).run("a.toml", judge=False)


def test_run_that_a_test_leaves_behind_is_ended_with_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "CODE", "import time; time.sleep(60)")
    judge = stress(tmp_path)
    waiting = judge.arun("a.toml")

    async def main() -> None:
        waiting.send(None)  # begun, and nobody will ever go on with it

    asyncio.run(main())
    judge.end()

    assert psutil.Process().children() == []
    waiting.close()
