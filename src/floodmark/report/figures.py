"""How every report writes a figure, a verdict and the sentence that opens it, so that no two formats disagree.

Input: values in base units as the result holds them. Output: text without markup; escaping is each format's own affair.
A figure has three significant digits and its unit; counts are exact. What was not measured is a dash, never a 0.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.judge.mark_trial import CARRIED
from floodmark.model import criterion
from floodmark.model.finding import Finding
from floodmark.model.metrics import METRICS, metric_of
from floodmark.model.result import CriterionResult, LatencySummary, RunResult, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report.machine import Machine

NONE = "–"
LIARS = "liars."
MARKS: dict[Verdict, str] = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.UNKNOWN: "?"}
PERCENTILES = ("p50", "p90", "p99", "p999", "max")
ACCOUNT = (
    "attempted",
    "acknowledged",
    "delivered",
    "lost",
    "duplicated",
    "reordered",
    "corrupted",
    "unexpected",
    "indeterminate",
    "dropped_by_us",
)

#: Control characters would move a terminal's cursor and are not allowed in XML; tab and line end may stay, lone surrogates may not.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Row(NamedTuple):
    """A named figure."""

    name: str
    figure: str


def clean(text: str) -> str:
    """Replace what no format can show: terminal escapes of a log line, for one.

    >>> clean("red \\x1b[31malert")
    'red �[31malert'
    """
    return _UNPRINTABLE.sub("�", text)


def three(value: float) -> str:
    """Three significant digits, all of them shown, so that figures line up in a column.

    >>> three(1.5), three(31.41), three(999.7), three(1234.5)
    ('1.50', '31.4', '1,000', '1,234')
    """
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def time_s(seconds: float) -> str:
    """A duration.

    >>> time_s(0.25), time_s(4.2), time_s(0.0000005), time_s(7200)
    ('250 ms', '4.20 s', '500 ns', '7,200 s')
    """
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(seconds) >= 0.9995 * factor:
            return f"{three(seconds / factor)} {unit}"
    return f"{seconds * 1e9:.0f} ns" if seconds else "0 s"


def latency(ns: int) -> str:
    """A latency in nanoseconds; a histogram never holds 0, so 0 means that nothing was measured."""
    return time_s(ns / 1e9) if ns else NONE


def size(count_bytes: float) -> str:
    """A size, in binary multiples; 0 means that nothing was measured.

    >>> size(2048), size(0)
    ('2.00 KiB', '–')
    """
    if not count_bytes:
        return NONE
    for factor, unit in ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB")):
        if abs(count_bytes) >= factor:
            return f"{three(count_bytes / factor)} {unit}"
    return f"{count_bytes:.0f} B"


def rate(value_hz: float) -> str:
    """A rate per second; 0 means that nothing was measured."""
    return f"{three(value_hz)} /s" if value_hz else NONE


def count(number: int) -> str:
    """An exact count."""
    return f"{number:,}"


def observed(result: CriterionResult) -> str:
    """What was seen, in the unit of the criterion's metric; a dash without evidence."""
    if result.observed is None:
        return NONE
    if result.text == CARRIED:  # no metric: a trial of a search for the mark is judged by it, beside its criteria
        return time_s(result.observed)
    try:
        dimension = criterion.parse(result.text).known.dimension
    except UsageError:  # a metric of another version of floodmark
        return f"{result.observed:.6g}"
    return quantity(result.observed, dimension)


def quantity(value: float, dimension: Dimension) -> str:
    """A value in its base unit; 0 is written as such, since here it was observed."""
    match dimension:
        case Dimension.TIME:
            return time_s(value)
        case Dimension.BYTES:
            return size(value) if value else "0 B"
        case Dimension.RATE:
            return f"{three(value)} /s"
        case Dimension.FACTOR:
            return f"{three(value)}x"
        case _:
            return units.show(value, dimension)


def headline(result: RunResult) -> str:
    """One sentence that says what the run showed."""
    if result.mark is not None:
        return f"{result.mark.vary}: {result.mark.why}."
    total = len(result.scenarios)
    if not total:
        return "Interrupted before the first scenario ended." if result.interrupted else "No scenario ran, so nothing is proved."
    tally = Counter(scenario.verdict for scenario in result.scenarios)
    failed, unknown = tally[Verdict.FAIL], tally[Verdict.UNKNOWN]
    broken = [text for number, text in ((failed, f"{failed} failed"), (unknown, f"{unknown} could not be judged")) if number]
    noun = "scenario" if total == 1 else "scenarios"
    if broken:
        sentence = f"Of {total} {noun}, {' and '.join(broken)}."
    else:
        sentence = f"All {total} scenarios passed." if total > 1 else "The scenario passed."
    return f"{sentence} The run was interrupted; what had not ended by then is missing." if result.interrupted else sentence


def title(scenario: ScenarioResult) -> str:
    """The scenario's title, or its id when it has none."""
    return scenario.title or scenario.id


