"""The record of a run as a report of the pipeline: every criterion and every finding, by scenario, counted.

Input: a run folder. Output: a declared `Report`, and the rows it prints, made one at a time: criteria from run.json, findings from
findings.jsonl, which is read line by line. Of a scenario the first FINDINGS_SHOWN findings are rows of their own; the rest are one row for
each anomaly, so that the document stays short while its totals hold everything.

Memory: one row, and a few bytes for each scenario, however many findings there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model.finding import Finding
from floodmark.model.result import CriterionResult
from floodmark.model.verdict import Verdict
from floodmark.report import figures, headroom
from floodmark.report.document import RunDocument
from floodmark.report.folder import FINDINGS, RunFolder
from floodmark.systems.pipeline.report import Band, Expression, Field, Group, Label, Report

TITLE = "Criteria and findings"
FINDINGS_SHOWN = 50
COUNTS = ("met", "broken", "unjudged", "findings", "messages")
_COUNTED = {Verdict.PASS: "met", Verdict.FAIL: "broken", Verdict.UNKNOWN: "unjudged"}
_NOTHING = dict.fromkeys(COUNTS, 0)

Row = dict[str, Any]
Stretch = tuple[int, int]  # of a file: where it begins and ends


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of findings.jsonl."""

    scenario: str
    finding: Finding


def report_of(document: RunDocument) -> Report:
    """Declare the record of a run."""
    return Report(
        name="record",
        title=f"{document.verdict.value}: floodmark, {figures.started(document.started)}",
        query="record",
        presorted=True,  # by the run: its scenarios in their order
        fields={"id": str, "title": str, "mark": str, "what": str, "seen": str, "where": str, **dict.fromkeys(COUNTS, int)},
        groups=(Group(level=1, name="id", expected_count=max(1, len(document.scenarios))),),
        bands=(
            Band(kind="title", elements=(Label(text=TITLE, bold=True),)),
            Band(kind="group_header", group_level=1, elements=(Field(source="title", bold=True),)),
            Band(
                kind="detail",
                elements=(
                    Field(source="mark", label="Verdict", width=2.1),
                    Field(source="what", label="Criterion, both ends' records", width=8),
                    Field(source="seen", label="Observed", align="right", width=2.3),
                    Field(source="where", label="Limit used, place", align="right", width=4.9),
                ),
            ),
            Band(kind="group_footer", group_level=1, elements=(Expression(text=_tally()),)),
            Band(kind="summary", elements=(Expression(text=f"'All scenarios: ' || {_tally()}", bold=True),)),
            Band(
                kind="page_footer",
                elements=(Label(text=f"floodmark · {document.run}", width=4), Label(text="page {page} of {pages}", align="right", width=1)),
            ),
        ),
        outputs=("pdf", "html", "csv", "jsonl"),
    )


def rows_of(folder: RunFolder, document: RunDocument) -> Iterator[Row]:
    """Give the rows of a run, scenario by scenario; a scenario whose result is missing has its findings at the end.

    Raises: UsageError when findings.jsonl cannot be read.
    """
    file = folder.path / FINDINGS
    stretches = _stretches(file)
    for scenario in document.scenarios:
        about = {"id": scenario.id, "title": f"{scenario.verdict.value}  {figures.title(scenario)}"}
        for judged in scenario.criteria:
            yield {**about, **_NOTHING, **_criterion(judged)}
        if not scenario.criteria:
            yield {**about, **_NOTHING, "mark": figures.NONE, "what": "No criterion was judged.", "seen": "", "where": ""}
        lines = scenario.findings if stretches is None else _findings(file, stretches.pop(scenario.id, ()))
        yield from ({**about, **row} for row in _rows(lines))
    for scenario_id, places in (stretches or {}).items():
        about = {"id": scenario_id, "title": f"{Verdict.UNKNOWN.value}  {scenario_id}, which did not end"}
        yield from ({**about, **row} for row in _rows(_findings(file, places)))


def _rows(findings: Iterable[Finding]) -> Iterator[Row]:
    """The first findings one by one, then what the others come to."""
    rest: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    for number, finding in enumerate(findings):
        if number < FINDINGS_SHOWN:
            yield _finding(finding)
        else:  # HOT: there may be a million of these
            rest[finding.anomaly.value] += 1
            messages[finding.anomaly.value] += finding.count
    for name, count in rest.items():
        what = f"{figures.count(count)} more {'finding' if count == 1 else 'findings'}; all are in {FINDINGS}"
        counted = {**_NOTHING, "findings": count, "messages": messages[name]}
        yield {"mark": name, "what": what, "seen": _messages(messages[name]), "where": "", **counted}


def _criterion(judged: CriterionResult) -> Row:
    used = headroom.used_ratio(judged)
    return {
        "mark": judged.verdict.value,
        "what": f"{judged.text}\n{judged.note}" if judged.note else judged.text,
        "seen": figures.observed(judged),
        "where": "" if used is None else headroom.share(used),
        _COUNTED[judged.verdict]: 1,
    }


def _finding(finding: Finding) -> Row:
    place = f"subscription {finding.subscription}, publisher {finding.publisher}"
    return {
        **_NOTHING,
        "mark": finding.anomaly.value if finding.violation else f"{finding.anomaly.value}, allowed",
        "what": finding.detail,
        "seen": _messages(finding.count),
        "where": place if finding.first_seq < 0 else f"{place}\n{figures.sequence(finding)}",
        "findings": 1,
        "messages": finding.count,
    }


def _messages(count: int) -> str:
    return f"{figures.count(count)} {'message' if count == 1 else 'messages'}"


def _tally() -> str:
    """SQL of the line that counts what stands above it."""
    said = zip(COUNTS, ("criteria met", "broken", "without evidence", "findings", "messages"), strict=True)
    return " || ', ' || ".join(f"CAST(COALESCE(SUM({name}), 0) AS TEXT) || ' {label}'" for name, label in said)


def _stretches(file: Path) -> dict[str, list[Stretch]] | None:
    """Where in the file the findings of each scenario stand; None when there is no such file."""
    found: dict[str, list[Stretch]] = {}
    decode = msgspec.json.Decoder(_Line).decode
    begin = number = 0
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):  # noqa: B007  # HOT; the number is for the error
                of = found.setdefault(decode(line).scenario, [])
                end = begin + len(line)
                if of and of[-1][1] == begin:
                    of[-1] = (of[-1][0], end)
                else:
                    of.append((begin, end))
                begin = end
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise UsageError(f"{file} cannot be read: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise UsageError(f"{file}, line {number} is no finding: {exc}") from exc
    return found


def _findings(file: Path, places: Iterable[Stretch]) -> Iterator[Finding]:
    decode = msgspec.json.Decoder(_Line).decode
    with file.open("rb") as lines:
        for begin, end in places:
            lines.seek(begin)
            while begin < end:
                line = lines.readline()
                begin += len(line)
                yield decode(line).finding
