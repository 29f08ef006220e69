"""`floodmark pipeline`: a report file and a source become a file, or rows on stdout, or one sentence; never half a file."""

from __future__ import annotations

import csv
import io
import json
import logging
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pikepdf
import polars as pl
import psutil
import pytest

from floodmark import cli
from floodmark.systems.pipeline import command
from floodmark.systems.pipeline.command import Teller, progress_line, summary
from floodmark.systems.pipeline.report.render import Rendered, TypesetterDiedError
from tests.runner.played import Played, play, playing, wait_for

EXAMPLE = Path(__file__).parents[2] / "examples" / "sales" / "sales.py"
SALES = EXAMPLE.with_name("sales.csv")
REPORT = """
from floodmark.systems.pipeline import Query
from floodmark.systems.pipeline.report import Group, Parameter, Report
report = Report(
    name="tried", query={query}, source={source!r}, outputs=("pdf", "svg", "html", "jsonl", "csv"),
    fields={{"id": int, "territory": str, "amount": "money"}}, groups=(Group(level=1, name="territory"),),
    parameters=(Parameter(name="since", type="date"),),
)
"""
ROWS = [(1, "north", "1.50"), (2, "south", "2.25"), (3, "north", "4.00")]


def write_report(folder: Path, *, query: str = '"sales"', source: str = "sales.db", name: str = "tried.py") -> Path:
    path = folder / name
    path.write_text(REPORT.format(query=query, source=source))
    return path


