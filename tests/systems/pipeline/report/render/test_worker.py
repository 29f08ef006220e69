"""The typesetter's process by itself: jobs in, answers out, one line each, whatever a job does wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pikepdf
import pytest
import typst

from floodmark.systems.pipeline.report.render import worker

LIMIT_S = 60.0


def job_for(folder: Path, text: str, **changes: Any) -> dict[str, Any]:
    """A job that compiles this document into a PDF."""
    main = folder / "main.typ"
    main.write_text(text)
    plain = {"do": "compile", "main": str(main), "inputs": {}, "out": str(folder / "out.pdf"), "format": "pdf", "ppi": 72.0}
    return {**plain, "attachment": "", "strict_fonts": False, **changes}


def section(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(typst.compile(text.encode()))
    return str(path)


def answers_to(*jobs: dict[str, Any]) -> list[dict[str, Any]]:
    """What the process says to these jobs, until its input ends."""
    done = subprocess.run(
        [sys.executable, "-I", worker.__file__],
        input="".join(json.dumps(job) + "\n" for job in jobs),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def fonts() -> Any:
    return typst.Fonts(include_system_fonts=False)


def test_main_answers_every_job_in_order_and_goes_on_after_a_bad_one(tmp_path: Path) -> None:
    good = job_for(tmp_path, "#pagebreak()")
    broken = tmp_path / "broken.typ"
    broken.write_text("#let x = ")

    first, second, third = answers_to(good, good | {"main": str(broken)}, good | {"main": str(tmp_path / "gone.typ")})

    assert (first["ok"]["pages"], first["ok"]["files"]) == (2, [str(tmp_path / "out.pdf")])
    assert second["error"]["typeset"]
    assert "expected expression" in second["error"]["message"]
    assert not third["error"]["typeset"]
    assert third["error"]["message"].startswith("FileNotFoundError")
    assert all(10_000_000 < answer["rss_bytes_peak"] < 2_000_000_000 for answer in (first, second, third))


def test_compile_gives_back_what_the_document_attached(tmp_path: Path, fonts: Any) -> None:
    job = job_for(tmp_path, '#pdf.attach("told.json", read("in.json", encoding: none))', attachment="told.json")
    data = tmp_path / "data"
    data.write_text('{"pages": [1, 2]}')

    answer = worker.compile_document(job | {"inputs": {"in.json": str(data)}}, fonts)

    assert answer["attachment"] == {"pages": [1, 2]}
    assert answer["bytes"] == (tmp_path / "out.pdf").stat().st_size


def test_compile_pictures_are_a_file_for_each_page(tmp_path: Path, fonts: Any) -> None:
    answer = worker.compile_document(job_for(tmp_path, "a#pagebreak()b", format="svg", out=str(tmp_path / "page-{page}.svg")), fonts)

    assert answer["pages"] == 2
    assert [Path(path).name for path in answer["files"]] == ["page-1.svg", "page-2.svg"]
    assert all("<svg" in Path(path).read_text() for path in answer["files"])


def test_compile_a_font_that_is_not_there_is_an_error_only_if_asked(tmp_path: Path, fonts: Any) -> None:
    job = job_for(tmp_path, '#set text(font: "No Such Font")\nx')

    assert worker.compile_document(job, fonts)["pages"] == 1
    with pytest.raises(LookupError, match="unknown font family: no such font"):
        worker.compile_document(job | {"strict_fonts": True}, fonts)


def test_join_takes_the_first_pages_lays_the_overlay_over_and_keeps_outlines(tmp_path: Path) -> None:
    front = section(tmp_path, "front.pdf", "= One\n#pagebreak()\n= Two")
    rest = section(tmp_path, "rest.pdf", "a#pagebreak()= Left out with its page")
    overlay = section(tmp_path, "overlay.pdf", "o#pagebreak()o#pagebreak()o")
    out = tmp_path / "joined.pdf"

    answer = worker.join(
        {
            "sections": [[front, 2], [rest, 1]],
            "overlays": [overlay],
            "out": str(out),
            "title": "Joined",
            "author": "Ann",
            "outline": [["Rest", 2]],
        }
    )

    assert answer == {"pages": 3, "bytes": out.stat().st_size}
    with pikepdf.open(out) as joined, joined.open_outline() as outline:
        assert [str(item.title) for item in outline.root] == ["One", "Two", "Rest"]
        assert all(worker.AROUND in page.resources.XObject for page in joined.pages)
        assert (str(joined.docinfo["/Title"]), str(joined.docinfo["/Author"])) == ("Joined", "Ann")


def test_join_without_outlines_makes_none(tmp_path: Path) -> None:
    out = tmp_path / "joined.pdf"
    plain = section(tmp_path, "plain.pdf", "a")

    worker.join({"sections": [[plain, 1]], "overlays": [], "out": str(out), "title": "t", "author": "", "outline": []})

    with pikepdf.open(out) as joined:
        assert "/Outlines" not in joined.Root
        assert "/Author" not in joined.docinfo


@pytest.mark.parametrize(("error", "typeset", "said"), [(LookupError("no font"), True, "no font"), (OSError(), False, "OSError: OSError")])
def test_failure_tells_the_typesetters_errors_from_others(error: Exception, typeset: bool, said: str) -> None:
    assert worker.failure(error) == {"typeset": typeset, "message": said, "hints": [], "trace": []}
