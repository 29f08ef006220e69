"""Profiles of a target under load: real profilers on real processes, and what they take from the verdict."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.model.criterion import parse
from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.scenario import Fault, Phase, Population, Scenario, Target
from floodmark.model.verdict import Verdict
from floodmark.report.profiled import Profile
from floodmark.runner import profile, python
from tests.runner.played import play, playing, server, wait_for, write_scenario

BUSY = 'arrival = { kind = "constant", rate_hz = 2000 }\nduration_s = 2'
needs_py_spy = pytest.mark.skipif(bool(python.why_not_py_spy()), reason=f"cannot be tried here: {python.why_not_py_spy()}")


def scenario(target: Target, *faults: Fault) -> Scenario:
    """A scenario on that target."""
    return Scenario(
        id="tried",
        target=target,
        population=Population(connections=1),
        phases=(Phase(duration_s=1.0),),
        faults=faults,
        criteria=(parse("lost == 0"),),
    )


def judged(text: str, verdict: Verdict, observed: float = 1.0) -> CriterionResult:
    """One criterion as it was judged."""
    return CriterionResult(text=text, observed=observed, verdict=verdict, note="why" if verdict is Verdict.FAIL else "")


def result(*criteria: CriterionResult, verdict: Verdict) -> ScenarioResult:
    """A result with these criteria."""
    return ScenarioResult(id="tried", plan="", verdict=verdict, scale=1.0, duration_s=1.0, criteria=criteria)


def marked(kind: str, *criteria: CriterionResult, verdict: Verdict) -> ScenarioResult:
    """The same after a profile of that kind."""
    return profile.profiler(kind, scenario(Target(system="hub")), None).marked(result(*criteria, verdict=verdict))


def profiled(folder: Path, kind: str) -> Profile:
    """What the newest run in that folder kept."""
    (file,) = (folder / "runs" / "latest" / "profiles").glob(f"*.{kind}.json")
    return msgspec.json.decode(file.read_bytes(), type=Profile)


def log_of_py_spy(folder: Path) -> str:
    """What py-spy has said in the newest run so far."""
    return "".join(file.read_text() for file in (folder / "runs").glob("latest/profiles/*.cpu.log"))


@needs_py_spy
def test_cpu_profile_of_a_busy_target_names_its_functions(tmp_path: Path) -> None:
    path = write_scenario(tmp_path, target='system = "hub"\nargs = ["--no-rate-limits"]', phase=BUSY)

    played = play(tmp_path, "run", str(path), "--profile", "cpu")

    seen = profiled(tmp_path, "cpu")
    assert played.code == 0, played.stderr
    assert seen.trouble == ""
    assert sum(spot.own for spot in seen.spots) <= seen.total
    assert any("hub" in spot.file for spot in seen.spots)
    assert (tmp_path / "runs" / "latest" / seen.files[0]).read_text().lstrip().startswith("<?xml")
    assert "py-spy stopped the target 100 times a second" in seen.cost
    assert "profiled (cpu, py-spy)" in played.result["note"]


@needs_py_spy
def test_cpu_profile_interrupted_under_load_is_kept_and_leaves_no_process(tmp_path: Path) -> None:
    path = write_scenario(
        tmp_path, target='system = "hub"\nargs = ["--no-rate-limits"]', phase=BUSY.replace("duration_s = 2", "duration_s = 30")
    )

    with playing(tmp_path, "run", str(path), "--profile", "cpu") as played:
        wait_for(lambda: "Sampling process" in log_of_py_spy(tmp_path), "py-spy at work")
        played.signal(signal.SIGINT)
        played.wait()

    assert played.code == 130
    assert profiled(tmp_path, "cpu").trouble == ""


def test_memory_profile_of_a_target_names_what_holds_most(tmp_path: Path) -> None:
    hoards = tmp_path / "hoards.py"
    hoards.write_text(
        "import runpy, sys\n"
        "def hoard():\n    return list(map(bytes, [100_000] * 500))\n"
        "held = hoard()\n"
        "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    words = shlex.split(server("honest"))
    path = write_scenario(
        tmp_path, command=shlex.join([words[0], str(hoards), *words[1:]]), criteria=("lost == 0", "latency_p99 < 10s"), top="warmup = false"
    )

    played = play(tmp_path, "run", str(path), "--profile", "memory", "--json")

    seen = profiled(tmp_path, "memory")
    (scenario_result,) = json.loads(played.stdout)["scenarios"]
    verdicts = {one["text"]: one["verdict"] for one in scenario_result["criteria"]}
    assert seen.trouble == ""
    assert seen.spots[0].function == "hoard"
    assert 50_000_000 <= seen.spots[0].own <= seen.total < 200_000_000
    assert (tmp_path / "runs" / "latest" / seen.files[0]).stat().st_size > 100_000
    assert not list((tmp_path / "runs" / "latest" / "profiles").glob("*.bin"))
    assert (verdicts["lost == 0"], verdicts["latency_p99 < 10s"]) == ("PASS", "UNKNOWN")
    assert played.code == 11


def test_memory_profile_interrupted_under_load_is_kept_and_leaves_no_process(tmp_path: Path) -> None:
    path = write_scenario(
        tmp_path, target='system = "hub"\nargs = ["--no-rate-limits"]', phase=BUSY.replace("duration_s = 2", "duration_s = 30")
    )

    with playing(tmp_path, "run", str(path), "--profile", "memory") as played:
        wait_for(lambda: "ready" in played.log(), "the target under memray")
        played.signal(signal.SIGINT)
        played.wait()

    assert played.code == 130
    seen = profiled(tmp_path, "memory")
    assert (seen.trouble, bool(seen.spots)) == ("", True)
    assert not list((tmp_path / "runs" / "latest" / "profiles").glob("*.bin"))


@pytest.mark.parametrize("kind", ["cpu", "memory"])
def test_profile_of_what_cannot_be_profiled_is_refused_before_anything_starts(tmp_path: Path, kind: str) -> None:
    url = write_scenario(tmp_path, target='url = "ws://127.0.0.1:9/x"')
    shell = write_scenario(tmp_path, command="/bin/sh -c 'echo ready ws://127.0.0.1:9/; sleep 60'", name="shell")

    to_url = play(tmp_path, "run", str(url), "--profile", kind)
    to_shell = play(tmp_path, "run", str(shell), "--profile", kind)

    assert (to_url.code, to_shell.code) == (2, 2)
    assert to_url.stderr.splitlines()[-1].startswith(f"floodmark: --profile {kind} needs a target that floodmark starts")
    assert to_shell.stderr.splitlines()[-1].startswith(f"floodmark: --profile {kind} needs a target in Python")
    assert not (tmp_path / "runs").exists()


def test_profile_of_a_trial_is_refused(tmp_path: Path) -> None:
    played = play(tmp_path, "run", "liars", "--profile", "cpu")

    assert played.code == 2
    assert "--profile does not go with it" in played.stderr


def test_memory_profile_of_a_target_that_a_fault_ends_is_refused() -> None:
    with pytest.raises(UsageError, match=r"ends its target by 'process\.kill', and memray ends with it"):
        profile.profiler("memory", scenario(Target(system="hub"), Fault(kind="process.kill")), None).require()


def test_memory_profile_without_memray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "has_memray", lambda _python: False)

    with pytest.raises(UsageError, match="has no memray"):
        profile.profiler("memory", scenario(Target(system="hub")), None).require()


def test_cpu_profile_where_ptrace_is_forbidden_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "why_not_py_spy", lambda: "py-spy may not look into processes here (Permission Denied)")

    with pytest.raises(UsageError, match=r"--profile cpu: py-spy may not look into processes here \(Permission Denied\)"):
        profile.profiler("cpu", scenario(Target(system="hub")), None).require()


def test_why_not_py_spy_without_py_spy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "find_py_spy", lambda: None)

    assert python.why_not_py_spy.__wrapped__() == "there is no py-spy; install the py-spy package"


def test_why_not_py_spy_of_one_that_is_refused_repeats_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refused = tmp_path / "py-spy"
    refused.write_text("#!/bin/sh\necho 'Error: Permission Denied: Try running again with elevated permissions' >&2\nexit 1\n")
    refused.chmod(0o755)
    monkeypatch.setattr(python, "find_py_spy", lambda: refused)

    why = python.why_not_py_spy.__wrapped__()

    assert "may not look into processes here (Error: Permission Denied: Try running again with elevated permissions)" in why


def test_marked_by_cpu_excuses_what_was_too_slow_and_nothing_else() -> None:
    slow, fast = judged("latency_p99 < 1ms", Verdict.FAIL), judged("throughput > 1/s", Verdict.PASS)
    big, lossy = judged("rss_peak < 1KB", Verdict.FAIL), judged("lost == 0", Verdict.FAIL)

    after = marked("cpu", slow, fast, big, lossy, verdict=Verdict.FAIL)

    assert [one.verdict for one in after.criteria] == [Verdict.UNKNOWN, Verdict.PASS, Verdict.FAIL, Verdict.FAIL]
    assert after.criteria[0].note.startswith("why; measured on a target under py-spy")
    assert after.verdict is Verdict.FAIL


def test_marked_by_memory_takes_back_every_figure_of_time_and_memory() -> None:
    texts = ("latency_p99 < 1s", "rss_peak < 1GB", "rss_growth < 2x", "throughput > 1/s", "degraded == 0", "lost == 0", "fds_peak < 900")

    after = marked("memory", *(judged(text, Verdict.PASS) for text in texts), verdict=Verdict.PASS)

    assert [one.verdict for one in after.criteria] == [*[Verdict.UNKNOWN] * 5, Verdict.PASS, Verdict.UNKNOWN]
    assert after.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("kind", ["cpu", "memory"])
def test_marked_never_makes_a_verdict_better(kind: str) -> None:
    only_lost = (judged("lost == 0", Verdict.PASS),)

    assert marked(kind, *only_lost, verdict=Verdict.PASS).verdict is Verdict.PASS
    assert marked(kind, *only_lost, verdict=Verdict.UNKNOWN).verdict is Verdict.UNKNOWN
    assert marked(kind, judged("the run came to its end", Verdict.UNKNOWN), verdict=Verdict.UNKNOWN).verdict is Verdict.UNKNOWN
    assert "profiled" in marked(kind, *only_lost, verdict=Verdict.PASS).note


def test_no_profile_changes_nothing() -> None:
    plain = profile.profiler(None, scenario(Target(url="ws://127.0.0.1:9/")), None)
    before = result(judged("lost == 0", Verdict.PASS), verdict=Verdict.PASS)

    plain.require()

    assert plain.words(["a", "b"]) == ["a", "b"]
    assert plain.marked(before) is before


def test_python_of_a_script_follows_its_first_line(tmp_path: Path) -> None:
    script, other = tmp_path / "served", tmp_path / "other"
    script.write_text(f"#!{sys.executable} -u\nprint()\n")
    other.write_text("#!/bin/sh\n")
    for file in (script, other):
        file.chmod(0o755)

    assert python.python_of([str(script), "--port", "0"]) == (sys.executable, ["-u"], [str(script), "--port", "0"])
    assert python.python_of([str(other)]) is None


@pytest.mark.parametrize(
    ("words", "flags", "program"),
    [
        (["-X", "dev", "-u", "-m", "app", "-v"], ["-X", "dev", "-u"], ["-m", "app", "-v"]),
        (["app.py", "-u"], [], ["app.py", "-u"]),
        (["-c", "print()"], [], ["-c", "print()"]),
    ],
)
def test_python_of_an_interpreter_keeps_its_own_flags_apart(words: list[str], flags: list[str], program: list[str]) -> None:
    assert python.python_of([sys.executable, *words]) == (sys.executable, flags, program)


def test_python_of_an_interpreter_that_runs_nothing_is_none() -> None:
    assert python.python_of([sys.executable, "-u"]) is None