def write_database(folder: Path, rows: list[tuple[int, str, str]]) -> Path:
    path = folder / "sales.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, territory, amount)")
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", rows)
    connection.close()
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a report and its three sales."""
    monkeypatch.chdir(tmp_path)
    write_report(tmp_path)
    write_database(tmp_path, ROWS)
    return tmp_path


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run `floodmark pipeline ...` in this process; return its exit code and what it wrote to stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["floodmark", "pipeline", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfdbinary.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out.decode(), err.decode()

    return run


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_pipeline_without_arguments_shows_help(pipeline: Run) -> None:
    code, out, err = pipeline()

    assert code == 2
    for word in ("REPORT.py", "--source", "--output", "--format", "--parameter", "--chunk-size", "--pager"):
        assert word in out + err


@pytest.mark.parametrize("ending", ["pdf", "html", "jsonl", "csv", "svg"])
def test_pipeline_file_name_decides_the_format(place: Path, pipeline: Run, ending: str) -> None:
    code, out, err = pipeline("tried.py", "-o", f"made.{ending}")

    content = (place / f"made.{ending}").read_bytes()
    assert (code, out) == (0, "")
    assert err.startswith(f"made.{ending}: 3 rows")
    assert err.endswith(" s, 0 left out\n")
    start = {"pdf": b"%PDF-", "html": b"<!doctype html>", "jsonl": b'{"id":', "csv": b"id,territory,amount", "svg": b"<svg"}
    assert content.startswith(start[ending])
    assert files_in(place) == {"tried.py", "sales.db", f"made.{ending}"}


def test_pipeline_without_a_place_writes_a_pdf_named_like_the_report_file(place: Path, pipeline: Run) -> None:
    code, _, err = pipeline("tried.py")

    assert (code, err.split(":")[0]) == (0, "tried.pdf")
    with pikepdf.open(place / "tried.pdf") as opened:
        assert str(opened.docinfo["/Title"]) == "Tried"
        assert f"on {len(opened.pages)} page," in err


def test_pipeline_to_stdout_writes_rows_there_and_nothing_else(place: Path, pipeline: Run) -> None:
    code, out, err = pipeline("tried.py", "-o", "-", "--format", "csv")

    assert code == 0
    assert list(csv.reader(io.StringIO(out))) == [
        ["id", "territory", "amount"],
        ["1", "north", "1.5"],
        ["3", "north", "4"],
        ["2", "south", "2.25"],
    ]
    assert err.startswith("stdout: 3 rows, ")
    assert files_in(place) == {"tried.py", "sales.db"}


def test_pipeline_to_stdout_whose_reader_leaves_ends_in_peace(place: Path) -> None:
    frame = pl.DataFrame({"id": range(200_000)}).with_columns(territory=pl.lit("north"), amount=pl.lit("1.00"))
    frame.write_csv(place / "many.csv")
    write_report(place, query="Query()", source="many.csv")
    line = f"{sys.executable} -m floodmark pipeline tried.py -o - --format jsonl | head -2; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", line], cwd=place, capture_output=True, timeout=60, check=False)

    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [0, 1]
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_pipeline_rows_that_cannot_be_read_are_left_out_counted_and_the_first_one_told(place: Path, pipeline: Run) -> None:
    (place / "sales.db").unlink()
    write_database(place, [*ROWS, (4, "west", "many"), (5, "west", "several")])

    code, _, err = pipeline("tried.py", "-o", "made.csv")

    first, second = err.splitlines()
    assert code == 0
    assert first.startswith("made.csv: 3 rows, ")
    assert first.endswith(", 2 left out")
    assert "left out because a value could not be read; the first: " in second
    assert "many" in second


@pytest.mark.parametrize("pager", ["keyset", "offset"])
def test_pipeline_pager_and_chunk_size_change_nothing_in_the_rows(pipeline: Run, pager: str) -> None:
    words = (str(EXAMPLE), "-o", "-", "--format", "jsonl")
    _, whole, _ = pipeline(*words)

    code, parted, _ = pipeline(*words, "--pager", pager, "--chunk-size", "7")

    assert code == 0
    assert parted == whole
    assert len(whole.splitlines()) == 320


def test_pipeline_parameters_reach_the_query(pipeline: Run) -> None:
    with SALES.open(newline="") as file:
        expected = [row for row in csv.DictReader(file) if row["territory"] == "North" and row["sold_on"] >= "2026-01-01"]

    words = ("--parameter", "territory=North", "--parameter", "since=2026-01-01")
    code, out, _ = pipeline(str(EXAMPLE), "-o", "-", "--format", "csv", *words)

    found = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert sorted(int(row["id"]) for row in found) == sorted(int(row["id"]) for row in expected)
    assert sum(Decimal(row["price"]) * int(row["quantity"]) for row in found) == sum(
        Decimal(row["price"]) * int(row["quantity"]) for row in expected
    )


def test_pipeline_example_as_a_sqlite_file_gives_the_same_rows(tmp_path: Path, pipeline: Run) -> None:
    with SALES.open(newline="") as file, sqlite3.connect(tmp_path / "sales.db") as connection:
        head, *rows = csv.reader(file)
        connection.execute(f"CREATE TABLE sales ({', '.join(f'{name} TEXT' for name in head)})")  # as sqlite3's .import makes it
        connection.executemany(f"INSERT INTO sales VALUES ({', '.join('?' * len(head))})", rows)
    connection.close()
    words = (str(EXAMPLE), "-o", "-", "--format", "jsonl", "--parameter", "since=2026-02-01")

    code, from_sqlite, err = pipeline(*words, "--source", str(tmp_path / "sales.db"))
    _, from_csv, _ = pipeline(*words)

    assert code == 0, err
    assert sorted(from_sqlite.splitlines()) == sorted(from_csv.splitlines())


def test_pipeline_example_prints_its_totals(tmp_path: Path, pipeline: Run) -> None:
    with SALES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    turnover = sum(Decimal(row["price"]) * int(row["quantity"]) for row in rows)

    code, _, err = pipeline(str(EXAMPLE), "-o", str(tmp_path / "sales.html"))

    page = (tmp_path / "sales.html").read_text()
    assert code == 0, err
    assert f"€{turnover:,.2f}" in page
    for territory in ("East", "North", "South", "West"):
        assert f"All of {territory}, {sum(row['territory'] == territory for row in rows)} sales" in page
    assert "01 Oct 2025" in page


WRONG = {
    "no-file": (("nothing.py",), ("nothing.py: there is no such file",)),
    "near-file": (("tride.py",), ("did you mean tried.py?",)),
    "folder": ((".",), ("this is not a file",)),
    "no-report": (("empty.py",), ("empty.py: the file defines no report = Report(...)",)),
    "other-name": (("other.py",), ("it calls one 'sales': name that report",)),
    "other-thing": (("thing.py",), ("report is a int; it has to be a Report",)),
    "syntax": (("syntax.py",), ("syntax.py:2: SyntaxError:",)),
    "raises": (("raises.py",), ("raises.py:3: ZeroDivisionError: division by zero",)),
    "exits": (("exits.py",), ("exits.py:1: SystemExit",)),
    "misdeclared": (("misdeclared.py",), ("misdeclared.py:2: ", "unknown field 'amuont'; did you mean 'amount'?")),
    "sourceless": (("sourceless.py",), ("names no source; give one with --source",)),
    "no-source": (("tried.py", "--source", "sale.db"), ("there is no file 'sale.db'; did you mean 'sales.db'?",)),
    "odd-source": (("tried.py", "--source", "ftp://x/y"), ("unknown kind of source ftp://",)),
    "no-table": (("untabled.py",), ("report 'tried'", "nowhere")),
    "ending": (("tried.py", "-o", "x.pfd"), ("-o x.pfd: the report 'tried' is made as pdf, svg, html, jsonl, csv; did you mean 'pdf'?",)),
    "format": (("tried.py", "--format", "doc"), ("--format doc: the report 'tried' is made as",)),
    "not-offered": (("tried.py", "--format", "png"), ("--format png: the report 'tried' is made as",)),
    "stdout-format": (("tried.py", "-o", "-"), ("-o - needs a --format: csv, jsonl, html",)),
    "stdout-pdf": (("tried.py", "-o", "-", "--format", "pdf"), ("pdf cannot be written to stdout",)),
    "out-folder": (("tried.py", "-o", "no/x.pdf"), ("-o no/x.pdf: the folder no is not there",)),
    "out-is-folder": (("tried.py", "-o", "."), ("-o . is a folder",)),
    "over-source": (("tried.py", "-o", "sales.db", "--format", "csv"), ("-o sales.db would overwrite sales.db",)),
    "over-url": (
        ("tried.py", "--source", "sqlite:///sales.db", "-o", "sales.db", "--format", "csv"),
        ("would overwrite sqlite:///sales.db",),
    ),
    "over-report": (("tried.py", "-o", "tried.py", "--format", "csv"), ("-o tried.py would overwrite tried.py",)),
    "parameter": (("tried.py", "--parameter", "sinc=2026-01-01"), ("unknown parameter 'sinc'; did you mean 'since'?",)),
    "parameter-form": (("tried.py", "--parameter", "since"), ("--parameter takes name=value, got 'since'",)),
    "parameter-kind": (("tried.py", "--parameter", "since=soon"), ("parameter 'since': cannot read 'soon' as date",)),
    "parameter-twice": (("tried.py", "--parameter", "since=2026-01-01", "--parameter", "since=2026-01-02"), ("since is given twice",)),
    "chunk-size": (("tried.py", "--chunk-size", "0"), ("--chunk-size must be at least 1, got 0",)),
    "pager": (("tried.py", "--pager", "page"), ("--pager must be keyset or offset, got 'page'",)),
}
FILES = {
    "empty.py": "x = 1\n",
    "thing.py": "report = 1\n",
    "syntax.py": "x = 1\ny = = 2\n",
    "raises.py": "def f():\n    pass\n1 / 0\n",
    "exits.py": "raise SystemExit(3)\n",
    "misdeclared.py": "from floodmark.systems.pipeline.report import Field, Band, Report\n"
    "report = Report(name='a', query='b', fields={'amount': int}, bands=(Band(kind='detail', elements=(Field(source='amuont'),)),))\n",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_pipeline_what_is_wrong_is_told_in_one_sentence(place: Path, pipeline: Run, wrong: str) -> None:
    for name, text in FILES.items():
        (place / name).write_text(text)
    write_report(place, name="sourceless.py", source="")
    write_report(place, name="untabled.py", query='"nowhere"')
    (place / "other.py").write_text((place / "tried.py").read_text().replace("report = Report(", "sales = Report("))
    before = files_in(place)
    arguments, parts = WRONG[wrong]

    code, out, err = pipeline(*arguments)

    assert (code, out) == (2, ""), err
    (sentence,) = err.splitlines()
    assert sentence.startswith("floodmark: ")
    for part in parts:
        assert part in sentence
    assert files_in(place) - {"__pycache__"} == before


def test_pipeline_source_that_fails_halfway_leaves_nothing_and_says_why(place: Path, pipeline: Run) -> None:
    (place / "sales.db").unlink()
    write_database(place, [(number, "north", "1.00") for number in range(1, 5001)])
    amount = "abs(CASE id WHEN 4000 THEN -9223372036854775808 ELSE id END)"  # has no positive counterpart: that row's query fails
    write_report(place, query=f'Query(sql="SELECT id, territory, {amount} AS amount FROM sales", order_by=("id",))')

    code, out, err = pipeline("tried.py", "-o", "made.csv")

    assert (code, out) == (11, "")
    (sentence,) = err.splitlines()
    assert sentence.startswith("floodmark: the report could not be made: ")
    assert sentence.endswith("the source refused the query: integer overflow")
    assert "stream" not in sentence  # its id would tell a reader nothing
    assert files_in(place) == {"tried.py", "sales.db"}


def test_pipeline_typesetter_that_dies_is_told(place: Path, pipeline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(*_: object, **__: object) -> Rendered:
        raise TypesetterDiedError(-9, "")

    monkeypatch.setattr(command, "render", die)

    code, out, err = pipeline("tried.py", "-o", "made.pdf")

    assert (code, out) == (11, "")
    assert err == "floodmark: the report could not be typeset: the typesetter's process ended early (exit code -9)\n"


def test_pipeline_place_that_cannot_be_written_is_told(place: Path, pipeline: Run) -> None:
    name = f"{'x' * 250}.csv"  # fits, but not what stands beside it until it is whole

    code, out, err = pipeline("tried.py", "-o", name)

    assert (code, out) == (2, "")
    assert err == f"floodmark: cannot write {name}: File name too long; nothing of the report was kept\n"
    assert files_in(place) == {"tried.py", "sales.db"}


def test_pipeline_disk_that_is_full_is_told_and_leaves_nothing(place: Path) -> None:
    frame = pl.DataFrame({"id": range(50_000)}).with_columns(territory=pl.lit("north"), amount=pl.lit("1.00"))
    (place / "sales.db").unlink()
    write_database(place, frame.rows())

    played = play(
        place, "pipeline", "tried.py", "-o", "made.csv", before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    )

    assert played.code == 2, played.stderr
    assert "cannot write made.csv: File too large; nothing of the report was kept" in played.sentence
    assert {name for name in files_in(place) if "made" in name} == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ending", ["pdf", "html"])
def test_pipeline_interrupted_midway_leaves_no_file_and_no_process(place: Path, ending: str, number: signal.Signals) -> None:
    frame = pl.DataFrame({"id": range(300_000)}).with_columns(territory=pl.lit("north"), amount=pl.lit("1.00"))
    (place / "sales.db").unlink()
    write_database(place, frame.rows())

    with playing(place, "pipeline", "tried.py", "-o", f"made.{ending}") as played:
        wait_for(lambda: _has_begun(played, ending), "beginning of the report")
        played.signal(number, group=True)
        played.wait()

    assert played.code == 130, played.stderr
    assert played.sentence == "floodmark: interrupted"
    assert {name for name in files_in(place) if "made" in name} == set()


def _has_begun(played: Played, ending: str) -> bool:
    """Whether a part of the report is there: pages in the typesetter's folder, text in the file that is not in its place yet."""
    assert played.process.poll() is None, played.stderr
    if ending == "pdf":
        return bool(psutil.Process(played.process.pid).children()) and any((played.folder / "tmp").rglob("*.pdf"))
    return any(path.stat().st_size > 100_000 for path in played.folder.glob(".made.html.*.part"))


