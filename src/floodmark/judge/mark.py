"""Find the mark: which value to try next, and what all trials so far amount to.

Input: the bounds of a search and the trials so far, in the order they were played. Output: the next value, or `None` and a `Mark`. Pure and
without memory of its own: all follows from the trials, so a search can be stopped, looked at and gone on with at any point.

The search goes up from `lo` in geometric steps until a trial breaks, halves the gap (geometrically) between the highest value that held and
the lowest that broke until their ratio is within the precision, then tries both ends again.

Policy. A value stands as held, or as broken, once that side leads by `confirm` + 1 trials: 3 to 0 or 4 to 1 with the usual two
confirmations. Where 2 * `confirm` + 1 trials cannot bring that about it is *doubtful*, and the bracket is widened until both of its ends
stand. A bare majority is not enough: at the edge itself, where the odds are even, it says either thing half of the time, and a bracket that
ends there misses the edge as often. A trial that could not be judged is made again; a second one leaves the value *open*, and nothing at
or above an open value counts as held. Where a higher value held again, the lowest break is the mark.
Limits: `trials_max` trials; what time they take is the caller's matter. Words are `judge/mark_words.py`'s.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model.mark import MarkTrial, Outcome

RAMP_STEPS = 10  # about, from lo to hi
RAMP_FACTOR = 2.0  # about: far above its limit a target, and this machine with it, is slow to come back
ROOM = 0.95  # of the precision is what gaps are made for, so that values that were rounded still lie within it
OPEN_COUNT = 2  # trials that could not be judged, after which a value is left open
WIDEST = 3  # times the precision, beyond which a bracket around contradictions is none


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for: the mark of a value between `lo` and `hi`, to a relative `precision`; `whole` for what is counted in ones."""

    lo: float
    hi: float
    precision: float = 0.1
    confirm: int = 2
    trials_max: int = 30
    whole: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.lo < self.hi < math.inf:
            raise UsageError(f"a search needs 0 < LO < HI, got {self.lo:g}..{self.hi:g}")
        if not 0.001 <= self.precision <= 1:
            raise UsageError(f"the precision of a search is between 0.1% and 100%, got {self.precision:.6g}")
        if not 0 <= self.confirm <= 10:
            raise UsageError(f"a value is confirmed 0 to 10 times, got {self.confirm}")
        if self.trials_max < 1:
            raise UsageError(f"a search needs at least 1 trial, got {self.trials_max}")

    @property
    def factor(self) -> float:
        """One step of the ramp: so many times the precision that halving the gap ends at it, and not at half of it."""
        wanted = max(math.log(RAMP_FACTOR), math.log(self.hi / self.lo) / RAMP_STEPS)
        finest = math.log1p(self.precision * ROOM)
        return math.exp(finest * 2 ** max(0, math.ceil(math.log2(wanted / finest) - 0.25)))


class Ending(enum.Enum):
    """How a search ended, or what would end it now."""

    FOUND = "found"
    BROKE_AT_LO = "broke at lo"
    HELD_TO_HI = "held to hi"
    OPEN = "open"
    CONTRADICTIONS = "contradictions"
    TRIALS_RAN_OUT = "trials ran out"


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The trials of one value."""

    value: float
    held: int = 0
    broke: int = 0
    unknown: int = 0
    confirm: int

    @property
    def lead(self) -> int:
        """By how many trials held leads; below 0, by how many broke does."""
        return self.held - self.broke

    @property
    def open(self) -> bool:
        """Whether it is left open: it could not be judged, twice."""
        return self.unknown >= OPEN_COUNT

    @property
    def stands(self) -> bool:
        """Whether more trials would not be asked for: one side leads far enough."""
        return not self.open and abs(self.lead) > self.confirm

    @property
    def doubtful(self) -> bool:
        """Whether no side can lead far enough any more."""
        left = 2 * self.confirm + 1 - self.held - self.broke
        return not self.open and not self.stands and abs(self.lead) + left <= self.confirm

    @property
    def holds(self) -> bool:
        """Whether it held as far as is known; a tie is none."""
        return not self.open and not self.doubtful and self.lead > 0

    @property
    def breaks(self) -> bool:
        """Whether it broke as far as is known: a tie counts as broken for as long as it is tried."""
        return not self.open and not self.doubtful and self.lead <= 0 and self.broke > 0

    @property
    def judged(self) -> bool:
        """Whether anything is known of it."""
        return self.open or self.held + self.broke > 0


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All values tried, as they stand: `held` is the end of the bracket below, `barrier` the lowest value above it that did not hold (or
    the lowest of all), `broke` the lowest that broke from there on; `edge` is the highest doubtful value below `broke`, or the barrier."""

    tallies: tuple[Tally, ...]
    held: Tally | None = None
    barrier: Tally | None = None
    edge: Tally | None = None
    broke: Tally | None = None


