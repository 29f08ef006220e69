"""junit.xml: what a build server counts, within what both common schemas allow."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from floodmark.report import junit
from floodmark.report.document import RunDocument
from tests.report import made

#: Per element: the attributes that Ant's schema demands, and the children it allows in that order. Jenkins's allows all of these too.
SCHEMA: dict[str, tuple[set[str], list[str]]] = {
    "testsuites": (set(), ["testsuite"]),
    "testsuite": (
        {"name", "package", "id", "hostname", "timestamp", "tests", "failures", "errors", "time"},
        ["properties", "testcase", "system-out", "system-err"],
    ),
    "properties": (set(), ["property"]),
    "property": ({"name", "value"}, []),
    "testcase": ({"name", "classname", "time"}, ["error", "failure"]),
    "error": ({"type", "message"}, []),
    "failure": ({"type", "message"}, []),
    "system-out": (set(), []),
    "system-err": (set(), []),
}


def suite_of(document: RunDocument) -> ET.Element:
    """Parse what is rendered and return its only suite."""
    suites = ET.fromstring(junit.render(document)).findall("testsuite")
    assert len(suites) == 1
    return suites[0]


def test_render_counts_failures_and_errors_apart() -> None:
    suite = suite_of(made.document_of(made.passed(1), made.failed(2), made.unknown(3), made.failed(4)))

    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "1")
    assert [[child.tag for child in case] for case in suite.findall("testcase")] == [[], ["failure"], ["error"], ["failure"]]
    assert [case.get("name") for case in suite.findall("testcase")] == ["case-1", "case-2", "case-3", "case-4"]


def test_render_failure_names_the_criterion_and_what_was_seen() -> None:
    failure = suite_of(made.document_of(made.failed(2))).find("testcase/failure")

    assert failure is not None
    assert failure.get("message") == "FAIL lost == 0: observed 33"
    assert "queue of client 814 is full" in (failure.text or "")


def test_render_unknown_gives_its_reason() -> None:
    error = suite_of(made.document_of(made.unknown(3))).find("testcase/error")

    assert error is not None
    assert "took no connection within 20 s" in (error.get("message") or "")


def test_render_properties_hold_the_figures() -> None:
    scenario = made.failed(2)

    properties = {one.get("name"): one.get("value") for one in suite_of(made.document_of(scenario)).iter("property")}

    assert properties[f"{scenario.id}.lost"] == "33"
    assert properties[f"{scenario.id}.response_p99_ns"] == str(scenario.latency_ns.response.p99)
    assert properties["seed"] == "7"


def test_render_keeps_to_the_schema() -> None:
    root = ET.fromstring(junit.render(made.document_of(made.passed(1), made.failed(2), made.unknown(3))))

    for element in root.iter():
        demanded, children = SCHEMA[element.tag]
        assert set(element.attrib) == demanded
        places = [children.index(child.tag) for child in element]
        assert places == sorted(places)
    timestamp = next(root.iter("testsuite")).get("timestamp") or ""
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}", timestamp)


def test_render_hostile_text_stays_well_formed() -> None:
    scenario = made.failed(id='x.<a b="c">&', note="]]> \x00 \x1b[31m </testcase>", log_tail=("\ud800 half a pair", "\x0b"))

    suite = suite_of(made.document_of(scenario))

    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "]]> � �[31m </testcase>"


def test_render_empty_run_has_no_tests() -> None:
    suite = suite_of(made.document_of())

    assert suite.get("tests") == "0"
    assert "nothing is proved" in (suite.findtext("system-out") or "")
