"""The NATS suite: core publish and subscribe, queue groups and JetStream, against a nats-server of the wheel or, by --target, any other.

What each scenario asks is what NATS promises. Core: at most once, so that only what the server had confirmed and did not cut anybody off
for is required. JetStream: what the stream acknowledged is delivered at least once, with message ids and confirmed acknowledgements once.
`sync_interval: always` is the setting under which "acknowledged" means "on the disk"; the server's default is played beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from floodmark.model.arrival import Constant, Flood
from floodmark.model.finding import Guarantee, Order
from floodmark.model.scenario import Fault, Phase, Population, Reconnect, Scenario, Slow, Target
from floodmark.suites.entry import Entry, criteria, scaled

STORE = ("--store", "{folder}")
SERVER: dict[str, float | int | str | bool] = {"name": "nats-server"}
CALM = ("success_ratio == 100%", "disconnects == 0", "ended == 0", "error_ratio < 0.5%")
ONCE = ("lost == 0", "duplicated == 0", "reordered == 0", "corrupted == 0", "unexpected == 0")
STORED = ("refused == 0", "lost == 0", "corrupted == 0", "unexpected == 0")
BACK = Reconnect(resume=True, backoff_max_s=0.5)


def server(*args: str) -> Target:
    """A nats-server of our own."""
    return Target(system="nats", args=args)


def fan_out(scale: float) -> Scenario:
    """Core, at a rate: a thousand subscribers on ten subjects, each message to a hundred of them, in order and once."""
    connections, rate_hz = scaled(1_000, scale, least=10), scaled(300, scale, least=100)
    return Scenario(
        id="nats.fan-out",
        title=f"{connections:,} subscribers on 10 subjects at {rate_hz} messages a second",
        target=server(),
        driver="nats",
        population=Population(connections=connections, channels=10, publishers=10),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), duration_s=5.0, payload_bytes=200),),
        criteria=criteria(f"delivered == {rate_hz * 5 * connections // 10}", "latency_p99 < 250ms", *ONCE, *CALM),
        guarantee=Guarantee.AT_MOST_ONCE,
        scale=scale,
    )


def flood(scale: float) -> Scenario:
    """Core, as fast as it goes: a million deliveries; what is lost is told, and below the server's limits nothing is."""
    messages = scaled(100_000, scale, least=2_000)
    return Scenario(
        id="nats.flood",
        title=f"{messages:,} messages to 10 subscribers, as fast as the server confirms them",
        target=server(),
        driver="nats",
        population=Population(connections=10, publishers=2),
        phases=(Phase(arrival=Flood(in_flight=2_000), messages=messages, payload_bytes=200),),
        criteria=criteria(f"delivered == {messages * 10}", "throughput > 50000/s", *ONCE, *CALM),
        guarantee=Guarantee.AT_MOST_ONCE,
        scale=scale,
    )


def queue_groups(scale: float) -> Scenario:
    """Core, queue groups: twenty groups of five members on connections of their own; each message goes to one member of each group."""
    groups, rate_hz = scaled(20, scale, least=4), scaled(2_000, scale, least=200)
    return Scenario(
        id="nats.queue-groups",
        title=f"{groups} queue groups of 5 members on 4 subjects at {rate_hz:,} messages a second",
        target=server(),
        driver="nats",
        driver_options={"queue_members": 5},
        population=Population(connections=groups, channels=4, publishers=4),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), duration_s=5.0, payload_bytes=200),),
        criteria=criteria(
            *(f"delivered == {rate_hz * 5 * groups // 4}", "lost == 0", "duplicated == 0", "unexpected == 0", *CALM),
        ),
        guarantee=Guarantee.AT_MOST_ONCE,
        order=Order.NONE,
        scale=scale,
    )


def slow_consumer(scale: float) -> Scenario:
    """Core, a slow consumer: one of ten reads 50 KB a second; the server cuts it off, says so, and the other nine lose nothing."""
    rate_hz = scaled(400, scale, least=200)
    return Scenario(
        id="nats.slow-consumer",
        title=f"10 subscribers at {rate_hz} messages of 20 KB a second; one reads 50 KB of them",
        target=server("--max-payload", "1MB", "--max-pending", "2MB", "--write-deadline", "2s"),
        driver="nats",
        population=Population(connections=10, consumer=Slow(rate_bytes_per_s=50_000), consumer_ratio=0.1),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), duration_s=8.0, payload_bytes=20_000),),
        # What the slow one loses is told (`lost`); nine tenths of all that was sent belongs to those who keep up, and has to arrive.
        criteria=criteria(
            *("disconnects == 1", "target.slow_consumers >= 1", "lost > 0", f"delivered >= {rate_hz * 8 * 9}"),
            *("delivery_ratio >= 90%", "duplicated == 0", "corrupted == 0", "success_ratio == 100%", "target_exits == 0"),
        ),
        guarantee=Guarantee.AT_MOST_ONCE,
        drain_limit_s=3.0,
        scale=scale,
    )


