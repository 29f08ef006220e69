"""junit.xml: the run for a build server. One testsuite per run, one testcase per scenario; a search for the mark is one testcase.

FAIL is a `failure` with the criteria that broke, UNKNOWN an `error` with its reason: a build server shows both as not passed, and apart.
Contract: valid against the common schemas (Apache Ant's and Jenkins's), so only what both allow is written: the figures are properties
of the suite, named `<scenario>.<figure>` in base units; `hostname`, which Ant's demands, is `localhost`, since reports name no machine.
"""

from __future__ import annotations

from datetime import datetime
from xml.etree import ElementTree as ET

from floodmark.model.mark import Mark
from floodmark.model.result import ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import figures
from floodmark.report.document import RunDocument

_LATENCY = ("p50", "p99", "max")
_FINDINGS_SHOWN = 20


def render(document: RunDocument) -> str:
    """Render the XML document."""
    root = ET.Element("testsuites")
    cases = [_mark(document, document.mark)] if document.mark is not None else list(document.scenarios)
    verdicts = [scenario.verdict for scenario in cases]
    suite = ET.SubElement(
        root,
        "testsuite",
        id="0",
        package="floodmark",
        name="floodmark",
        hostname="localhost",
        timestamp=_timestamp(document.started),
        tests=str(len(verdicts)),
        failures=str(verdicts.count(Verdict.FAIL)),
        errors=str(verdicts.count(Verdict.UNKNOWN)),
        time=_seconds(document.duration_s),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(document):
        ET.SubElement(properties, "property", name=figures.clean(name), value=figures.clean(value))
    for scenario in cases:
        _case(suite, scenario)
    ET.SubElement(suite, "system-out").text = figures.clean(f"{figures.headline(document)}\nRun it again: {document.command}\n")
    ET.SubElement(suite, "system-err")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False).join(('<?xml version="1.0" encoding="UTF-8"?>\n', "\n"))


def _mark(document: RunDocument, mark: Mark) -> ScenarioResult:
    """The one test that a search for the mark is: its trials are how it was made, and some have to break."""
    name = next((trial.scenario.partition("@")[0] for trial in mark.trials), "mark")
    path = mark.vary.replace(".", "-")  # a dot would end the name of the test's class
    return ScenarioResult(
        id=f"{name}@{path}", plan="", verdict=mark.verdict, scale=document.scale, duration_s=document.duration_s, note=mark.why
    )


def _case(suite: ET.Element, scenario: ScenarioResult) -> None:
    group, _, name = scenario.id.rpartition(".")
    case = ET.SubElement(
        suite,
        "testcase",
        classname=figures.clean(f"floodmark.{group}" if group else "floodmark"),
        name=figures.clean(name or "unnamed"),
        time=_seconds(scenario.duration_s),
    )
    if scenario.verdict is Verdict.PASS:
        return
    tag = "failure" if scenario.verdict is Verdict.FAIL else "error"
    lines = _account(scenario)
    reason = scenario.note or next(iter(lines), "no evidence")
    ET.SubElement(case, tag, type=scenario.verdict.value, message=figures.clean(reason)).text = figures.clean("\n".join(lines))


def _account(scenario: ScenarioResult) -> list[str]:
    """What a person needs to see first: the criteria that do not hold, then the findings, then the target's last lines."""
    criteria = [
        f"{one.verdict.value} {one.text}: observed {figures.observed(one)}{f' ({one.note})' if one.note else ''}"
        for one in scenario.criteria
        if one.verdict is not Verdict.PASS
    ]
    findings = [f"{one.anomaly.value} {one.count}: {one.detail}" for one in scenario.findings[:_FINDINGS_SHOWN]]
    return [*criteria, *findings, *scenario.log_tail]


def _properties(document: RunDocument) -> list[tuple[str, str]]:
    run = [
        ("verdict", document.verdict.value),
        ("version", document.version),
        ("seed", str(document.seed)),
        ("scale", f"{document.scale:g}"),
        ("run", document.run),
        ("command", document.command),
        ("interrupted", str(document.interrupted).lower()),
    ]
    return [*run, *(pair for scenario in document.scenarios for pair in _figures(scenario))]


def _figures(scenario: ScenarioResult) -> list[tuple[str, str]]:
    delivery = [(name, getattr(scenario.delivery, name)) for name in figures.ACCOUNT]
    latency = [
        (f"{kind}_{name}_ns", getattr(getattr(scenario.latency_ns, kind), name)) for kind in ("response", "service") for name in _LATENCY
    ]
    rest = [
        ("throughput_hz", scenario.throughput_hz),
        ("target_rss_bytes_peak", scenario.target.rss_bytes_peak),
        ("generator_lag_ns_p99", scenario.generator.lag_ns_p99),
    ]
    return [(f"{scenario.id}.{name}", str(value)) for name, value in (*delivery, *latency, *rest)]


def _seconds(duration_s: float) -> str:
    return f"{duration_s:.3f}"


def _timestamp(started: str) -> str:
    """The schemas take neither fractions nor an offset."""
    return datetime.fromisoformat(started).replace(tzinfo=None).isoformat(timespec="seconds")
