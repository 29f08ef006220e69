"""What happens to a target from outside: it stands still, its network parts, its connections are reset, it is short of memory or sockets.

The hub is the target here, but nothing in these scenarios is about the hub alone: each holds a promise that any streaming system makes
against one thing that happens to all of them. Whose connection is lost comes back by itself (`reconnect`) and resumes where it was.
"""

from __future__ import annotations

from floodmark.model.arrival import Constant
from floodmark.model.scenario import Fault, Phase, Population, Reconnect, Scenario
from floodmark.suites.common import EXACT, GLOBAL, entry, hub
from floodmark.suites.entry import criteria, scaled

UNHURT = ("success_ratio == 100%", "disconnects == 0", "ended == 0", *EXACT)
BACK = ("recovery < 5s", "backlog_drained < 5s", "degraded == 0")


def pause(scale: float) -> Scenario:
    """A pause: the hub stands still for two seconds under load (SIGSTOP); nobody is cut off, and nothing that waited is lost or doubled."""
    connections = scaled(1_000, scale, least=50)
    return Scenario(
        id="subscriptions.pause",
        title=f"the hub stands still for 2 s under {connections:,} connections",
        target=hub(connections=connections),
        population=Population(connections=connections, channels=connections // 10),
        phases=(Phase(arrival=Constant(rate_hz=1_000), duration_s=10.0, payload_bytes=200),),
        faults=(Fault(kind="process.pause", at_s=2.0, for_s=2.0),),
        criteria=criteria(
            # The pause itself must show, or there was none.
            *(*UNHURT, *BACK, "latency_max @ before < 1.9s", "latency_max >= 1.9s", "lost @ during == 0", "lost @ after == 0"),
            *("latency_p50 @ after < 250ms", "throughput @ after >= 0.9x before", "stats_error == 0", *GLOBAL),
        ),
        scale=scale,
    )


def partitions(scale: float) -> Scenario:
    """Three partitions: for a second nothing reaches the hub, then nothing comes from it, then neither; each heals, and nothing is lost."""
    connections = scaled(1_000, scale, least=50)
    return Scenario(
        id="subscriptions.partitions",
        title=f"{connections:,} connections partitioned from the hub: one way, the other way, both ways, a second each",
        target=hub(connections=connections),
        population=Population(connections=connections, channels=connections // 10),
        phases=(Phase(arrival=Constant(rate_hz=500), duration_s=14.0, payload_bytes=200),),
        faults=tuple(
            Fault(kind="wire.partition", at_s=2.0 + 4.0 * place, for_s=1.0, options={"direction": direction})
            for place, direction in enumerate(("upstream", "downstream", "both"))
        ),
        criteria=criteria(
            *(*UNHURT, *BACK, "lost @ during == 0", "lost @ after == 0", "latency_max @ before < 900ms", "latency_max >= 900ms"),
            *("throughput @ after >= 0.9x before", "stats_error == 0", *GLOBAL),
        ),
        scale=scale,
    )


SPARE_BYTES = 64_000_000


def memory_limit(scale: float) -> Scenario:
    """A memory limit: the hub may grow by 64 MB and no more while a tenth of its readers stand still; its bounds must keep it below that.

    A queue's bound is a promise that can be held to its word: what the stuck readers leave waiting is many times the limit, so a hub
    without bounds would ask for more memory than there is, and fail.
    """
    events, rate_hz = 1_600, 400  # at any scale: less would not reach the limit even without bounds
    return Scenario(
        id="subscriptions.memory-limit",
        title=f"{events:,} events of 100 KB to ten readers, two of which stand still for 4 s, with 64 MB to spare",
        target=hub("--queue", "100", "--queue-bytes", "5000000", "--history", "0", "--message-bytes", "300000", connections=10),
        population=Population(connections=10, channels=2),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), messages=events, payload_bytes=100_000),),
        faults=(
            Fault(kind="process.memory", at_s=0.2, for_s=events / rate_hz + 2.0, options={"extra_bytes": SPARE_BYTES}),
            Fault(kind="reader", at_s=0.3, for_s=4.0, ratio=0.2),
        ),
        criteria=criteria(
            *(*UNHURT, "target_exits == 0", f"rss_rise < {SPARE_BYTES}B", f"delivered == {events * 5}", "latency_max >= 1s"),
            *("stats_error == 0", *GLOBAL),
        ),
        drain_limit_s=20.0,
        lag_limit_s=1.0,  # held-up publishers come back all at once
        scale=scale,
    )


def descriptor_limit(scale: float) -> Scenario:
    """A descriptor limit: a fifth of the subscribers is away when the hub may open no more sockets; they come back when it may again.

    Who stayed must notice nothing, and who knocked in vain must be let in as soon as there is room.
    """
    connections = scaled(500, scale, least=50)
    return Scenario(
        id="subscriptions.descriptor-limit",
        title=f"{connections // 5} of {connections} subscribers cannot come back for two seconds: the hub may open no more sockets",
        target=hub("--history", "10000", connections=connections * 2),
        population=Population(connections=connections, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=200), duration_s=10.0, payload_bytes=200),),
        faults=(
            Fault(
                kind="disconnect",
                at_s=1.0,
                ratio=0.2,
                options={"resume": True, "back_after_s": 1.0, "backoff_s": 0.2, "backoff_max_s": 0.5},
            ),
            # Struck when the victims have left and none is back: what they left free must not count as room.
            Fault(kind="process.descriptors", at_s=1.5, for_s=2.0, options={"extra": 0}),
        ),
        criteria=criteria(
            *("fault_hits > 0", "recovered_ratio == 100%", "recovery >= 2s", "recovery < 5s", "backlog_drained < 5s", "degraded == 0"),
            *(*UNHURT, "stats_error <= 1%", *GLOBAL),
        ),
        scale=scale,
    )


