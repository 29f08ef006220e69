"""The plan's loads of its phase 2.3 that S1 to S12 do not cover: many at once, held for a while; ten beats; a broadcast; a hundred cycles.

They are small and without faults. What each adds is an exact count at the end, where the plan was content with nearly all.
"""

from __future__ import annotations

from floodmark.model.arrival import Burst, Constant
from floodmark.model.scenario import Fault, Phase, Population, Scenario
from floodmark.suites.common import EXACT, GLOBAL, entry, hub
from floodmark.suites.entry import criteria, scaled

CALM = ("success_ratio == 100%", "disconnects == 0", "ended == 0", *EXACT, "stats_error == 0", *GLOBAL)


def hold_connections(scale: float) -> Scenario:
    """2.3 connections: a thousand connections within ten seconds, each on a channel of its own, all still there when they are counted."""
    connections = scaled(1_000, scale)
    return Scenario(
        id="subscriptions.hold-connections",
        title=f"{connections:,} connections within 10 s, each on a channel of its own",
        plan="2.3 connections",
        target=hub(connections=connections),
        population=Population(connections=connections, channels=connections),
        phases=(Phase(arrival=Constant(rate_hz=max(200, connections)), messages=connections, payload_bytes=200),),
        criteria=criteria("connect_time < 10s", f"connections == {connections}", f"delivered == {connections}", *CALM),
        scale=scale,
    )


def hold_subscriptions(scale: float) -> Scenario:
    """2.3 subscriptions: ten thousand subscriptions within twenty seconds, a hundred to each channel, all active at once."""
    connections = scaled(100, scale)
    subscriptions = connections * 100
    return Scenario(
        id="subscriptions.hold-subscriptions",
        title=f"{subscriptions:,} subscriptions within 20 s, 100 to each of {connections} channels",
        plan="2.3 subscriptions",
        target=hub("--subscriptions-per-connection", "100", connections=connections),
        population=Population(connections=connections, subscriptions_per_connection=100, channels=connections),
        phases=(Phase(arrival=Constant(rate_hz=200), messages=2 * connections, payload_bytes=200),),
        criteria=criteria(*("connect_time < 20s", f"subscriptions == {subscriptions}", f"delivered == {2 * subscriptions}"), *CALM),
        scale=scale,
    )


BEATS = 10


def sustained(scale: float) -> Scenario:
    """2.3 sustained: ten batches of a hundred events over ten channels, a second apart, each delivered before the next one is due."""
    batch = scaled(100, scale, least=10)
    return Scenario(
        id="subscriptions.sustained",
        title=f"{BEATS} batches of {batch} events to 100 subscribers on 10 channels, a second apart",
        plan="2.3 sustained",
        target=hub(connections=100),
        population=Population(connections=100, channels=10),
        phases=(Phase(arrival=Burst(count=batch, every_s=1.0), messages=BEATS * batch, payload_bytes=200),),
        criteria=criteria(
            *(f"published == {BEATS * batch}", f"delivered == {BEATS * batch * 10}", "latency_max < 1s"),
            *("load_time >= 9s", "load_time < 15s", *CALM),
        ),
        scale=scale,
    )


def broadcast(scale: float) -> Scenario:
    """2.3 broadcast: ten rounds over a hundred channels with ten subscribers each; every one gets each of its ten events once."""
    channels = scaled(100, scale)
    return Scenario(
        id="subscriptions.broadcast",
        title=f"10 rounds over {channels} channels with 10 subscribers each",
        plan="2.3 broadcast",
        target=hub(connections=channels * 10),
        population=Population(connections=channels * 10, channels=channels),
        phases=(Phase(arrival=Burst(count=channels, every_s=0.1), messages=channels * 10, payload_bytes=200),),
        criteria=criteria(f"published == {channels * 10}", f"delivered == {channels * 100}", *CALM),
        scale=scale,
    )


def nothing_left(scale: float) -> Scenario:
    """2.3 leak: a hundred times a hundred subscriptions end and begin anew; by the hub's own count and its memory none is left behind."""
    cycles = scaled(100, scale, least=10)
    return Scenario(
        id="subscriptions.nothing-left",
        title=f"{cycles} times all of 100 subscriptions end and begin anew",
        plan="2.3 leak",
        target=hub(connections=200),
        population=Population(connections=100, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=100), duration_s=0.06 * cycles + 1.0, payload_bytes=200),),
        faults=(Fault(kind="churn", at_s=0.5, repeat=cycles, every_s=0.06),),
        # The plan allows ten that are left; the count is exact here, or it says nothing.
        criteria=criteria(f"fault_hits == {100 * cycles}", "recovered_ratio == 100%", "rss_growth < 1.2x", *CALM),
        scale=scale,
    )


ENTRIES = (
    entry(hold_connections, "hold-connections", "2.3 connections"),
    entry(hold_subscriptions, "hold-subscriptions", "2.3 subscriptions"),
    entry(sustained, "sustained", "2.3 sustained"),
    entry(broadcast, "broadcast", "2.3 broadcast"),
    entry(nothing_left, "nothing-left", "2.3 leak"),
)
