"""What a test is told of a run that did not come to the expected verdict, and what a build server is told of every run. Pure.

Input: the result of a run, or how its process ended without one. Output: text for people, figures in base units for machines. How a
figure is written is `report/figures.py`'s affair; which verdict was wanted, and what follows from another, the caller's.
"""

from __future__ import annotations

from floodmark.model.result import CriterionResult, RunResult, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.own_process import Ended
from floodmark.report import figures

FINDINGS_SHOWN = 5
LAST_LINES_SHOWN = 5


def told(result: RunResult, expected: Verdict, *, again: str) -> str:
    """Why a result is not what a test expects: each scenario that did not pass, or all when that was asked for; then where and how."""
    verdict = result.verdict.value + (" and interrupted" if result.interrupted else "")
    blamed = [one for one in result.scenarios if one.verdict is not Verdict.PASS] or list(result.scenarios)
    gist = _gist(blamed[0]) if len(result.scenarios) == 1 else figures.headline(result)
    lines = [f"floodmark: {verdict}, not {expected.value}: {gist}"]
    for scenario in blamed:
        lines += [f"  {scenario.verdict.value} {scenario.id}", *(f"    {line}" for line in _account(scenario))]
    return figures.clean("\n".join([*lines, f"  run folder     {result.run}", f"  run it again   {again}"]))


def _gist(scenario: ScenarioResult) -> str:
    """What comes first, for who sees one line."""
    first = (_account(scenario) or ["no criterion was judged"])[0]
    return first.removeprefix(f"{scenario.verdict.value} ")


def _account(scenario: ScenarioResult) -> list[str]:
    """What a person needs to see: what broke, why nothing could be told, findings, the target's last lines."""
    held, broken, untold = ([one for one in scenario.criteria if one.verdict is verdict] for verdict in Verdict)
    alike = [one for one in untold if scenario.note and scenario.note in one.note]
    findings = sorted(scenario.findings, key=lambda one: not one.violation)
    shown = [f"{one.count:,} {one.anomaly.value}: {one.detail}" for one in findings[:FINDINGS_SHOWN]]
    return [
        *map(_criterion, broken),
        *([scenario.note] if scenario.note else []),
        *(_criterion(one) for one in untold if one not in alike),
        *([f"so there is no evidence for: {', '.join(one.text for one in alike)}"] if alike else []),
        *(map(_criterion, held) if scenario.verdict is Verdict.PASS else []),
        *shown,
        *([f"and {more:,} more in findings.jsonl"] if (more := len(findings) - len(shown)) else []),
        *(f"| {line}" for line in scenario.log_tail[-LAST_LINES_SHOWN:]),
    ]


def _criterion(one: CriterionResult) -> str:
    """A criterion with what the judge said of it, which holds the figure; of one that holds it says nothing."""
    return f"{one.verdict.value} {one.text}: {one.note or f'observed {figures.observed(one)}'}"


def why_unknown(result: RunResult) -> str:
    """What kept a run from a verdict, on one line."""
    return "; ".join(_gist(one) for one in result.scenarios if one.verdict is Verdict.UNKNOWN) or "no scenario was played"


def without_result(ended: Ended) -> str:
    """What became of a run that printed no document: its own last sentence where it ended in order."""
    sentences = [line.removeprefix("floodmark: ") for line in ended.stderr.splitlines() if line.startswith("floodmark: ")]
    if ended.code > 0 and sentences:
        return sentences[-1]
    how = f"was killed by signal {-ended.code}" if ended.code < 0 else f"ended with exit code {ended.code}"
    last = ended.stderr.strip().splitlines()[-1:]
    return f"the run {how} before it had a result; {f'its last words: {last[0]}' if last else 'it said nothing'}"


def properties(result: RunResult, number: int) -> list[tuple[str, object]]:
    """The run in junit.xml, named as in the run folder's own, in base units; from the second run of a test on, with its number."""
    head = "floodmark." if number == 1 else f"floodmark.{number}."
    found: list[tuple[str, object]] = [("verdict", result.verdict.value), ("run", result.run), ("seed", result.seed)]
    for one in result.scenarios:
        measured = {name: getattr(one.delivery, name) for name in ("delivered", "lost", "duplicated", "reordered", "corrupted")}
        measured |= {f"response_{name}_ns": getattr(one.latency_ns.response, name) for name in ("p50", "p99", "max")}
        measured |= {"throughput_hz": one.throughput_hz, "target_rss_bytes_peak": one.target.rss_bytes_peak}
        found += [(f"{one.id}.{name}", figure) for name, figure in {"verdict": one.verdict.value, **measured}.items()]
    return [(head + name, value) for name, value in found]