def large_payload(scale: float) -> Scenario:
    """Core, large messages: 4 MB each to four subscribers, whole and intact; the server's limit is 8 MB."""
    messages = scaled(50, scale, least=5)
    return Scenario(
        id="nats.large-payload",
        title=f"{messages} messages of 4 MB to 4 subscribers",
        target=server(),
        driver="nats",
        population=Population(connections=4),
        phases=(Phase(arrival=Constant(rate_hz=5.0), messages=messages, payload_bytes=4_000_000),),
        criteria=criteria(f"delivered == {messages * 4}", *ONCE, *CALM),
        guarantee=Guarantee.AT_MOST_ONCE,
        scale=scale,
    )


def jetstream(name: str, title: str, scale: float, *, rate_hz: int, options: dict[str, str | int | float | bool]) -> Scenario:
    """Twenty durable consumers on four subjects of a stream."""
    return Scenario(
        id=f"nats.{name}",
        title=title,
        target=server(*STORE),
        driver="jetstream",
        driver_options=options,
        population=Population(connections=20, channels=4, publishers=4),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), duration_s=5.0, payload_bytes=200),),
        criteria=criteria(f"delivered == {rate_hz * 5 * 5}", *STORED, "duplicated == 0", *CALM),
        guarantee=Guarantee.AT_LEAST_ONCE,
        scale=scale,
    )


def at_least_once(scale: float) -> Scenario:
    """JetStream, at a rate: twenty durable consumers on four subjects, pulled and acknowledged one by one."""
    rate_hz = scaled(1_000, scale, least=100)
    return jetstream("at-least-once", f"20 durable consumers at {rate_hz:,} stored messages a second", scale, rate_hz=rate_hz, options={})


def stream_flood(scale: float) -> Scenario:
    """JetStream, as fast as the stream acknowledges: ten ordered consumers, in order and once."""
    messages = scaled(50_000, scale, least=2_000)
    return Scenario(
        id="nats.stream-flood",
        title=f"{messages:,} messages through a stream in memory to 10 ordered consumers",
        target=server(),
        driver="jetstream",
        driver_options={"consumer": "ordered", "storage": "memory"},
        population=Population(connections=10, publishers=2),
        phases=(Phase(arrival=Flood(in_flight=500), messages=messages, payload_bytes=200),),
        criteria=criteria(f"delivered == {messages * 10}", "refused == 0", *ONCE, *CALM),
        scale=scale,
    )


def exactly_once(scale: float) -> Scenario:
    """JetStream, once in spite of retries: every wire is reset three times, publishers send again, and no message is there twice."""
    rate_hz = scaled(400, scale, least=100)
    return Scenario(
        id="nats.exactly-once",
        title=f"{rate_hz} messages a second through wires that are reset 3 times; unanswered ones are sent again",
        target=server(*STORE),
        driver="jetstream",
        driver_options={"consumer": "ordered", "retry_s": 10.0},
        population=Population(connections=8, channels=4, publishers=4),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), duration_s=8.0, payload_bytes=200),),
        faults=(Fault(kind="wire.reset", at_s=1.5, for_s=0.2, repeat=3, every_s=2.0),),
        reconnect=BACK,
        criteria=criteria(
            *(f"published == {rate_hz * 8}", f"delivered == {rate_hz * 8 * 2}", "unanswered == 0", "recovered_ratio == 100%"),
            *("fault_hits > 0", "lost == 0", "duplicated == 0", "reordered == 0", "refused == 0", "target_exits == 0"),
        ),
        lag_limit_s=1.0,
        scale=scale,
    )


def killed(name: str, title: str, scale: float, target: Target, *texts: str) -> Scenario:
    """The server is killed (SIGKILL) under load and started again with what it had."""
    rate_hz = scaled(400, scale, least=100)
    return Scenario(
        id=f"nats.{name}",
        title=title,
        target=target,
        driver="jetstream",
        driver_options={"consumer": "ordered"},
        population=Population(connections=8, channels=4, publishers=4),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), duration_s=8.0, payload_bytes=200),),
        faults=(Fault(kind="process.kill", at_s=2.5, options=SERVER),),
        reconnect=BACK,
        criteria=criteria(
            *("fault_hits == 1", "recovery < 5s", "recovered_ratio == 100%", "throughput @ after >= 0.9x before"),
            *(*texts, "corrupted == 0", "unexpected == 0", "success_ratio == 100%", "target_exits == 0"),
        ),
        scale=scale,
    )


def killed_synced(scale: float) -> Scenario:
    """JetStream, the server is killed and comes back: with sync_interval always nothing that it had acknowledged is gone."""
    target = server(*STORE, "--keep", "--again-after", "0.5")
    return killed("killed-synced", "the server is killed; each message was synced first", scale, target, "lost == 0", "duplicated == 0")


