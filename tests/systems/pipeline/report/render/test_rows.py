"""JSON lines and CSV: the rows as values, exact, and read back by other readers."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from floodmark.systems.pipeline.batch import Batch
from floodmark.systems.pipeline.report.render import InvalidFormatError, render
from tests.systems.pipeline.report.render.shown import NASTY, chunks, plain_report, sales, written

FIELDS: dict[str, Any] = {"day": "date", "at": "datetime", "ok": bool, "share": float, "price": "decimal", "name": str, "count": int}


def typed_rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "day": ["2026-03-01", None],
            "at": ["2026-03-01T12:30:00", None],
            "ok": [True, None],
            "share": [0.1, float("nan")],
            "price": ["1234567890123456.125", "100"],
            "name": ["é, \"q\"\nnext", None],
            "count": [7, None],
        }
    )  # fmt: skip


def test_render_jsonl_values_of_their_kinds(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"

    rendered = written(plain_report(fields=FIELDS, bands=()), typed_rows(), out)

    first, second = (json.loads(line, parse_float=str) for line in out.read_text().splitlines())
    assert first["day"] == "2026-03-01"
    assert first["at"] == "2026-03-01T12:30:00"
    assert (first["ok"], first["share"], first["count"]) == (True, "0.1", 7)
    assert first["price"] == "1234567890123456.125"  # every digit of it
    assert first["name"] == 'é, "q"\nnext'
    assert second == {"day": None, "at": None, "ok": None, "share": None, "price": 100, "name": None, "count": None}
    assert (rendered.records, rendered.pages, rendered.bytes) == (2, 0, out.stat().st_size)


def test_render_csv_reads_back(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"

    written(plain_report(fields=FIELDS, bands=()), typed_rows(), out)

    with out.open(newline="", encoding="utf-8") as file:
        head, first, second = csv.reader(file)
    assert head == list(FIELDS)
    assert first == ["2026-03-01", "2026-03-01T12:30:00", "true", "0.1", "1234567890123456.125", 'é, "q"\nnext', "7"]
    assert second == ["", "", "", "nan", "100", "", ""]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("nasty", NASTY)
def test_render_rows_markup_comes_out_as_text(tmp_path: Path, kind: str, nasty: str) -> None:
    out = tmp_path / f"rows.{kind}"

    written(plain_report(), sales(1).with_columns(product=pl.lit(nasty)), out)

    with out.open(newline="", encoding="utf-8") as file:
        row = json.loads(file.read()) if kind == "jsonl" else next(csv.DictReader(file))
    assert row["product"] == nasty


def test_render_csv_without_rows_names_its_fields() -> None:
    stream = io.BytesIO()

    rendered = asyncio.run(render(plain_report(), chunks(sales(0)), stream, format="csv"))

    assert stream.getvalue() == b"territory,customer,product,quantity,amount\r\n"
    assert rendered.records == 0


def test_render_takes_batches_and_records() -> None:
    async def mixed() -> AsyncIterator[Any]:
        yield Batch(sales(2))
        yield sales(2).to_dicts()
        yield sales(3)

    stream = io.BytesIO()
    rendered = asyncio.run(render(plain_report(), mixed(), stream, format="jsonl"))

    assert rendered.records == 7
    assert len(stream.getvalue().splitlines()) == 7


@pytest.mark.parametrize("kind", ["docx", ""])
def test_render_unknown_format_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InvalidFormatError, match="pdf") as refused:
        written(plain_report(), sales(1), tmp_path / "report", format=kind)

    assert refused.value.kind == "invalid_format"
    assert list(tmp_path.iterdir()) == []


def test_render_output_that_the_report_does_not_have_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFormatError, match="csv"):
        written(plain_report(outputs=("csv",)), sales(1), tmp_path / "report.pdf")


def test_render_jsonl_stream_fails_no_file_is_left(tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[pl.DataFrame]:
        yield sales(2)
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        asyncio.run(render(plain_report(), failing(), tmp_path / "rows.jsonl"))

    assert list(tmp_path.iterdir()) == []
