"""Say what a search for the mark has found: the `Mark`, with one sentence that a person can act on.

Input: the search, its trials, and what stopped it, if something did. Output: a `Mark`. Pure. What is tried next is `judge/mark.py`.
A mark that is not bracketed and confirmed is never PASS, and a limit of the generator is never told as a break of the target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from floodmark.judge.mark import Ending, Search, View, ending, view
from floodmark.model.mark import Mark, MarkTrial, Outcome, amount
from floodmark.model.verdict import Verdict

_VERDICTS = {Ending.FOUND: Verdict.PASS, Ending.BROKE_AT_LO: Verdict.FAIL}


def conclude(search: Search, trials: Sequence[MarkTrial], *, vary: str, unit: str, stopped: str = "") -> Mark:
    """Make the mark of what there is.

    Args:
        vary: the name of what was varied; `unit`: how it is written after a number.
        stopped: half a sentence on what ended the search before its time; the bracket is then as far as it came, and the verdict UNKNOWN.
    """
    seen = view(search, trials)
    end = Ending.TRIALS_RAN_OUT if stopped else ending(search, trials)
    held, broke = seen.held, seen.broke
    words = _Words(search, trials, seen, unit)
    doubtful = tuple(one.value for one in seen.tallies if one.doubtful)
    again = tuple(one.value for one in seen.tallies if broke is not None and one.holds and one.value > broke.value)
    remarks = [words.doubts(doubtful)] if doubtful and end is Ending.FOUND else []
    if again:
        values = ", ".join(amount(value, unit) for value in again)
        remarks.append(f"it held again at {values}, so it does not simply break above a limit: the lowest break is the mark")
    return Mark(
        vary=vary,
        held=None if held is None else held.value,
        broke=None if broke is None else broke.value,
        unit=unit,
        by=words.by,
        why="; ".join([words.of(end, stopped), *remarks]),
        verdict=_VERDICTS.get(end, Verdict.UNKNOWN),
        lo=search.lo,
        hi=search.hi,
        precision=search.precision,
        confirm=search.confirm,
        doubtful=doubtful,
        open=tuple(one.value for one in seen.tallies if one.open),
        held_above=again,
        trials=tuple(trials),
    )


class _Words:
    """The sentences of one mark."""

    def __init__(self, search: Search, trials: Sequence[MarkTrial], seen: View, unit: str) -> None:
        self._search, self._trials, self._seen, self._unit = search, trials, seen, unit
        broken = self._at(seen.broke.value, Outcome.BROKE) if seen.broke is not None else []
        self.by = Counter(trial.by for trial in broken).most_common(1)[0][0] if broken else ""
        self._observed = next((trial.why for trial in broken if trial.by == self.by), "")

    def of(self, end: Ending, stopped: str) -> str:
        """The sentence on how a search ended."""
        lo, hi = self._amount(self._search.lo), self._amount(self._search.hi)
        match end:
            case Ending.FOUND:
                return f"{self._held()}, {self._broke()}"
            case Ending.BROKE_AT_LO:
                return f"{self._broke('broke already at')}: {lo} is the lowest value of the search; start lower"
            case Ending.HELD_TO_HI:
                return f"{self._held('held all the way to')}: the mark is at least that; look higher to find where it breaks"
            case Ending.OPEN:
                return self._open()
            case Ending.CONTRADICTIONS:
                doubtful = [one.value for one in self._seen.tallies if one.doubtful]
                held = f"{self._held()}; " if self._seen.held is not None else ""
                broke = f"; {self._broke()}" if self._seen.broke is not None else f"; it surely broke nowhere up to {hi}"
                return f"{held}{self.doubts(doubtful)}{broke}: no mark that would come out again; try longer trials"
            case Ending.TRIALS_RAN_OUT:
                why = stopped or f"the search ended after {len(self._trials)} trials, before it was over"
                return f"not found: {why}; so far it {self._so_far()}"

    def doubts(self, values: Sequence[float]) -> str:
        """Half a sentence on values whose trials contradict each other."""
        tallies = [one for one in self._seen.tallies if one.value in values]
        each = ", ".join(f"{self._amount(one.value)} (held {one.held}, broke {one.broke})" for one in tallies)
        return f"trials of the same value contradict each other at {each}"

    def _so_far(self) -> str:
        if not self._trials:
            return "has not been tried"
        parts = [self._held()] if self._seen.held is not None else []
        if self._seen.broke is not None:
            parts.append(self._broke())
        ends = (self._seen.held, self._seen.broke)
        loose = parts and not all(one.stands for one in ends if one is not None)
        return " and ".join(parts or ["could not be judged"]) + (", not confirmed" if loose else "")

    def _open(self) -> str:
        """What stands above an open value is not known, whoever is to blame; only the generator is blamed by name."""
        barrier = self._seen.barrier
        assert barrier is not None
        there = self._at(barrier.value, Outcome.UNKNOWN)
        why = there[-1].why
        ours = all(trial.generator for trial in there)
        where = self._amount(barrier.value)
        above = f"; {self._broke()}" if self._seen.broke is not None else ""
        if self._seen.held is None:
            blame = "the load generator was the limit" if ours else "it could not be judged"
            return f"{blame} at {where} already, the lowest value: {why}{above}"
        least = f"at least {self._amount(self._seen.held.value)}"
        if ours:
            return f"{least}; the load generator was the limit above it (at {where}: {why}){above}"
        return f"{least}; at {where} it could not be judged: {why}{above}"

    def _held(self, how: str = "held up to") -> str:
        assert self._seen.held is not None
        return f"{how} {self._amount(self._seen.held.value)}"

    def _broke(self, how: str = "broke at") -> str:
        assert self._seen.broke is not None
        observed = f" ({self._observed})" if self._observed else ""
        return f"{how} {self._amount(self._seen.broke.value)} by `{self.by}`{observed}"

    def _amount(self, value: float) -> str:
        return amount(value, self._unit)

    def _at(self, value: float, outcome: Outcome) -> list[MarkTrial]:
        return [trial for trial in self._trials if trial.value == value and trial.outcome is outcome]
