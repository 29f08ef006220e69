"""The fixture's judgement: made results and halves of them, printed by a small program in floodmark's place; and what it takes for a run.

Whole runs are in test_pytest_plugin.py.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import psutil
import pytest

from floodmark import own_process
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.finding import Anomaly, Finding
from floodmark.model.result import CriterionResult, Delivery, RunResult, ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario
from floodmark.model.verdict import Verdict
from floodmark.pytest_fixture import Floodmark
from floodmark.pytest_plugin import Options

Failed = pytest.fail.Exception
Skipped = pytest.skip.Exception
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
    node = SimpleNamespace(nodeid=options.get("nodeid", "tests/test_it.py::test_it"), user_properties=[])
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

    with pytest.raises((Failed, Skipped), match="and interrupted, not") as caught:
        judge.check(made(came, interrupted=True), expect=came)

    assert caught.type is Failed


@pytest.mark.parametrize(("came", "outcome"), [(Verdict.UNKNOWN, Skipped), (Verdict.FAIL, Failed)])
def test_check_when_unknown_is_to_be_skipped_skips_that_alone(tmp_path: Path, came: Verdict, outcome: type[BaseException]) -> None:
    judge = stress(tmp_path, skips_unknown=True)

    with pytest.raises((Failed, Skipped)) as caught:
        judge.check(made(came))

    assert caught.type is outcome
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


def test_check_of_a_test_whose_name_has_a_quote_says_what_a_shell_takes_for_one_word(tmp_path: Path) -> None:
    nodeid = "tests/test_it.py::test_it[it's $HOME]"

    with pytest.raises(Failed) as caught:
        stress(tmp_path, nodeid=nodeid).check(made(Verdict.FAIL))

    again = str(caught.value).splitlines()[-1].removeprefix("  run it again   ")
    assert shlex.split(again) == ["pytest", nodeid, "--floodmark-seed", "7"]


def test_check_of_several_scenarios_tells_of_each_that_did_not_pass(tmp_path: Path) -> None:
    several = tuple(
        msgspec.structs.replace(made(verdict).scenarios[0], id=f"it.{verdict.value}", findings=(), log_tail=tuple("abcdefg"))
        for verdict in Verdict
    )

    with pytest.raises(Failed) as caught:
        stress(tmp_path).check(made(Verdict.FAIL, scenarios=several))

    assert str(caught.value).splitlines()[:-2] == [
        "floodmark: FAIL, not PASS: Of 3 scenarios, 1 failed and 1 could not be judged.",
        "  FAIL it.FAIL",
        "    FAIL lost == 0: lost was 2, wanted == 0",
        *(f"    | {letter}" for letter in "cdefg"),
        "  UNKNOWN it.UNKNOWN",
        "    nobody was there",
        "    so there is no evidence for: lost == 0",
        *(f"    | {letter}" for letter in "cdefg"),
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


@pytest.mark.parametrize("length", [1, 1000])
def test_run_of_scenarios_of_one_name_gives_each_its_own_file(tmp_path: Path, prints: Prints, length: int) -> None:
    prints(made(Verdict.PASS))
    out = tmp_path / "out"

    played = []
    for connections in (2, 3):  # by two tests whose folders have one name
        stress(out).run(msgspec.structs.replace(example(connections), id="x" * length))
        played.append(Path(prints.words[1]).read_text())

    assert [re.findall(r"connections = (\d)", text) for text in played] == [["2"], ["3"]]
    assert len(list(out.glob("*.toml"))) == 2


def test_runs_of_one_test_have_properties_of_their_own(tmp_path: Path, prints: Prints) -> None:
    prints(made(Verdict.PASS))
    judge = stress(tmp_path)

    for _ in range(2):
        judge.run("a.toml")

    names = [name for name, _ in judge._node.user_properties]
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
