"""The plan's chaos cases of its phase 2.5: operations that fail, by chance and by number, and what comes after them.

The plan counts what still goes through, with room to spare. Here what fails is an exact number, and everything else must be whole. What
the clients fail is never sent, so nothing of it is the hub's; what the hub acknowledged, it owes.
"""

from __future__ import annotations

from floodmark.model.arrival import Burst, Constant
from floodmark.model.scenario import Fault, Phase, Population, Scenario
from floodmark.suites.common import EXACT, GLOBAL, entry, hub
from floodmark.suites.entry import criteria, scaled

CALM = ("success_ratio == 100%", "disconnects == 0", "ended == 0", *EXACT, *GLOBAL)

CUT_OFF = ("stats_error <= 1%", *CALM)  # what was on its way to a socket that is cut counts as delivered by the hub, and not by us


def failures_exact(scale: float) -> Scenario:
    """2.5 failures, by number: exactly 30 of 100 publishes fail before they are sent; the 70 others reach all fifty subscribers."""
    return Scenario(
        id="subscriptions.failures-exact",
        title="exactly 30 of 100 publishes fail",
        plan="2.5 failures, exact",
        target=hub(connections=50),
        population=Population(connections=50),
        phases=(Phase(arrival=Constant(rate_hz=100), messages=100, payload_bytes=200),),
        faults=(Fault(kind="failure", options={"count": 30, "of": 100}),),
        criteria=criteria("fault_hits == 30", "published == 70", f"delivered == {70 * 50}", "stats_error == 0", *CALM),
        scale=scale,
    )


def failures_rate(scale: float) -> Scenario:
    """2.5 failures, by chance: each of ten thousand publishes fails with 30 %; between 27 and 33 % do, and nothing else is missing."""
    publishes = scaled(10_000, scale, least=1_000)
    # Six standard deviations on either side: by chance alone, one honest run in 500 million would leave these.
    spread = 6 * (publishes * 0.3 * 0.7) ** 0.5
    return Scenario(
        id="subscriptions.failures-rate",
        title=f"each of {publishes:,} publishes fails with a chance of 30 %",
        plan="2.5 failures, rate",
        target=hub(connections=50),
        population=Population(connections=50, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=2_000), messages=publishes, payload_bytes=200),),
        faults=(Fault(kind="failure", ratio=0.3),),
        criteria=criteria(
            *(f"fault_hits >= {round(publishes * 0.3 - spread)}", f"fault_hits <= {round(publishes * 0.3 + spread)}"),
            *(f"published >= {round(publishes * 0.7 - spread)}", "stats_error == 0", *CALM),
        ),
        scale=scale,
    )


AWAY_S = 0.5


def creation_failures(scale: float) -> Scenario:
    """2.5 creation failures: all of 500 subscribers come back at once, and exactly a quarter of them fail until their next try."""
    connections = scaled(500, scale, least=20) // 4 * 4
    failing = connections // 4
    return Scenario(
        id="subscriptions.creation-failures",
        title=f"all of {connections} subscribers come back at once, {failing} of them at the second try",
        plan="2.5 creation failures",
        target=hub("--history", "10000", connections=connections * 2),
        population=Population(connections=connections, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=100), duration_s=6.0, payload_bytes=200),),
        faults=(
            Fault(kind="failure", at_s=0.5, for_s=2.5, options={"on": "subscribe", "count": failing, "of": connections}),
            # The second try comes when the fault is over, so that one try of each is in its reach and the number exact.
            Fault(
                kind="disconnect",
                at_s=1.0,
                options={"resume": True, "back_after_s": AWAY_S, "backoff_s": 2.0, "backoff_max_s": 2.0},
            ),
        ),
        criteria=criteria(
            *(f"fault_hits == {connections + failing}", "recovered_ratio == 100%", "recovery < 5s", "backlog_drained < 5s"), *CUT_OFF
        ),
        scale=scale,
    )


BEATS = 5


def failing_half(scale: float) -> Scenario:
    """2.5 cascade: of 500 publishes to a hundred channels half fail while half of the subscribers are cut off; then all arrive again."""
    channels = scaled(100, scale, least=10)
    connections, publishes = channels * 10, channels * BEATS
    failing = publishes // 2
    # A beat of one publish a channel each second: the failures end between two beats, so that their number is exact.
    return Scenario(
        id="subscriptions.failing-half",
        title=f"half of {publishes} publishes fail and half of {connections:,} subscribers are cut off; {channels} more go through",
        plan="2.5 cascade",
        target=hub("--history", "1000", connections=connections * 2),
        population=Population(connections=connections, channels=channels),
        phases=(Phase(arrival=Burst(count=channels, every_s=1.0), messages=publishes + channels, payload_bytes=200),),
        faults=(
            Fault(kind="failure", for_s=BEATS - 0.5, options={"count": failing, "of": publishes}),
            Fault(kind="disconnect", at_s=0.8, ratio=0.5, options={"resume": True, "back_after_s": AWAY_S}),
        ),
        criteria=criteria(
            *(f"fault_hits == {failing + connections // 2}", f"published == {publishes - failing + channels}"),
            *(f"delivered @ after == {channels * 10}", "lost @ after == 0"),
            *("recovered_ratio == 100%", "latency_max < 5s", *CUT_OFF),
        ),
        scale=scale,
    )


STEP_S = 2.0


def gradual_restoration(scale: float) -> Scenario:
    """2.5 gradual restoration: none, half, a quarter and again none of the publishes fail, and what arrives falls and rises with it."""
    rate_hz = scaled(500, scale, least=200)
    return Scenario(
        id="subscriptions.gradual-restoration",
        title=f"four phases at {rate_hz} publishes a second, of which 0, 50, 25 and 0 % fail",
        plan="2.5 gradual restoration",
        target=hub(connections=10),
        population=Population(connections=10),
        phases=tuple(
            Phase(name=name, arrival=Constant(rate_hz=rate_hz), duration_s=STEP_S, payload_bytes=200)
            for name in ("well", "half", "quarter", "restored")
        ),
        faults=tuple(
            Fault(kind="failure", at_s=place * STEP_S, for_s=STEP_S, ratio=ratio) for place, ratio in enumerate((0.0, 0.5, 0.25)) if ratio
        ),
        # By chance: each bound is at least six standard deviations away from its share, for 400 publishes in a phase.
        criteria=criteria(
            *("delivered @ half > 0.35x well", "delivered @ half < 0.65x well"),
            *(
                "delivered @ quarter > 0.6x well",
                "delivered @ quarter < 0.9x well",
                "delivered @ restored >= 0.9x well",
                "stats_error == 0",
                *CALM,
            ),
        ),
        scale=scale,
    )


ENTRIES = (
    entry(failures_exact, "failures-exact", "2.5 failures, exact"),
    entry(failures_rate, "failures-rate", "2.5 failures, rate"),
    entry(creation_failures, "creation-failures", "2.5 creation failures"),
    entry(failing_half, "failing-half", "2.5 cascade"),
    entry(gradual_restoration, "gradual-restoration", "2.5 gradual restoration"),
)
