"""Hold a report against itself when it is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from floodmark.systems.pipeline.report.model import Report


def check(report: Report) -> None:
    """Raise the first ReportError of a report."""
