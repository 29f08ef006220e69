"""report.pdf: whole, the same each time, in the words of the other reports, and deaf to what a text would like it to do."""

from __future__ import annotations

import io
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import msgspec
import pikepdf
import pytest

from floodmark import cli
from floodmark.core.errors import UsageError
from floodmark.model.verdict import Verdict
from floodmark.report import RunFolder, pdf, plots, render
from floodmark.systems.pipeline.report.render import TemplateTooLargeError
from tests.report import made

Write = Callable[..., RunFolder]
HOSTILE = '#panic("no") $x$ *b* `r` \\ "q" <l> @r // /* ]#let x=1[ \x1b[31m \u202e שלום'


def headings(content: bytes) -> list[str]:
    """The outline of a PDF, in reading order."""
    with pikepdf.open(io.BytesIO(content)) as opened, opened.open_outline() as outline:
        return [" ".join(str(item.title).split()) for item in outline.root]


def pages_count(content: bytes) -> int:
    with pikepdf.open(io.BytesIO(content)) as opened:
        return len(opened.pages)


def test_render_mixed_run_names_every_scenario_with_its_verdict(written: Write) -> None:
    folder = written(made.failed(2), made.faulted(8), made.unknown(3))

    content = pdf.render(folder)

    assert headings(content) == [
        "FAIL A thousand slow readers at the edge",
        "PASS Half of all are cut off, twice",
        "UNKNOWN A target that never came up",
        "Run it again",
    ]
    assert 3 <= pages_count(content) <= 6
    with pikepdf.open(io.BytesIO(content)) as opened:
        assert str(opened.docinfo["/Title"]) == "FAIL: floodmark, 2026-01-31 14:25:01 UTC"


def test_render_run_without_scenarios_still_says_how_to_run_it_again(written: Write) -> None:
    assert headings(pdf.render(written())) == ["Run it again"]


def test_render_twice_gives_the_same_bytes(written: Write) -> None:
    folder = written(made.failed())

    assert pdf.render(folder) == pdf.render(folder)


def test_render_text_that_looks_like_markup_is_printed_as_it_is(written: Write) -> None:
    hostile = made.failed(2, title=HOSTILE, note=HOSTILE, log_tail=(HOSTILE,), plan=HOSTILE)
    finding = msgspec.structs.replace(hostile.findings[0], detail=HOSTILE)

    content = pdf.render(written(msgspec.structs.replace(hostile, findings=(finding,))))

    shown = " ".join(HOSTILE.replace("\x1b", "\ufffd").split())
    assert headings(content)[0] == f"FAIL {shown}"


def test_write_pdf_puts_it_into_the_run_folder_and_says_where(written: Write) -> None:
    folder = written(made.passed())

    path = pdf.write_pdf(folder)

    assert path == folder.path / "report.pdf"
    assert path.read_bytes().startswith(b"%PDF-")
    assert [entry.name for entry in folder.path.iterdir() if entry.name.startswith(".")] == []


def test_write_pdf_run_that_ended_before_its_first_result_is_told(written: Write) -> None:
    folder = written(made.passed())
    (folder.path / "run.json").unlink()

    with pytest.raises(UsageError, match="the run ended before its first result"):
        pdf.write_pdf(folder)


