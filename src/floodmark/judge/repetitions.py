"""From finished runs to repetitions: which scenarios count, and what each measured.

Input: run documents as plain data, with the spread of each figure within its run. Output: `Gathered`, a baseline's worth of figures and, of
every scenario that is kept out, the run, the verdict and the sentence that says why. A scenario that did not PASS is kept out: a broken
run has figures, but not of the thing that is to be repeated. So is a trial of the harness, whose target lies on purpose.

Pure. Runs of different machines, scales or loads are no repetitions of each other; putting them together is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model.baseline import Baseline, Figure, Host, Played, Subject
from floodmark.model.gauges import GAUGES, figure
from floodmark.model.result import ScenarioResult
from floodmark.model.verdict import Verdict

_NOT_THE_LOAD = ("id", "title", "plan", "target", "criteria", "scale")
"""Keys of a scenario that do not change what is measured, or are compared by themselves."""
_DIGITS = 16
_TWIN = ".honest-twin"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run. `spreads`: scenario id -> series of samples.parquet -> relative standard error within the run."""

    played: Played
    machine: Host
    results: tuple[ScenarioResult, ...]
    configuration: tuple[Mapping[str, Any], ...] = ()
    spreads: Mapping[str, Mapping[str, float]] = {}


class KeptOut(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario of a run that does not count as a repetition. `is_trial`: it tries the harness, so no figure of it is about a target."""

    scenario: str
    run: str
    verdict: Verdict
    why: str
    is_trial: bool = False


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What some runs measured together."""

    baseline: Baseline
    kept_out: tuple[KeptOut, ...] = ()


def gather(name: str, runs: Sequence[Run], *, onto: Baseline | None = None) -> Gathered:
    """Put runs together as repetitions, in their order, after those of `onto`.

    Raises: UsageError when a run is there twice, or when two are no repetitions of each other.
    """
    if not runs:
        raise UsageError("no run given; name at least one run folder")
    machine = onto.machine if onto is not None else runs[0].machine
    played = list(onto.runs) if onto is not None else []
    scenarios = dict(onto.scenarios) if onto is not None else {}
    kept_out: list[KeptOut] = []
    for run in runs:
        if run.played in played:
            raise UsageError(f"{run.played.run} is there already: the same run twice is no repetition; leave it out, or run once more")
        if run.machine.text != machine.text:
            raise UsageError(
                f"{run.played.run} was played on {run.machine.text}, the others on {machine.text}; take those of one machine at a time"
            )
        played.append(run.played)
        for result in run.results:
            why = why_not(result, run)
            if why is not None:
                kept_out.append(why)
                continue
            subject = _subject(result, run)
            before = scenarios.get(result.id)
            scenarios[result.id] = subject if before is None else _joined(result.id, before, subject)
    return Gathered(
        baseline=Baseline(name=name, machine=machine, runs=tuple(played), scenarios=scenarios),
        kept_out=tuple(kept_out),
    )


def why_not(result: ScenarioResult, run: Run) -> KeptOut | None:
    """Why a scenario is no repetition; None when it is one."""
    known = {one.get("id") for one in run.configuration}
    is_trial = result.id + _TWIN in known
    if is_trial:
        why = "it tries the harness with a target that lies on purpose, so its figures are of no use for a comparison"
    elif result.verdict is not Verdict.PASS:
        why = f"it ended {result.verdict.value}{_first(result)}"
    elif result.id not in known:
        why = "run.json does not hold its configuration, so nobody can tell what was measured"
    else:
        return None
    return KeptOut(scenario=result.id, run=run.played.run, verdict=result.verdict, why=why, is_trial=is_trial)


def _first(result: ScenarioResult) -> str:
    """The first criterion that explains a verdict."""
    for criterion in result.criteria:
        if criterion.verdict is result.verdict:
            return f": {criterion.text}{f' ({criterion.note})' if criterion.note else ''}"
    return f": {result.note}" if result.note else ""


def _subject(result: ScenarioResult, run: Run) -> Subject:
    configuration = next(one for one in run.configuration if one.get("id") == result.id)
    spreads = run.spreads.get(result.id, {})
    figures: dict[str, Figure] = {}
    for gauge in GAUGES.values():
        value = figure(gauge, result.metrics)
        if value is not None:
            figures[gauge.name] = Figure(
                better=gauge.better, dimension=gauge.dimension, values=(value,), spreads=(spreads.get(gauge.series),)
            )
    return Subject(
        scale=result.scale,
        configuration=digest(configuration),
        target=_target(configuration.get("target")),
        runs=(run.played.run,),
        figures=figures,
    )


def digest(configuration: Mapping[str, Any]) -> str:
    """A short digest of the load that a scenario asks for, whatever its title, its criteria and its target."""
    load = {key: value for key, value in configuration.items() if key not in _NOT_THE_LOAD}
    return hashlib.sha256(msgspec.json.encode(load, order="deterministic")).hexdigest()[:_DIGITS]


def _target(target: object) -> str:
    """What was under load, as a person would type it."""
    if not isinstance(target, Mapping):
        return ""
    where = next((str(target[key]) for key in ("system", "command", "url") if target.get(key)), "")
    return " ".join([where, *map(str, target.get("args") or ())])


def _differs(before: Subject, subject: Subject) -> str:
    """What makes two runs of a scenario no repetitions of each other. An address may change from run to run: ports do."""
    if before.scale != subject.scale:
        return "scale"
    if before.configuration != subject.configuration:
        return "configuration"
    at_urls = "://" in before.target and "://" in subject.target
    return "" if before.target == subject.target or at_urls else "target"


def _joined(scenario: str, before: Subject, subject: Subject) -> Subject:
    """One more repetition."""
    what = _differs(before, subject)
    if what:
        raise UsageError(
            f"{scenario} has another {what} in {subject.runs[0]} than in {before.runs[-1]}: no repetition; leave one of these runs out"
        )
    figures = dict(before.figures)
    for name, figure_now in subject.figures.items():
        earlier = figures.get(name)
        figures[name] = (
            figure_now
            if earlier is None
            else msgspec.structs.replace(
                earlier, values=(*earlier.values, *figure_now.values), spreads=(*earlier.spreads, *figure_now.spreads)
            )
        )
    return msgspec.structs.replace(before, runs=(*before.runs, *subject.runs), figures=figures)
