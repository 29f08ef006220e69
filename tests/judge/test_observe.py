"""Every metric: planted in a record it comes out as planted, taken away it is missing with a reason, never 0."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.judge.observe import ANSWERS, CLOCKS, LEAKS, Answers, Memory, Record, observe
from floodmark.model.metrics import METRICS
from floodmark.model.result import Delivery, FaultResult, FaultStretch, LatencySummary

S = 1_000_000_000
MB = 1_000_000


def latencies(step_ns: int) -> LatencySummary:
    return LatencySummary(p50=step_ns, p90=2 * step_ns, p99=3 * step_ns, p999=4 * step_ns, max=5 * step_ns, count=10)


TARGET = Memory(before_connect=50 * MB, connected=140 * MB, peak=200 * MB, end=219 * MB, left=95 * MB)
ASKED = Answers(
    ttft=latencies(S // 50),
    token_gap=latencies(S // 5000),
    stream_time=latencies(S),
    streams=40,
    streams_completed=30,
    streams_failed=5,
    stalls=2,
    gaps_unread=4,
    odd_events=3,
    usages=30,
    usage_wrong=1,
    chunks=500,
    tokens=2000,
    tokens_per_chunk_max=8.0,
    good_streams=20,
    good_tokens=1000,
    paced=10,
    pace_error=0.125,
    close_worst_s=0.0625,
)
FULL = Record(
    delivery=Delivery(
        attempted=1000,
        acknowledged=800,
        delivered=790,
        lost=8,
        duplicated=3,
        reordered=4,
        corrupted=2,
        unexpected=5,
        indeterminate=200,
    ),
    asked_connections=100,
    connected=90,
    subscriptions_seen=170,
    asked_subscriptions=200,
    connect_s=1.5,
    first_connect_ns=8 * S,
    first_intended_ns=10 * S,
    last_received_ns=20 * S + S // 2,
    drained_ns=22 * S,
    published=500,
    refused=6,
    unanswered=7,
    disconnects=9,
    ended=4,
    response=latencies(S // 1000),
    service=latencies(S // 500),
    ack=latencies(S // 250),
    lag=latencies(S // 100),
    phases={"steady": latencies(S // 1000), "silent": LatencySummary()},
    target=TARGET,
    harness=Memory(before_connect=60 * MB, connected=150 * MB, peak=180 * MB),
    total_peak_bytes=390 * MB,
    target_cpu_s=2.5,
    fds_peak=111,
    threads_peak=12,
    fault_hits=20,
    fault_back=20,
    faults=(
        FaultResult(
            kind="disconnect",
            index=0,
            struck_s=1.0,
            lifted_s=1.5,
            hits=20,
            back=20,
            reconnects=20,
            recovery_s=0.75,
            first_delivery_s=0.1,
            full_rate_s=0.5,
            backlog_drained_s=1.25,
            degraded=True,
            after=FaultStretch(duration_s=4.0),
        ),
    ),
    statistics={"delivered": 880.0, "published": 500.0, "else": 1.0},
    statistics_wanted={"delivered": 800.0, "published": 500.0, "connections": 90.0},
    target_exits=1,
    leaks={
        "leak_bytes_per_message": 13.0,
        "leak_descriptors_per_thousand": 0.25,
        "leak_threads_per_thousand": 0.5,
        "leak_slope": 14.0,
        "leak_slope_lower": 13.0,
        "leak_slope_upper": 15.0,
    },
    rested_s=0.5,
    answers=ASKED,
)


def fault(**changes: Any) -> FaultResult:
    """The fault of the full record, with changes."""
    return msgspec.structs.replace(FULL.faults[0], **changes)


PLANTED: dict[str, float] = {
    "attempted": 1000,
    "acknowledged": 800,
    "delivered": 790,
    "lost": 8,
    "duplicated": 3,
    "reordered": 4,
    "corrupted": 2,
    "unexpected": 5,
    "indeterminate": 200,
    "published": 500,
    "refused": 6,
    "unanswered": 7,
    "delivery_ratio": (800 - 8 - 2) / 800,
    "error_ratio": (10 + 6 + 7 + 8 + 2) / (100 + 500 + 800),
    "success_ratio": 85 / 100,  # 90 connected, but the subscriptions seen are those of 85
    "connections": 90,
    "subscriptions": 170,
    "connect_failures": 10,
    "disconnects": 9,
    "ended": 4,
    "connect_time": 1.5,
    "duration": 12.0,
    "load_time": 10.0,
    "total_time": 14.0,
    "throughput": 79.0,
    "publish_rate": 50.0,
    **{f"latency_{name}": step * 0.001 for step, name in enumerate(("p50", "p90", "p99", "p999", "max"), 1)},
    **{f"service_latency_{name}": step * 0.002 for step, name in enumerate(("p50", "p90", "p99", "p999", "max"), 1)},
    **{f"ack_latency_{name}": step * 0.004 for step, name in enumerate(("p50", "p90", "p99", "p999", "max"), 1)},
    "generator_lag_p99": 0.03,
    "rss_peak": 200 * MB,
    "rss_end": 219 * MB,
    "rss_growth": 219 / 140,
    "rss_rise": 60 * MB,
    "rss_kept": 79 * MB,
    "rss_per_delivery": 100_000,
    "rss_per_connection": MB,
    "rss_kept_per_connection": MB / 2,
    "rss_total_peak": 390 * MB,
    "harness_rss_peak": 180 * MB,
    "harness_rss_per_connection": MB,
    "cpu": 2.5,
    "target_exits": 1,
    "fds_peak": 111,
    "threads_peak": 12,
    "recovery": 0.75,
    "recovered_ratio": 1.0,
    "first_delivery": 0.1,
    "full_rate": 0.5,
    "backlog_drained": 1.25,
    "degraded": 1,
    "reconnects": 20,
    "leak_bytes_per_message": 13.0,
    "leak_descriptors_per_thousand": 0.25,
    "leak_threads_per_thousand": 0.5,
    "leak_slope": 14.0,
    "leak_slope_lower": 13.0,
    "leak_slope_upper": 15.0,
    "fault_hits": 20,
    "stats_error": 0.1,
    **{f"ttft_{name}": step * 0.02 for step, name in enumerate(("p50", "p90", "p99", "p999", "max"), 1)},
    **{f"token_gap_{name}": step * 0.0002 for step, name in enumerate(("p50", "p90", "p99", "p999", "max"), 1)},
    **{f"stream_time_{name}": step * 1.0 for step, name in enumerate(("p50", "p90", "p99", "p999", "max"), 1)},
    "streams": 40,
    "streams_completed": 30,
    "streams_failed": 5,
    "stalls": 2,
    "gaps_unread": 4,
    "odd_events": 3,
    "usage_wrong": 1,
    "tokens_per_chunk": 4.0,
    "tokens_per_chunk_max": 8.0,
    "goodput": 100.0,
    "goodput_ratio": 0.5,
    "pace_error": 0.125,
    "close_time_max": 0.0625,
}
# What is taken away, and the metrics that must be missing then.
AWAY: list[tuple[dict[str, Any], set[str]]] = [
    ({"connect_s": None}, {"connect_time"}),
    ({"first_intended_ns": 0}, {"duration", "load_time", "throughput", "publish_rate", "goodput"}),
    ({"last_received_ns": 0}, {"load_time", "throughput", "publish_rate", "goodput"}),
    ({"drained_ns": 0}, {"duration", "total_time"}),
    ({"first_connect_ns": 0}, {"total_time"}),
    ({"delivery": Delivery()}, {"delivery_ratio", "rss_per_delivery"}),
    ({"subscriptions_seen": None}, {"subscriptions"}),
    (
        {"asked_connections": 0, "connected": 0},
        {"success_ratio", "rss_per_connection", "rss_kept_per_connection", "harness_rss_per_connection"},
    ),
    ({"response": LatencySummary()}, {name for name in METRICS if name.startswith("latency_")}),
    ({"service": LatencySummary()}, {name for name in METRICS if name.startswith("service_latency_")}),
    ({"ack": LatencySummary()}, {name for name in METRICS if name.startswith("ack_latency_")}),
    ({"lag": LatencySummary()}, {"generator_lag_p99"}),
    ({"lag": LatencySummary(), "closed_loop": True}, {"generator_lag_p99"}),
    (
        {"target": None, "target_exits": None},
        {
            *("rss_peak", "rss_end", "rss_growth", "rss_rise", "rss_kept", "rss_per_delivery", "rss_per_connection", "rss_total_peak"),
            "rss_kept_per_connection",
            *("cpu", "fds_peak", "threads_peak", "target_exits"),
        },
    ),
    (
        {"target": Memory()},
        {
            *("rss_peak", "rss_end", "rss_growth", "rss_rise", "rss_kept", "rss_per_delivery"),
            *("rss_per_connection", "rss_kept_per_connection"),
        },
    ),
    ({"target": msgspec.structs.replace(TARGET, end=None)}, {"rss_end", "rss_growth", "rss_kept", "rss_per_delivery"}),
    ({"target": msgspec.structs.replace(TARGET, starts=2)}, {"rss_growth", "rss_kept", "rss_per_delivery", "rss_kept_per_connection"}),
    ({"target": msgspec.structs.replace(TARGET, before_connect=None)}, {"rss_per_connection", "rss_kept_per_connection"}),
    ({"harness": None}, {"harness_rss_peak", "harness_rss_per_connection"}),
    ({"harness": Memory(peak=1)}, {"harness_rss_per_connection"}),
    ({"total_peak_bytes": None}, {"rss_total_peak"}),
    ({"target_cpu_s": None}, {"cpu"}),
    ({"fds_peak": None}, {"fds_peak"}),
    ({"threads_peak": None}, {"threads_peak"}),
    ({"fault_hits": None}, {"recovered_ratio", "fault_hits", "reconnects", "degraded", *CLOCKS}),
    ({"fault_hits": 0, "fault_back": 0}, {"recovered_ratio", "reconnects", "degraded", *CLOCKS}),
    ({"faults": ()}, {"degraded", *CLOCKS}),
    ({"faults": (fault(standing=True),)}, {"degraded", "recovered_ratio", *CLOCKS}),
    ({"faults": (fault(hits=0, back=0),)}, {"degraded", *CLOCKS}),
    ({"faults": (fault(full_rate_s=None, backlog_drained_s=None, degraded=None),)}, {"full_rate", "backlog_drained", "degraded"}),
    ({"faults": (fault(full_rate_s=None, backlog_drained_s=None),)}, {"backlog_drained"}),  # degraded: it lasted as long as anybody looked
    ({"faults": (fault(back=19, recovery_s=None),)}, {"recovery"}),
    ({"leaks": {}}, set(LEAKS)),
    ({"leaks": {}, "leaks_unknown": {"leak_slope": "too short"}}, set(LEAKS)),
    ({"target": msgspec.structs.replace(TARGET, left=None)}, {"rss_kept_per_connection"}),
    ({"answers": None}, set(ANSWERS)),
    ({"answers": Answers()}, set(ANSWERS) - {"streams"}),  # nothing was asked
    ({"answers": Answers(close_worst_s=1.0)}, set(ANSWERS) - {"streams", "close_time_max"}),
    *(
        ({"answers": msgspec.structs.replace(ASKED, **{prefix: LatencySummary()})}, {n for n in ANSWERS if n.startswith(f"{prefix}_")})
        for prefix in ("ttft", "token_gap", "stream_time")
    ),
    ({"answers": msgspec.structs.replace(ASKED, usages=0)}, {"usage_wrong"}),
    ({"answers": msgspec.structs.replace(ASKED, chunks=0)}, {"tokens_per_chunk"}),
    ({"answers": msgspec.structs.replace(ASKED, tokens=0)}, {"tokens_per_chunk"}),
    ({"answers": msgspec.structs.replace(ASKED, tokens_per_chunk_max=0.0)}, {"tokens_per_chunk_max"}),
    ({"answers": msgspec.structs.replace(ASKED, paced=0)}, {"pace_error"}),
    ({"answers": msgspec.structs.replace(ASKED, close_worst_s=None)}, {"close_time_max"}),
    ({"statistics": None}, {"stats_error"}),
    ({"statistics": {"else": 1.0}}, {"stats_error"}),
    ({"statistics": {"published": 500.0}}, {"stats_error"}),  # silent about what counts
    ({"statistics": {"delivered": math.nan, "published": 500.0}}, {"stats_error"}),
]


def test_observe_knows_every_metric() -> None:
    assert set(PLANTED) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_observe_gives_what_was_planted(name: str) -> None:
    assert observe(FULL).values[name] == pytest.approx(PLANTED[name], rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "gone"), AWAY, ids=[",".join(sorted(gone))[:60] + f"-{number}" for number, (_, gone) in enumerate(AWAY)]
)
def test_observe_what_was_not_measured_is_missing_with_a_reason(changes: dict[str, Any], gone: set[str]) -> None:
    seen = observe(msgspec.structs.replace(FULL, **changes))

    assert set(METRICS) - set(seen.values) == gone
    assert set(seen.missing) == gone
    assert all(reason and "\n" not in reason for reason in seen.missing.values())


def test_observe_an_empty_record_claims_no_measurement() -> None:
    seen = observe(Record())

    assert set(seen.values) | set(seen.missing) == set(METRICS)
    assert {name for name, value in seen.values.items() if value} == set()
    assert all(METRICS[name].dimension.name == "COUNT" for name in seen.values)
    assert seen.delivered == 0


def test_observe_recovery_that_is_incomplete_says_how_many_came_back() -> None:
    seen = observe(msgspec.structs.replace(FULL, fault_back=19, faults=(fault(back=19, recovery_s=None),)))

    assert seen.values["recovered_ratio"] == 0.95
    assert seen.missing["recovery"] == "the disconnect at 1 s: only 19 of 20 victims came back"


@pytest.mark.parametrize(("name", "field"), CLOCKS.items())
def test_observe_a_clock_is_the_longest_of_all_faults(name: str, field: str) -> None:
    faults = (fault(**{field: 2.0}), fault(**{field: 7.0}), fault(**{field: 3.0}), fault(**{field: 9.0}, standing=True))

    seen = observe(msgspec.structs.replace(FULL, faults=faults))

    assert seen.values[name] == 7.0
    assert not seen.at_least


def test_observe_recovery_is_of_the_faults_that_took_somebody_away() -> None:
    """A delay that stands to the end of the load has nobody who could come back, and no rate after it."""
    delay = fault(kind="latency", recovery_s=None, full_rate_s=None, degraded=None)

    seen = observe(msgspec.structs.replace(FULL, faults=(fault(), delay)))

    assert (seen.values["recovery"], "recovery" in seen.at_least) == (0.75, False)


@pytest.mark.parametrize(("full_rate_s", "recovery"), [(2.5, 2.5), (None, None)])
def test_observe_recovery_from_faults_that_take_nobody_away_is_that_of_the_rate(full_rate_s: float | None, recovery: float | None) -> None:
    stall = fault(kind="process.pause", recovery_s=None, full_rate_s=full_rate_s, degraded=None)

    assert observe(msgspec.structs.replace(FULL, faults=(stall,))).values.get("recovery") == recovery


@pytest.mark.parametrize(
    ("unseen", "why"),
    [
        ({"back": 19}, "the disconnect at 1 s: only 19 of 20 victims came back"),
        ({"away": 2}, "the disconnect at 1 s: 2 of the connections lost to it did not come back"),
    ],
)
def test_observe_recovery_of_which_somebody_stayed_away_is_no_less_than_the_others(unseen: dict[str, Any], why: str) -> None:
    seen = observe(msgspec.structs.replace(FULL, faults=(fault(), fault(recovery_s=None, **unseen))))

    assert (seen.values["recovery"], seen.at_least["recovery"]) == (0.75, why)


@pytest.mark.parametrize(("name", "field"), [clock for clock in CLOCKS.items() if clock[0] != "recovery"])
def test_observe_a_clock_with_one_fault_unseen_is_no_less_than_the_others(name: str, field: str) -> None:
    unseen = fault(**{field: None}, struck_s=4.25, degraded=None, after=FaultStretch(duration_s=0.5))

    seen = observe(msgspec.structs.replace(FULL, faults=(fault(**{field: 2.0}), unseen)))

    assert seen.values[name] == 2.0
    assert seen.at_least[name] == "the disconnect at 4.25 s: that moment was not seen in the 0.5 s of load before the next fault or the end"


@pytest.mark.parametrize("name", ["first_delivery", "full_rate"])
def test_observe_a_rate_that_never_came_back_lasted_at_least_as_long_as_anybody_looked(name: str) -> None:
    stuck = fault(**{CLOCKS[name]: None}, degraded=True, after=FaultStretch(duration_s=6.0))

    seen = observe(msgspec.structs.replace(FULL, faults=(fault(**{CLOCKS[name]: 0.25}), stuck)))

    assert seen.values[name] == 6.0
    assert name in seen.at_least


@pytest.mark.parametrize(
    ("each", "wanted"),
    [
        ((False,), 0.0),
        ((True,), 1.0),
        ((None,), None),
        ((None, False), 0.0),  # it came back to its rate after the second one, so the first one did not keep it down
        ((False, None), None),
        ((True, False), 1.0),  # what cured it was no part of the promise
        ((True, None), 1.0),
    ],
)
def test_observe_degraded_after_any_fault_is_degraded(each: tuple[bool | None, ...], wanted: float | None) -> None:
    seen = observe(msgspec.structs.replace(FULL, faults=tuple(fault(degraded=one) for one in each)))

    assert seen.values.get("degraded") == wanted
    assert ("degraded" in seen.missing) == (wanted is None)


def test_observe_windows_carry_what_was_published_and_the_largest_memory_in_them() -> None:
    seen = observe(
        msgspec.structs.replace(
            FULL,
            windows={"before": Delivery(delivered=40), "during": Delivery(delivered=4)},
            window_s={"before": 2.0, "during": 0.0},
            window_published={"before": 10, "during": 1},
            window_peak={"before": 7 * MB},
        )
    ).phases

    assert {name: seen["before"][name] for name in ("published", "publish_rate", "throughput", "rss_peak")} == {
        "published": 10.0,
        "publish_rate": 5.0,
        "throughput": 20.0,
        "rss_peak": 7.0 * MB,
    }
    assert seen["during"]["published"] == 1.0
    assert not {"publish_rate", "throughput", "rss_peak"} & set(seen["during"])


def test_observe_statistics_take_the_worst_counter() -> None:
    seen = observe(msgspec.structs.replace(FULL, statistics={"delivered": 800.0, "published": 500.0, "connections": 45.0}))

    assert seen.values["stats_error"] == 0.5


def test_observe_statistics_of_nothing_are_compared_with_one() -> None:
    seen = observe(msgspec.structs.replace(FULL, statistics={"delivered": 3.0}, statistics_wanted={"delivered": 0.0}))

    assert seen.values["stats_error"] == 3.0


def test_observe_phases_carry_their_own_delivered_and_latencies() -> None:
    phases = observe(FULL).phases

    assert phases["steady"]["delivered"] == 10
    assert phases["steady"]["latency_p99"] == pytest.approx(0.003)
    assert phases["silent"] == {"delivered": 0.0}


@given(
    connected=st.integers(0, 100),
    delivered=st.integers(0, 100),
    lost=st.integers(0, 100),
    hits=st.none() | st.integers(0, 5),
    first_ns=st.sampled_from([0, S]),
    last_ns=st.sampled_from([0, S, 2 * S]),
    memory=st.none() | st.just(Memory()) | st.just(TARGET),
)
def test_observe_every_metric_is_a_figure_or_has_a_reason(
    connected: int, delivered: int, lost: int, hits: int | None, first_ns: int, last_ns: int, memory: Memory | None
) -> None:
    record = Record(
        delivery=Delivery(attempted=delivered + lost, acknowledged=delivered + lost, delivered=delivered, lost=lost),
        asked_connections=100,
        connected=connected,
        fault_hits=hits,
        fault_back=hits,
        first_intended_ns=first_ns,
        last_received_ns=last_ns,
        target=memory,
    )

    seen = observe(record)

    assert set(seen.values) | set(seen.missing) == set(METRICS)
    assert not set(seen.values) & set(seen.missing)
    assert all(math.isfinite(value) for value in seen.values.values())
