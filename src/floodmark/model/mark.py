"""The mark of a search for the breaking point: how far a scenario held, where it broke, by what, and every trial behind that.

Plain data, kept in `run.json` and `mark.json`. How trials become a mark is `judge/mark.py`, what a trial may vary `model/vary.py`.
All values are in the base unit of what was varied; `unit` is how that is written after a number.
"""

from __future__ import annotations

import enum

import msgspec

from floodmark.model.verdict import Verdict


class Outcome(enum.Enum):
    """What one trial found. UNKNOWN is neither: it says nothing about the target."""

    HELD = "held"
    BROKE = "broke"
    UNKNOWN = "unknown"


class MarkTrial(msgspec.Struct, frozen=True, kw_only=True):
    """One trial: the scenario with `value` in place, played to its verdict.

    `by` is the first criterion that broke and `why` a sentence on it, or on what kept the trial from being judged; `generator` says that
    this was floodmark itself. `scenario` is the id under which the run folder has its result; `p99_ns` is the response latency.
    """

    value: float
    outcome: Outcome
    scenario: str = ""
    by: str = ""
    why: str = ""
    generator: bool = False
    p99_ns: int = 0
    throughput_hz: float = 0.0
    duration_s: float = 0.0


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a search. PASS: the mark lies between `held` and `broke`, both confirmed; FAIL: it broke at `lo` already; else UNKNOWN.

    `held` is the highest value that held below all that did not, `broke` the lowest that broke; None where there is no such value. `by` is
    the criterion that broke there. `doubtful` are values whose trials contradict each other, `open` those that could not be judged. When
    something `held` again above `broke`, `held_above` says where: the lowest break is the mark.
    """

    vary: str
    held: float | None
    broke: float | None
    unit: str = ""
    by: str = ""
    why: str
    verdict: Verdict
    lo: float
    hi: float
    precision: float
    confirm: int
    doubtful: tuple[float, ...] = ()
    open: tuple[float, ...] = ()
    held_above: tuple[float, ...] = ()
    trials: tuple[MarkTrial, ...] = ()


def amount(value: float, unit: str) -> str:
    """Write a value that was varied, exactly.

    >>> amount(41_000, "/s"), amount(12, ""), amount(0.5, "s")
    ('41,000 /s', '12', '0.5 s')
    """
    return f"{value:,.12g} {unit}".rstrip()
