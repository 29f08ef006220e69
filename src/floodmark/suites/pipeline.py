"""The pipeline suite: the nine scenarios of the plan and what it left for later, against the embedded pipeline in its host process.

Records are made outside and offered to a stream's source; the ledger knows what was taken on and checks what the stream gives. Sizes are
the plan's own at scale 1.0 unless a docstring says otherwise, and every count is exact where the plan was content with less. What the
ledger cannot see comes from the host's statistics as `target.NAME`: figures of its bookkeeping at both edges of the pipeline, and what
the drains outside have found (unasked records, wrong groups).
"""

from __future__ import annotations

from collections.abc import Callable

from floodmark.model.arrival import Constant
from floodmark.model.scenario import Fault, Phase, Population, Scenario, Target
from floodmark.suites.entry import Entry, criteria, scaled

PIPELINE = Target(system="pipeline")
EXACT = ("success_ratio == 100%", "lost == 0", "duplicated == 0", "disconnects == 0", "ended == 0", "stats_error == 0", "target_exits == 0")
CONCURRENT_HZ = 60_000  # of five million records: somewhat more than one agent and one host get through on two cores
FAST_HZ = 150_000
ASKED = ("target.unasked == 0",)
NOTHING_LEFT = ("target.streams_live == 0", "target.entries_left == 0", "target.tasks_left == 0")


