"""report.html: one file that can be mailed. Thin for now: the opening only."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from floodmark.report import figures
from floodmark.report.document import RunDocument
from floodmark.report.series import Timeline


def render(document: RunDocument, timelines: Mapping[str, Timeline]) -> str:
    """Render a whole report."""
    return f"<!doctype html><title>{document.verdict.value}</title><h1>{escape(figures.headline(document))}</h1>"