# -- the words ----------------------------------------------------------------------------------------------------------------------


def test_teller_terminal_writes_over_one_line_and_takes_it_away() -> None:
    now_s = [0.0]
    stderr = io.StringIO()
    teller = Teller(stderr, on_terminal=True, clock_s=lambda: now_s[0])

    for second in (0.05, 0.1, 0.15, 0.2):
        now_s[0] = second
        teller.progress(int(second * 1000), 1000, 0, 0)
    teller.say("done")

    clear = "\r\x1b[K"
    assert stderr.getvalue() == f"{clear}100 of 1,000 rows (10 %){clear}200 of 1,000 rows (20 %){clear}done\n"


def test_teller_log_gets_a_line_now_and_then() -> None:
    now_s = [0.0]
    stderr = io.StringIO()
    teller = Teller(stderr, on_terminal=False, clock_s=lambda: now_s[0])

    for second in range(26):
        now_s[0] = float(second)
        teller.progress(second, None, 1, 2)

    assert stderr.getvalue() == "10 rows, 2 pages, 1 left out\n20 rows, 2 pages, 1 left out\n"


def test_teller_says_warnings_of_the_pipeline_and_leaves_logging_as_it_was() -> None:
    logger = logging.getLogger("floodmark.systems.pipeline")
    before = (logger.propagate, list(logger.handlers))
    stderr = io.StringIO()

    with Teller(stderr, on_terminal=False).logging():
        logging.getLogger("floodmark.systems.pipeline.producer").warning("query failed, %d left", 2)
        logging.getLogger("floodmark.systems.pipeline.producer").info("too much to say")
        logging.getLogger("floodmark.systems.pipeline.report.shape").warning("counted at the end")

    assert stderr.getvalue() == "warning: query failed, 2 left\n"
    assert (logger.propagate, logger.handlers) == before


def test_progress_line_counts_what_was_left_out_as_done() -> None:
    assert progress_line(900, 1000, 100, 0) == "900 of 1,000 rows (100 %), 100 left out"
    assert progress_line(1, None, 0, 1) == "1 row, 1 page"


def test_summary_names_the_first_of_many_files() -> None:
    files = (Path("a-1.png"), Path("a-2.png"), Path("a-3.png"))
    rendered = Rendered(pages=3, records=70, skipped=0, bytes=1_234_567, seconds=1.25, files=files)

    assert summary(rendered, "a-1.png", 0, "") == "a-1.png and 2 files more: 70 rows on 3 pages, 1.2 MB in 1.2 s, 0 left out"
