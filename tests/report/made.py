"""Runs made up for the report tests: they look like real ones, and every figure in them follows from a seed."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime

import msgspec

from floodmark.model.arrival import Constant, Ramp
from floodmark.model.criterion import parse
from floodmark.model.finding import Anomaly, Finding
from floodmark.model.result import (
    CriterionResult,
    Delivery,
    FaultResult,
    FaultStretch,
    GeneratorUsage,
    Latencies,
    LatencySummary,
    RunResult,
    ScenarioResult,
    TargetUsage,
)
from floodmark.model.scenario import Fault, Phase, Population, Scenario
from floodmark.model.verdict import Verdict, worst
from floodmark.report import Machine
from floodmark.report.document import RunDocument

STARTED = datetime(2026, 1, 31, 14, 25, 1, tzinfo=UTC)
MACHINE = Machine(
    cpu="An Honest Processor 3.2 GHz",
    cores=4,
    memory_bytes=16 * 1024**3,
    kernel="Linux 6.1.0",
    python="CPython 3.11.9",
    versions={"floodmark": "0.1.0", "uvloop": "0.21.0"},
)
COMMAND = "floodmark run subscriptions --seed 7 --tier quick"
Rows = list[tuple[float, str, float]]
Marks = list[tuple[float, str]]


def passed(number: int = 1, **changes: object) -> ScenarioResult:
    """A scenario that passed; the number makes its figures differ from another's."""
    sent = 120_000 + number * 1_111
    summary = LatencySummary(p50=812_345, p90=1_934_000, p99=3_120_456 + number, p999=11_800_000, max=48_231_007, count=sent)
    service = LatencySummary(p50=790_111, p90=1_880_000, p99=2_950_321, p999=9_412_000, max=41_000_123, count=sent)
    plain = ScenarioResult(
        id=f"subscriptions.case-{number}",
        plan=f"S{number}",
        title=f"One thousand subscribers, case {number}",
        verdict=Verdict.PASS,
        scale=1.0,
        duration_s=20.4 + number,
        criteria=(
            CriterionResult(text="lost == 0", observed=0.0, verdict=Verdict.PASS),
            CriterionResult(text="latency_p99 < 100ms", observed=summary.p99 / 1e9, verdict=Verdict.PASS),
            CriterionResult(text="rss_peak < 2GiB", observed=203_485_184.0, verdict=Verdict.PASS),
        ),
        delivery=Delivery(attempted=sent, acknowledged=sent, delivered=sent),
        latency_ns=Latencies(response=summary, service=service),
        throughput_hz=sent / 20.0,
        target=TargetUsage(
            rss_bytes_start=58_720_256, rss_bytes_peak=203_485_184, rss_bytes_end=91_226_112, cpu_s=11.42, fds_peak=1_019, threads_peak=3
        ),
        generator=GeneratorUsage(rss_bytes_peak=121_634_816, cpu_s=8.71, lag_ns_p99=184_220, processes=2),
        metrics={"delivered": float(sent), "lost": 0.0, "latency_p99": summary.p99 / 1e9, "rss_growth": 1.55, "success_ratio": 1.0},
    )
    return msgspec.structs.replace(plain, **changes)


def failed(number: int = 2, **changes: object) -> ScenarioResult:
    """A scenario that lost messages, with findings and a log."""
    base = passed(number)
    findings = tuple(
        Finding(
            anomaly=Anomaly.LOST,
            subscription=index * 7,
            channel=index % 4,
            publisher=index % 4,
            count=3 + index,
            first_seq=1_000 + index,
            last_seq=1_002 + 2 * index,
            violation=True,
            detail=f"publisher {index % 4} had {3 + index} acknowledged at 8.{index} s; subscription {index * 7} was active, saw "
            f"{999 + index} and then {1_003 + 2 * index}",
        )
        for index in range(6)
    )
    lost = sum(one.count for one in findings)
    plain = msgspec.structs.replace(
        base,
        title="A thousand slow readers at the edge",
        verdict=Verdict.FAIL,
        criteria=(CriterionResult(text="lost == 0", observed=float(lost), verdict=Verdict.FAIL), *base.criteria[1:]),
        delivery=msgspec.structs.replace(base.delivery, delivered=base.delivery.attempted - lost, lost=lost, indeterminate=12),
        findings=findings,
        log_tail=("14:25:09 INFO  listening", "14:25:17 WARN  queue of client 814 is full, dropping", "14:25:17 WARN  dropped 3"),
    )
    return msgspec.structs.replace(plain, **changes)


