"""The checks that every struct of the model makes on its own fields, in one wording.

`where` names the field as `struct.field`; the reader of files replaces the struct by the place in the file. Types are checked too, because
a struct built from Python accepts whatever it is given. NaN, infinities and booleans are never numbers here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from floodmark.core.errors import UsageError

FAULT_WINDOWS = ("before", "during", "after")  # the stretches of a scenario around its faults, as a criterion names them


def require(holds: bool, text: str) -> None:
    """Raise the caller's mistake `text` unless `holds`."""
    if not holds:
        raise UsageError(text)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def positive(where: str, value: float) -> None:
    """A finite number above 0."""
    require(_is_number(value) and value > 0, f"{where} must be finite and greater than 0, got {value!r}")


def not_negative(where: str, value: float) -> None:
    """A finite number, 0 or more."""
    require(_is_number(value) and value >= 0, f"{where} must be finite and at least 0, got {value!r}")


def share(where: str, value: float, *, zero: bool = True) -> None:
    """A ratio from 0 (when `zero`) to 1."""
    low = "from 0 to 1" if zero else "above 0 and at most 1"
    require(_is_number(value) and 0 <= value <= 1 and (zero or value > 0), f"{where} must be {low} (0% to 100%), got {value!r}")


def whole(where: str, value: int) -> None:
    """A whole number, 1 or more; `True` and `3.0` are not whole numbers."""
    holds = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(holds, f"{where} must be a whole number of at least 1, got {value!r}")


def filled(where: str, value: str) -> None:
    """Text that is not blank."""
    require(isinstance(value, str) and bool(value.strip()), f"{where} must be text that is not empty, got {value!r}")


def not_a_window(where: str, name: str) -> None:
    """A name for a stretch of load that means no stretch around the faults."""
    require(name not in FAULT_WINDOWS, f"{where} must not be {name!r}: criteria call the time {name} the faults so; take another name")


def window(where: str, name: str, *, phases: Sequence[str], has_faults: bool) -> None:
    """A stretch that a criterion may name: a phase, or one around the faults of a scenario that has some; empty is the whole run."""
    if name in FAULT_WINDOWS:
        text = f"{where} names the window {name!r}, but the scenario has no faults for it to be {name}; add one, or name a phase"
        require(has_faults, text)
        return
    known = ", ".join(map(repr, phases))
    require(not name or name in phases, f"{where} names the phase {name!r}, but the phases are: {known}")
