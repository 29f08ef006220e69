"""What is wrong with a report, told where it stands and with the nearest name that would be right.

A `PlacedError` is the author's mistake and raised when the report is declared (or, for a parameter, when it is run), before anything is
read. Not here: errors of a running stream, which stand in `systems/pipeline/errors.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from floodmark.systems.pipeline.errors import ReportError


class PlacedError(ReportError):
    """A ReportError that knows its place: `where` inside the report, `near` the valid name closest to the one that was written."""

    def __init__(self, message: str, where: str = "", near: str = "") -> None:
        super().__init__(message, near)
        self.args = (message, where, near)  # all arguments, so that it pickles
        self.where = where

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.where}: {text}" if self.where else text

    def within(self, place: str) -> PlacedError:
        """Return the same error, seen from one level further out."""
        return PlacedError(self.message, f"{place}, {self.where}" if self.where else place, self.near)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name closest to `name`, or "" when none is close; letter case does not count.

    >>> nearest("AMUONT", ["amount", "quantity"])
    'amount'
    """
    folded = {entry.casefold(): entry for entry in known}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def unknown(what: str, name: str, known: Iterable[str], *, where: str = "") -> PlacedError:
    """Return the error for a name that is not among the known ones.

    >>> str(unknown("field", "amuont", ["amount", "quantity"], where="group 'by amount'"))
    "group 'by amount': unknown field 'amuont'; did you mean 'amount'?"
    """
    known = [str(entry) for entry in known]  # an enum's member prints as its value
    near = nearest(name, known)
    hint = "" if near else f"; known: {', '.join(known) or 'none'}"
    return PlacedError(f"unknown {what} {name!r}{hint}", where, near)
