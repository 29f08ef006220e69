"""stress_results.md, failure_modes.md and optimization_targets.md: true to run.json, whole for any run, and deaf to foreign text."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest

from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import RunFolder, failure_modes, optimization_targets, render, stress_results
from floodmark.report.document import RunDocument
from floodmark.report.profiled import Profile, Spot
from tests.report import made
from tests.report.test_markdown import cells, known, numbers

Write = Callable[..., RunFolder]
DOCUMENTS = ("stress-results", "failure-modes", "optimization-targets")


def whole(document: RunDocument) -> str:
    """All three documents together."""
    texts = [stress_results.render(document), failure_modes.render(document), optimization_targets.render(document, {}, {})]
    return "\n".join(texts)


def anchors(text: str) -> list[str]:
    """The places that a link can lead to."""
    return re.findall(r'<a id="(\w+)"></a>', text)


@pytest.mark.parametrize("name", ["stress-results", "failure-modes"])
def test_render_every_figure_stands_in_run_json(written: Write, name: str) -> None:
    folder = written(made.passed(1), made.failed(2), made.unknown(3), made.faulted(8))
    in_run = list(numbers(msgspec.json.decode((folder.path / "run.json").read_bytes())))
    in_run += [2.0, 1.0, 1_000.0]  # blows of a slot, their sums, and the length of one

    shown = [cell for cell in cells(render(folder, name)) if not cell.endswith(("%", "x"))]

    assert len(shown) > 30
    assert [cell for cell in shown if not known(cell, in_run)] == []


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("scenarios", [(), (made.unknown(),), (made.passed(1), made.faulted(8))], ids=["empty", "unknown", "mixed"])
def test_render_any_run_is_whole(written: Write, name: str, scenarios: tuple[ScenarioResult, ...]) -> None:
    text = render(written(*scenarios), name)

    assert text.startswith("# ")
    assert made.COMMAND in text.rpartition("## Run it again")[2]
    assert made.MACHINE.cpu in text


@pytest.mark.parametrize("name", DOCUMENTS)
def test_render_table_rows_have_as_many_cells_as_their_head(written: Write, name: str) -> None:
    lines = render(written(made.failed(2), made.faulted(8), made.unknown(3)), name).splitlines()

    widths: list[set[int]] = [set()]
    for line in lines:
        if line.startswith("|"):
            widths[-1].add(len(re.findall(r"(?<!\\)\|", line)))
        elif widths[-1]:
            widths.append(set())
    assert [width for width in widths if len(width) > 1] == []
    assert len(widths) > 2


@pytest.mark.parametrize("name", DOCUMENTS)
def test_render_forty_scenarios_stays_readable(written: Write, name: str) -> None:
    run = written(*(made.faulted(number) if number % 2 else made.passed(number) for number in range(1, 41)))

    text = render(run, name)

    own = re.findall(r"\]\(#(\w+)\)", text)
    assert len(anchors(text)) == len(set(anchors(text)))
    assert set(own) <= set(anchors(text))
    assert len(text.encode()) < 200_000
    assert text.index("| --- |") < 3_000  # the summary comes first


def test_links_between_the_documents_meet(written: Write) -> None:
    folder = written(made.passed(1), made.faulted(8), made.failed(2))
    texts = {f"{name.replace('-', '_')}.md": render(folder, name) for name in DOCUMENTS}

    links = [link for text in texts.values() for link in re.findall(r"\((\w+\.md)#(\w+)\)", text)]

    assert len(links) >= 3
    assert [link for link in links if link[1] not in anchors(texts[link[0]])] == []


def test_render_hostile_text_stays_text() -> None:
    evil = "<script>alert(1)</script> | [x](y)\n# not a heading\x1b[2J"
    scenario = made.faulted(title=evil, plan=evil, note=evil)
    faults = tuple(msgspec.structs.replace(one, kind=evil) for one in scenario.faults)
    document = made.document_of(msgspec.structs.replace(scenario, id=evil, faults=faults), run=evil, version=evil)

    text = whole(document)

    outside = re.sub(r"(`+).*?\1", "", text)
    assert "<script>" not in outside
    assert "\n# not a heading" not in text
    assert "\x1b" not in text


def test_stress_results_name_plan_load_wanted_and_observed(written: Write) -> None:
    text = render(written(made.faulted(8)), "stress-results")

    assert "## S8: Half of all are cut off, twice" in text
    assert "Load: 1,000 connections on 10 channels, 1 publisher; phase ramp: ramp from 10.0 /s to 600 /s for 3.00 s, 200 B each" in text
    assert "| ✓ PASS | `latency_p99 < 100ms` |  | `< 100ms` | 3.12 ms | 3.12 % |" in text


def test_failure_modes_tell_what_was_asked_and_what_came_of_it(written: Write) -> None:
    text = render(written(made.faulted(8)), "failure-modes")

    assert "disconnect (resume = true), share 50 %, at 10.0 s, for 2.00 s, 2 times, 4.00 s apart" in text
    assert "wire.latency (least\\_s = 0.05), share 100 %, from before the first connection to the end" in text
    assert "The worst of 2, struck at 14.0 s" in text


def test_failure_modes_of_a_run_without_faults_claim_nothing(written: Write) -> None:
    text = render(written(made.passed(1), made.failed(2)), "failure-modes")

    assert "No fault was measured in this run, so nothing about failures is known from it." in text
    assert "`subscriptions.case-1`, `subscriptions.case-2`" in text


def test_failure_modes_of_a_scenario_that_never_came_to_its_faults_say_so(written: Write) -> None:
    text = render(written(made.faulted(8, faults=(), note="the target died", verdict=Verdict.UNKNOWN)), "failure-modes")

    assert "Its faults were not measured: the target died." in text
    assert "- asked for: disconnect" in text


def test_optimization_targets_name_the_limit_that_breaks_first(written: Write) -> None:
    near = CriterionResult(text="rss_peak < 200MB", observed=190e6, verdict=Verdict.PASS)

    text = render(written(made.passed(1), made.passed(2, criteria=(near,))), "optimization-targets")

    assert "nearest to breaking came `rss_peak < 200MB` in `subscriptions.case-2` (95.0 % of the limit), 1.05x head-room" in text


def test_optimization_targets_tell_broken_limits_from_those_that_hold(written: Write) -> None:
    broken = CriterionResult(text="latency_p99 < 1ms", observed=0.003, verdict=Verdict.FAIL)

    text = render(written(made.passed(1), made.failed(2, criteria=(broken,))), "optimization-targets")

    assert "1 of 3 limits is broken already, `latency_p99 < 1ms` in `subscriptions.case-2` (300 % of the limit) most." in text


def test_optimization_targets_without_figures_say_what_was_not_measured() -> None:
    text = optimization_targets.render(made.document_of(made.unknown()), {}, {})

    assert text.count("Not measured: ") == 5
    assert "No figure of this run is beyond the threshold of a rule." in text
    assert "Not profiled." in text


def test_optimization_targets_show_the_hottest_functions(written: Write) -> None:
    folder = written(made.passed(1))
    spots = (Spot(function="fan_out", file="/srv/hub/bus.py", line=42, own=300, below=600), Spot(function="encode", file="x.py", own=100))
    folder.add_profile(
        Profile(scenario="subscriptions.case-1", kind="cpu", tool="py-spy 0.4", total=1_000, spots=spots, files=("profiles/a.cpu.svg",))
    )

    text = render(folder, "optimization-targets")

    assert "| `fan_out` | `hub/bus.py:42` | 300 | 30.0 % | 60.0 % |" in text
    assert "[`profiles/a.cpu.svg`](profiles/a.cpu.svg)" in text


def test_optimization_targets_of_a_profile_that_failed_give_the_reason(written: Write) -> None:
    folder = written(made.passed(1))
    folder.add_profile(Profile(scenario="subscriptions.case-1", kind="memory", tool="memray", trouble="the target was killed"))

    assert "Not measured: the target was killed." in render(folder, "optimization-targets")
