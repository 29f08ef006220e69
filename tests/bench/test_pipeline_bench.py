"""The pipeline's benchmark: its contenders measure what they say, and a wrong or missing record is no figure."""

from __future__ import annotations

import polars as pl
import pytest

from bench import pipeline
from bench.processes import BenchError
from floodmark.systems.pipeline.aggregate import Aggregates


@pytest.mark.parametrize("contender", [pipeline.by_hand, pipeline.aggregates, pipeline.pipeline])
@pytest.mark.parametrize("size", [1_000, 3_000])
def test_contender_over_all_records_gives_a_checked_rate(contender: object, size: int) -> None:
    reading = contender(size, 10_000)  # type: ignore[operator]

    assert reading.value > 0
    assert reading.check.startswith("10,000 records")


def test_transformer_and_many_streams_and_first_record_are_checked_too() -> None:
    assert pipeline.pipeline(1_000, 5_000, transformer=pipeline.doubled).check == "5,000 records, 1,000 groups exact"
    assert pipeline.many_streams(1_000, 3).check == "3 streams, totals exact"
    assert 0 < pipeline.first_record(1_000, 5_000).value < 60_000


def test_chunks_have_the_records_of_the_plan() -> None:
    rows = pl.concat(pipeline.chunks(1_000, 2_500))

    record = rows.row(2_001, named=True)
    assert [chunk.height for chunk in pipeline.chunks(1_000, 2_500)] == [1_000, 1_000, 500]
    assert (record["name"], record["value"], record["amount"], record["category"]) == ("Record 2001", 20_010, 3_001.5, "group_1")


def test_checked_wrong_group_is_no_figure() -> None:
    figures = Aggregates((), [pipeline.GROUPING])
    for chunk in pipeline.chunks(1_000, 5_000):
        figures.update(chunk)
    groups = dict(figures.snapshot().groupings[0].groups)
    groups["group_7"] = {**groups["group_7"], "count": 4}

    with pytest.raises(BenchError, match="group 7 should have"):
        pipeline.checked(groups, 5_000)


def test_rated_missing_records_are_no_figure() -> None:
    with pytest.raises(BenchError, match="9 of 10 records"):
        pipeline.rated(9, 10, 1.0, "")
