"""The table of formats and the reports that every run folder gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from floodmark.core.errors import UsageError
from floodmark.model.result import ScenarioResult
from floodmark.report import FILES, FORMATS, RunFolder, render, write_reports
from tests.report import made

Write = Callable[..., RunFolder]


def test_formats_hold_what_the_command_line_offers() -> None:
    assert list(FORMATS) == ["md", "html", "junit", "json", "stress-results", "failure-modes", "optimization-targets"]
    assert set(FILES) <= set(FORMATS)


def test_render_unknown_format_names_the_known(written: Write) -> None:
    with pytest.raises(UsageError, match="unknown report format 'docx'; known are md, html, junit, json, stress-results"):
        render(written(made.passed()), "docx")


@pytest.mark.parametrize("scenarios", [(), (made.unknown(),), (made.passed(1), made.failed(2))], ids=["empty", "unknown", "mixed"])
def test_write_reports_any_run_fills_the_folder(written: Write, scenarios: tuple[ScenarioResult, ...]) -> None:
    folder = written(*scenarios)

    paths = write_reports(folder)

    assert [path.name for path in paths] == list(FILES.values())
    assert {"report.html", "stress_results.md", "failure_modes.md", "optimization_targets.md"} <= {path.name for path in paths}
    assert all(path.stat().st_size > 300 for path in paths)


def test_write_reports_twice_gives_the_same_files(written: Write) -> None:
    folder = written(made.failed())

    first = [path.read_bytes() for path in write_reports(folder)]

    assert [path.read_bytes() for path in write_reports(folder)] == first
