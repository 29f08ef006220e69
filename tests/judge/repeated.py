"""Repetitions made up for the tests of comparisons: every figure follows from what the test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from floodmark.judge.repetitions import Gathered, KeptOut, Run
from floodmark.model.baseline import Baseline, Figure, Host, Played, Subject
from floodmark.model.gauges import GAUGES
from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.verdict import Verdict

HOST = Host(cpu="An Honest Processor", cores=4, memory_bytes=1024, kernel="Linux 6.1", python="CPython 3.11.9")
ONE = "rooms.steady"
CALM = (1.0, 1.01, 0.99, 1.02, 0.98, 1.005, 0.995, 1.015)
"""Eight repetitions of a figure that is 1 and moves by 1 %."""


def figure(name: str, values: Sequence[float], spread: float | None = None) -> Figure:
    """One figure by its gauge."""
    gauge = GAUGES[name]
    return Figure(better=gauge.better, dimension=gauge.dimension, values=tuple(values), spreads=(spread,) * len(values))


def subject(figures: Mapping[str, Sequence[float]], *, runs: str = "r", spread: float | None = None, **changes: object) -> Subject:
    """One scenario with these figures."""
    count = max(map(len, figures.values()), default=1)
    plain = Subject(
        scale=1.0,
        configuration="c0ffee",
        target="hub",
        runs=tuple(f"{runs}{number}" for number in range(count)),
        figures={name: figure(name, values, spread) for name, values in figures.items()},
    )
    return msgspec.structs.replace(plain, **changes)


def held(scenarios: Mapping[str, Subject], *, name: str = "main", runs: str = "r", host: Host = HOST) -> Baseline:
    """A baseline of these scenarios."""
    count = max((len(one.runs) for one in scenarios.values()), default=1)
    played = tuple(Played(run=f"{runs}{number}", started=f"2026-01-0{number + 1}", version="0.1.0", seed=number) for number in range(count))
    return Baseline(name=name, machine=host, runs=played, scenarios=dict(scenarios))


def measured(scenarios: Mapping[str, Subject], *kept_out: KeptOut, host: Host = HOST) -> Gathered:
    """What runs measured now."""
    return Gathered(baseline=held(scenarios, name="now", runs="n", host=host), kept_out=kept_out)


def scaled(factor: float, values: Sequence[float] = CALM) -> tuple[float, ...]:
    """The same, so many times larger."""
    return tuple(factor * value for value in values)


def result(scenario: str = ONE, *, verdict: Verdict = Verdict.PASS, **metrics: float) -> ScenarioResult:
    """A scenario's result with these metrics."""
    broken = CriterionResult(text="lost == 0", observed=3.0, verdict=verdict, note="3 lost")
    return ScenarioResult(id=scenario, plan="", verdict=verdict, scale=1.0, duration_s=1.0, criteria=(broken,), metrics=metrics)


def run(number: int, *results: ScenarioResult, host: Host = HOST, load: str = "constant", **spreads: float) -> Run:
    """A finished run."""
    return Run(
        played=Played(run=f"run-{number}", started=f"2026-01-01T00:00:{number:02}", version="0.1.0", seed=number),
        machine=host,
        results=results,
        configuration=tuple({"id": one.id, "title": one.id, "target": {"system": "hub", "args": ["-x"]}, "load": load} for one in results),
        spreads={one.id: spreads for one in results},
    )
