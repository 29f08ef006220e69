"""Consumers take chunks in order; wrappers gather them, give them again, tell how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.clock import ManualClock
from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.report.consume import Buffered, Chunk, Consumer, Progress, Progressing, Retrying, consume


class Taking:
    """Keeps what it is given; fails as often as told before each chunk."""

    def __init__(self, failures: int = 0, error: Exception | None = None, clock: ManualClock | None = None) -> None:
        self.chunks: list[Chunk] = []
        self._failures, self._left, self._error, self._clock = failures, failures, error or OSError("disk full"), clock

    async def consume_chunk(self, chunk: Chunk) -> None:
        if self._clock is not None:
            await self._clock.advance(1.0)
        if self._left:
            self._left -= 1
            raise self._error
        self._left = self._failures
        self.chunks.append(chunk)

    async def finalize(self) -> Any:
        return [value for chunk in self.chunks for value in chunk.records["n"].to_list()]


async def batches(sizes: list[int]) -> AsyncIterator[pl.DataFrame]:
    start = 0
    for size in sizes:
        yield pl.DataFrame({"n": list(range(start, start + size))}, schema={"n": pl.Int64})
        start += size


def consumed(sizes: list[int], consumer: Consumer) -> Any:
    return asyncio.run(consume(batches(sizes), consumer))


def test_consume_counts_chunks_and_rows() -> None:
    taking = Taking()

    assert consumed([2, 0, 3], taking) == [0, 1, 2, 3, 4]
    assert [(chunk.chunk_index, chunk.chunk_size, chunk.total_processed) for chunk in taking.chunks] == [(0, 2, 2), (1, 0, 2), (2, 3, 5)]


@given(sizes=st.lists(st.integers(min_value=0, max_value=40), max_size=8), rows=st.integers(min_value=1, max_value=15))
def test_buffered_hands_on_the_same_rows_in_even_batches(sizes: list[int], rows: int) -> None:
    taking = Taking()

    assert consumed(sizes, Buffered(taking, rows=rows)) == list(range(sum(sizes)))
    handed = [chunk.chunk_size for chunk in taking.chunks]
    assert all(size == rows for size in handed[:-1])
    assert all(0 < size <= rows for size in handed[-1:])
    assert [chunk.chunk_index for chunk in taking.chunks] == list(range(len(handed)))
    assert [chunk.total_processed for chunk in taking.chunks][-1:] == ([sum(sizes)] if sum(sizes) else [])


def test_retrying_gives_a_chunk_again_after_its_delay() -> None:
    async def scenario() -> None:
        clock, taking = ManualClock(), Taking(failures=2)
        retrying = Retrying(taking, retries=2, delay_s=3.0, clock=clock)
        reading = asyncio.create_task(consume(batches([1, 1]), retrying))  # the test is its parent

        await clock.advance(12.0)

        assert await reading == [0, 1]
        assert clock.sleeps_s == [3.0] * 4
        assert retrying.retried_count == 4

    asyncio.run(scenario())


@pytest.mark.parametrize(("retries", "error"), [(0, OSError("disk full")), (5, ValueError("a bug"))])
def test_retrying_raises_what_it_may_not_try_again(retries: int, error: Exception) -> None:
    retrying = Retrying(Taking(failures=1, error=error), retries=retries)

    with pytest.raises(type(error), match=str(error)):
        consumed([1], retrying)
    assert retrying.retried_count == 0


def test_progressing_tells_the_share_done_and_what_remains() -> None:
    clock, told = ManualClock(), list[Progress]()
    consumer = Progressing(Taking(clock=clock), told.append, total_count=40, clock=clock)

    consumed([10, 10, 25], consumer)

    assert [progress.percent for progress in told] == [25.0, 50.0, 100.0]
    assert [progress.remaining_s for progress in told] == [3.0, 2.0, 0.0]
    assert [progress.elapsed_s for progress in told] == [1.0, 2.0, 3.0]


def test_progressing_without_a_total_knows_no_share() -> None:
    told = list[Progress]()

    consumed([1], Progressing(Taking(), told.append))

    assert told[0].percent is None
    assert told[0].remaining_s is None


@pytest.mark.parametrize("make", [lambda: Buffered(Taking(), rows=0), lambda: Retrying(Taking(), retries=-1)])
def test_wrapper_with_a_senseless_setting_is_refused(make: Any) -> None:
    with pytest.raises(UsageError):
        make()
