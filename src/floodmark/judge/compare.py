"""Compare runs with a baseline: per scenario and figure better, same, worse or unknown, and one verdict over all.

Input: a baseline and what was gathered of the runs. Output: `Compared`. Pure.

- WORSE and BETTER: the whole interval lies beyond the limit, and the test of that holds after Holm's correction (1979) over all
  comparisons of this call. Holm's, and not Benjamini-Hochberg's: one false alarm is enough to stop a build, so the chance of any at all
  is what has to stay below ALPHA, whatever the figures have to do with each other.
- SAME: the whole interval lies within the limits, and both one-sided tests hold (Schuirmann 1987). Not corrected: "no regression" is said
  only when every comparison allows it, and such a claim is no surer than its weakest part (Berger 1982).
- UNKNOWN: all else, with the reason and the repetitions that would settle it. Where a regression is ruled out but not whether it became
  better, `is_no_worse` says so; that does not keep a verdict from being PASS. A figure that some of the runs lack may convict and never
  acquit: it is lacking where its moment was not seen, as when a stream never recovered, so those that have it are the milder ones.

A scenario that passed and now FAILs is WORSE whatever the noise. What is not the same thing is not compared: UNKNOWN, with a sentence.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Sequence

import msgspec

from floodmark.core.errors import UsageError
from floodmark.judge import noise
from floodmark.judge.comparison import VERDICT, Change, Compared, Comparison, Wish
from floodmark.judge.noise import Estimate
from floodmark.judge.repetitions import Gathered, KeptOut
from floodmark.model.baseline import Baseline, Figure, Subject
from floodmark.model.gauges import GAUGES, Better, Gauge
from floodmark.model.verdict import Verdict, worst

ALPHA = 1 - noise.CONFIDENCE


class _Test(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison that the noise has a say in."""

    scenario: str
    gauge: Gauge
    before: Figure
    now: Figure
    found: Estimate | None
    lacking_count: int
    """Runs now that passed and have no such figure."""


def compare(baseline: Baseline, now: Gathered, wish: Wish = Wish()) -> Compared:  # noqa: B008  # frozen
    """Compare.

    Raises: UsageError when a run is part of the baseline: compared with itself it would always be the same.
    """
    fresh = now.baseline
    for played in fresh.runs:
        if played in baseline.runs:
            raise UsageError(f"{played.run} is part of the baseline {baseline.name!r}, and cannot be compared with itself; run once more")
    same_machine = baseline.machine.text == fresh.machine.text
    rows: list[Comparison] = []
    tests: list[_Test] = []
    trials = {one.scenario for one in now.kept_out if one.is_trial and one.verdict is Verdict.PASS}
    for scenario in sorted({*baseline.scenarios, *fresh.scenarios, *(one.scenario for one in now.kept_out)} - trials):
        before, after = baseline.scenarios.get(scenario), fresh.scenarios.get(scenario)
        rows.append(_verdict_row(scenario, before, after, [one for one in now.kept_out if one.scenario == scenario]))
        if before is None or after is None:
            continue
        wrong = _not_the_same(before, after)
        if not wrong and not same_machine and not wish.across_machines:
            wrong = _another_machine(baseline, fresh)
        if wrong:
            rows.append(_unknown(scenario, "all figures", wrong))
            continue
        gauges = [gauge for gauge in _gauges(wish) if same_machine or not gauge.of_machine]
        missing, known = _pairs(scenario, before, after, gauges, wish)
        if wish.metrics:
            missing += [_unknown(scenario, gauge.name, _OF_MACHINE) for gauge in _gauges(wish) if gauge not in gauges]
        if not missing and not known:
            missing = [_unknown(scenario, "all figures", "neither side has one of the figures that are compared")]
        rows += missing
        tests += known
    rows += _decided(tests)
    order = {name: place for place, name in enumerate((VERDICT, *GAUGES))}
    rows.sort(key=lambda row: (row.scenario, order.get(row.metric, 0)))
    return Compared(
        baseline=baseline.name,
        runs=tuple(played.run for played in fresh.runs),
        verdict=worst(map(_as_verdict, rows)),
        comparisons=tuple(rows),
        remarks=tuple(_remarks(baseline, now, trials, same_machine=same_machine)),
    )


def _as_verdict(row: Comparison) -> Verdict:
    if row.verdict is Change.WORSE:
        return Verdict.FAIL
    return Verdict.UNKNOWN if row.verdict is Change.UNKNOWN and not row.is_no_worse else Verdict.PASS


def _gauges(wish: Wish) -> list[Gauge]:
    return [gauge for gauge in GAUGES.values() if (gauge.name in wish.metrics if wish.metrics else gauge.is_usual)]


# -- what is not a matter of noise ---------------------------------------------------------------------------------------------------