def faulted(number: int = 8, **changes: object) -> ScenarioResult:
    """A scenario with a fault that came twice and was recovered from, and one of which little was seen."""
    calm = FaultStretch(duration_s=8.0, published_hz=6_000.0, delivered_hz=5_990.0, response_ns_p99=3_120_000, rss_bytes_peak=70_000_000)
    hurt = FaultStretch(duration_s=2.0, published_hz=5_800.0, delivered_hz=1_750.0, response_ns_p99=412_000_000, rss_bytes_peak=128_000_000)
    back = FaultStretch(duration_s=4.0, published_hz=6_010.0, delivered_hz=6_004.0, response_ns_p99=4_560_000, rss_bytes_peak=131_000_000)
    first = FaultResult(
        kind="disconnect",
        index=0,
        struck_s=10.0,
        lifted_s=12.0,
        hits=500,
        back=500,
        reconnects=498,
        recovery_s=1.84,
        first_delivery_s=0.0,
        full_rate_s=2.75,
        backlog_drained_s=3.25,
        degraded=False,
        lost=0,
        duplicated=0,
        reordered=0,
        corrupted=0,
        indeterminate=37,
        before=calm,
        during=hurt,
        after=back,
    )
    second = msgspec.structs.replace(first, occasion=1, struck_s=14.0, lifted_s=15.0, full_rate_s=None, degraded=True, lost=1_234)
    bare = FaultResult(kind="wire.latency", index=1, standing=True, struck_s=-1.5, lifted_s=20.0, hits=77)
    return passed(number, **{"title": "Half of all are cut off, twice", "faults": (first, second, bare), **changes})


def unknown(number: int = 3, **changes: object) -> ScenarioResult:
    """A scenario without evidence."""
    plain = ScenarioResult(
        id=f"subscriptions.case-{number}",
        plan=f"S{number}",
        title="A target that never came up",
        verdict=Verdict.UNKNOWN,
        scale=0.5,
        duration_s=20.0,
        criteria=(CriterionResult(text="latency_p99 < 100ms", observed=None, verdict=Verdict.UNKNOWN, note="nothing was delivered"),),
        note="the target took no connection within 20 s; see its log in the run folder",
        log_tail=("Traceback (most recent call last):", "OSError: [Errno 98] Address already in use"),
    )
    return msgspec.structs.replace(plain, **changes)


def run_of(*scenarios: ScenarioResult, **changes: object) -> RunResult:
    """A run of these scenarios."""
    verdict = worst(scenario.verdict for scenario in scenarios)
    plain = RunResult(version="0.1.0", seed=7, scale=1.0, verdict=verdict, run="runs/20260131-142501-subscriptions", scenarios=scenarios)
    return msgspec.structs.replace(plain, **changes)


def document_of(*scenarios: ScenarioResult, **changes: object) -> RunDocument:
    """What run.json would hold for such a run."""
    result = run_of(*scenarios, **changes)
    fields = {name: getattr(result, name) for name in RunResult.__struct_fields__}
    return RunDocument(
        **fields,
        started=STARTED.isoformat(),
        command=COMMAND,
        machine=MACHINE,
        configuration=(),
    )


def sampled(*, seconds: float = 20.0, every_s: float = 0.25, seed: int = 7) -> tuple[Rows, Marks]:
    """A run over time: warm-up, steady load, a fault whose wake is seen in latency and memory, drain."""
    chance = random.Random(seed)
    rows: Rows = []
    steps = int((seconds + 2) / every_s)
    for step in range(steps):
        t_s = step * every_s - 2.0
        loaded = 0.0 <= t_s <= seconds * 0.9
        stall = math.exp(-(((t_s - seconds * 0.55) / (seconds * 0.04)) ** 2))
        offered_hz = 6_000.0 * min(1.0, max(0.0, t_s / 3)) if loaded else 0.0
        p50 = 8e5 * (1 + 60 * stall) * chance.uniform(0.9, 1.2)
        p99 = p50 * chance.uniform(2.5, 4)
        rows += [
            (t_s, "published_hz", offered_hz * chance.uniform(0.99, 1.01)),
            (t_s, "delivered_hz", offered_hz * (1 - 0.7 * stall) * chance.uniform(0.96, 1.03)),
            (t_s, "target_rss_bytes", 58e6 + 4e6 * max(t_s, 0) + 60e6 * stall),
            (t_s, "harness_rss_bytes", 116e6 + 2e5 * max(t_s, 0)),
        ]
        if offered_hz:
            rows += [
                (t_s, "response_p50_ns", p50),
                (t_s, "response_p99_ns", p99),
                (t_s, "response_max_ns", p99 * chance.uniform(2, 6)),
                (t_s, "service_p99_ns", p99 * chance.uniform(0.7, 0.95)),
            ]
    marks = [(0.0, "phase ramp"), (3.0, "phase steady"), (seconds * 0.55, "fault: stall 1 s"), (seconds * 0.9, "drain")]
    return rows, marks


def configuration_of() -> list[Scenario]:
    """Scenarios as they were asked for: case 1, and case 8 with its faults."""
    return [
        Scenario(
            id="subscriptions.case-8",
            population=Population(connections=1_000, channels=10),
            phases=(
                Phase(name="phase ramp", duration_s=3.0, arrival=Ramp(from_hz=10.0, to_hz=600.0)),
                Phase(name="phase steady", arrival=Constant(rate_hz=600.0), duration_s=15.0, payload_bytes=300),
            ),
            faults=(
                Fault(kind="disconnect", at_s=10.0, for_s=2.0, repeat=2, every_s=4.0, ratio=0.5, options={"resume": True}),
                Fault(kind="wire.latency", from_connect=True, options={"least_s": 0.05}),
            ),
            criteria=(parse("lost == 0"),),
        ),
        Scenario(
            id="subscriptions.case-1",
            population=Population(connections=10),
            phases=(Phase(duration_s=1.0),),
            criteria=(parse("lost == 0"),),
        ),
    ]
