"""The harness on trial: hubs that lie in one known way, and the honest twin beside each.

A trial passes only if the lying hub FAILs with the exact count that was planted and the honest hub, under the same load, PASSes. The lies
are planted by number (K of the first N) with a seed. There is no warm-up, so that every delivery is counted and the numbers are exact.
"""

from __future__ import annotations

import msgspec

from floodmark.model.arrival import Constant
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.model.trial import Trial
from floodmark.suites.entry import Entry, criteria

CONNECTIONS = 20
CHANNELS = 4
MESSAGES = 1_000
DELIVERIES = MESSAGES * CONNECTIONS // CHANNELS
LEAK_BYTES = 20_000


def honest(name: str, *more: str) -> Scenario:
    """The load of every trial: 1,000 messages over four channels to twenty subscribers, 5,000 deliveries."""
    return Scenario(
        id=f"liars.{name}",
        target=Target(system="hub", args=("--no-rate-limits", "--history", "4096")),
        population=Population(connections=CONNECTIONS, channels=CHANNELS, publishers=2),
        phases=(Phase(arrival=Constant(rate_hz=2_000), messages=MESSAGES, payload_bytes=256),),
        criteria=criteria(*(more or ("lost == 0",))),
        warmup=False,
        drain_limit_s=2.0,
    )


def _trial(name: str, title: str, lie: str, caught: tuple[str, ...], *more: str) -> Entry:
    def build(scale: float) -> Trial:
        twin = honest(name, *more)
        target = msgspec.structs.replace(twin.target, args=(*twin.target.args, "--lie", lie, "--seed", "1"))
        return Trial(
            id=f"liars.{name}",
            title=title,
            honest=msgspec.structs.replace(twin, id=f"liars.{name}.honest-twin", title="the honest twin"),
            lying=msgspec.structs.replace(twin, id=f"liars.{name}", title=title, target=target),
            caught=criteria(*caught),
        )

    return Entry(id=f"liars.{name}", text=title, build=build, quick_scale=1.0)


SLOW_LEAK_BYTES = 10
LEAK_LIMIT = "5B"  # half of what must be found: a leak at the limit itself is UNKNOWN, see docs/leaks.md


def slow_leak() -> Entry:
    """A leak too slow to see in a figure before and after: an object of ten bytes for each of a million deliveries."""
    title = f"a hub that keeps {SLOW_LEAK_BYTES} bytes of every delivery"

    def build(scale: float) -> Trial:
        twin = Scenario(
            id="liars.slow-leak.honest-twin",
            title="the honest twin",
            # No history and small buffers: what piles up when the machine is busy must not pass for growth.
            target=Target(
                system="hub",
                args=("--no-rate-limits", "--history", "0", "--write-buffer-bytes", "16384", "--socket-receive-bytes", "262144"),
            ),
            driver_options={"publish_batch": "mutation P($events: [EventInput!]!) { publishEach(events: $events) { count } }"},
            population=Population(connections=100, channels=10),
            phases=(Phase(arrival=Constant(rate_hz=8_000), messages=50_000, payload_bytes=100),),
            criteria=criteria(f"leak_bytes_per_message < {LEAK_LIMIT}", "lost == 0"),
            warmup=False,
            lag_limit_s=5.0,  # no criterion here speaks of latency
            second_load=True,
        )
        target = msgspec.structs.replace(twin.target, args=(*twin.target.args, "--lie", f"leak={SLOW_LEAK_BYTES}", "--seed", "1"))
        lying = msgspec.structs.replace(twin, id="liars.slow-leak", title=title, target=target)
        caught = criteria(f"leak_bytes_per_message >= {LEAK_LIMIT}", "lost == 0")
        return Trial(id="liars.slow-leak", title=title, honest=twin, lying=lying, caught=caught)

    return Entry(id="liars.slow-leak", text=title, build=build, quick_scale=None)


SCENARIOS: tuple[Entry, ...] = (
    _trial("drop", "a hub that drops 20 of its deliveries", f"drop=20@{DELIVERIES}", ("lost == 20",)),
    _trial("duplicate", "a hub that delivers 15 messages twice", f"duplicate=15@{DELIVERIES}", ("duplicated == 15", "lost == 0")),
    _trial("reorder", "a hub that delivers 12 messages too late", f"reorder=12@{DELIVERIES}", ("reordered == 12", "lost == 0")),
    _trial("flip", "a hub that flips one bit in 10 messages", f"flip=10@{DELIVERIES}", ("corrupted == 10", "lost == 0")),
    _trial("misroute", "a hub that sends 8 messages to the wrong subscriber", f"misroute=8@{DELIVERIES}", ("unexpected == 8", "lost == 8")),
    _trial(
        "forget",
        "a hub that acknowledges 6 messages and forgets them",
        f"forget=6@{MESSAGES}",
        (f"lost == {6 * CONNECTIONS // CHANNELS}", f"acknowledged == {DELIVERIES}"),
    ),
    _trial(
        "stall",
        "a hub that stops delivering for two seconds",
        f"stall=2s@{DELIVERIES // 2}",
        ("latency_max >= 1.9s", "lost == 0"),
        "latency_max < 1s",
    ),
    _trial(
        "leak",
        f"a hub that keeps {LEAK_BYTES:,} bytes of every delivery",
        f"leak={LEAK_BYTES}",
        (f"rss_per_delivery >= {LEAK_BYTES * 9 // 10}B", f"rss_per_delivery <= {LEAK_BYTES * 12 // 10}B"),
        "rss_per_delivery < 2000B",
    ),
    slow_leak(),
    _trial(
        "statistics",
        "a hub that reports a tenth more than it did",
        "stats=1.1",
        ("stats_error >= 9.9%", "stats_error <= 10.1%", "lost == 0"),
        "stats_error <= 1%",
    ),
)
