"""From a result to files and a terminal: the run folder, and one module per report format.

Contract: the runner hands over data, nothing here asks a clock or opens a connection. Reports are made from the run folder alone, so
`floodmark report RUN` makes the same ones again at any later time. The path to the verdict does not pass through here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from floodmark.core.errors import UsageError
from floodmark.report import failure_modes, html, json, junit, markdown, optimization_targets, stress_results
from floodmark.report.folder import RunFolder
from floodmark.report.machine import Machine, fingerprint
from floodmark.report.series import Mark, Sample

__all__ = ["APART", "FILES", "FORMATS", "Machine", "Mark", "RunFolder", "Sample", "fingerprint", "render", "write_reports"]

#: Every format `floodmark report RUN --format` knows.
FORMATS: dict[str, Callable[[RunFolder], str]] = {
    "md": lambda folder: markdown.render(folder.result()),
    "html": lambda folder: html.render(folder.result(), folder.timelines(), folder.profiles()),
    "junit": lambda folder: junit.render(folder.result()),
    "json": lambda folder: json.render(folder.result()),
    "stress-results": lambda folder: stress_results.render(folder.result()),
    "failure-modes": lambda folder: failure_modes.render(folder.result()),
    "optimization-targets": lambda folder: optimization_targets.render(folder.result(), folder.timelines(), folder.profiles()),
}

#: What is no text, and made by a module of its own that nothing on the way to a verdict imports: `floodmark.report.pdf`.
APART = ("pdf",)

#: The reports that every run folder gets, and their names in it.
FILES: dict[str, str] = {
    "md": "report.md",
    "html": "report.html",
    "junit": "junit.xml",
    "stress-results": "stress_results.md",
    "failure-modes": "failure_modes.md",
    "optimization-targets": "optimization_targets.md",
}


def render(folder: RunFolder, format_name: str) -> str:
    """Render a run folder in one of FORMATS. Raises: UsageError for another format or a folder without a result."""
    if format_name in APART:
        raise UsageError(f"{format_name} is not text; floodmark.report.{format_name} writes it into the run folder")
    known = FORMATS.get(format_name)
    if known is None:
        raise UsageError(f"unknown report format {format_name!r}; known are {', '.join((*FORMATS, *APART))}")
    return known(folder)


def write_reports(folder: RunFolder) -> list[Path]:
    """Write every report of FILES into the run folder and return where they are. Raises: UsageError."""
    return [folder.write_text(name, render(folder, format_name)) for format_name, name in FILES.items()]
