"""What to aggregate: the functions there are, and the settings of one grouping.

Checked when declared: a wrong function, sort order or limit is a UsageError that names the nearest valid word, never a surprise at the
first batch. Not here: how the figures are computed (totals.py) and where paths lead in a frame (paths.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

import msgspec

from floodmark.core.errors import UsageError

FUNCTIONS = ("sum", "count", "avg", "min", "max", "running_total")
SORTS = ("asc", "desc")
DEFAULT_MAX_GROUPS = 10_000


def checked_functions(functions: Iterable[str]) -> tuple[str, ...]:
    """Give the functions as a tuple without repetitions; UsageError for one that does not exist.

    >>> checked_functions(["sum", "count", "sum"])
    ('sum', 'count')
    """
    given = (functions,) if isinstance(functions, str) else tuple(dict.fromkeys(functions))
    for name in given:
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(str(name), FUNCTIONS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"there is no aggregate function {name!r}{hint} Known: {', '.join(FUNCTIONS)}")
    return given


class Grouping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to group the records, and what to compute for each group.

    group_by: field names; dotted paths lead into related records ("customer.territory"), and through a list to its first element.
    aggregations: names out of FUNCTIONS.
    fields: what to aggregate, paths allowed; None: every numeric field of a record, the keys included where they are numbers.
    max_groups: a record that would found one group more is rejected from this grouping, and counted; None: no limit.
    level: depth of the report's group this belongs to, from 1.   sort: order of the groups in a snapshot.
    """

    group_by: tuple[str, ...]
    aggregations: tuple[str, ...] = ("sum", "count")
    fields: tuple[str, ...] | None = None
    max_groups: int | None = DEFAULT_MAX_GROUPS
    level: int = 1
    sort: Literal["asc", "desc"] = "asc"

    def __post_init__(self) -> None:
        set_field = msgspec.structs.force_setattr
        set_field(self, "group_by", _names(self.group_by))
        set_field(self, "aggregations", checked_functions(self.aggregations))
        if self.fields is not None:
            set_field(self, "fields", _names(self.fields))
        if not self.group_by:
            raise UsageError("a grouping needs at least one field in group_by; for totals over everything use the stream's aggregations")
        if self.max_groups is not None and not self.max_groups >= 1:
            raise UsageError(f"max_groups of the grouping by {', '.join(self.group_by)} must be at least 1, got {self.max_groups!r}")
        if not self.level >= 1:
            raise UsageError(f"level of the grouping by {', '.join(self.group_by)} must be at least 1, got {self.level!r}")
        if self.sort not in SORTS:
            raise UsageError(f"sort of the grouping by {', '.join(self.group_by)} must be one of {', '.join(SORTS)}, got {self.sort!r}")


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Take one name for a tuple of one, and refuse what is no name."""
    names = (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
    for name in names:
        if not isinstance(name, str) or not all(name.split(".")):
            raise UsageError(f"a field is named by text such as 'amount' or 'customer.name', got {name!r}")
    return names