def restart(scale: float) -> Scenario:
    """A restart: the hub is killed under load and started again half a second later; everybody comes back by themselves within seconds.

    This hub keeps its history in memory, so nobody can resume: what was sent between a subscriber's last delivery and its return is
    required of nobody. Everything else is, and the stream must be as fast as before.
    """
    connections = scaled(1_000, scale, least=50)
    return Scenario(
        id="subscriptions.restart",
        title=f"the hub is killed and started again under {connections:,} connections, which come back by themselves",
        target=hub(connections=connections),
        population=Population(connections=connections, channels=connections // 10),
        phases=(Phase(arrival=Constant(rate_hz=500), duration_s=12.0, payload_bytes=200),),
        faults=(Fault(kind="process.restart", at_s=2.0, for_s=0.5),),
        reconnect=Reconnect(),
        criteria=criteria(
            *("success_ratio == 100%", *EXACT, "recovery < 5s", "degraded == 0", "recovered_ratio == 100%"),
            *(f"reconnects >= {connections}", "disconnects == 0", "ended == 0", "lost @ after == 0", "throughput @ after >= 0.9x before"),
        ),
        scale=scale,
    )


def restart_durable(scale: float) -> Scenario:
    """A restart, durable: the hub and its NATS server are killed under load and started again; all resume, and nothing is lost.

    The log is on disk (`--bus-store`), so resume points hold across the restart, and so does every promise that was made before it.
    """
    connections = scaled(500, scale, least=50)
    return Scenario(
        id="subscriptions.restart-durable",
        title=f"hub and bus killed and started again under {connections} connections, which resume where they were",
        target=hub("--bus", "nats", "--bus-store", "{folder}", "--history", "10000", connections=connections),
        population=Population(connections=connections, channels=connections // 10),
        phases=(Phase(arrival=Constant(rate_hz=200), duration_s=12.0, payload_bytes=200),),
        faults=(Fault(kind="process.restart", at_s=2.0, for_s=0.5),),
        reconnect=Reconnect(resume=True),
        criteria=criteria(
            *("success_ratio == 100%", *EXACT, "recovery < 8s", "backlog_drained < 8s", "degraded == 0", "recovered_ratio == 100%"),
            *(f"reconnects >= {connections}", "disconnects == 0", "ended == 0", "lost @ after == 0"),
        ),
        lag_limit_s=0.5,
        scale=scale,
    )


RESETS = 5


def reset_storm(scale: float) -> Scenario:
    """A reset storm: every second for five seconds a fifth of the connections gets a TCP reset; all come back, resume, and miss nothing."""
    connections = scaled(500, scale, least=50)
    return Scenario(
        id="subscriptions.reset-storm",
        title=f"a fifth of {connections} connections reset each second for {RESETS} s",
        target=hub("--history", "10000", connections=connections * 2),
        population=Population(connections=connections, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=200), duration_s=10.0, payload_bytes=200),),
        faults=(Fault(kind="wire.reset", at_s=1.0, repeat=RESETS, every_s=1.0, ratio=0.2),),
        reconnect=Reconnect(resume=True),
        criteria=criteria(
            *(
                "success_ratio == 100%",
                *EXACT,
                "recovery < 5s",
                "degraded == 0",
                "recovered_ratio == 100%",
                f"reconnects >= {connections // 5 * RESETS}",
            ),
            *("disconnects == 0", "ended == 0", "lost @ during == 0", "throughput @ after >= 0.9x before", *GLOBAL),
        ),
        scale=scale,
    )


PING_S = PONG_S = 1.0
HOLE_S = 3.0


def vanished(scale: float) -> Scenario:
    """Vanished clients: a tenth of the connections falls into a black hole for three seconds; what went into it must be there again.

    The hub takes what went into the hole for delivered, as its kernel does. Only who resumes where the client really was loses nothing.
    Publishers vanish as well: what they sent into the hole is nobody's.
    """
    connections = scaled(500, scale, least=50)
    return Scenario(
        id="subscriptions.vanished",
        title=f"a tenth of {connections} connections vanishes without a word for {HOLE_S:g} s",
        target=hub("--history", "10000", "--ping-s", f"{PING_S:g}", "--pong-s", f"{PONG_S:g}", connections=connections * 2),
        population=Population(connections=connections, channels=10, publishers=50),
        phases=(Phase(arrival=Constant(rate_hz=200), duration_s=12.0, payload_bytes=200),),
        faults=(Fault(kind="wire.timeout", at_s=2.0, for_s=HOLE_S + 0.2, ratio=0.1, options={"after_s": HOLE_S}),),
        # First tries come when the hole is gone: it would swallow a tenth of them again.
        reconnect=Reconnect(resume=True, backoff_s=0.5),
        criteria=criteria(
            *(
                "success_ratio == 100%",
                *EXACT,
                f"recovery < {HOLE_S + 5:g}s",
                "degraded == 0",
                "recovered_ratio == 100%",
                f"reconnects >= {connections // 10}",
            ),
            # What one side sent into the hole the other never had, and counts apart: a tenth of three seconds, more or less.
            *("disconnects == 0", "ended == 0", "stats_error <= 8%", "rss_growth < 1.3x"),
            "error_ratio < 5%",
        ),
        scale=scale,
    )


ENTRIES = (
    entry(pause, "pause", ""),
    entry(partitions, "partitions", ""),
    entry(memory_limit, "memory-limit", ""),
    entry(descriptor_limit, "descriptor-limit", ""),
    entry(restart, "restart", ""),
    entry(restart_durable, "restart-durable", ""),
    entry(reset_storm, "reset-storm", ""),
    entry(vanished, "vanished", ""),
)
