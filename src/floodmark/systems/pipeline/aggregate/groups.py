"""Which groups there are, and which records may found a new one: the limit `max_groups`, exact to the record.

A group has a number, given when it is first seen. Records are admitted in order: one that would found a group beyond the limit is
rejected, one of a known group never is. As long as the groups known and those of rows not yet looked at cannot exceed the limit together,
`may_exceed` is False and nothing needs to be looked at: their keys are learned later, when the rows are folded.

Keys: the value itself for one field, a tuple for several. None and a missing field are the same key; NaN is one key.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import polars as pl

KEY_PREFIX = "key:"  # of the key columns of a projected frame


def key_names(count: int) -> list[str]:
    """The columns that hold the parts of the key in a projected frame."""
    return [f"{KEY_PREFIX}{place}" for place in range(count)]


def keys_of(frame: pl.DataFrame, count: int) -> list[Hashable]:
    """Give each row's key."""
    parts = [_plain(frame.get_column(name)) for name in key_names(count)]
    return parts[0] if count == 1 else list(zip(*parts, strict=True))


def _plain(series: pl.Series) -> list[Hashable]:
    values = series.to_list()
    if series.dtype.is_float() and series.is_nan().any():
        return [math.nan if value != value else value for value in values]  # the one NaN: a dictionary finds it by identity
    return values


def same_key(key: Hashable) -> Hashable:
    """Give the key as this process spells it: a NaN that came from elsewhere is replaced by the one NaN."""
    if isinstance(key, tuple):
        return tuple(math.nan if part != part else part for part in key)
    return math.nan if key != key else key


class Groups:
    """The numbers of the groups by key, in the order they were first seen."""

    def __init__(self, key_count: int, max_groups: int | None) -> None:
        self.numbers: dict[Hashable, int] = {}
        self.rejected_count = 0
        self._key_count = key_count
        self._max_groups = max_groups
        self.unseen_count = 0  # groups that rows may found which were accepted without a look and not learned yet

    def __len__(self) -> int:
        return len(self.numbers)

    def may_exceed(self, most_count: int) -> bool:
        """Whether rows that found so many groups at most could found one beyond the limit, as far as one can tell without a look."""
        return self._max_groups is not None and len(self.numbers) + self.unseen_count + most_count > self._max_groups

    def distinct_count(self, keyed: pl.DataFrame) -> int:
        """How many groups a batch has at most: its distinct keys, where they are counted at a fraction of the cost of naming them."""
        column = keyed.get_column(KEY_PREFIX + "0")
        return keyed.height if self._key_count > 1 or column.dtype.is_nested() or column.dtype == pl.Object else column.n_unique()

    def admit_all(self, keyed: pl.DataFrame) -> bool:
        """Found all groups of a batch if there is room for all of them, else none, and say which: a look at each distinct key only."""
        assert not self.unseen_count
        keys = keys_of(keyed.select(key_names(self._key_count)).unique(), self._key_count)
        if self._max_groups is not None and len(self.numbers) + len(set(keys).difference(self.numbers)) > self._max_groups:
            return False
        self.learn(keys)
        return True

    def learn(self, keys: Sequence[Hashable]) -> list[int]:
        """Give the numbers of groups, founding the new ones. The keys must have been accepted; each stands there once."""
        numbers = self.numbers
        known = list(map(numbers.get, keys))  # HOT: once per group of a fold, and nearly always all are known
        if None not in known:
            return known  # type: ignore[return-value]  # just seen
        return [numbers.setdefault(key, len(numbers)) for key in keys]

    def admit(self, keyed: pl.DataFrame) -> pl.Series | None:
        """Look at each row in order and found the groups that there is room for.

        Args:
            keyed: a projected frame. INVARIANT: no accepted row is unseen.
        Returns: which rows are accepted, or None for all of them.
        """
        assert not self.unseen_count
        numbers = self.numbers
        limit = math.inf if self._max_groups is None else self._max_groups
        keys = keys_of(keyed, self._key_count)
        for key in keys:  # HOT: once per record near the limit
            if len(numbers) >= limit:
                break
            numbers.setdefault(key, len(numbers))
        else:
            return None
        accepted = [key in numbers for key in keys]  # those before the last group was founded are in it
        rejected_count = accepted.count(False)
        self.rejected_count += rejected_count
        return pl.Series("accepted", accepted, dtype=pl.Boolean) if rejected_count else None
