"""Scenarios of the plan once more, each under one fault of the network or of the target's machine.

Each takes the load at which its twin in `subscriptions.py` passes and adds the one fault that this load makes worst; the docstrings say
why. Nothing that was acknowledged may be lost by any of them: a fault that goes away is no excuse.
"""

from __future__ import annotations

from floodmark.model.arrival import Burst, Constant
from floodmark.model.scenario import Fault, Phase, Population, Scenario
from floodmark.suites.common import EXACT, GLOBAL, entry, hub
from floodmark.suites.entry import criteria, scaled

PAUSE_S = 1.0


def connections_pause(scale: float) -> Scenario:
    """S1 + pause: ten thousand connections to a hub that stands still for a second (SIGSTOP); then all that waited is delivered.

    What a pause leaves behind grows with the connections: ten thousand sockets want to be read and written in the first moment after it,
    and whoever is not served soon enough goes on waiting.
    """
    connections = scaled(10_000, scale)
    return Scenario(
        id="subscriptions.connections-10k-pause",
        title=f"{connections:,} connections, each on a channel of its own, and the hub stands still for a second",
        plan="S1 + pause",
        target=hub(connections=connections),
        population=Population(connections=connections, channels=connections),
        phases=(Phase(arrival=Constant(rate_hz=scaled(2_000, scale, least=500)), duration_s=8.0, payload_bytes=200),),
        faults=(Fault(kind="process.pause", at_s=2.0, for_s=PAUSE_S),),
        criteria=criteria(
            *("success_ratio >= 99%", "connect_time < 30s", "rss_peak < 2GB", "disconnects == 0", "ended == 0"),
            # The pause itself must show, or there was none.
            *(*EXACT, "recovery < 5s", "degraded == 0", f"latency_max >= {0.9 * PAUSE_S:g}s", "lost @ during == 0", *GLOBAL),
        ),
        scale=scale,
    )


STUCK_S = 2.0


def saturation_stuck(scale: float) -> Scenario:
    """S7 + stuck readers: ten thousand events at once, and for two seconds ten of the hundred subscribers read nothing.

    Readers that stand still are what a queue's bound is for. Under the policy `block` publishers wait for them: nobody loses anything, and
    the hub's memory stays where its bounds are, although the events that it could have taken meanwhile are many times that.
    """
    events = scaled(10_000, scale)
    return Scenario(
        id="subscriptions.saturation-stuck",
        title=f"{events:,} events at once to 100 subscribers, ten of which read nothing for {STUCK_S:g} s",
        plan="S7 + stuck readers",
        target=hub("--policy", "block", "--queue", "100", "--history", "100", "--socket-send-bytes", "131072", connections=100),
        population=Population(connections=100, channels=1),
        phases=(Phase(arrival=Burst(count=events, every_s=3600.0), messages=events, payload_bytes=2_000),),
        faults=(Fault(kind="reader", at_s=0.0, for_s=STUCK_S, ratio=0.1),),
        criteria=criteria(
            *(*EXACT, f"delivered == {events * 100}", "fault_hits == 10", "disconnects == 0", "ended == 0"),
            *("rss_rise < 100MB", "load_time < 60s", *GLOBAL),
        ),
        drain_limit_s=60.0,
        lag_limit_s=5.0,  # at once means as fast as one process can; no criterion here speaks of latency
        scale=scale,
    )


LINE_BYTES_PER_S = 2_000_000


def large_payload_bandwidth(scale: float) -> Scenario:
    """S8 + a narrow line: a hundred events of 100 KB and three of 1 MB, in small pieces, 2 MB/s to each of a hundred subscribers.

    Large events fail where they are cut: into frames, into writes, into what a slow line takes at a time. Here they arrive in pieces of 16
    KB and slower than they are published, so that each one is held up half written, and every byte is checked.
    """
    subscribers = scaled(100, scale, least=3)
    small, large = scaled(100, scale, least=5), scaled(3, scale, least=1)
    each_bytes = small * 100_000 + large * 1_000_000
    return Scenario(
        id="subscriptions.large-payload-bandwidth",
        title=f"{small} events of 100 KB and {large} of 1 MB to {subscribers} subscribers with 2 MB/s each",
        plan="S8 + bandwidth",
        target=hub(
            *("--message-bytes", "2000000", "--payload-bytes", "1500000", "--queue-bytes", "4000000"),
            *("--history", "4", "--history-bytes", "4000000"),
            connections=subscribers,
        ),
        population=Population(connections=subscribers, channels=1),
        phases=(
            Phase(name="100KB", arrival=Burst(count=small, every_s=3600.0), messages=small, payload_bytes=100_000),
            Phase(name="1MB", arrival=Burst(count=large, every_s=3600.0), messages=large, payload_bytes=1_000_000),
        ),
        faults=(
            Fault(kind="wire.slice", from_connect=True, options={"piece_bytes": 16_384, "spread_bytes": 8_000, "direction": "downstream"}),
            Fault(kind="wire.bandwidth", from_connect=True, options={"bytes_per_s": LINE_BYTES_PER_S, "direction": "downstream"}),
        ),
        criteria=criteria(
            *("success_ratio == 100%", *EXACT, "corrupted == 0", f"delivered == {(small + large) * subscribers}"),
            *("disconnects == 0", "ended == 0", f"load_time >= {0.7 * each_bytes / LINE_BYTES_PER_S:.3g}s", *GLOBAL),
            f"rss_rise < {2 * 4_000_000 * subscribers}B",
        ),
        drain_limit_s=60.0,
        lag_limit_s=5.0,  # no criterion here speaks of latency
        scale=scale,
    )