def _verdict_row(scenario: str, before: Subject | None, after: Subject | None, kept_out: Sequence[KeptOut]) -> Comparison:
    """The scenario as a whole: it passed in every run of a baseline."""
    passed = 0 if after is None else len(after.runs)
    counts = (0 if before is None else len(before.runs), passed + len(kept_out))
    failed = [one for one in kept_out if one.verdict is Verdict.FAIL]
    if before is None:
        fails = f"; now {failed[0].why}" if failed else ""
        return _unknown(scenario, VERDICT, f"it is not in the baseline, so nothing is known of before{fails}", counts)
    if failed:
        share = f"{len(failed)} of {counts[1]} runs, " if counts[1] > 1 else ""
        return Comparison(
            scenario=scenario,
            metric=VERDICT,
            verdict=Change.WORSE,
            repetitions=counts,
            reason=f"it passed before, and now {share}{failed[0].run}: {failed[0].why}",
        )
    if kept_out:
        return _unknown(scenario, VERDICT, f"{kept_out[0].run}: {kept_out[0].why}", counts)
    if after is None:
        return _unknown(scenario, VERDICT, "it is in the baseline and was not run; run it too, or save a baseline without it", counts)
    return Comparison(
        scenario=scenario, metric=VERDICT, verdict=Change.SAME, repetitions=counts, is_no_worse=True, reason="it passed, and passes"
    )


def _unknown(scenario: str, metric: str, reason: str, counts: tuple[int, int] = (0, 0)) -> Comparison:
    return Comparison(scenario=scenario, metric=metric, verdict=Change.UNKNOWN, repetitions=counts, reason=reason)


def _not_the_same(before: Subject, after: Subject) -> str:
    """Why two sets of repetitions are not of the same thing; empty when they are."""
    if before.scale != after.scale:
        return f"the scale is {after.scale:g} and was {before.scale:g}; run with --scale {before.scale:g}, or save a new baseline"
    if before.configuration != after.configuration:
        return "the load is configured in another way than in the baseline (or was written by another version); save a new baseline"
    return ""


def _another_machine(baseline: Baseline, fresh: Baseline) -> str:
    return (
        f"another machine: {fresh.machine.text}, and the baseline is of {baseline.machine.text}; save a baseline there, "
        "or compare with --across-machines what does not hang on the machine"
    )


_OF_MACHINE = "it hangs on the machine, and these are two; compare it with a baseline of the same machine, or leave it out"


def _remarks(baseline: Baseline, now: Gathered, trials: Iterable[str], *, same_machine: bool) -> Iterable[str]:
    """What is good to know beside the comparisons."""
    fresh = now.baseline
    if not same_machine:
        left = ", ".join(gauge.name for gauge in GAUGES.values() if gauge.is_usual and gauge.of_machine)
        yield f"baseline on {baseline.machine.text}, runs on {fresh.machine.text}: figures of the machine are not compared ({left})"
    for what in ("kernel", "python", "memory_bytes"):
        was, is_ = getattr(baseline.machine, what), getattr(fresh.machine, what)
        if was != is_:
            yield f"{what.replace('_', ' ')}: {was} in the baseline, {is_} now"
    versions = {played.version for played in baseline.runs} ^ {played.version for played in fresh.runs}
    if versions:
        yield f"different versions of floodmark took part: {', '.join(sorted(versions))}"
    for scenario, subject in sorted(fresh.scenarios.items()):
        before = baseline.scenarios.get(scenario)
        if before is not None and before.target != subject.target:
            yield f"{scenario}: the target was {before.target!r}, and is {subject.target!r}"
    if left_out := sorted(trials):
        yield f"not compared, since they try the harness itself: {', '.join(left_out)}"


# -- what is -------------------------------------------------------------------------------------------------------------------------


