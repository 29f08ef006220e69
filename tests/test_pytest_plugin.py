"""The pytest plugin: PASS passes and nothing else does; what a failing test says; options; and that no run outlives its test.

All by a pytest of its own (pytester), as a user would. How each result is judged is in test_pytest_fixture.py.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

import pytest

from floodmark import pytest_plugin
from tests.runner.played import MARK, holders

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/test_hub.py"
GUIDE = (ROOT / "docs/pytest.md").read_text(encoding="utf-8")
NOBODY = "ws://127.0.0.1:1/"  # port 1: nothing listens there
#: Loaded by its name where it is installed as a plugin: given twice, pytest would refuse it.
INSTALLED = any(entry.value == "floodmark.pytest_plugin" for entry in importlib.metadata.entry_points(group="pytest11"))
LOAD = () if INSTALLED else ("-p", "floodmark.pytest_plugin")


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

    result = user("-n1", "--show-capture=no")

    result.assert_outcomes(failed=3)
    (seed,) = re.findall(r"^floodmark \S+: seed (\d+)$", result.stdout.str(), re.MULTILINE)  # chosen here, played with by the worker
    result.stdout.fnmatch_lines_random(
        [
            ">*floodmark.run(msgspec.structs.replace(ROOMS, target=LYING_HUB))",
            "E *floodmark: FAIL, not PASS: lost == 0: lost was 10, wanted == 0",
            "E *1 lost: acknowledged * next expected * missing *",
            "E *run folder     /*test_lie0/floodmark/*-hub.rooms",
            f"E *run it again   pytest '*.py::test_lie' --floodmark-seed {seed}",
            f"E *floodmark: UNKNOWN, not PASS: {NOBODY} refuses connections: nothing listens there",
            "E *so there is no evidence for: lost == 0, *latency_p99 < 5s*",
            "E *floodmark: empty.toml: * no criteria, so it could never pass; add at least one",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_fixture.py*")  # no frame of ours


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


@pytest.mark.parametrize("text", ["-1", "1.5", "٣", str(2**63), "9" * 5000])
def test_seed_that_is_no_number_of_63_bits_is_refused(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="--floodmark-seed must be a whole number between 0 and"):
        pytest_plugin._seed(cast("pytest.Config", object()), text)


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
