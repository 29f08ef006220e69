"""What target and harness cost, from what the watch saw of their processes. What was not seen stays unknown."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Literal

from floodmark.judge.observe import Memory
from floodmark.model.result import GeneratorUsage, TargetUsage
from floodmark.model.scenario import Scenario
from floodmark.monitor.sample import Peak, ProcessSample
from floodmark.monitor.watch import Watch
from floodmark.runner.evidence import Evidence

Tree = Literal["target", "harness"]
BEFORE_CONNECT, CONNECTED, END, LEFT = "before-connect", "connected", "end", "left"


def asks_what_connections_leave(scenario: Scenario) -> bool:
    """Whether a criterion needs a look at the target after all connections have left it, which takes another second or more."""
    return any(criterion.metric == "rss_kept_per_connection" for criterion in scenario.criteria)


def memory(evidence: Evidence, tree: Tree) -> Memory | None:
    """Resident bytes of a tree at the marks of the run; None when nothing of it can be seen."""
    watch = evidence.watch
    if watch is None or (tree == "target" and not _ours(evidence)):
        return None
    peak = watch.peak(tree)
    return Memory(
        before_connect=_resident(watch, BEFORE_CONNECT, tree),
        connected=_resident(watch, CONNECTED, tree),
        end=_resident(watch, END, tree),
        left=_resident(watch, LEFT, tree),
        peak=peak.resident_bytes if peak is not None else None,
        starts=evidence.target.starts_count if tree == "target" and evidence.target is not None else 1,
    )


class Resident:
    """A tree's resident memory over time, as the watch kept it; a peak between two samples is missed."""

    def __init__(self, evidence: Evidence, tree: Tree) -> None:
        seen = evidence.watch is not None and (tree != "target" or _ours(evidence))
        rows = evidence.watch.rows() if evidence.watch is not None and seen else []
        self._samples = sorted((row.t_ns, row.resident_bytes) for row in rows if row.tree == tree)

    def peak_bytes(self, from_ns: int, to_ns: int) -> int | None:
        """The largest sample in [from_ns, to_ns); None when there was none."""
        first, end = (bisect_left(self._samples, (at_ns, 0)) for at_ns in (from_ns, to_ns))
        return max((resident_bytes for _, resident_bytes in self._samples[first:end]), default=None)


def peak(evidence: Evidence, tree: Tree) -> Peak | None:
    """The largest figures of a tree."""
    return evidence.watch.peak(tree) if evidence.watch is not None else None


def total_peak_bytes(evidence: Evidence) -> int | None:
    """The largest sum of target and harness in one look; None when they were never seen together."""
    sums: Counter[int] = Counter()
    trees: Counter[int] = Counter()
    for row in evidence.watch.rows() if evidence.watch is not None else []:
        sums[row.t_ns] += row.resident_bytes
        trees[row.t_ns] += 1
    return max((total for at_ns, total in sums.items() if trees[at_ns] == 2), default=None)


def target_usage(evidence: Evidence) -> TargetUsage:
    """The target's cost for the result; zeros, by its contract, when it could not be seen."""
    seen, largest = memory(evidence, "target"), peak(evidence, "target")
    if seen is None or largest is None:
        return TargetUsage()
    return TargetUsage(
        rss_bytes_start=seen.before_connect or 0,
        rss_bytes_peak=seen.peak or 0,
        rss_bytes_end=seen.end or 0,
        cpu_s=largest.cpu_s,
        fds_peak=largest.descriptors or 0,
        threads_peak=largest.threads,
    )


def generator_usage(evidence: Evidence, *, lag_ns_p99: int, agents: int) -> GeneratorUsage:
    """The harness's own cost: the runner and its agents."""
    largest = peak(evidence, "harness")
    return GeneratorUsage(
        rss_bytes_peak=largest.sampled_bytes if largest is not None else 0,
        cpu_s=largest.cpu_s if largest is not None else 0.0,
        lag_ns_p99=lag_ns_p99,
        processes=1 + agents,
        agents_lost=evidence.agents_lost,
    )


def _ours(evidence: Evidence) -> bool:
    return evidence.target is not None and evidence.target.pid is not None


def _resident(watch: Watch, label: str, tree: Tree) -> int | None:
    mark = watch.at(label)
    sample: ProcessSample | None = mark.samples.get(tree) if mark is not None else None
    return sample.resident_bytes if sample is not None else None
