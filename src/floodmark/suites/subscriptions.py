"""The subscription suite: scenarios S1 to S12 of the plan against any GraphQL subscription server, by default the embedded hub.

Sizes are the plan's own at scale 1.0. Criteria are the plan's, and behind them the floors that floodmark sets itself. The hub's limits
are given explicitly, since its defaults (10,000 connections, ten per user) are part of what a deployment decides.
"""

from __future__ import annotations

from floodmark.model.arrival import Burst, Constant, Flood
from floodmark.model.scenario import Fault, Phase, Population, Scenario
from floodmark.suites import adversity, basics, bus, chaos, under_faults
from floodmark.suites.common import GLOBAL, entry, hub
from floodmark.suites.entry import Entry, criteria, scaled


def connections_10k(scale: float) -> Scenario:
    """S1: ten thousand connections, each on a channel of its own; every one gets its messages."""
    connections = scaled(10_000, scale)
    return Scenario(
        id="subscriptions.connections-10k",
        title=f"{connections:,} connections, each subscribed to its own channel",
        plan="S1",
        target=hub(connections=connections),
        population=Population(connections=connections, channels=connections),
        phases=(Phase(arrival=Constant(rate_hz=scaled(5_000, scale, least=3_000)), messages=connections * 2, payload_bytes=200),),
        criteria=criteria("success_ratio >= 99%", "connect_time < 30s", "rss_peak < 2GB", *GLOBAL),
        scale=scale,
    )