def groups(scale: float) -> Scenario:
    """P000-6: ten thousand records in a thousand groups; every group has its ten records and their sum, to the last one."""
    records = scaled(10_000, scale, least=1_000)
    number = min(1_000, records)
    return Scenario(
        id="pipeline.groups",
        title=f"{records:,} records grouped into {number:,} sums and counts",
        plan="P000-6",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": str(records), "groups": number},
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=50_000), messages=records, payload_bytes=100),),
        criteria=criteria(
            *(f"delivered == {records}", f"target.groups_checked == {number}", "target.groups_wrong == 0", "target.completed == 1"),
            *(*EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        scale=scale,
    )


def cancellation(scale: float) -> Scenario:
    """P000-1: half of ten consumers go away in mid-stream; these streams end as stopped and leave nothing, the others are whole."""
    return Scenario(
        id="pipeline.cancellation",
        title="5 of 10 streams of 1,000 records lose their consumer in their midst",
        plan="P000-1",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": "1000", "demand": 100, "max_demand": 100, "chunk_size": 100},
        population=Population(connections=10, channels=10),
        phases=(Phase(arrival=Constant(rate_hz=20_000), messages=10_000, payload_bytes=100),),
        faults=(Fault(kind="drop", at_s=0.1, ratio=0.5, options={"during": "receive", "how": "close", "back": False}),),
        criteria=criteria(
            *("success_ratio == 100%", "fault_hits == 5", "lost == 0", "duplicated == 0", "disconnects == 0", "ended == 0"),
            *("target.stopped == 5", "target.completed == 5", "target.failed == 0", "target.groups_wrong == 0", "target_exits == 0"),
            *(*ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        scale=scale,
    )


def error_recovery(scale: float) -> Scenario:
    """P000-2: the transformer fails for one of a hundred records; that one is skipped and counted, the other 99 come through."""
    return Scenario(
        id="pipeline.error-recovery",
        title="a transformer that fails for record 50 of 100",
        plan="P000-2",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": "100", "chunk_size": 100, "transform": True, "fail_id": 50},
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=2_000), messages=100, payload_bytes=100),),
        criteria=criteria(
            *("acknowledged == 100", "delivered == 99", "lost == 1", "target.skipped == 1", "target.completed == 1", "target.failed == 0"),
            *("ended == 0", "disconnects == 0", "target_exits == 0", "target.groups_checked == 10", "target.groups_wrong == 0"),
            *(*ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        drain_limit_s=2.0,  # the one that is skipped will not come, however long one waits
        scale=scale,
    )


def rapid_cycles(scale: float) -> Scenario:
    """P000-3: ten streams of fifty records start and end one right after the other; no task and no entry in the registry is left."""
    return Scenario(
        id="pipeline.rapid-cycles",
        title="10 streams of 50 records, one right after the other",
        plan="P000-3",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": "50", "demand": 10, "max_demand": 10, "chunk_size": 50},
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=5_000), messages=500, payload_bytes=100),),
        criteria=criteria(
            *("delivered == 500", "target.completed == 10", "target.groups_checked == 100", "target.groups_wrong == 0"),
            *(*EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        scale=scale,
    )


def large_dataset(scale: float) -> Scenario:
    """P000-4: a hundred thousand records go into a table and come out of it page by page, every one, in memory that does not grow."""
    records = scaled(100_000, scale, least=10_000)
    return Scenario(
        id="pipeline.large-dataset",
        title=f"{records:,} records from a table, by keyset, in memory that does not grow",
        plan="P000-4",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": str(records), "store": "sqlite", "max_demand": 1_000, "buffer_size": 1_000},
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=50_000), messages=records, payload_bytes=100),),
        # The plan allows 1.5; what is above 1.1 here would be the rows.
        criteria=criteria(
            *(f"delivered == {records}", "target.completed == 1", "target.groups_wrong == 0", "rss_growth < 1.1x"),
            *(*EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        drain_limit_s=30.0,
        scale=scale,
    )


def backpressure(scale: float) -> Scenario:
    """P000-5: ten thousand records for a consumer who takes 1 ms over each batch; what is under way stays within buffer and demand."""
    buffer, demand = 100, 50
    return Scenario(
        id="pipeline.backpressure",
        title="10,000 records for a consumer that takes 1 ms over each batch of 50",
        plan="P000-5",
        target=PIPELINE,
        driver="pulled",
        driver_options={
            **{"records": "10000", "demand": buffer, "buffer_size": buffer, "max_demand": demand, "min_demand": 10},
            **{"chunk_size": demand, "pause_s": 0.001, "watch": True},
        },
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=100_000), messages=10_000, payload_bytes=100),),
        criteria=criteria(
            *("delivered == 10000", f"target.in_flight_max <= {buffer + demand}", "target.ahead_max < 50", "target.groups_wrong == 0"),
            # The same from outside, by the acknowledgements.
            *(f"target.in_flight_seen <= {buffer + demand}", "target.ahead_seen < 50"),
            # Offered within 100 ms: that the last is taken on later than that shows that the source was left alone until somebody asked.
            *("ack_latency_max > 100ms", *EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        scale=scale,
    )


def concurrent(scale: float) -> Scenario:
    """P000-7: a thousand streams of five thousand records at the same time, a hundred times the plan's; every one is whole and apart."""
    streams = scaled(1_000, scale, least=10) // 10 * 10
    return Scenario(
        id="pipeline.concurrent",
        title=f"{streams:,} streams of 5,000 records at once",
        plan="P000-7",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": "5000", "demand": 500, "max_demand": 500, "chunk_size": 100},
        population=Population(connections=10, subscriptions_per_connection=streams // 10, channels=streams),
        phases=(Phase(arrival=Constant(rate_hz=CONCURRENT_HZ), messages=streams * 5_000, payload_bytes=64),),
        criteria=criteria(
            *(f"subscriptions == {streams}", f"delivered == {streams * 5_000}", f"target.completed == {streams}"),
            *(f"target.groups_checked == {streams * 10}", "target.groups_wrong == 0", *EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        drain_limit_s=60.0,
        lag_limit_s=60.0,  # no criterion here speaks of latency
        scale=scale,
    )


def varying_load(scale: float) -> Scenario:
    """P000-8: ten streams at once, two of 100 records, five of 1,000 and three of 10,000; each has its own, to the last one."""
    sizes = (100, 100, *[1_000] * 5, *[10_000] * 3)
    records = sum(sizes)
    return Scenario(
        id="pipeline.varying-load",
        title=f"streams of 100, 1,000 and 10,000 records side by side, {records:,} records in all",
        plan="P000-8",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": " ".join(map(str, sizes))},
        population=Population(connections=10, channels=10, shares=sizes),
        phases=(Phase(arrival=Constant(rate_hz=50_000), messages=records, payload_bytes=100),),
        criteria=criteria(
            *(f"delivered == {records}", f"target.completed == {len(sizes)}"),
            *(f"target.groups_checked == {10 * len(sizes)}", "target.groups_wrong == 0", *EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        scale=scale,
    )


def sustained(scale: float) -> Scenario:
    """P000-9: five workers run streams of a hundred records for five seconds, a thousand in all, and leave nothing behind."""
    streams = scaled(200, scale, least=20)
    return Scenario(
        id="pipeline.sustained",
        title=f"5 workers run {streams} streams of 100 records each",
        plan="P000-9",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": "100", "chunk_size": 100, "max_demand": 100, "demand": 100},
        population=Population(connections=5, channels=5),
        phases=(Phase(arrival=Constant(rate_hz=20_000), messages=streams * 500, payload_bytes=100),),
        criteria=criteria(
            *(f"delivered == {streams * 500}", f"target.completed == {streams * 5}", "target.groups_wrong == 0", "rss_growth < 1.2x"),
            *(f"load_time >= {streams / 40 * 0.95:g}s", *EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        scale=scale,
    )


def network_failure(scale: float) -> Scenario:
    """P000-D: every fifth query loses its connection; each is tried again where it stood: nothing is missing, nothing comes twice."""
    chunks = scaled(100, scale, least=20)
    failures = (chunks - 1) // 4
    return Scenario(
        id="pipeline.network-failure",
        title=f"{failures} of {chunks + failures} queries fail and are tried again",
        plan="P000-D",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": str(chunks * 100), "chunk_size": 100, "query_failures": 1, "query_failures_of": 5},
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=10_000), messages=chunks * 100, payload_bytes=100),),
        criteria=criteria(
            *(f"delivered == {chunks * 100}", f"target.queries_failed == {failures}", f"target.retries == {failures}"),
            *("target.failed == 0", "target.completed == 1", "target.groups_wrong == 0", *EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        scale=scale,
    )


def network_cut(scale: float) -> Scenario:
    """P000-D: rows come page by page over HTTP, and connections are cut in mid-page or reset; nothing is missing, nothing comes twice.

    One connection in two is closed after 100 KB, in the midst of its fourth or fifth page; every one that has lived for 150 ms is reset,
    whatever it is doing. The page server is a process of its own, the fault proxy in front of it another.
    """
    pages = scaled(200, scale, least=60)
    least = pages // 50  # of each kind: a slow machine resets more and cuts less, a fast one the other way round
    return Scenario(
        id="pipeline.network-cut",
        title=f"{pages} pages over connections that are cut in mid-page or reset",
        plan="P000-D, cut",
        target=PIPELINE,
        driver="pulled",
        driver_options={
            **{"records": str(pages * 100), "chunk_size": 100, "store": "http"},
            "network": "latency=5ms,direction=downstream limit=100KB,direction=downstream,share=50% reset=150ms",
        },
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=20_000), messages=pages * 100, payload_bytes=100),),
        criteria=criteria(
            *(f"delivered == {pages * 100}", f"target.network_limit_hits >= {least}", f"target.network_reset_hits >= {least}"),
            *(f"target.retries >= {2 * least}", "target.queries_failed == 0", "target.failed == 0", "target.completed == 1"),
            *("target.groups_checked == 10", "target.groups_wrong == 0", *EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        drain_limit_s=30.0,
        scale=scale,
    )


def constant_memory(scale: float) -> Scenario:
    """IN-18: one stream of ten million records, in and out over sockets; at its end the process is hardly larger than before its first."""
    records = scaled(10_000_000, scale, least=100_000)
    return Scenario(
        id="pipeline.constant-memory",
        title=f"{records:,} records in one stream",
        plan="IN-18",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": str(records), "demand": 10_000, "max_demand": 1_000, "groups": 1_000},
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=FAST_HZ), messages=records, payload_bytes=64),),
        criteria=criteria(
            *(f"delivered == {records}", "target.groups_checked == 1000", "target.groups_wrong == 0", "rss_growth < 1.2x"),
            *(*EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        drain_limit_s=60.0,
        lag_limit_s=5.0,  # no criterion here speaks of latency
        scale=scale,
    )


def _speed(name: str, plan: str, *, chunk: int, least: str, scale: float) -> Scenario:
    """Ten million rows through one stream inside the host, grouped by a thousand keys, beside a stream that the ledger checks."""
    rows = scaled(10_000_000, scale, least=1_000_000)
    return Scenario(
        id=f"pipeline.{name}",
        title=f"{rows:,} rows in chunks of {chunk:,} inside the host, grouped, beside a sample that the ledger checks",
        plan=plan,
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": "1000", "measure_records": rows, "measure_chunk": chunk, "measure_groups": 1_000},
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=1_000), messages=1_000, payload_bytes=100),),
        criteria=criteria(
            *(f"target.measured_hz > {least}", "delivered == 1000", "target.groups_checked == 1010", "target.groups_wrong == 0"),
            *(*EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        lag_limit_s=5.0,  # no criterion here speaks of latency
        scale=scale,
    )


def throughput(scale: float) -> Scenario:
    """IN-19: more than a million records a second with grouped sums, counts and averages, in chunks of a thousand."""
    return _speed("throughput", "IN-19", chunk=1_000, least="1M/s", scale=scale)


def throughput_wide(scale: float) -> Scenario:
    """IN-06: more than five million records a second with the same aggregates, in chunks of ten thousand."""
    return _speed("throughput-wide", "IN-06", chunk=10_000, least="5M/s", scale=scale)


def first_record(scale: float) -> Scenario:
    """IN-20: of two hundred streams 99 % give their drain its first record within 20 ms of the asking, and every one within 100 ms.

    The drain's own clock says so; the plan asks for 100 ms. The two in two hundred are the machine's: where ten others wait for a core, one
    pause of the scheduler is longer than all that is measured here. The streams come one after another, and their records are always there
    beforehand: they are offered faster than they are asked for, and the source holds up whoever offers. What the end of the stream before
    costs counts as well; the first stream has nothing to wait for yet but the load, and is not among those timed.
    """
    streams = scaled(200, scale, least=200)  # or the 99th percentile would be the slowest
    return Scenario(
        id="pipeline.first-record",
        title=f"the first record of {streams} streams, from the asking to the drain",
        plan="IN-20",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": "100", "chunk_size": 100, "demand": 100},
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=50_000), messages=streams * 100, payload_bytes=100),),
        criteria=criteria(
            *("target.first_seen_p99_s < 20ms", "target.first_seen_s < 100ms", f"target.first_seen_count == {streams - 1}"),
            *(f"target.completed == {streams}", f"delivered == {streams * 100}"),
            *("target.groups_wrong == 0", *EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        scale=scale,
    )


def entry(build: Callable[[float], Scenario], name: str, plan: str, quick_scale: float | None = None) -> Entry:
    """Make an entry; its text is the first line of the docstring behind the colon."""
    text = (build.__doc__ or "").split(": ", 1)[1].splitlines()[0]
    return Entry(id=f"pipeline.{name}", text=text, build=build, plan=plan, quick_scale=quick_scale)


SCENARIOS: tuple[Entry, ...] = (
    entry(cancellation, "cancellation", "P000-1", 1.0),
    entry(error_recovery, "error-recovery", "P000-2"),
    entry(rapid_cycles, "rapid-cycles", "P000-3", 1.0),
    entry(large_dataset, "large-dataset", "P000-4"),
    entry(backpressure, "backpressure", "P000-5"),
    entry(groups, "groups", "P000-6"),
    entry(concurrent, "concurrent", "P000-7"),
    entry(varying_load, "varying-load", "P000-8"),
    entry(sustained, "sustained", "P000-9"),
    entry(network_failure, "network-failure", "P000-D"),
    entry(network_cut, "network-cut", "P000-D, cut"),
    entry(constant_memory, "constant-memory", "IN-18"),
    entry(throughput, "throughput", "IN-19"),
    entry(throughput_wide, "throughput-wide", "IN-06"),
    entry(first_record, "first-record", "IN-20"),
)