def view(search: Search, trials: Sequence[MarkTrial]) -> View:
    """Look at what the trials so far amount to."""
    values = sorted({trial.value for trial in trials})
    tallies = tuple(_tally(value, trials, search.confirm) for value in values)
    barrier = next((one for one in tallies if one.judged and not one.holds), None)
    below = [one for one in tallies if one.holds and (barrier is None or one.value < barrier.value)]
    above = [] if barrier is None else [one for one in tallies if one.value >= barrier.value]
    broke = next((one for one in above if one.breaks), None)
    edges = [one for one in above if one.doubtful and (broke is None or one.value < broke.value)]
    return View(tallies=tallies, held=below[-1] if below else None, barrier=barrier, edge=edges[-1] if edges else barrier, broke=broke)


def next_value(search: Search, trials: Sequence[MarkTrial]) -> float | None:
    """The value to try next; None when the search is over, and `ending` says how."""
    if len(trials) >= search.trials_max:
        return None
    seen = view(search, trials)
    return next(_wanted(search, seen), None)


def ending(search: Search, trials: Sequence[MarkTrial]) -> Ending:
    """How the search has ended; while `next_value` still wants one, that its trials ran out."""
    seen = view(search, trials)
    if next(_wanted(search, seen), None) is not None:
        return Ending.TRIALS_RAN_OUT
    if seen.barrier is None:
        return Ending.HELD_TO_HI
    if seen.barrier.open:
        return Ending.OPEN
    if seen.held is None:
        return Ending.BROKE_AT_LO if seen.barrier.breaks else Ending.CONTRADICTIONS
    if seen.broke is None or _too_wide(search, seen.held, seen.broke, seen.tallies):
        return Ending.CONTRADICTIONS
    return Ending.FOUND


def _tally(value: float, trials: Sequence[MarkTrial], confirm: int) -> Tally:
    outcomes = [trial.outcome for trial in trials if trial.value == value]
    return Tally(
        value=value,
        held=outcomes.count(Outcome.HELD),
        broke=outcomes.count(Outcome.BROKE),
        unknown=outcomes.count(Outcome.UNKNOWN),
        confirm=confirm,
    )


def _wanted(search: Search, seen: View) -> Iterator[float]:
    """The values that are still wanted, the next one first."""
    if not seen.tallies:
        yield search.lo
    yield from (one.value for one in seen.tallies if not one.judged)  # what could not be judged is made again at once
    held, barrier = seen.held, seen.barrier
    if barrier is None:
        yield from _upwards(search, held)
        return
    if held is None:  # nothing held below: the barrier is the lowest value there is
        if barrier.value > search.lo:
            yield search.lo
        elif not (barrier.stands or barrier.open or barrier.doubtful):
            yield barrier.value
        return
    yield from _between(search, held, barrier)
    if barrier.open:
        yield from _again(held)
    elif seen.broke is None:
        yield from _again(held)
        yield from _above(search, seen.edge or barrier)
    else:
        if seen.edge is not None and seen.edge is not seen.broke:
            yield from _between(search, seen.edge, seen.broke)
        yield from _again(held, seen.broke)


def _upwards(search: Search, held: Tally | None) -> Iterator[float]:
    """Go on with the ramp, or confirm its end."""
    if held is not None and held.value < search.hi:
        yield min(_rounded(search, held.value * search.factor), search.hi)
    elif held is not None:
        yield from _again(held)


def _above(search: Search, doubtful: Tally) -> Iterator[float]:
    """Look for a value that broke above a doubtful one, a step of the precision further; none above hi, or where it would be too far."""
    if doubtful.value < search.hi:
        yield min(max(_rounded(search, doubtful.value * (1 + search.precision)), doubtful.value + search.whole), search.hi)


def _between(search: Search, low: Tally, high: Tally) -> Iterator[float]:
    """The geometric middle of a gap, unless it is within the precision or has nothing inside."""
    if high.value <= low.value * (1 + search.precision) * (1 + 1e-9):
        return
    middle = _rounded(search, math.sqrt(low.value * high.value))
    if low.value < middle < high.value:
        yield middle


def _again(*ends: Tally) -> Iterator[float]:
    """The ends that do not stand yet, the one with fewer trials first: in turns, so that what drifts with time touches both."""
    pending = [one for one in ends if not (one.stands or one.doubtful or one.open)]
    yield from (one.value for one in sorted(pending, key=lambda one: one.held + one.broke))


def _too_wide(search: Search, held: Tally, broke: Tally, tallies: Sequence[Tally]) -> bool:
    """Whether contradictions have pushed the ends of a bracket too far apart for it to say anything."""
    doubt = any(held.value < one.value < broke.value for one in tallies)
    return doubt and math.log(broke.value / held.value) > WIDEST * math.log1p(search.precision)


def _rounded(search: Search, value: float) -> float:
    """As many digits as the precision can tell apart, and one more; whole where it is counted in ones."""
    digits = 2 + math.ceil(-math.log10(search.precision) - 1e-9)
    rounded = float(f"{value:.{digits - 1}e}")
    return float(round(rounded)) if search.whole else rounded
