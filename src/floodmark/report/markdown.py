"""report.md: the run as Markdown that reads well as plain text, in a pull request and in a terminal.

Input: a run document. Output: GitHub-flavoured Markdown. Every figure stands in run.json too. Plots are left to report.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from floodmark.model.mark import Mark
from floodmark.model.result import ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import away, faulted, figures, mark
from floodmark.report.document import RunDocument
from floodmark.report.markup import code, fence, rows_table, table, text

_FINDINGS_SHOWN = 20
NOT_SEEN = "The target's processes could not be seen."


def render(document: RunDocument) -> str:
    """Render a whole report."""
    blocks = [*_opening(document), *(block for scenario in document.scenarios for block in _scenario(scenario)), *_closing(document)]
    return "\n\n".join(blocks) + "\n"


def _opening(document: RunDocument) -> Iterator[str]:
    yield f"# {figures.MARKS[document.verdict]} {document.verdict.value}: {_headline(document)}"
    scale = "" if document.scale == 1 else f" · scale {document.scale:g}"
    started = text(figures.started(document.started))
    yield f"floodmark {text(document.version)} · started {started} · seed {document.seed}{scale} · {code(document.run)}"
    if document.mark is not None:
        yield from _mark(document.mark)
    elif document.scenarios:
        rows = [
            (
                f"{figures.MARKS[scenario.verdict]} {scenario.verdict.value}",
                code(scenario.id),
                text(scenario.plan),
                code(figures.criteria_summary(scenario)),
                figures.delivered(scenario, "delivered"),
                figures.delivered(scenario, "lost"),
                figures.rate(scenario.throughput_hz),
                figures.latency(scenario.latency_ns.response.p99),
                figures.size(scenario.target.rss_bytes_peak),
            )
            for scenario in document.scenarios
        ]
        yield table(("verdict", "scenario", "plan", "criteria", "delivered", "lost", "throughput", "p99", "memory, peak"), rows, left=4)


def _headline(document: RunDocument) -> str:
    """The sentence of the run; a search names what broke as code."""
    sentence = figures.headline(document)
    if document.mark is None:
        return text(sentence)
    return "".join(code(part) if place % 2 else _kept(part) for place, part in enumerate(sentence.split("`")))


def _kept(part: str) -> str:
    """Foreign text with the spaces at its ends."""
    return f"{' ' * part.startswith(' ')}{text(part)}{' ' * part.endswith(' ')}"


def _mark(found: Mark) -> Iterator[str]:
    """The mark of a search, and every trial."""
    yield rows_table("mark", mark.facts(found))
    if found.trials:
        rows = [
            (row.what, text(row.trial), text(row.why), row.delivered, row.p99, row.took)
            for row in (mark.cells(found, trial) for trial in mark.ordered(found))
        ]
        yield table(mark.HEADS, rows, left=mark.LEFT)


def _scenario(scenario: ScenarioResult) -> Iterator[str]:
    yield f"## {figures.MARKS[scenario.verdict]} {scenario.verdict.value}: {text(figures.title(scenario))}"
    plan = f" · plan {text(scenario.plan)}" if scenario.plan else ""
    scale = "" if scenario.scale == 1 else f" · scale {scenario.scale:g}"
    yield f"{code(scenario.id)}{plan}{scale} · took {figures.time_s(scenario.duration_s)}"
    for sentence in (figures.remark(scenario), scenario.note):
        if sentence:
            yield f"> {text(sentence)}"
    if scenario.criteria:
        rows = [(one.verdict.value, code(one.text), text(one.note), figures.observed(one)) for one in scenario.criteria]
        yield table(("verdict", "criterion", "note", "observed"), rows, left=3)
    yield rows_table("delivery", figures.account(scenario))
    yield _latencies(scenario)
    yield (
        rows_table("target", figures.target_cost(scenario))
        if scenario.target.rss_bytes_peak
        else "The target's processes could not be seen."
    )
    yield rows_table("generator", figures.generator_cost(scenario))
    if scenario.agents:
        yield table(away.HEADS, [tuple(map(text, row)) for row in away.rows(scenario)], left=away.LEFT)
    yield from _faults(scenario)
    yield from _findings(scenario)
    if scenario.log_tail and scenario.verdict is not Verdict.PASS:
        yield "The target's last lines:"
        yield fence(scenario.log_tail)


def _latencies(scenario: ScenarioResult) -> str:
    response, service = (figures.latencies(one) for one in (scenario.latency_ns.response, scenario.latency_ns.service))
    rows = [("response", *(row.figure for row in response)), ("service", *(row.figure for row in service))]
    return table(("latency", *(row.name for row in response)), rows, left=1)


def _faults(scenario: ScenarioResult) -> Iterator[str]:
    if scenario.faults:
        names = [code(faulted.name(one)) for one in scenario.faults]
        yield fault_table(names, faulted.ACCOUNT, [faulted.account(one) for one in scenario.faults])
        yield fault_table(names, faulted.COURSE, [faulted.course(one) for one in scenario.faults])
        yield fault_table(names, faulted.CLOCKS, [faulted.clocks(one) for one in scenario.faults])


def fault_table(names: Sequence[str], heads: Sequence[str], rows: Sequence[Sequence[str]], head: str = "fault") -> str:
    """One row for each blow."""
    return table((head, *heads), [(name, *row) for name, row in zip(names, rows, strict=True)], left=1)


def _findings(scenario: ScenarioResult) -> Iterator[str]:
    if not scenario.findings:
        return
    rows = [
        (
            one.anomaly.value,
            "yes" if one.violation else "no",
            text(one.detail),
            figures.count(one.count),
            str(one.subscription),
            str(one.publisher),
            figures.sequence(one),
        )
        for one in scenario.findings[:_FINDINGS_SHOWN]
    ]
    yield table(
        ("finding", "breaks the guarantee", "both ends' records", "messages", "subscription", "publisher", "sequence"), rows, left=3
    )
    if len(scenario.findings) > _FINDINGS_SHOWN:
        yield f"The first {_FINDINGS_SHOWN} of {len(scenario.findings)}; all of them are in findings.jsonl."


def _closing(document: RunDocument) -> Iterator[str]:
    yield "## Run it again"
    yield fence([document.command])
    yield rows_table("machine", figures.machine(document.machine))
