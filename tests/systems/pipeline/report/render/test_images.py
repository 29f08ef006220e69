"""PNG and SVG: a file for each page, all or none."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.report.render import Style
from tests.systems.pipeline.report.render.shown import sales, shown_report, written

HEADS = {"png": b"\x89PNG", "svg": b"<svg"}


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_render_image_one_page_one_file(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"report.{kind}"

    rendered = written(shown_report(), sales(5), out, style=Style(ppi=50))

    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_bytes().startswith(HEADS[kind])
    assert (rendered.files, rendered.bytes) == ((out,), out.stat().st_size)


@pytest.fixture(scope="module")
def pages_count(tmp_path_factory: pytest.TempPathFactory) -> int:
    """On how many pages 300 rows are, as a PDF."""
    return written(shown_report(), sales(300), tmp_path_factory.mktemp("pdf") / "report.pdf").pages


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_render_image_many_pages_numbered_files(tmp_path: Path, kind: str, pages_count: int) -> None:
    rendered = written(shown_report(), sales(300), tmp_path / f"report.{kind}", style=Style(ppi=40, section_items=120))

    count = pages_count
    digits = len(str(count))
    names = [f"report-{number:0{digits}d}.{kind}" for number in range(1, count + 1)]
    assert rendered.pages == count > 3
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert [path.name for path in rendered.files] == names
    assert all(path.read_bytes().startswith(HEADS[kind]) for path in rendered.files)


def test_render_image_to_a_stream_refused() -> None:
    with pytest.raises(UsageError, match="PNG"):
        written(shown_report(), sales(1), io.BytesIO(), format="png")


def test_render_image_folder_missing_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there"):
        written(shown_report(), sales(1), tmp_path / "nowhere" / "report.svg")
