"""Page through a query: after the last row's key, or at an offset.

Keyset pages cost the same wherever they are, if an index holds the order. What comes after a row is a few stretches of the order, each a
range of that index: first the rows that are equal in all columns but the last, then those equal in all but the last two, and so on. A page
takes from the first stretches that have rows, mostly one or two. One condition for all of them would be one statement, but SQLite's
planner would start at the first row of equal ones each time: a page in a million equal rows would read half of them.

Offset pages cost what lies before them, too; they are kept to compare with. Both pagers ask for one row more than they give: a cursor
knows its last page when it has it, and a key that does not tell two rows apart is refused where it would have lost one, not passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import polars as pl

from floodmark.systems.pipeline.errors import QueryRefusedError
from floodmark.systems.pipeline.source.base import Pager
from floodmark.systems.pipeline.source.statement import Plan, Statement, Term
from floodmark.systems.pipeline.source.steady import Steady, joined
from floodmark.systems.pipeline.source.threads import Lane

Condition = tuple[str, tuple[Any, ...]]
NOTHING: Condition = ("", ())


def after(terms: Sequence[Term], values: Sequence[Any] | None) -> Condition:
    """Say in one condition which rows come after the one with these values, for a query that is then read to its end.

    NULL is the smallest value. Placeholders are "\0".
    """
    if values is None:
        return NOTHING
    pairs = list(zip(terms, values, strict=True))
    # Upwards, NULLs lie behind a row without one. Downwards they are still to come, and a comparison would not find them.
    if all(value is not None and not term.descending for term, value in pairs):
        return _compared(pairs, ">")
    if all(value is not None and term.descending and not term.nullable for term, value in pairs):
        return _compared(pairs, "<")
    text, found = _linked(" OR ", [(f"({part})", part_values) for part, part_values in stretches(terms, values)])
    return (text, found) if text else ("1 = 0", ())


def stretches(terms: Sequence[Term], values: Sequence[Any] | None) -> list[Condition]:
    """Say which rows come after the one with these values, as conditions whose rows follow one another in the order."""
    if values is None:
        return [NOTHING]
    found: list[Condition] = []
    same: list[Condition] = []
    for term, value in zip(terms, values, strict=True):
        found[:0] = [_linked(" AND ", [*same, beyond]) for beyond in _beyond(term, value)]
        same.append((f"{term.expression} IS NULL", ()) if value is None else (f"{term.expression} = {_mark(term)}", (value,)))
    return found


def _compared(pairs: Sequence[tuple[Term, Any]], sign: str) -> Condition:
    left, right = ", ".join(term.expression for term, _ in pairs), ", ".join(_mark(term) for term, _ in pairs)
    values = tuple(value for _, value in pairs)
    return (f"{left} {sign} {right}" if len(pairs) == 1 else f"({left}) {sign} ({right})"), values


def _beyond(term: Term, value: Any) -> list[Condition]:
    """The rows after this value in this column."""
    column = term.expression
    if value is None:
        return [] if term.descending else [(f"{column} IS NOT NULL", ())]
    if not term.descending:
        return [(f"{column} > {_mark(term)}", (value,))]
    below: Condition = (f"{column} < {_mark(term)}", (value,))
    return [below, (f"{column} IS NULL", ())] if term.nullable else [below]


def _mark(term: Term) -> str:
    return term.placeholder.replace("?", "\0")


def _linked(word: str, parts: Sequence[Condition]) -> Condition:
    return word.join(text for text, _ in parts), tuple(value for _, values in parts for value in values)


class PagedCursor:
    """A cursor that asks once per page and keeps nothing between pages but its place."""

    def __init__(
        self,
        plan: Plan,
        *,
        pager: Pager,
        ask: Callable[[Statement, int], pl.DataFrame],
        lane: Lane,
        steady: Steady,
        interrupt: Callable[[], None] | None = None,
        total: int | None = None,
    ) -> None:
        self._plan = plan
        self._is_keyset = pager == "keyset" and plan.is_total
        self._ask = ask
        self._lane = lane
        self._steady = steady
        self._interrupt = interrupt
        self._total = total
        self._rows_count = 0  # handed out so far, from the query's start
        self._last: tuple[Any, ...] | None = None  # the last row's key
        self._is_exhausted = plan.limit == 0
        self._is_closed = False

    @property
    def position(self) -> Hashable:
        """Rows before it, and for a keyset the key of the last of them."""
        return (self._rows_count, self._last) if self._is_keyset else self._rows_count

    @property
    def total(self) -> int | None:
        """From a count when the query was opened, or by its end."""
        return self._rows_count if self._is_exhausted else self._total

    @property
    def exhausted(self) -> bool:
        """Known with the last page, not only after it."""
        return self._is_exhausted

    async def fetch(self, count: int) -> pl.DataFrame:
        """Ask for the next page."""
        if self._is_closed:
            raise QueryRefusedError("the cursor is closed")
        left = count if self._plan.limit is None else min(count, self._plan.limit - self._rows_count)
        if self._is_exhausted or left <= 0:
            return self._steady.empty(self._plan.names)
        raw = await self._lane.run(partial(self._page, left + 1), interrupt=self._interrupt)
        frame = raw.head(left)
        last = self._key(raw, left - 1) if frame.height == left and self._is_keyset else None
        if last is not None and raw.height > left and self._key(raw, left) == last:
            raise QueryRefusedError(
                f"two rows have the same key {last!r}, and one of them would be lost between two pages; name a `key` that tells rows apart"
            )
        frame = self._steady.settled(frame.drop(self._plan.hidden))
        # Nothing below can fail: the place moves with the rows, or not at all.
        self._rows_count += frame.height
        self._last = last
        at_limit = self._plan.limit is not None and self._rows_count >= self._plan.limit
        self._is_exhausted = raw.height <= left or at_limit
        return frame

    def seek(self, position: Hashable) -> None:
        """Go to a place that a cursor of this query has been at."""
        if self._is_keyset:
            self._rows_count, self._last = position  # type: ignore[misc]  # our own position, see above
        else:
            self._rows_count = position  # type: ignore[assignment]
        limit = self._plan.limit
        self._is_exhausted = (limit is not None and self._rows_count >= limit) or self._total == self._rows_count

    async def close(self) -> None:
        """Interrupt a page that a cancelled fetch has left on its way; one that cannot be interrupted is not waited for."""
        self._is_closed = True
        if self._interrupt is not None:
            self._interrupt()
            await self._lane.settled()

    def _page(self, count: int) -> pl.DataFrame:
        """In a thread: ask stretch by stretch until there are `count` rows."""
        if not self._is_keyset:
            return self._ask(self._plan.at(self._rows_count, count), count)
        parts: list[pl.DataFrame] = []
        for stretch in stretches(self._plan.terms, self._last):
            part = self._ask(self._plan.page(stretch, count), count)
            count -= part.height
            if part.height or not parts:
                parts = [*(kept for kept in parts if kept.height), part]
            if count == 0:
                break
        return joined(parts)

    def _key(self, raw: pl.DataFrame, row: int) -> tuple[Any, ...]:
        return tuple(raw.get_column(term.result)[row] for term in self._plan.terms)


def last_of(terms: Sequence[Term], raw: pl.DataFrame) -> tuple[Any, ...] | None:
    """The values of a page's last row to go on after; None of no row."""
    return tuple(raw.get_column(term.result)[-1] for term in terms) if raw.height else None
