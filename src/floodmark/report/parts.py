"""The parts that the documents of a run share: title, anchors, and how to run it again. Input: a run document. Output: Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from floodmark.model.result import ScenarioResult
from floodmark.report import figures
from floodmark.report.document import RunDocument
from floodmark.report.markup import code, fence, rows_table, text


def opening(document: RunDocument, title: str) -> Iterator[str]:
    """The title and where the figures are from."""
    yield f"# {title}"
    yield (
        f"{figures.MARKS[document.verdict]} {document.verdict.value}. {text(figures.headline(document))} "
        f"floodmark {text(document.version)}, started {text(figures.started(document.started))}, took "
        f"{figures.time_s(document.duration_s)}, seed {document.seed}, scale {document.scale:g}, {code(document.run)}."
    )


def link(scenario: ScenarioResult, place: int) -> str:
    """The scenario's id as a link to its part."""
    return f"[{code(scenario.id)}](#s{place})"


def head(scenario: ScenarioResult, place: int) -> Iterator[str]:
    """The heading of a scenario's part, with its plan number and an anchor."""
    plan = f"{text(scenario.plan)}: " if scenario.plan else ""
    yield f'<a id="s{place}"></a>'
    yield f"## {plan}{text(figures.title(scenario))}"


def standing(scenario: ScenarioResult) -> str:
    """Its verdict and its id."""
    return f"{figures.MARKS[scenario.verdict]} **{scenario.verdict.value}** · {code(scenario.id)}"


def closing(document: RunDocument) -> Iterator[str]:
    """How to run it again, and on what it ran."""
    yield "## Run it again"
    yield fence([document.command])
    yield rows_table("machine", figures.machine(document.machine))
