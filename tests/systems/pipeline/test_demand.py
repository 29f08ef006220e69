"""The link between two stages, against a slow and obvious model; and the batches that travel on it."""

from __future__ import annotations

import asyncio
import pickle
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.clock import settle
from floodmark.core.errors import HarnessBugError
from floodmark.systems.pipeline import errors
from floodmark.systems.pipeline.batch import Batch, frame_of, records_size_bytes
from floodmark.systems.pipeline.demand import Link
from tests.systems.pipeline.fixtures import sample_frame, sample_records


def batch(start: int, count: int) -> Batch:
    return Batch(sample_frame(count, start=start))


@given(
    st.lists(st.one_of(st.tuples(st.just("ask"), st.integers(1, 9)), st.tuples(st.sampled_from(["send", "receive"]), st.integers(1, 9))))
)
def test_link_gives_every_row_once_in_order_and_never_more_than_was_asked_for(steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        link, asked, sent, received = Link(), 0, 0, list[int]()
        for what, count in steps:
            if what == "ask":
                link.ask(count)
                asked += count
            elif what == "send" and asked > sent:
                count = min(count, asked - sent)
                link.send(batch(sent + 1, count))
                sent += count
            elif what == "receive" and sent > len(received):
                got = await link.receive(count)
                assert got is not None
                assert 1 <= len(got) <= count
                received += [record["id"] for record in got.records()]
            assert (link.owed_count, link.buffered_count, link.outstanding_count) == (
                asked - sent,
                sent - len(received),
                asked - len(received),
            )
            assert received == list(range(1, len(received) + 1))
            assert (link.buffered_bytes > 0) == (link.buffered_count > 0)

    asyncio.run(main())


def test_link_more_rows_than_are_owed_are_a_bug() -> None:
    link = Link()
    link.ask(5)

    with pytest.raises(HarnessBugError, match="6 rows sent where 5 were owed"):
        link.send(batch(1, 6))


@pytest.mark.parametrize("count", [0, -1])
def test_link_a_demand_of_nothing_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Link().ask(count)


def test_link_an_empty_batch_is_not_passed_on() -> None:
    link = Link()
    link.ask(1)
    link.send(Batch(sample_frame(0)))

    assert link.buffered_count == 0


def test_link_what_was_sent_before_the_end_is_received_before_it() -> None:
    async def main() -> None:
        link = Link()
        link.ask(2)
        link.send(batch(1, 2))
        link.end()

        assert link.is_ended
        assert [len(got) if (got := await link.receive()) is not None else None for _ in range(3)] == [2, None, None]

    asyncio.run(main())


def test_link_a_failure_drops_what_is_on_its_way_and_reaches_every_receiver() -> None:
    async def main() -> None:
        link = Link()
        waiting = [asyncio.create_task(link.receive()) for _ in range(2)]
        await settle()
        link.fail(ValueError("first"))
        link.fail(ValueError("second"))

        for task in waiting:
            with pytest.raises(ValueError, match="first"):
                await task
        assert link.is_failed
        assert link.buffered_count == 0

    asyncio.run(main())


def test_batch_makes_of_a_frame_records_and_back() -> None:
    frame = sample_frame(10)

    assert Batch(frame).records() == frame.to_dicts()
    assert Batch(frame.to_dicts()).frame().equals(frame)
    assert Batch(frame.to_dicts()).frame(["id", "absent"]).equals(frame.select("id"))
    assert Batch(frame).frame(["amount", "absent"]).equals(frame.select("amount"))
    assert (Batch(frame).has_frame, Batch(frame.to_dicts()).has_frame) == (True, False)


def test_batch_slices_share_and_keep_order() -> None:
    for rows in (sample_frame(10), sample_frame(10).to_dicts()):
        whole = Batch(rows)
        assert [record["id"] for record in whole.slice(3, 4).records()] == [4, 5, 6, 7]
        assert whole.slice(0, 10) is whole


def test_batch_size_grows_with_what_it_holds() -> None:
    assert Batch(sample_frame(1000)).size_bytes == sample_frame(1000).estimated_size()
    both = Batch(sample_frame(1000))
    before = both.size_bytes
    both.records()
    assert both.size_bytes > before
    assert records_size_bytes([]) == 0
    assert 900 < records_size_bytes(sample_records(1000)) / records_size_bytes(sample_records(1)) < 1200


def test_frame_of_records_of_differing_shape_is_their_union() -> None:
    frame = frame_of([{"a": 1}, {"b": "x", "a": None}, {"c": Decimal("1.5")}])

    assert frame.to_dicts()[1] == {"a": None, "b": "x", "c": None}
    assert frame_of([]).shape == (0, 0)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2.5, None], pl.Float64, [1.0, 2.5, None]),
        ([1, 2**100], pl.Int128, [1, 2**100]),
        ([2**200, 1], pl.Float64, [float(2**200), 1.0]),
        ([1, "x"], pl.String, ["1", "x"]),
    ],
)
def test_frame_of_a_column_of_several_types_keeps_its_values(values: list[object], kind: type[pl.DataType], expected: list[object]) -> None:
    frame = frame_of([{"a": value} for value in values])

    assert frame.schema["a"] == kind
    assert frame.get_column("a").to_list() == expected


@pytest.mark.parametrize(
    "error",
    [
        errors.MissingOptionError("source"),
        errors.UnknownStreamError("x"),
        errors.CallTimeoutError("a call", 5.0),
        errors.QueryTimeoutError(2.0),
        errors.RetriesExhaustedError(4, "down"),
        errors.StreamFailedError("x", "down"),
        errors.StreamStoppedError("x"),
        errors.ReportError("unknown field 'amuont'", "amount"),
        errors.QueryRefusedError("no table"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_pickle_with_their_text(error: errors.PipelineError) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert (type(again), str(again), again.kind) == (type(error), str(error), error.kind)
    assert str(error)


def test_errors_say_what_to_do_in_a_word() -> None:
    assert str(errors.ReportError("unknown field 'amuont'", "amount")).endswith("did you mean 'amount'?")
    assert str(errors.ReportError("no fields")) == "no fields"
    assert errors.reason_of(ValueError("first\nsecond")) == "ValueError: first"
    assert errors.reason_of(ValueError()) == "ValueError"
    assert errors.nearest("zzz", ["amount"]) == ""
