"""Read a result from its beginning to its end, once, while the database holds it: for what cannot be asked for page by page.

The rows that a run gives and nobody has taken yet wait here, at most a chunk and a batch. A run that breaks is started again after the
last row handed out, if the query has an order that finds that row again (`mark`); else only if no row has been handed out yet. For the same
reason a cancelled fetch interrupts the run only if it can be started again; else the run goes on, and the next fetch gets its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import polars as pl

from floodmark.systems.pipeline.errors import PipelineError, QueryError, QueryRefusedError, reason_of
from floodmark.systems.pipeline.source.steady import Steady
from floodmark.systems.pipeline.source.threads import Lane

BATCH_ROWS = 10_000


class Run(Protocol):
    """One execution of a query. `more` and `close` are called in a thread, `interrupt` from anywhere."""

    def more(self, count: int) -> pl.DataFrame:
        """The next rows, about `count`; none at the end. Raises QueryError or QueryRefusedError."""

    def interrupt(self) -> None:
        """Make a `more` that runs end soon."""

    def close(self) -> None:
        """Free what the run holds."""


class BatchRun:
    """A run over an Arrow stream, taken batch by batch: memory holds some batches, never the whole."""

    def __init__(
        self, stream: Any, *, interrupt: Callable[[], None], close: Callable[[], None], error: Callable[[Exception], PipelineError]
    ) -> None:
        self._batches: Iterator[pl.DataFrame] | None = iter(
            pl.scan_arrow_c_stream(stream).collect_batches(chunk_size=BATCH_ROWS, maintain_order=True, lazy=True)
        )
        self._interrupt = interrupt
        self._close = close
        self._error = error

    def more(self, count: int) -> pl.DataFrame:
        """The next batch that is not empty."""
        assert self._batches is not None
        try:
            return next((batch for batch in self._batches if batch.height), pl.DataFrame())
        except Exception as exc:  # the database's error comes wrapped by Polars, or as its own
            raise self._error(exc) from exc

    def interrupt(self) -> None:
        """Ask the database to stop."""
        self._interrupt()

    def close(self) -> None:
        """End the stream before the connection: Polars reads it in a thread of its own, which must not find it gone."""
        batches, self._batches = self._batches, None
        with suppress(Exception):  # the interrupt, which is how an unfinished stream ends
            self._interrupt()
            for _ in batches or ():
                self._interrupt()
        self._close()


class ForwardCursor:
    """A cursor over one run."""

    def __init__(
        self,
        *,
        start: Callable[[Any], Run],
        lane: Lane,
        steady: Steady,
        names: Sequence[str],
        hidden: Sequence[str] = (),
        mark: Callable[[pl.DataFrame], Hashable] | None = None,
        limit: int | None = None,
        total: int | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Args: `start` runs the query after a mark (None: from the beginning); `mark` takes a raw page and gives its last row's mark."""
        self._start = start
        self._lane = lane
        self._steady = steady
        self._names = tuple(names)
        self._hidden = tuple(hidden)
        self._mark = mark
        self._limit = limit
        self._total = total
        self._on_close = on_close
        self._run: Run | None = None
        self._held: pl.DataFrame | None = None  # raw rows that came and were not handed out
        self._base_count = 0  # where the run begins to hand out: after a seek without marks it first reads past the rows before
        self._to_skip_count = 0
        self._is_ended = False  # the run has given its last row
        self._rows_count = 0
        self._last: Hashable = None
        self._was_interrupted = False
        self._is_closed = False

    @property
    def position(self) -> Hashable:
        """Rows before it, and the mark of the last of them if there are marks."""
        return self._rows_count if self._mark is None else (self._rows_count, self._last)

    @property
    def total(self) -> int | None:
        """From a count when the query was opened, or by its end."""
        return self._rows_count if self.exhausted else self._total

    @property
    def exhausted(self) -> bool:
        """Known when the run has ended and its last row was handed out."""
        at_limit = self._limit is not None and self._rows_count >= self._limit
        return at_limit or (self._is_ended and self._held is None)

    async def fetch(self, count: int) -> pl.DataFrame:
        """Hand out what waits here and what the run gives."""
        if self._is_closed:
            raise QueryRefusedError("the cursor is closed")
        left = count if self._limit is None else min(count, self._limit - self._rows_count)
        if self.exhausted or left <= 0:
            return self._steady.empty(self._names)
        await self._lane.run(partial(self._fill, left), interrupt=self._interrupt if self._mark is not None else None)
        held = self._held
        if held is None:
            return self._steady.empty(self._names)
        raw = held.head(left)
        frame = self._steady.settled(raw.drop(self._hidden))
        last = None if self._mark is None else self._mark(raw)
        self._held = held.slice(left) if held.height > left else None
        self._rows_count += raw.height
        self._last = last
        return frame

    def seek(self, position: Hashable) -> None:
        """Go to a place that a cursor of this query has been at; without marks the rows before it are read again, and dropped."""
        if position == self.position:
            return
        run, self._run = self._run, None
        if run is not None:
            self._leave(run)
        self._held, self._is_ended = None, False
        if self._mark is None:
            self._rows_count = self._base_count = self._to_skip_count = position  # type: ignore[assignment]  # our own position, see above
        else:
            self._rows_count, self._last = position  # type: ignore[misc]

    async def close(self) -> None:
        """Interrupt the run and free it."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._lane.is_busy:
            self._interrupt()
        await self._lane.settled()
        run, self._run, self._held = self._run, None, None
        try:
            if run is not None:
                await self._lane.finish(partial(self._leave, run))
        finally:
            self._on_close()

    def _interrupt(self) -> None:
        run = self._run
        if run is not None:
            self._was_interrupted = True
            run.interrupt()

    def _fill(self, count: int) -> None:
        """In a thread: have `count` rows at hand, or all there are."""
        if self._was_interrupted:  # it may meet the interrupt yet: what it still had is asked for again, after the last mark
            self._was_interrupted = False
            run, self._run, self._held, self._is_ended = self._run, None, None, False
            if run is not None:
                self._leave(run)
        held = self._held
        parts = [] if held is None else [held]
        height = 0 if held is None else held.height
        try:
            if self._run is None and not self._is_ended:
                self._run = self._start(self._last)
            while height < count and not self._is_ended:
                assert self._run is not None
                rows = self._run.more(count - height)
                if not rows.height:
                    self._is_ended = True
                    break
                skipped = min(self._to_skip_count, rows.height)
                self._to_skip_count -= skipped
                if skipped < rows.height:
                    parts.append(rows.slice(skipped) if skipped else rows)
                    height += rows.height - skipped
        except (QueryError, QueryRefusedError) as exc:
            # INVARIANT: rows that came before the failure are dropped with the run if it can be started again after the last mark.
            run, self._run = self._run, None
            if run is not None:
                self._leave(run)
            self._held = None
            self._to_skip_count = self._base_count
            if isinstance(exc, QueryError) and self._mark is None and self._rows_count > self._base_count:
                raise QueryRefusedError(
                    f"the query broke after {self._rows_count:,} rows ({reason_of(exc)}), and cannot go on there: "
                    "name a `key`, columns that are unique together, so that it can"
                ) from exc
            raise
        if parts:
            self._held = pl.concat(parts, how="vertical_relaxed") if len(parts) > 1 else parts[0]

    def _leave(self, run: Run) -> None:
        with suppress(Exception):  # it is being left because it broke or is not wanted any more
            run.close()
