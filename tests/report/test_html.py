"""report.html: whole, self-contained, deaf to what foreign text tries, and small."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from floodmark.report import RunFolder, html, render
from floodmark.report.profiled import Profile, Spot
from floodmark.report.series import timeline
from tests.report import made

Write = Callable[..., RunFolder]
VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADS = {"src", "srcset", "data", "poster", "action", "formaction", "background", "ping", "manifest"}


class Page(HTMLParser):
    """Reads a page, holds it to its own closing tags, and keeps what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """All that a reader can read."""
        return " ".join(" ".join(self.words).split())


@pytest.fixture(name="whole")
def whole_page(written: Write) -> str:
    """The page of a run with one scenario of each verdict."""
    return render(written(made.passed(1), made.failed(2), made.unknown(3)), "html")


def test_render_says_each_verdict_in_words(whole: str) -> None:
    page = Page(whole)

    assert page.text.index("✗ FAIL Of 3 scenarios, 1 failed and 1 could not be judged.") < 200
    assert "✓ PASS One thousand subscribers, case 1" in page.text
    assert "? UNKNOWN A target that never came up" in page.text


def test_render_loads_nothing_from_anywhere(whole: str) -> None:
    page = Page(whole)

    assert not re.search(r"https?:|//[a-z]", re.sub(r"<style>.*?</style>", "", whole, flags=re.DOTALL))
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert [found for found in page.attributes if found[1] in LOADS or found[1].startswith("on")] == []
    assert {value[0] for _, name, value in page.attributes if name in ("href", "xlink:href")} == {"#"}
    style = re.search(r"<style>(.*?)</style>", whole, flags=re.DOTALL)
    assert style is not None
    assert not re.search(r"@import|url\(|http", style.group(1))


def test_render_links_and_ids_meet_without_collision(whole: str) -> None:
    page = Page(whole)
    targets = {value[1:] for _, name, value in page.attributes if name in ("href", "xlink:href")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", whole))

    assert targets <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_render_holds_what_is_needed_to_run_it_again(whole: str) -> None:
    text = Page(whole).text

    assert made.COMMAND in text
    assert "seed 7" in text
    assert made.MACHINE.cpu in text
    assert "uvloop 0.21.0" in text


def test_render_shows_log_and_findings_where_a_verdict_needs_them(whole: str) -> None:
    text = Page(whole).text

    assert "queue of client 814 is full" in text
    assert "Address already in use" in text
    assert "First anomaly: 3 lost in subscriptions.case-2." in text
    assert "6 findings" in text


def test_render_hostile_text_stays_text() -> None:
    evil = "<script>alert('x')</script><img src=x onerror=alert(1)>\x1b[2J\x00"
    scenario = made.failed(id=f"x.{evil}", title=evil, note=evil, log_tail=(evil, "</pre><script>"), plan=evil)
    seen = timeline([(0.0, "published_hz", 1.0), (1.0, "published_hz", 2.0), (0.5, f"mark:{evil} $\\frac$", 1.0)])

    text = html.render(made.document_of(scenario, run=evil, version=evil), {scenario.id: seen})

    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count("<script>alert('x')</script>") >= 6
    assert "\x1b" not in text
    assert "\x00" not in text


def test_render_empty_run_proves_nothing() -> None:
    assert "? UNKNOWN No scenario ran, so nothing is proved." in Page(html.render(made.document_of(), {})).text


def test_render_interrupted_run_says_so() -> None:
    text = Page(html.render(made.document_of(made.passed(), interrupted=True), {})).text

    assert "The run was interrupted" in text


def test_render_caught_liar_is_explained() -> None:
    liar = made.passed(6, id="liars.lose-1-in-1000", title="A target that loses 1 in 1,000 is caught")

    text = Page(html.render(made.document_of(liar), {})).text

    assert "✓ PASS A target that loses 1 in 1,000 is caught" in text
    assert "broken on purpose" in text


def test_render_more_findings_than_shown_says_where_the_rest_is() -> None:
    findings = made.failed().findings * 20

    text = Page(html.render(made.document_of(made.failed(findings=findings)), {})).text

    assert "120 findings" in text
    assert f"The first {html.FINDINGS_SHOWN} of 120; all are in findings.jsonl." in text


def test_render_twelve_scenarios_with_many_samples_stays_small(written: Write) -> None:
    scenarios = [made.passed(number) for number in range(1, 13)]
    folder = written(*scenarios)
    rows, marks = made.sampled(seconds=3_000.0)
    for scenario in scenarios:
        folder.add_samples(scenario.id, rows, marks)

    text = render(folder, "html")

    assert len(rows) * len(scenarios) > 1_000_000
    assert text.count("<svg") == 12
    assert len(text.encode()) < 3_000_000


def test_render_faults_stand_in_a_table_and_in_the_strip(written: Write) -> None:
    text = render(written(made.faulted(8)), "html")

    page = Page(text)
    assert "disconnect, 2nd time" in page.text
    assert "It stayed degraded" in page.text
    assert re.search(r"<text[^>]*>wire\.latency</text>", text)


def test_render_profile_names_the_hottest_functions(written: Write) -> None:
    folder = written(made.passed(1))
    evil = Spot(function="<script>", file="/srv/hub/bus.py", line=42, own=300, below=600)
    folder.add_profile(Profile(scenario="subscriptions.case-1", kind="cpu", tool="py-spy 0.4", total=1_000, spots=(evil,)))

    page = Page(render(folder, "html"))

    assert "Profile: cpu, by py-spy 0.4" in page.text
    assert "<script> hub/bus.py:42 300 30.0 % 60.0 %" in page.text
    assert "script" not in page.tags


def test_render_forty_scenarios_has_a_summary_first_and_ways_back(written: Write) -> None:
    text = render(written(*(made.faulted(number) for number in range(1, 41))), "html")

    page = Page(text)
    targets = {value[1:] for _, name, value in page.attributes if name in ("href", "xlink:href")}
    assert {"top", *(f"s{number}" for number in range(1, 41))} <= targets <= set(page.ids)
    assert text.index('class="overview"') < text.index("<article")
    assert len(text.encode()) < 6_000_000
