"""The plan's chaos cases with a bus that goes down, against a hub whose events travel through a nats-server of its own (`--bus nats`).

The plan has Redis, PostgreSQL and memory in a chain; this hub has NATS JetStream and, with `--bus-fallback memory`, its own memory. A bus
that goes down takes nothing along that was acknowledged: what a publisher was told stands.
"""

from __future__ import annotations

from floodmark.model.arrival import Constant
from floodmark.model.scenario import Fault, Phase, Population, Scenario
from floodmark.suites.common import EXACT, GLOBAL, entry, hub
from floodmark.suites.entry import criteria

NATS: dict[str, float | int | str | bool] = {"name": "nats-server"}
NOBODY = "nats://127.0.0.1:1"  # a port that nobody listens on
UNHURT = ("success_ratio == 100%", "disconnects == 0", "ended == 0", "target_exits == 0", *EXACT)


def bus_down(scale: float) -> Scenario:
    """2.5 bus down: the nats-server is killed while a hundred events are published to fifty; all are acknowledged, and all arrive."""
    return Scenario(
        id="subscriptions.bus-down",
        title="100 publishes to 50 subscribers; the bus is killed in their midst",
        plan="2.5 bus down",
        target=hub("--bus", "nats", "--bus-fallback", "memory", connections=50),
        population=Population(connections=50),
        phases=(Phase(arrival=Constant(rate_hz=20), messages=100, payload_bytes=200),),
        faults=(Fault(kind="process.kill", at_s=1.52, options=NATS),),
        criteria=criteria(
            *("published == 100", "refused == 0", "unanswered == 0", "delivered == 5000", "fault_hits == 1"),
            *("lost @ after == 0", "latency_max < 10s", *UNHURT, *GLOBAL),
        ),
        scale=scale,
    )


def buses_down(scale: float) -> Scenario:
    """2.5 both buses down: no bus was ever there; the hub begins with its memory, and every one of a hundred events reaches all fifty."""
    return Scenario(
        id="subscriptions.buses-down",
        title="100 publishes to 50 subscribers of a hub whose bus was never there",
        plan="2.5 both buses down",
        target=hub("--bus", NOBODY, "--bus-fallback", "memory", connections=50),
        population=Population(connections=50),
        phases=(Phase(arrival=Constant(rate_hz=100), messages=100, payload_bytes=200),),
        criteria=criteria("published == 100", "delivered == 5000", "latency_max < 1s", "stats_error == 0", *UNHURT, *GLOBAL),
        scale=scale,
    )


def bus_paused(scale: float) -> Scenario:
    """A bus that hangs: the nats-server stands still for two seconds; publishers wait, nobody loses anything, and nothing comes twice."""
    return Scenario(
        id="subscriptions.bus-paused",
        title="the bus stands still for 2 s under 200 connections",
        target=hub("--bus", "nats", connections=200),
        population=Population(connections=200, channels=20),
        phases=(Phase(arrival=Constant(rate_hz=200), duration_s=9.0, payload_bytes=200),),
        faults=(Fault(kind="process.pause", at_s=2.0, for_s=2.0, options=NATS),),
        criteria=criteria(
            *("fault_hits == 1", "recovery < 5s", "backlog_drained < 5s", "degraded == 0", "latency_max >= 1.8s"),
            *("throughput @ after >= 0.9x before", *UNHURT, *GLOBAL),
        ),
        scale=scale,
    )


BREAKER = ("--breaker-failures", "3", "--breaker-successes", "2", "--breaker-open-s", "0.5")


def circuit_breaker(scale: float) -> Scenario:
    """2.5 circuit breaker: the bus dies twice; after 3 failures it is left alone, tried again after 500 ms, and trusted after 2 successes.

    While the breaker is open nobody waits for a bus that is not there, which shows in the latencies: without it each event would wait for
    three repetitions. That it opens, half-opens and closes at these numbers is shown step by step by the tests of the hub.
    """
    return Scenario(
        id="subscriptions.circuit-breaker",
        title="the bus of a hub with a circuit breaker is killed twice under 50 subscribers on 10 channels",
        plan="2.5 circuit breaker",
        target=hub("--bus", "nats", "--bus-fallback", "memory", *BREAKER, connections=50),
        population=Population(connections=50, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=200), duration_s=12.0, payload_bytes=200),),
        faults=(Fault(kind="process.kill", at_s=2.0, repeat=2, every_s=4.5, options=NATS),),
        criteria=criteria(
            *("fault_hits == 2", "refused == 0", "unanswered == 0", "recovery < 5s", "backlog_drained < 5s", "degraded == 0"),
            *("latency_p90 < 500ms", "throughput @ after >= 0.9x before", "stats_error == 0", *UNHURT, *GLOBAL),
        ),
        scale=scale,
    )


ENTRIES = (
    entry(bus_down, "bus-down", "2.5 bus down"),
    entry(buses_down, "buses-down", "2.5 both buses down"),
    entry(circuit_breaker, "circuit-breaker", "2.5 circuit breaker"),
    entry(bus_paused, "bus-paused", ""),
)
