"""report.md: the run as Markdown that reads well as plain text, in a pull request and in a terminal.

Input: a run document. Output: GitHub-flavoured Markdown. Every figure stands in run.json too. Plots are left to report.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from floodmark.model.result import ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import figures
from floodmark.report.document import RunDocument
from floodmark.report.figures import Row

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&])")
_FINDINGS_SHOWN = 20


def render(document: RunDocument) -> str:
    """Render a whole report."""
    blocks = [*_opening(document), *(block for scenario in document.scenarios for block in _scenario(scenario)), *_closing(document)]
    return "\n\n".join(blocks) + "\n"


def _opening(document: RunDocument) -> Iterator[str]:
    yield f"# {figures.MARKS[document.verdict]} {document.verdict.value}: {_text(figures.headline(document))}"
    scale = "" if document.scale == 1 else f" · scale {document.scale:g}"
    started = _text(figures.started(document.started))
    yield f"floodmark {_text(document.version)} · started {started} · seed {document.seed}{scale} · {_code(document.run)}"
    if document.scenarios:
        rows = [
            (
                f"{figures.MARKS[scenario.verdict]} {scenario.verdict.value}",
                _code(scenario.id),
                _text(scenario.plan),
                _code(figures.criteria_summary(scenario)),
                figures.delivered(scenario, "delivered"),
                figures.delivered(scenario, "lost"),
                figures.rate(scenario.throughput_hz),
                figures.latency(scenario.latency_ns.response.p99),
                figures.size(scenario.target.rss_bytes_peak),
            )
            for scenario in document.scenarios
        ]
        yield _table(("verdict", "scenario", "plan", "criteria", "delivered", "lost", "throughput", "p99", "memory, peak"), rows, left=4)


def _scenario(scenario: ScenarioResult) -> Iterator[str]:
    yield f"## {figures.MARKS[scenario.verdict]} {scenario.verdict.value}: {_text(figures.title(scenario))}"
    plan = f" · plan {_text(scenario.plan)}" if scenario.plan else ""
    scale = "" if scenario.scale == 1 else f" · scale {scenario.scale:g}"
    yield f"{_code(scenario.id)}{plan}{scale} · took {figures.time_s(scenario.duration_s)}"
    for sentence in (figures.remark(scenario), scenario.note):
        if sentence:
            yield f"> {_text(sentence)}"
    if scenario.criteria:
        rows = [(one.verdict.value, _code(one.text), _text(one.note), figures.observed(one)) for one in scenario.criteria]
        yield _table(("verdict", "criterion", "note", "observed"), rows, left=3)
    yield _rows("delivery", figures.account(scenario))
    yield _latencies(scenario)
    yield _rows("target", figures.target_cost(scenario)) if scenario.target.rss_bytes_peak else "The target's processes could not be seen."
    yield _rows("generator", figures.generator_cost(scenario))
    yield from _findings(scenario)
    if scenario.log_tail and scenario.verdict is not Verdict.PASS:
        yield "The target's last lines:"
        yield _fence(scenario.log_tail)


def _latencies(scenario: ScenarioResult) -> str:
    response, service = (figures.latencies(one) for one in (scenario.latency_ns.response, scenario.latency_ns.service))
    rows = [("response", *(row.figure for row in response)), ("service", *(row.figure for row in service))]
    return _table(("latency", *(row.name for row in response)), rows, left=1)


def _findings(scenario: ScenarioResult) -> Iterator[str]:
    if not scenario.findings:
        return
    rows = [
        (
            one.anomaly.value,
            "yes" if one.violation else "no",
            _text(one.detail),
            figures.count(one.count),
            str(one.subscription),
            str(one.publisher),
            figures.sequence(one),
        )
        for one in scenario.findings[:_FINDINGS_SHOWN]
    ]
    yield _table(
        ("finding", "breaks the guarantee", "both ends' records", "messages", "subscription", "publisher", "sequence"), rows, left=3
    )
    if len(scenario.findings) > _FINDINGS_SHOWN:
        yield f"The first {_FINDINGS_SHOWN} of {len(scenario.findings)}; all of them are in findings.jsonl."


def _closing(document: RunDocument) -> Iterator[str]:
    yield "## Run it again"
    yield _fence([document.command])
    yield _rows("machine", figures.machine(document.machine))


def _rows(name: str, rows: Iterable[Row]) -> str:
    return _table((name, ""), [(_text(row.name), _text(row.figure)) for row in rows], left=1)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, left: int) -> str:
    """A table whose first `left` columns are text; the others are figures and stand to the right."""
    names = list(heads)
    rule = ["---" if column < left else "---:" for column in range(len(names))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, rule, *rows))


def _text(text: str) -> str:
    """Make foreign text plain: no markup, no HTML, no line end takes effect."""
    return _SPECIAL.sub(r"\\\1", " ".join(figures.clean(text).split()))


def _code(text: str) -> str:
    """A code span that holds whatever backticks the text has; a bar would end the table cell even there."""
    plain = " ".join(figures.clean(text).split()).replace("|", "¦")
    ticks = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    pad = " " if "`" in plain else ""
    return f"{ticks}{pad}{plain}{pad}{ticks}" if plain else ""


def _fence(lines: Iterable[str]) -> str:
    body = "\n".join(figures.clean(line).rstrip("\n") for line in lines)
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    return f"{ticks}text\n{body}\n{ticks}"