def _pairs(scenario: str, before: Subject, after: Subject, gauges: Sequence[Gauge], wish: Wish) -> tuple[list[Comparison], list[_Test]]:
    """Set the figures of a scenario side by side: those that one side lacks, and the others."""
    missing: list[Comparison] = []
    known: list[_Test] = []
    for gauge in gauges:
        was, is_ = before.figures.get(gauge.name), after.figures.get(gauge.name)
        if was is not None and is_ is not None:
            found = noise.estimate(
                was.values,
                is_.values,
                sign=1 if gauge.better is Better.LOWER else -1,
                tolerance_ratio=wish.tolerance_of(gauge),
                grain=gauge.grain,
                of_machine=gauge.of_machine,
                spreads_before=was.spreads,
                spreads_now=is_.spreads,
            )
            lacking_count = len(after.runs) - len(is_.values)
            known.append(_Test(scenario=scenario, gauge=gauge, before=was, now=is_, found=found, lacking_count=lacking_count))
        elif was is not None or is_ is not None:
            side = "the baseline has" if is_ is not None else "these runs have"
            missing.append(_unknown(scenario, gauge.name, f"{side} no such figure"))
        elif wish.metrics:
            missing.append(_unknown(scenario, gauge.name, "neither side has such a figure"))
    return missing, known


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of several tests hold when the chance of a single false one shall stay below alpha.

    >>> holm([0.01, 0.04, 0.02], 0.05)
    [True, True, True]
    >>> holm([0.01, 0.04, 0.03], 0.05)
    [True, False, False]
    """
    holds = [False] * len(p_values)
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - place):
            break
        holds[index] = True
    return holds


_CLEARS_NOTHING = "as when its moment was not seen, so the others clear nothing; see their reports"


def _decided(tests: Sequence[_Test]) -> list[Comparison]:
    found = [test.found for test in tests if test.found is not None]
    worse = iter(holm([one.p_worse for one in found], ALPHA))
    better = iter(holm([one.p_better for one in found], ALPHA))
    enough, enough_for_all = _enough(len(found)), _enough(len(tests))  # with enough of them, all are compared at once
    return [
        _too_few(test, enough_for_all)
        if test.found is None
        else _row(test, test.found, next(worse), next(better), enough=enough, at_once=len(found))
        for test in tests
    ]


def _enough(at_once: int) -> int:
    """How many repetitions on either side it takes until ranks alone can be sure of one of so many; p counts twice, for two tests."""
    return noise.repetitions_for(ALPHA / (2 * max(1, at_once)))


def _too_few(test: _Test, enough: int) -> Comparison:
    counts = (len(test.before.values), len(test.now.values))
    if min(counts) >= noise.REPETITIONS_LEAST:
        reason = "it is 0 in the baseline, so there is no ratio, and a figure of this kind has no least change that counts"
        return msgspec.structs.replace(_medians(test), reason=reason)
    reason = f"too few repetitions to tell ({counts[0]} and {counts[1]}); {_repeat(enough, counts)}"
    return msgspec.structs.replace(_medians(test), reason=reason, settled_by=enough)


def _repeat(count: int, counts: tuple[int, int]) -> str:
    sides = [name for name, have in zip(("the baseline", "the runs"), counts, strict=True) if have < count]
    return f"repeat {' and '.join(sides) or 'both'} until there are {count}"


def _medians(test: _Test) -> Comparison:
    return Comparison(
        scenario=test.scenario,
        metric=test.gauge.name,
        verdict=Change.UNKNOWN,
        baseline=statistics.median(test.before.values),
        now=statistics.median(test.now.values),
        repetitions=(len(test.before.values), len(test.now.values)),
    )


def _row(test: _Test, found: Estimate, worse: bool, better: bool, *, enough: int, at_once: int) -> Comparison:
    counts = (len(test.before.values), len(test.now.values))
    is_worse = worse and found.lower > found.limit
    is_better = better and found.upper < -found.limit
    is_whole = test.lacking_count <= 0
    is_better = is_better and is_whole
    is_no_worse = is_whole and found.method == "ranks" and found.upper < found.limit and found.p_not_worse <= ALPHA
    is_same = is_no_worse and found.lower > -found.limit and found.p_not_better <= ALPHA
    verdict = Change.WORSE if is_worse else Change.BETTER if is_better else Change.SAME if is_same else Change.UNKNOWN
    reason, settled_by = "", None
    if verdict is Change.UNKNOWN:
        reason, settled_by = _why(found, counts, enough, at_once)
        if not is_whole and found.method == "ranks":
            reason, settled_by = (
                f"{test.lacking_count} of {len(test.now.values) + test.lacking_count} runs lack it, {_CLEARS_NOTHING}",
                None,
            )
        if is_no_worse:
            reason = f"no worse: better or the same, which of them cannot be told; {reason}"
    sign = 1 if test.gauge.better is Better.LOWER else -1
    middle = sign * found.difference
    low, high = sorted((sign * found.lower, sign * found.upper))
    if found.is_relative:
        shown = {"ratio": _exp(middle), "ratio_interval": (_exp(low), _exp(high)), "tolerance_ratio": math.expm1(found.limit)}
    else:
        shown = {"difference": middle, "difference_interval": (low, high)}
    return msgspec.structs.replace(
        _medians(test),
        verdict=verdict,
        method=found.method,
        p_worse=found.p_worse,
        is_no_worse=verdict in (Change.BETTER, Change.SAME) or is_no_worse,
        settled_by=settled_by,
        reason=reason,
        **shown,
    )


def _exp(logarithm: float) -> float:
    """A ratio; infinity where it is larger than any number, as the end of an interval from a spread that was extrapolated may be."""
    return math.inf if logarithm > _LARGEST else math.exp(logarithm)


_LARGEST = math.log(sys.float_info.max)


def _why(found: Estimate, counts: tuple[int, int], enough: int, at_once: int) -> tuple[str, int | None]:
    """Why it cannot be told, and how many repetitions would."""
    if found.method == "ranks" and (found.lower > found.limit or found.upper < -found.limit) and min(counts) < enough:
        return f"it lies beyond the limit, but {at_once} comparisons at once need more to be sure; {_repeat(enough, counts)}", enough
    if found.method != "ranks":
        return f"too few repetitions to tell ({counts[0]} and {counts[1]}), going by the {found.method}; {_repeat(enough, counts)}", enough
    wanted = noise.repetitions_to_settle(found, *counts, alpha=ALPHA / at_once)
    if wanted is None:
        most = noise.REPETITIONS_MOST
        return f"the difference lies at the limit: {most} repetitions would not settle it; set another tolerance", None
    wanted = max(wanted, enough)
    return f"the noise is too large for {counts[0]} and {counts[1]} repetitions; {_repeat(wanted, counts)}", wanted
