"""The mark in the reports: at the head of each, told again from the folder, and a broken trial is no failure of the run."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from floodmark.core.errors import UsageError
from floodmark.judge.mark import Search
from floodmark.judge.mark_trial import trial_of
from floodmark.judge.mark_words import conclude
from floodmark.model.mark import Mark, MarkTrial, Outcome
from floodmark.model.result import RunResult, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import FORMATS, RunFolder, json, mark_plot, render
from floodmark.report import mark as mark_report
from floodmark.report.compare_runs import read_run
from floodmark.report.mark_terminal import MarkProgress, show_mark
from tests.report import made

Write = Callable[..., RunFolder]
HOSTILE = "<b>not</b> a `limit` | of [ours](x)"


def scenarios() -> list[ScenarioResult]:
    """Three trials: one that held, one that broke, one that was not judged."""
    return [made.passed(1, id="tried@rate_hz=1000"), made.failed(2, id="tried@rate_hz=1400"), made.unknown(3, id="tried@rate_hz=1400#2")]


def mark_of(results: list[ScenarioResult], *, confirm: int = 0, stopped: str = "") -> Mark:
    values = [float(result.id.partition("=")[2].partition("#")[0]) for result in results]
    trials = [trial_of(value, result) for value, result in zip(values, results, strict=True)]
    return conclude(Search(lo=1000, hi=4000, confirm=confirm, precision=0.5), trials, vary="rate_hz", unit="/s", stopped=stopped)


@pytest.fixture
def folder(written: Write) -> RunFolder:
    """A search that found its mark, in a folder."""
    results = scenarios()
    return written(*results, mark=mark_of(results), verdict=Verdict.PASS)


def test_render_markdown_opens_with_the_mark_and_every_trial(folder: RunFolder) -> None:
    lines = render(folder, "md").splitlines()

    assert lines[0].startswith("# ✓ PASS: rate\\_hz: held up to 1,000 /s, broke at 1,400 /s by `lost == 0`")
    assert "| held | 1,000 /s |" in lines
    assert [line.split(" | ")[:2] for line in lines if line.startswith(("| ✓ held", "| ✗ broke", "| ? unknown"))] == [
        ["| ✓ held", "1,000 /s"],
        ["| ✗ broke", "1,400 /s"],
        ["| ? unknown", "1,400 /s"],
    ]


def test_search_as_a_repetition_is_refused_in_one_sentence(folder: RunFolder) -> None:
    with pytest.raises(UsageError, match=rf"{folder.id} is a search for the mark.*take runs of 'floodmark run'"):
        read_run(folder)


@pytest.mark.parametrize(
    ("precision", "confirm", "said"), [(0.1, 2, ["10 %", "2 times"]), (1.0, 1, ["100 %", "once"]), (0.015, 0, ["1.5 %", "0 times"])]
)
def test_facts_of_a_mark_say_how_it_was_searched(precision: float, confirm: int, said: list[str]) -> None:
    search = Search(lo=1000, hi=4000, precision=precision, confirm=confirm)

    facts = {row.name: row.figure for row in mark_report.facts(conclude(search, [], vary="rate_hz", unit="/s"))}

    assert [facts["precision"], facts["confirmed"]] == said
    assert (facts["held"], facts["broke"], facts["by"], facts["searched"]) == ("–", "–", "–", "1,000 /s to 4,000 /s")


def test_render_html_opens_with_the_mark_its_picture_and_links_to_the_trials(folder: RunFolder) -> None:
    whole = render(folder, "html")

    head = whole[: whole.index("</header>")]
    assert "held up to 1,000 /s, broke at 1,400 /s by <code>lost == 0</code>" in head
    assert 'aria-label="mark rate_hz over rate_hz"' in head
    assert re.findall(r'href="#(s\d)"', head) == ["s1", "s2", "s3"]
    assert all(f'id="s{place}"' in whole for place in (1, 2, 3))


def test_render_json_and_run_json_hold_the_same_mark(folder: RunFolder) -> None:
    read = json.decode((folder.path / "run.json").read_bytes())

    assert read.mark == mark_of(scenarios())
    assert '"held": 1000' in render(folder, "json")


def test_render_junit_is_one_test_that_passes_though_a_trial_broke(folder: RunFolder) -> None:
    suite = ET.fromstring(render(folder, "junit")).find("testsuite")

    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "0")
    (case,) = suite.findall("testcase")
    assert (case.get("name"), list(case)) == ("tried@rate_hz", [])


@pytest.mark.parametrize(("count", "tag"), [(1, "error"), (0, "error")])
def test_render_junit_of_a_search_that_found_nothing_is_an_error(written: Write, count: int, tag: str) -> None:
    results = scenarios()[:count]
    folder = written(*results, mark=mark_of(results), verdict=Verdict.UNKNOWN)

    case = ET.fromstring(render(folder, "junit")).find("testsuite/testcase")

    assert case is not None
    assert [child.tag for child in case] == [tag]


def test_render_junit_of_a_break_at_the_lowest_value_is_a_failure(written: Write) -> None:
    results = [made.failed(2, id="tried@rate_hz=1000")]
    folder = written(*results, mark=mark_of(results), verdict=Verdict.FAIL)

    failure = ET.fromstring(render(folder, "junit")).find("testsuite/testcase/failure")

    assert failure is not None
    assert "broke already at 1,000 /s" in (failure.get("message") or "")


@pytest.mark.parametrize("format_name", list(FORMATS))
@pytest.mark.parametrize("count", [0, 1, 3])
def test_render_of_every_format_takes_a_search_of_any_length(written: Write, format_name: str, count: int) -> None:
    results = scenarios()[:count]
    folder = written(*results, mark=mark_of(results, stopped="interrupted"), verdict=Verdict.UNKNOWN, interrupted=True)

    assert render(folder, format_name)


def test_render_hostile_words_stay_words(written: Write) -> None:
    trial = MarkTrial(value=1000.0, outcome=Outcome.UNKNOWN, why=HOSTILE)
    mark = conclude(Search(lo=1000, hi=4000, confirm=0), [trial, trial], vary="rate_hz", unit="/s")
    folder = written(mark=mark, verdict=Verdict.UNKNOWN)

    assert "<b>not" not in render(folder, "html")
    assert "](x)" not in render(folder, "md").replace("\\]", "")


def test_draw_tells_the_outcomes_apart_in_the_colours_of_the_page() -> None:
    svg = mark_plot.draw(mark_of(scenarios()))

    assert all(f"var(--{name})" in svg for name in ("pass", "fail", "mark", "ink"))
    assert not re.search(r"#0102\w\w", svg)
    assert all(f">{word}<" in svg.replace(" ", "") for word in ("held", "broke"))


def test_draw_of_trials_without_figures_is_nothing() -> None:
    empty = conclude(Search(lo=1, hi=2), [], vary="rate_hz", unit="/s")
    unknown = conclude(Search(lo=1, hi=2), [MarkTrial(value=1, outcome=Outcome.UNKNOWN)], vary="rate_hz", unit="/s")

    assert mark_plot.draw(empty) == ""
    assert mark_plot.draw(unknown) == ""


def test_draw_of_a_single_trial_has_an_axis() -> None:
    assert mark_plot.draw(mark_of(scenarios()[:1])).startswith("<svg")


@pytest.mark.parametrize(("low", "high"), [(1, 2), (1000, 1e6), (0.5, 0.9), (97, 103), (1, 1e9), (2010, 2010)])
def test_ticks_of_any_range_are_few_and_within_it(low: float, high: float) -> None:
    ticks = mark_plot.ticks(low, high)

    assert 1 <= len(ticks) <= 10
    assert all(low * 0.99 <= one <= high * 1.01 for one in ticks)


def test_show_mark_prints_the_bracket_the_trials_and_how_to_search_again() -> None:
    results = scenarios()
    run: RunResult = made.run_of(*results, mark=mark_of(results), verdict=Verdict.PASS)
    console = Console(width=160, record=True, file=None, quiet=False, force_terminal=False, stderr=True)

    show_mark(run, command="floodmark mark x --seed 7", console=console)

    told = console.export_text()
    assert "held up to 1,000 /s, broke at 1,400 /s by `lost == 0`" in told
    assert [told.count(word) for word in ("✓ held", "✗ broke", "? unknown")] == [1, 1, 1]
    assert "run it again   floodmark mark x --seed 7" in told


def test_mark_progress_says_of_each_trial_what_it_found_and_why() -> None:
    console = Console(width=200, record=True, stderr=True)

    with MarkProgress(console) as progress:
        for result in scenarios():
            progress.done(result)

    told = console.export_text().splitlines()
    assert told[0].startswith("✓ held     tried@rate_hz=1000")
    assert told[1].startswith("✗ broke    tried@rate_hz=1400")
    assert "lost" in told[2] or "33" in told[2]
    assert any(line.startswith("? unknown") for line in told)
