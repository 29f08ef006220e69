"""The harness on trial against the fleet: workers that lose or double messages or leave memory behind, leaders that lie about who holds
what, and twins.

One worker alone leads and works where messages are counted, so that every N-th of a thousand is exact; two share where owners are.
"""

from __future__ import annotations

import msgspec

from floodmark.model.arrival import Constant
from floodmark.model.finding import Guarantee
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.suites.entry import Entry, criteria, trial
from floodmark.suites.fleet_common import SOUND, chosen

MESSAGES, PARTITIONS = 1_000, 10
EVERY = 100
KEPT_BYTES, GONE, CHURN_MESSAGES = 1_000_000, 40, 500  # of each of so many workers that go, while so many messages pass
CHURNING = 6
PLANTED = KEPT_BYTES * GONE / CHURN_MESSAGES
TURN_S = 0.35  # in which one of them goes, and another one comes: on a busy machine a quarter of a second
PATIENT = (
    *("--server", "apart", "--sync", "2m"),
    *chosen(heartbeat_ttl_s=4.0, election_timeout_s=4.0, startup_limit_s=30.0, shutdown_limit_s=4.0),
)
LINGERED, MOVED = 2, 5  # that many of the ten partitions go to a second worker


def honest(name: str, workers: int, messages: int, *, joins: bool = False) -> Scenario:
    """The load of every trial: messages over ten partitions that one or two workers hold, and a moment to look at the settled fleet."""
    script = f"0 start {workers}" + ("; 1 start 1" if joins else "")
    return Scenario(
        id=f"liars.{name}",
        target=Target(system="fleet", args=("--profile", "fast", "--partitions", str(PARTITIONS))),
        driver="fleet",
        driver_options={"script": script, "partitions": PARTITIONS, "settle_s": 2.0, "rest_s": 1.0},
        population=Population(connections=1, subscriptions_per_connection=PARTITIONS, channels=PARTITIONS),
        phases=(Phase(arrival=Constant(rate_hz=messages / (6 if joins else 2)), messages=messages, payload_bytes=200),),
        criteria=criteria("lost == 0", "duplicated == 0", *SOUND),
        guarantee=Guarantee.AT_LEAST_ONCE,
        connect_limit_s=10.0,
        warmup=False,
        drain_limit_s=3.0,
    )


def churning() -> Scenario:
    """Workers that come and go in one process, the server apart, and a load that goes on meanwhile.

    What is judged is memory by messages: neither times nor the disk, so all limits outlast a machine that stands still for a while.
    """
    twin = honest("fleet-keep", CHURNING, CHURN_MESSAGES)
    words = (f"{TURN_S * turn:g} stop {turn}; {TURN_S * turn + 0.05:g} start 1" for turn in range(1, GONE + 1))  # the oldest leaves
    seconds = TURN_S * (GONE + 2)
    return msgspec.structs.replace(
        twin,
        target=msgspec.structs.replace(twin.target, args=(*twin.target.args, "--per-process", str(CHURNING), *PATIENT)),
        driver_options={**twin.driver_options, "script": "; ".join([f"0 start {CHURNING}", *words]), "settle_s": 6.0},
        phases=(Phase(arrival=Constant(rate_hz=CHURN_MESSAGES / seconds), messages=CHURN_MESSAGES, payload_bytes=200),),
        criteria=criteria(f"leak_bytes_per_message < {PLANTED / 3:.0f}B", "lost == 0", *SOUND),
        connect_limit_s=30.0,
        drain_limit_s=15.0,
        lag_limit_s=5.0,
    )


def keeping() -> Entry:
    """The leak verdict on trial: a megabyte of each worker that has gone, in the process where it was."""
    title = f"a process that keeps {KEPT_BYTES:,} bytes of every worker that has gone"
    caught = (f"leak_bytes_per_message >= {PLANTED / 3:.0f}B", f"leak_slope >= {PLANTED * 0.8:.0f}B", f"leak_slope <= {PLANTED * 1.2:.0f}B")
    return trial("fleet-keep", title, churning, f"keep={KEPT_BYTES}", (*caught, "lost == 0"))


def _trial(
    name: str, title: str, lie: str, caught: tuple[str, ...], *, workers: int = 2, messages: int = 100, joins: bool = False
) -> Entry:
    return trial(name, title, lambda: honest(name, workers, messages, joins=joins), lie, caught)


ENTRIES: tuple[Entry, ...] = (
    _trial(
        "fleet-drop",
        f"a worker that acknowledges every {EVERY}th message and hands it to nobody",
        f"drop={EVERY}",
        (f"lost == {MESSAGES // EVERY}", "duplicated == 0", f"acknowledged == {MESSAGES}"),
        workers=1,
        messages=MESSAGES,
    ),
    _trial(
        "fleet-twice",
        f"a worker that hands on every {EVERY}th message twice",
        f"twice={EVERY}",
        (f"duplicated == {MESSAGES // EVERY}", "lost == 0"),
        workers=1,
        messages=MESSAGES,
    ),
    _trial(
        "fleet-linger",
        f"a worker that hands on {LINGERED} messages more of each partition that was taken from it",
        f"linger={LINGERED}",
        (
            f"target.overlap_messages == {LINGERED * MOVED}",
            f"duplicated == {LINGERED * MOVED}",
            "target.overlap_max_s > 500ms",
            "lost == 0",
        ),
        workers=1,
        joins=True,
        messages=MESSAGES,
    ),
    keeping(),
    _trial(
        "fleet-lose",
        "a leader that leaves 3 partitions out of every assignment",
        "lose=3",
        ("target.coverage_gaps == 3", "target.assigned == 7", "target.owners_twice == 0", "target.stale_writes == 0"),
    ),
    _trial(
        "fleet-share",
        "a leader that gives 4 partitions to everybody",
        "share=4",
        ("target.owners_twice == 4", "target.coverage_gaps == 0", "target.stale_writes == 0"),
    ),
    _trial(
        "fleet-stale",
        "a leader that writes 2 assignments once more as of the epoch before",
        "stale=2",
        ("target.stale_writes == 2", "target.version_back == 0", "target.coverage_gaps == 0"),
    ),
    _trial(
        "fleet-back",
        "a leader that writes 2 assignments once more as of the version before",
        "back=2",
        ("target.version_back == 2", "target.stale_writes == 0", "target.coverage_gaps == 0"),
    ),
)