def thundering_herd_starved(scale: float) -> Scenario:
    """S10 + starvation: half of a thousand subscribers come back at once while busy processes take the hub's cores.

    A mass return costs the target more than its load did; it comes when a machine is short of time, since that is why clients were cut
    off. Whoever only just keeps up may never catch up then.
    """
    connections = scaled(1_000, scale, least=10)
    return Scenario(
        id="subscriptions.thundering-herd-starved",
        title=f"{connections // 2:,} of {connections:,} subscribers come back at once to a hub that is short of processor time",
        plan="S10 + starvation",
        target=hub("--history", "10000", connections=connections * 2),
        population=Population(connections=connections, channels=scaled(10, scale)),
        phases=(Phase(arrival=Constant(rate_hz=100), duration_s=9.0, payload_bytes=200),),
        faults=(
            Fault(kind="process.starve", at_s=1.5, for_s=2.5),
            Fault(kind="disconnect", at_s=2.0, ratio=0.5, options={"resume": True}),
        ),
        criteria=criteria(
            *("recovered_ratio == 100%", "recovery < 5s", "backlog_drained < 5s", "degraded == 0", *EXACT),
            *("disconnects == 0", "ended == 0", "stats_error <= 1%", *GLOBAL),
        ),
        lag_limit_s=1.0,  # the burners take the generator's cores too
        scale=scale,
    )


CYCLE_S = 1.5


def churn_jitter(scale: float) -> Scenario:
    """S12 + jitter: half of the subscribers unsubscribe and come back, again and again, over a wire that delays each chunk by 5 to 50 ms.

    An unsubscribe crosses with what is on its way, and a subscribe with what is being published; a delay of its own for each chunk makes
    those crossings the rule. One in ten fails instead of leaving cleanly, and the events beside it have 100 KB each.
    """
    events = scaled(1_000, scale, least=200)
    rate_hz = 80
    load_s = events / rate_hz
    cycles = max(1, int((load_s - 1.0) / CYCLE_S))
    return Scenario(
        id="subscriptions.churn-jitter",
        title=f"{cycles} times half of 100 subscribers leave and come back over a wire with 5 to 50 ms of delay, beside {events:,} events",
        plan="S12 + jitter",
        target=hub("--message-bytes", "300000", "--history", "2", connections=400),
        population=Population(connections=100, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), messages=events, payload_bytes=100_000),),
        faults=(
            Fault(kind="wire.latency", at_s=0.0, for_s=load_s + 0.5, options={"least_s": 0.005, "most_s": 0.05}),
            Fault(kind="churn", at_s=0.5, repeat=cycles, every_s=CYCLE_S, ratio=0.5, options={"failure_ratio": 0.1}),
        ),
        criteria=criteria(
            *("recovered_ratio == 100%", *EXACT, "corrupted == 0", "disconnects == 0", "ended == 0"),
            *("latency_p50 > 10ms", "stats_error <= 1%", "rss_growth < 1.5x", *GLOBAL),
        ),
        drain_limit_s=20.0,
        scale=scale,
    )


ENTRIES = (
    entry(connections_pause, "connections-10k-pause", "S1 + pause"),
    entry(saturation_stuck, "saturation-stuck", "S7 + stuck readers"),
    entry(large_payload_bandwidth, "large-payload-bandwidth", "S8 + bandwidth"),
    entry(thundering_herd_starved, "thundering-herd-starved", "S10 + starvation"),
    entry(churn_jitter, "churn-jitter", "S12 + jitter"),
)
