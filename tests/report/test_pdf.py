"""report.pdf: whole, the same each time, in the words of the other reports, and deaf to what a text would like it to do."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import msgspec
import pikepdf
import psutil
import pytest

from floodmark import cli, run_command
from floodmark.core.errors import UsageError
from floodmark.model.result import AgentResult
from floodmark.model.verdict import Verdict
from floodmark.report import RunFolder, away, pdf, plots, render
from floodmark.systems.pipeline.report.render import typesetter
from tests.report import made
from tests.systems.pipeline.report.render.pdf_text import pages_of

Write = Callable[..., RunFolder]
HOSTILE = '#panic("no") $x$ *b* `r` \\ "q" <l> @r // /* ]#let x=1[ \x1b[31m \u202e שלום'


def headings(content: bytes) -> list[str]:
    """The outline of a PDF, in reading order."""
    with pikepdf.open(io.BytesIO(content)) as opened, opened.open_outline() as outline:
        return [" ".join(str(item.title).split()) for item in outline.root]


def pages_count(content: bytes) -> int:
    with pikepdf.open(io.BytesIO(content)) as opened:
        return len(opened.pages)


def pages_of_bytes(content: bytes) -> list[list[str]]:
    """The texts of each page, in the order they were set."""
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        Path(file.name).write_bytes(content)
        return pages_of(Path(file.name))


def test_render_mixed_run_names_every_scenario_with_its_verdict(written: Write) -> None:
    folder = written(made.failed(2), made.faulted(8), made.unknown(3))

    content = pdf.render(folder)

    assert headings(content) == [
        "FAIL A thousand slow readers at the edge",
        "PASS Half of all are cut off, twice",
        "UNKNOWN A target that never came up",
        "Run it again",
        "Criteria and findings",
    ]
    assert 4 <= pages_count(content) <= 8
    with pikepdf.open(io.BytesIO(content)) as opened:
        assert str(opened.docinfo["/Title"]) == "FAIL: floodmark, 2026-01-31 14:25:01 UTC"


def test_render_run_without_scenarios_still_says_how_to_run_it_again(written: Write) -> None:
    assert headings(pdf.render(written())) == ["Run it again", "Criteria and findings"]


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
    document = folder.result()
    monkeypatch.setattr(RunFolder, "result", lambda _: document)
    shutil.rmtree(folder.path)

    with pytest.raises(UsageError, match=r"the folder .* is not there"):
        pdf.write_pdf(folder)


def test_render_run_too_long_for_the_typesetter_names_another_format(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typesetter, "TEMPLATE_LIMIT_BYTES", 1000)

    with pytest.raises(UsageError, match=r"too long for one PDF .* take --format html"):
        pdf.render(written(made.passed()))


def test_render_pages_are_numbered_through_the_front_and_the_record(written: Write) -> None:
    pages = pages_of_bytes(pdf.render(written(made.failed(2), made.passed(1))))

    said = [text for page in pages for text in page if text.startswith("page ")]
    assert said == [f"page {number} of {len(pages)}" for number in range(1, len(pages) + 1)]


def test_render_record_holds_every_criterion_and_finding_and_their_totals(written: Write) -> None:
    failed, passed = made.failed(2), made.passed(1)

    texts = " ".join(" ".join(text for page in pages_of_bytes(pdf.render(written(failed, passed))) for text in page).split())

    record = texts[texts.index("Criteria and findings") :]
    assert record.count("latency_p99 < 100ms") == 2
    assert all(finding.detail in record for finding in failed.findings)
    assert "All scenarios: 5 criteria met, 1 broken, 0 without evidence, 6 findings, 33 messages" in record


def test_render_takes_the_plots_of_the_page_that_drew_them(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(made.passed(1), made.faulted(8, title='<b> & "quotes"', id='odd & "id"'))
    drawn_anew = pdf.render(folder)
    folder.write_text("report.html", render(folder, "html"))

    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("drawn a second time")

    monkeypatch.setattr(plots, "draw", refuse)

    assert pdf.render(folder) == drawn_anew


@pytest.mark.parametrize("report_html", [b"", b"\xff\xfe no text", b'<svg class="plot" aria-label="9 other over time"></svg>'])
def test_drawn_in_page_that_is_none_of_ours_leaves_the_drawing_to_us(written: Write, report_html: bytes) -> None:
    folder = written(made.passed(1))
    expected = pdf.render(folder)

    folder.write_bytes("report.html", report_html)

    assert pdf.render(folder) == expected


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


def test_render_run_over_several_machines_has_the_table_of_its_agents_and_foreign_names_stay_text(written: Write) -> None:
    away_one = AgentResult(
        name="agent-0", host="m1", offset_ns=-1_500_000, uncertainty_ns=371_416, slices=(0, 2), rss_bytes_peak=178 << 20, cpu_s=1.5
    )
    lost_one = AgentResult(name="#a|<b>" + "x" * 60, host="*m2*", offset_ns=10**12, uncertainty_ns=2_000_000, slices=(1,), lost=(1,))
    folder = written(made.passed(agents=(away_one, lost_one)))

    pages = pages_of_bytes(pdf.render(folder))

    words = "".join(text for page in pages for text in page).replace(" ", "").replace("\u200b", "")
    assert "Agentsonothermachines" in words
    for row in away.rows(folder.result().scenarios[0]):
        assert all(cell.replace(" ", "") in words for cell in row)


def test_content_run_beside_the_runner_has_no_table_of_agents(written: Write) -> None:
    (told,) = pdf.content(made.document_of(made.passed()), {})["scenarios"]
    words = " ".join(text for page in pages_of_bytes(pdf.render(written(made.passed()))) for text in page)

    assert told["agents"] is None
    assert "other machines" not in words


def test_content_scenario_without_evidence_says_so() -> None:
    bare = made.unknown(criteria=(), log_tail=())

    (told,) = pdf.content(made.document_of(bare), {})["scenarios"]

    assert told["criteria"] == "none judged"
    assert told["target"]["rows"] == [("its processes could not be seen", "")]
    assert (told["plot"], told["faults"], told["log"]) == (None, [], [])


def test_content_a_word_too_long_for_its_column_may_be_broken() -> None:
    (told,) = pdf.content(made.document_of(made.passed(title="x" * 100)), {})["scenarios"]

    assert max(map(len, told["title"].split("\u200b"))) <= 34


def test_pictures_beyond_the_limit_are_left_out(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(made.passed(1), made.passed(2))
    both = pdf._pictures(folder.result(), folder.timelines(), {})
    sizes = [len(content) for _, content in both.values()]

    monkeypatch.setattr(pdf, "PLOTS_LIMIT_BYTES", sizes[0])

    assert list(both) == ["subscriptions.case-1", "subscriptions.case-2"]
    assert list(pdf._pictures(folder.result(), folder.timelines(), {})) == ["subscriptions.case-1"]


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


def test_add_pdf_says_nothing_when_it_is_there(written: Write) -> None:
    folder = written(made.passed())

    assert pdf.add_pdf(folder) is None
    assert (folder.path / "report.pdf").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UsageError("no room\nhere"), "no room here"),
        (ValueError("odd"), "ValueError: odd"),
        (asyncio.CancelledError(), "interrupted"),
        (MemoryError(), "MemoryError: "),
    ],
)
def test_add_pdf_whatever_fails_is_one_line_that_says_how_to_get_it(
    written: Write, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    folder = written(made.passed())

    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(pdf, "written", fail)

    assert pdf.add_pdf(folder) == (
        f"no report.pdf: {said.strip()}; floodmark report {folder.id} --format pdf makes it",
        said == "interrupted",
    )
    assert not (folder.path / "report.pdf").exists()


@pytest.mark.parametrize(("interrupted", "code"), [(False, 10), (True, 130)])
def test_run_command_result_stands_when_the_pdf_cannot_be_made(
    written: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], interrupted: bool, code: int
) -> None:
    folder = written(made.passed())
    monkeypatch.setattr(pdf, "add_pdf", lambda _: pdf.NoPdf("no report.pdf: the reason", interrupted))
    result = made.run_of(made.failed(), run=str(folder.path))
    monkeypatch.setattr(run_command, "_play", lambda *_, **__: result)
    monkeypatch.setattr(sys, "argv", ["floodmark", "run", "subscriptions.latency-1000ms", "--json"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    out = capsys.readouterr()
    assert ended.value.code == code
    assert out.err.splitlines()[-1] == "floodmark: no report.pdf: the reason"
    assert msgspec.json.decode(out.out)["verdict"] == "FAIL"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_add_pdf_asked_to_end_leaves_no_file_and_no_process(written: Write, tmp_path: Path, number: signal.Signals) -> None:
    folder = written(made.passed())
    places = tmp_path / "places"
    places.mkdir()
    code = (
        "import sys; from pathlib import Path; from floodmark.report import RunFolder, pdf, record\n"
        "def endless(*_):\n"
        "    while True: yield dict.fromkeys(('id', 'title', 'mark', 'what', 'seen', 'where'), 'x') | dict.fromkeys(record.COUNTS, 0)\n"
        "pdf.rows_of = endless\n"
        "print(*pdf.add_pdf(RunFolder(Path(sys.argv[1]))))\n"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(places)})
    limit_s = time.monotonic() + 30
    while not list(places.glob("floodmark-typeset-*/section-*.pdf")) and time.monotonic() < limit_s:
        assert process.poll() is None
        time.sleep(0.02)  # until the condition above
    assert list(places.glob("floodmark-typeset-*/section-*.pdf"))
    children = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(number)
    said, _ = process.communicate(timeout=30)

    assert said == f"no report.pdf: interrupted; floodmark report {folder.id} --format pdf makes it True\n"
    assert children
    assert not [child for child in children if child.is_running()]
    assert list(places.iterdir()) == []
    assert not [entry for entry in folder.path.iterdir() if "report.pdf" in entry.name]