def killed_durable(scale: float) -> Scenario:
    """JetStream, the same with durable consumers: what was not acknowledged comes again; nothing is lost, and what came twice is told."""
    target = server(*STORE, "--keep", "--again-after", "0.5")
    scenario = killed("killed-durable", "the server is killed; its consumers are durable", scale, target, "lost == 0", "refused == 0")
    options: dict[str, str | int | float | bool] = {"ack_wait_s": 1.0}
    return msgspec.structs.replace(scenario, driver_options=options, guarantee=Guarantee.AT_LEAST_ONCE, order=Order.NONE)


def killed_default(scale: float) -> Scenario:
    """JetStream, the same with the server's default of syncing every two minutes: what a killed process loses is told."""
    # The kernel still has what the process had written, so that this asks about a crash of the server, not of its machine.
    target = server(*STORE, "--keep", "--again-after", "0.5", "--sync", "2m")
    return killed("killed-default", "the server is killed; nothing was synced", scale, target, "lost == 0", "duplicated == 0")


def killed_memory(scale: float) -> Scenario:
    """JetStream in memory, the server is killed: all that it held is gone, and the account says so."""
    rate_hz = scaled(400, scale, least=100)
    return Scenario(
        id="nats.killed-memory",
        title="the server is killed; its stream was in memory",
        target=server("--keep", "--again-after", "0.5"),
        driver="jetstream",
        driver_options={"consumer": "ordered", "storage": "memory"},
        population=Population(connections=4, publishers=2),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), duration_s=6.0, payload_bytes=200),),
        faults=(Fault(kind="process.kill", at_s=2.5, options=SERVER),),
        reconnect=BACK,
        # The stream begins again at 1, and readers ask for what comes behind the position they had: what is acknowledged until the
        # stream has got there reaches nobody. A stream in memory promises no more, so a loss is what this expects to be told.
        criteria=criteria("fault_hits == 1", "lost > 0", "recovered_ratio == 100%", "corrupted == 0", "target_exits == 0"),
        guarantee=Guarantee.AT_MOST_ONCE,
        drain_limit_s=5.0,
        scale=scale,
    )


def partition(scale: float) -> Scenario:
    """JetStream, nothing passes for three seconds: connections stay, all of it arrives afterwards, in order and once."""
    rate_hz = scaled(400, scale, least=100)
    return Scenario(
        id="nats.partition",
        title=f"{rate_hz} messages a second; nothing passes for 3 s",
        target=server(*STORE),
        driver="jetstream",
        driver_options={"consumer": "ordered"},
        population=Population(connections=8, channels=4, publishers=4),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), duration_s=8.0, payload_bytes=200),),
        faults=(Fault(kind="wire.partition", at_s=2.0, for_s=3.0),),
        reconnect=BACK,
        criteria=criteria(
            *("fault_hits > 0", f"delivered == {rate_hz * 8 * 2}", "backlog_drained < 3s", "latency_max >= 2.5s"),
            *(*ONCE, "refused == 0", "unanswered == 0", "target_exits == 0"),
        ),
        lag_limit_s=4.0,
        scale=scale,
    )


def memory(scale: float) -> Scenario:
    """JetStream, memory: sixty megabytes through a work queue on disk; what was acknowledged is gone, from the server's memory too."""
    rate_hz = scaled(2_000, scale, least=200)
    return Scenario(
        id="nats.memory",
        title=f"30 s of {rate_hz:,} messages of 1 KB a second through a work queue",
        target=server(*STORE, "--sync", "2m"),
        driver="jetstream",
        driver_options={"retention": "workqueue"},
        population=Population(connections=4, channels=4, publishers=4),
        phases=(Phase(arrival=Constant(rate_hz=rate_hz), duration_s=30.0, payload_bytes=1_000),),
        # A server that kept what it is done with would end 60 MB above its beginning; Go takes some 20 MB for the load itself.
        criteria=criteria(f"delivered == {rate_hz * 30}", "rss_kept < 40MiB", "rss_peak < 256MiB", *STORED, *CALM),
        guarantee=Guarantee.AT_LEAST_ONCE,
        scale=scale,
    )


def entry(build: Callable[[float], Scenario], name: str, quick_scale: float | None = None) -> Entry:
    """Make an entry; its text is the first line of the docstring."""
    return Entry(id=f"nats.{name}", text=(build.__doc__ or "").splitlines()[0], build=build, quick_scale=quick_scale)


SCENARIOS = (
    entry(fan_out, "fan-out"),
    entry(flood, "flood", 0.1),
    entry(queue_groups, "queue-groups"),
    entry(slow_consumer, "slow-consumer"),
    entry(large_payload, "large-payload"),
    entry(at_least_once, "at-least-once"),
    entry(stream_flood, "stream-flood", 0.1),
    entry(exactly_once, "exactly-once"),
    entry(killed_synced, "killed-synced"),
    entry(killed_durable, "killed-durable"),
    entry(killed_default, "killed-default"),
    entry(killed_memory, "killed-memory"),
    entry(partition, "partition"),
    entry(memory, "memory"),
)