def test_write_pdf_folder_that_is_gone_is_told(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(made.passed())
    content = pdf.render(folder)
    monkeypatch.setattr(pdf, "render", lambda _: content)
    shutil.rmtree(folder.path)

    with pytest.raises(UsageError, match=r"cannot write .*report\.pdf: No such file or directory"):
        pdf.write_pdf(folder)


def test_render_run_too_long_for_the_typesetter_names_another_format(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> list[bytes]:
        raise TemplateTooLargeError(12_000_000, 10_000_000)

    monkeypatch.setattr(pdf, "compile_template", refuse)

    with pytest.raises(UsageError, match=r"too long for one PDF .* take --format html"):
        pdf.render(written(made.passed()))


def test_content_findings_beyond_the_limit_are_counted_and_left_to_the_file() -> None:
    scenario = made.failed()
    many = msgspec.structs.replace(scenario, findings=scenario.findings * 10)

    (told,) = pdf.content(made.document_of(many), {})["scenarios"]

    assert len(told["findings"]["rows"]) == pdf.FINDINGS_SHOWN == 50
    assert told["findings_title"] == "60 findings"
    assert told["more_findings"] == "The first 50 of 60; all are in findings.jsonl."


@pytest.mark.parametrize(("verdict", "shown"), [(Verdict.FAIL, {"bad": "33"}), (Verdict.PASS, "33")])
def test_content_losses_stand_out_only_where_they_broke_something(verdict: Verdict, shown: object) -> None:
    scenario = msgspec.structs.replace(made.failed(), verdict=verdict)

    (told,) = pdf.content(made.document_of(scenario), {})["scenarios"]

    assert dict(told["account"]["rows"])["lost"] == shown
    assert dict(told["account"]["rows"])["duplicated"] == "0"


def test_content_figures_are_those_of_the_markdown_report(written: Write) -> None:
    folder = written(made.failed(), made.faulted(), made.unknown())
    markdown = render(folder, "md")

    told = pdf.content(folder.result(), {})

    assert told["headline"] in markdown
    for scenario in told["scenarios"]:
        for sheet in (scenario["account"], scenario["latencies"], scenario["generator"], *scenario["faults"]):
            figures = [cell for row in sheet["rows"] for cell in row[1:]]
            assert figures
            assert all((cell["bad"] if isinstance(cell, dict) else cell) in markdown for cell in figures)


def test_content_scenario_without_evidence_says_so() -> None:
    bare = made.unknown(criteria=(), log_tail=())

    (told,) = pdf.content(made.document_of(bare), {})["scenarios"]

    assert told["criteria"]["rows"] == [("–", "No criterion was judged.", "", "")]
    assert told["target"]["rows"] == [("its processes could not be seen", "")]
    assert (told["plot"], told["faults"], told["findings"], told["log"]) == (None, [], None, [])


def test_content_a_word_too_long_for_its_column_may_be_broken() -> None:
    (told,) = pdf.content(made.document_of(made.passed(title="x" * 100)), {})["scenarios"]

    assert max(map(len, told["title"].split("\u200b"))) <= 34


def test_pictures_beyond_the_limit_are_left_out(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(made.passed(1), made.passed(2))
    both = pdf._pictures(folder.result(), folder.timelines())
    sizes = [len(content) for _, content in both.values()]

    monkeypatch.setattr(pdf, "PLOTS_LIMIT_BYTES", sizes[0])

    assert list(both) == ["subscriptions.case-1", "subscriptions.case-2"]
    assert list(pdf._pictures(folder.result(), folder.timelines())) == ["subscriptions.case-1"]


def test_standing_alone_plot_is_a_whole_svg_that_asks_for_nothing(written: Write) -> None:
    folder = written(made.faulted())
    (seen,) = folder.timelines().values()

    svg = pdf.standing_alone(plots.draw(seen, name="a", faults=made.faulted().faults))

    assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in svg
    assert all(address.startswith("#") for address in _links(svg))


def _links(svg: str) -> list[str]:
    return [value for element in ET.fromstring(svg).iter() for name, value in element.attrib.items() if name.endswith("href")]


def test_report_command_pdf_writes_the_file_and_prints_its_place(
    written: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(made.passed())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["floodmark", "report", "latest", "--format", "pdf"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    (printed,) = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert Path(printed).name == "report.pdf"
    assert Path(printed).read_bytes().startswith(b"%PDF-")


def test_render_of_the_text_formats_sends_pdf_to_its_module(written: Write) -> None:
    with pytest.raises(UsageError, match=r"pdf is not text; floodmark\.report\.pdf writes it"):
        render(written(made.passed()), "pdf")