def subscriptions_50k(scale: float) -> Scenario:
    """S2: fifty thousand subscriptions in five waves, all active at once, the count exact."""
    connections = scaled(500, scale)
    subscriptions = connections * 100
    return Scenario(
        id="subscriptions.subscriptions-50k",
        title=f"{subscriptions:,} subscriptions over {connections:,} connections, in five waves",
        plan="S2",
        target=hub("--subscriptions-per-connection", "100", connections=connections),
        population=Population(
            connections=connections,
            subscriptions_per_connection=100,
            channels=max(1, subscriptions // 50),
            waves=min(5, connections),
        ),
        phases=(Phase(arrival=Constant(rate_hz=500), messages=max(1, subscriptions // 50), payload_bytes=200),),
        criteria=criteria(
            f"subscriptions == {subscriptions}",
            "success_ratio == 100%",
            "connect_time < 60s",
            "stats_error <= 1%",
            "rss_peak < 3GB",
            "rss_growth < 1.5x",
            *GLOBAL,
        ),
        scale=scale,
    )


DROPPED_DURING = ("subscribe", "publish", "receive", "unsubscribe")


def random_drops(scale: float) -> Scenario:
    """S5: of a thousand subscriptions a fifth drops while subscribing, a fifth while publishing, while receiving, while unsubscribing."""
    connections = scaled(1_000, scale, least=10)
    channels = scaled(100, scale)
    dropped = round(connections * 0.2)
    beat_s = 1.0 if scale >= 0.5 else 0.4
    return Scenario(
        id="subscriptions.random-drops",
        title=f"{connections:,} subscriptions, {dropped:,} dropped in each of four phases; the others must not notice",
        plan="S5",
        target=hub(connections=connections * 2),
        population=Population(connections=connections, channels=channels),
        # One event for every subscription each beat, and drops half a beat later: nothing is under way to a socket that is dropped, so
        # the hub's count of deliveries must be exact. Who is dropped while receiving waits for the next event.
        phases=(
            Phase(name="drops", arrival=Burst(count=channels, every_s=beat_s), duration_s=5 * beat_s, payload_bytes=200),
            Phase(name="survivors", arrival=Constant(rate_hz=scaled(400, scale, least=40)), duration_s=2 * beat_s, payload_bytes=200),
        ),
        # Who is dropped stays away, so that no phase hits anybody twice.
        faults=tuple(
            Fault(kind="drop", at_s=(0.5 + number) * beat_s, ratio=0.2, options={"during": during, "back": False})
            for number, during in enumerate(DROPPED_DURING)
        ),
        criteria=criteria(
            *("success_ratio == 100%", f"fault_hits == {4 * dropped}", "disconnects == 0", "ended == 0"),
            *("lost == 0", "duplicated == 0", "stats_error == 0", *GLOBAL),
        ),
        lag_limit_s=0.5,  # no criterion here speaks of latency
        scale=scale,
    )


def cascade(scale: float) -> Scenario:
    """S6: half of the thousand subscribers of a hundred channels is cut off at once; each comes back by itself and catches up."""
    channels = scaled(100, scale, least=2)
    connections = channels * 10
    load_s = 7.0 if scale >= 0.5 else 2.5
    return Scenario(
        id="subscriptions.cascade",
        title=f"{connections // 2:,} of {connections:,} subscribers on {channels} channels cut off at once, back by themselves",
        plan="S6",
        target=hub("--history", "10000", connections=connections * 2),
        population=Population(connections=connections, channels=channels),
        phases=(Phase(arrival=Constant(rate_hz=scaled(400, scale, least=40)), duration_s=load_s, payload_bytes=200),),
        faults=(
            Fault(
                kind="drop",
                at_s=load_s / 5,
                ratio=0.5,
                options={
                    **{"during": "publish", "how": "reset", "back": True, "resume": True, "back_after_s": 0.5},
                    **{"backoff_s": 0.1, "backoff_factor": 2.0, "backoff_jitter": 0.5},
                },
            ),
        ),
        criteria=criteria(
            *("success_ratio == 100%", f"fault_hits == {connections // 2}", "recovered_ratio == 100%", "recovery < 5s"),
            *("backlog_drained < 5s", "disconnects == 0", "ended == 0", "lost == 0", "duplicated == 0", "stats_error <= 1%", *GLOBAL),
        ),
        scale=scale,
    )


def saturation(scale: float) -> Scenario:
    """S7: ten thousand events at once to a hundred subscribers of one channel, who are slower than the publisher."""
    events = scaled(10_000, scale)
    return Scenario(
        id="subscriptions.saturation",
        title=f"{events:,} events at once to 100 subscribers: {events * 100:,} deliveries",
        plan="S7",
        target=hub("--policy", "block", "--queue", "1000", "--history", "1000", connections=100),
        population=Population(connections=100, channels=1),
        phases=(Phase(arrival=Burst(count=events, every_s=3600.0), messages=events, payload_bytes=200),),
        criteria=criteria("lost == 0", f"delivered == {events * 100}", "rss_growth < 2x", "load_time < 60s", *GLOBAL),
        drain_limit_s=60.0,
        lag_limit_s=5.0,  # at once means as fast as one process can; no criterion here speaks of latency
        scale=scale,
    )


PAYLOADS = {"100KB": 100_000, "500KB": 500_000, "1MB": 1_000_000}
LARGE_QUEUE_BYTES = 10_000_000


def large_payload(scale: float) -> Scenario:
    """S8: a hundred events to a hundred subscribers at 100 KB, 500 KB and 1 MB, checked byte by byte."""
    events = scaled(100, scale, least=3)
    subscribers = scaled(100, scale, least=3)
    return Scenario(
        id="subscriptions.large-payload",
        title=f"{events} events to {subscribers} subscribers at 100 KB, 500 KB and 1 MB",
        plan="S8",
        target=hub(
            *("--message-bytes", "2000000", "--payload-bytes", "1500000", "--queue-bytes", str(LARGE_QUEUE_BYTES)),
            *("--history", "16", "--history-bytes", "16000000"),
            connections=subscribers,
        ),
        population=Population(connections=subscribers, channels=1),
        phases=tuple(
            Phase(name=name, arrival=Burst(count=events, every_s=3600.0), messages=events, payload_bytes=size)
            for name, size in PAYLOADS.items()
        ),
        # In flight at most: the queue bound of every subscription. Shared by reference, far less is really held.
        criteria=criteria("lost == 0", "corrupted == 0", f"rss_rise < {3 * LARGE_QUEUE_BYTES * subscribers}B", *GLOBAL),
        drain_limit_s=60.0,
        lag_limit_s=5.0,  # no criterion here speaks of latency
        scale=scale,
    )


DAY_CHANNELS = 10_000
DAY_RATE_HZ = 100_000
DAY_S = 86.4  # a day a thousand times as fast: 8,640,000 events
PUBLISH_EACH = "mutation P($events: [EventInput!]!) { publishEach(events: $events) { count } }"


def day(scale: float) -> Scenario:
    """S9: a day in 86.4 s: a hundred thousand events a second over ten thousand subscriptions, every one delivered once and in order."""
    events = scaled(round(DAY_RATE_HZ * DAY_S), scale, least=4)
    quarter, load_s = events // 4, events / DAY_RATE_HZ
    return Scenario(
        id="subscriptions.day",
        title=f"{events:,} events over {DAY_CHANNELS:,} subscriptions at {DAY_RATE_HZ:,} a second, 1000 times as fast as the day",
        plan="S9",
        # Small buffers: when the machine takes the processor away for a moment, what piles up must not pass for growth.
        target=hub(
            *("--subscriptions-per-connection", "100", "--history", "0"),
            *("--write-buffer-bytes", "16384", "--socket-receive-bytes", "262144"),
            connections=100,
        ),
        driver_options={"publish_batch": PUBLISH_EACH},
        population=Population(connections=100, subscriptions_per_connection=100, channels=DAY_CHANNELS),
        phases=tuple(
            Phase(
                name=name,
                arrival=Constant(rate_hz=DAY_RATE_HZ),
                messages=events - 3 * quarter if name == "night" else quarter,
                payload_bytes=100,
            )
            for name in ("morning", "noon", "evening", "night")
        ),
        criteria=criteria(
            "lost == 0",
            "reordered == 0",
            f"delivered == {events}",
            "rss_growth < 1.1x",
            "stats_error <= 1%",
            f"load_time < {load_s + 1:.3f}s",  # the last event is meant to go out at the end of the day: a second for its way
            *(("latency_p90 @ night < 2x morning",) if load_s >= 20 else ()),  # shorter phases say nothing about a slow-down
            *GLOBAL,
        ),
        scale=scale,
    )


def latency_1000ms(scale: float) -> Scenario:
    """S3: a thousand connections over a wire that delays whatever they send by a second; all of it completes, as fast as that allows."""
    connections = scaled(1_000, scale, least=10)
    in_flight = 100
    events = scaled(1_000, scale, least=300)
    return Scenario(
        id="subscriptions.latency-1000ms",
        title=f"{connections:,} connections, each sending over a wire with 1,000 ms of delay",
        plan="S3",
        target=hub(connections=connections),
        population=Population(connections=connections, channels=max(1, connections // 10)),
        # A closed loop with a hundred in flight can do a hundred a second when each takes one: what the delay predicts.
        phases=(Phase(arrival=Flood(in_flight=in_flight), messages=events, payload_bytes=200),),
        faults=(Fault(kind="wire.latency", from_connect=True, options={"least_s": 1.0, "direction": "upstream"}),),
        criteria=criteria(
            *("success_ratio == 100%", "lost == 0", "ack_latency_p50 >= 1s", "ack_latency_max < 5s"),
            *(f"publish_rate >= {in_flight * 0.9:g}/s", f"publish_rate <= {in_flight * 1.1:g}/s", *GLOBAL),
        ),
        connect_limit_s=60.0,
        scale=scale,
    )


def jitter(scale: float) -> Scenario:
    """S4: between 50 and 500 ms of delay, drawn anew for each chunk, on whatever is sent and received."""
    events = scaled(1_000, scale, least=100)
    return Scenario(
        id="subscriptions.jitter",
        title=f"{events:,} events over a wire that delays each chunk by 50 to 500 ms, both ways",
        plan="S4",
        target=hub(connections=100),
        population=Population(connections=100, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=100), messages=events, payload_bytes=200),),
        faults=(Fault(kind="wire.latency", from_connect=True, options={"least_s": 0.05, "most_s": 0.5}),),
        criteria=criteria("success_ratio == 100%", "lost == 0", "latency_p50 > 100ms", "latency_max > 500ms", "latency_max < 5s", *GLOBAL),
        scale=scale,
    )


def combined(scale: float) -> Scenario:
    """S11: a thousand events of 100 KB to a hundred subscribers over a wire with 500 ms of delay, checked byte by byte."""
    events = scaled(1_000, scale, least=10)
    return Scenario(
        id="subscriptions.combined",
        title=f"{events:,} events of 100 KB to 100 subscribers over a wire with 500 ms of delay",
        plan="S11",
        target=hub("--message-bytes", "300000", "--history", "2", connections=100),
        population=Population(connections=100, channels=1),
        phases=(Phase(arrival=Flood(in_flight=50), messages=events, payload_bytes=100_000),),
        faults=(Fault(kind="wire.latency", from_connect=True, options={"least_s": 0.5, "direction": "upstream"}),),
        criteria=criteria("success_ratio == 100%", "lost == 0", "corrupted == 0", f"delivered == {events * 100}", *GLOBAL),
        drain_limit_s=60.0,
        scale=scale,
    )


def thundering_herd(scale: float) -> Scenario:
    """S10: half of a thousand subscribers is cut off at once and comes back, resuming where it was."""
    connections = scaled(1_000, scale, least=10)
    return Scenario(
        id="subscriptions.thundering-herd",
        title=f"{connections // 2:,} of {connections:,} subscribers cut off at once, all back with nothing missed",
        plan="S10",
        target=hub("--history", "10000", connections=connections * 2),
        population=Population(connections=connections, channels=scaled(10, scale)),
        phases=(Phase(arrival=Constant(rate_hz=200), duration_s=4.0 if scale >= 1 else 2.5, payload_bytes=200),),
        faults=(Fault(kind="disconnect", at_s=1.0, ratio=0.5, options={"resume": True}),),
        criteria=criteria("recovered_ratio == 100%", "recovery < 5s", "lost == 0", "duplicated == 0", "stats_error <= 1%", *GLOBAL),
        scale=scale,
    )


def churn(scale: float) -> Scenario:
    """S12: a hundred cycles of unsubscribe and subscribe, one in ten failing, beside a thousand events of 100 KB."""
    events = scaled(1_000, scale, least=20)
    cycles = scaled(100, scale, least=10)
    return Scenario(
        id="subscriptions.churn",
        title=f"{cycles} cycles of subscribe and unsubscribe, a tenth of them failing, beside {events:,} events of 100 KB",
        plan="S12",
        target=hub("--message-bytes", "300000", "--history", "2", connections=400),
        population=Population(connections=100, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=100), messages=events, payload_bytes=100_000),),
        faults=(Fault(kind="churn", at_s=0.05, repeat=cycles, every_s=0.09, ratio=0.1, options={"failure_ratio": 0.1}),),
        criteria=criteria("recovered_ratio == 100%", "lost == 0", "corrupted == 0", "stats_error <= 1%", "rss_growth < 1.5x", *GLOBAL),
        drain_limit_s=20.0,
        scale=scale,
    )


SCENARIOS: tuple[Entry, ...] = (
    entry(connections_10k, "connections-10k", "S1", 0.3),
    entry(subscriptions_50k, "subscriptions-50k", "S2", 0.2),
    entry(latency_1000ms, "latency-1000ms", "S3", None),
    entry(jitter, "jitter", "S4", None),
    entry(random_drops, "random-drops", "S5", 0.1),
    entry(cascade, "cascade", "S6", 0.1),
    entry(saturation, "saturation", "S7", 0.2),
    entry(large_payload, "large-payload", "S8", 0.1),
    entry(day, "day", "S9", 0.02),
    entry(thundering_herd, "thundering-herd", "S10", 0.5),
    entry(combined, "combined", "S11", 0.02),
    entry(churn, "churn", "S12", 0.2),
    *basics.ENTRIES,
    *under_faults.ENTRIES,
    *chaos.ENTRIES,
    *bus.ENTRIES,
    *adversity.ENTRIES,
)