def remark(scenario: ScenarioResult) -> str:
    """What a reader must know to read a verdict right; mostly empty.

    The liars turn the meaning round: their target is broken on purpose and PASS means that the harness caught it.
    """
    if not scenario.id.startswith(LIARS):
        return ""
    meaning = {
        Verdict.PASS: "the harness told them apart, with the exact count",
        Verdict.FAIL: "the harness let a lie through, or accused an honest target",
        Verdict.UNKNOWN: "the harness could not tell",
    }
    return f"The target is broken on purpose, or the honest twin of one. {scenario.verdict.value}: {meaning[scenario.verdict]}."


def first_anomaly(result: RunResult) -> tuple[ScenarioResult, Finding] | None:
    """The first finding to look at: of what failed, then of what is unknown, then of what passed; planted lies are left out."""
    honest = [scenario for scenario in result.scenarios if not scenario.id.startswith(LIARS) or scenario.verdict is not Verdict.PASS]
    for verdict in (Verdict.FAIL, Verdict.UNKNOWN, Verdict.PASS):
        for scenario in honest:
            for finding in scenario.findings:
                if scenario.verdict is verdict and finding.violation:
                    return scenario, finding
    return None


def sequence(finding: Finding) -> str:
    """The sequence numbers that bound a finding; a dash when the stamp could not be read."""
    if finding.first_seq < 0:
        return NONE
    return str(finding.first_seq) if finding.first_seq == finding.last_seq else f"{finding.first_seq}–{finding.last_seq}"


def criteria_summary(scenario: ScenarioResult) -> str:
    """How many criteria hold, and the first that does not."""
    held = sum(one.verdict is Verdict.PASS for one in scenario.criteria)
    text = f"{held} of {len(scenario.criteria)} hold"
    for verdict in (Verdict.FAIL, Verdict.UNKNOWN):
        for one in scenario.criteria:
            if one.verdict is verdict:
                return f"{text}; {one.text}: {observed(one) if one.observed is not None else 'no evidence'}"
    return text if scenario.criteria else "none judged"


def delivered(scenario: ScenarioResult, name: str) -> str:
    """One count of the delivery account; a dash when nothing was attempted, since 0 lost of nothing is no figure."""
    return count(getattr(scenario.delivery, name)) if scenario.delivery.attempted else NONE


def started(moment: str) -> str:
    """An ISO 8601 moment as a person writes it.

    >>> started("2026-01-31T14:25:01+00:00")
    '2026-01-31 14:25:01 UTC'
    """
    return moment.replace("T", " ", 1).replace("+00:00", " UTC")


def account(scenario: ScenarioResult) -> list[Row]:
    """The delivery account, in the order it is read: attempted first, what went wrong after."""
    return [Row(name.replace("_", " "), count(getattr(scenario.delivery, name))) for name in ACCOUNT]


def latencies(summary: LatencySummary) -> list[Row]:
    """The percentiles of one histogram and how many values they rest on."""
    figures = [Row("p99.9" if name == "p999" else name, latency(getattr(summary, name))) for name in PERCENTILES]
    return [*figures, Row("count", count(summary.count))]


def target_cost(scenario: ScenarioResult) -> list[Row]:
    """The process tree under test, seen from outside; empty when it could not be read."""
    usage = scenario.target
    if not usage.rss_bytes_peak:
        return []
    return [
        Row("memory at the start", size(usage.rss_bytes_start)),
        Row("memory, peak", size(usage.rss_bytes_peak)),
        Row("memory after the drain", size(usage.rss_bytes_end)),
        Row("processor time", time_s(usage.cpu_s)),
        Row("descriptors, peak", count(usage.fds_peak)),
        Row("threads, peak", count(usage.threads_peak)),
    ]


def generator_cost(scenario: ScenarioResult) -> list[Row]:
    """What floodmark itself cost, and how late it was."""
    usage = scenario.generator
    return [
        Row("memory, peak", size(usage.rss_bytes_peak)),
        Row("processor time", time_s(usage.cpu_s)),
        Row("lag, p99", latency(usage.lag_ns_p99)),
        Row("processes", count(usage.processes)),
    ]


def machine(seen: Machine) -> list[Row]:
    """The fingerprint as named"""
    versions = ", ".join(f"{name} {version}" for name, version in seen.versions.items())
    rows = [
        Row("processor", seen.cpu),
        Row("cores", count(seen.cores)),
        Row("memory", size(seen.memory_bytes)),
        Row("kernel", seen.kernel),
        Row("Python", seen.python),
        Row("versions", versions),
    ]
    return [Row(name, figure or NONE) for name, figure in rows]


def metrics(scenario: ScenarioResult) -> list[Row]:
    """Every metric of the scenario in its own unit, in the registry's order; those of another version come last."""
    order = {name: place for place, name in enumerate(METRICS)}
    names = sorted(scenario.metrics, key=lambda name: (order.get(name, len(order)), name))
    return [Row(name, _metric(name, scenario.metrics[name])) for name in names]


def _metric(name: str, value: float) -> str:
    known = metric_of(name)
    return quantity(value, known.dimension) if known else f"{value:.6g}"
