"""A limit of a response latency that our own lateness broke accuses nobody; one that the target broke itself does.

So does one that it broke by holding its publishers up: that is no lag of ours. What our own machine has no room for accuses nobody either.
"""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from floodmark.drivers.base import RefusedError
from floodmark.drivers.sockets import network_reason
from floodmark.judge.mark_trial import trial_of
from floodmark.ledger.histogram import Histogram
from floodmark.ledger.reconcile import Reckoning
from floodmark.model.criterion import parse
from floodmark.model.mark import Outcome as Found
from floodmark.model.result import CriterionResult, Delivery, LatencySummary, ScenarioResult
from floodmark.model.scenario import Fault
from floodmark.model.verdict import Verdict
from floodmark.runner.caveats import caveats
from floodmark.runner.evidence import Blow, Evidence
from floodmark.runner.gathering import record_of
from floodmark.runner.lateness import spoilt_by_lag
from floodmark.runner.results import result_of
from floodmark.runner.wire import Outcome
from tests.runner.lost import scenario

MS = 1_000_000


def spoilt(text: str, *, response_ms: int, lag_ms: int, service_ms: int, lags: int = 100) -> bool:
    """Ask of a run with these times at the 99th percentile."""
    times: Any = SimpleNamespace(lag=LatencySummary(p99=lag_ms * MS, count=lags), service=LatencySummary(p99=service_ms * MS, count=500))
    return spoilt_by_lag(parse(text), CriterionResult(text=text, observed=response_ms / 1000, verdict=Verdict.FAIL), times)


@pytest.mark.parametrize(
    ("response_ms", "lag_ms", "service_ms"), [(130, 80, 60), (190, 110, 80), (101, 5, 97)], ids=["both", "lag alone", "by a hair"]
)
def test_limit_that_was_kept_but_for_our_lateness_is_spoilt(response_ms: int, lag_ms: int, service_ms: int) -> None:
    assert spoilt("latency_p99 < 100ms", response_ms=response_ms, lag_ms=lag_ms, service_ms=service_ms)


@pytest.mark.parametrize(
    ("response_ms", "lag_ms", "service_ms"),
    [(190, 90, 120), (2000, 80, 10), (130, 0, 60)],
    ids=["the target took longer itself", "it held its publishers up", "we were on time"],
)
def test_limit_that_the_target_broke_stands(response_ms: int, lag_ms: int, service_ms: int) -> None:
    assert not spoilt("latency_p99 < 100ms", response_ms=response_ms, lag_ms=lag_ms, service_ms=service_ms)


@pytest.mark.parametrize(
    "text", ["service_latency_p99 < 100ms", "latency_p99 @ after < 100ms", "latency_p99 >= 200ms", "connect_time < 100ms"]
)
def test_limit_that_our_lag_over_the_whole_run_does_not_explain_stands(text: str) -> None:
    assert not spoilt(text, response_ms=130, lag_ms=80, service_ms=60)


def test_limit_in_a_run_whose_lag_was_not_measured_stands() -> None:
    assert not spoilt("latency_p99 < 100ms", response_ms=130, lag_ms=80, service_ms=60, lags=0)


def taking(times_ms: int) -> bytes:
    """A histogram of a thousand times that are all the same."""
    histogram = Histogram()
    histogram.record(np.full(1000, times_ms * MS, np.int64))
    return histogram.to_wire()


def judged(*, response_ms: int, lag_ms: int, service_ms: int, text: str = "latency_p99 < 100ms", back_s: float = 0.0) -> CriterionResult:
    """What is said of a limit in a run that is whole but for these times. `back_s`: a reset's victim was back so long after it."""
    seen = Evidence()
    seen.started_ns = seen.first_connect_ns = seen.first_intended_ns = MS
    seen.drained_ns = 10_000 * MS
    seen.reckoning = Reckoning(delivery=Delivery(attempted=1000, acknowledged=1000, delivered=1000), findings=(), truncated=False)
    counted = ("refused", "ended", "disconnects", "published", "unanswered", "connections", "frames", "fault_publishes", "dropped_unasked")
    seen.outcomes = [
        Outcome(
            number=1,
            accounts=b"",
            publications=b"",
            response={"load": taking(response_ms)},
            window_response={},
            service={"load": taking(service_ms)},
            ack=taking(service_ms),
            lag=taking(lag_ms),
            figures=dict.fromkeys(counted, 0.0),
            reasons={},
            first_intended_ns=MS,
            last_received_ns=9_000 * MS,
        )
    ]
    reset = Blow(kind="wire.reset", struck_ns=2 * MS)
    reset.hits = reset.back = reset.reconnects = seen.fault_hits = seen.fault_back = 1
    reset.healed, reset.worst_s, seen.fault_worst_s = True, back_s, back_s
    seen.blows = [reset]
    wanted = scenario(Fault(kind="wire.reset", at_s=0.001), criteria=(text,))
    result, _ = result_of(wanted, seen, agents=1, seed=1, now_ns=10_000 * MS)
    return result.criteria[0]


@pytest.mark.parametrize(
    ("response_ms", "lag_ms", "service_ms", "verdict"),
    [(130, 80, 60, Verdict.UNKNOWN), (190, 70, 120, Verdict.FAIL), (90, 30, 60, Verdict.PASS)],
)
def test_verdict_on_a_limit_says_whether_it_was_our_lateness(response_ms: int, lag_ms: int, service_ms: int, verdict: Verdict) -> None:
    told = judged(response_ms=response_ms, lag_ms=lag_ms, service_ms=service_ms)

    assert told.verdict is verdict
    assert ("the generator itself was late" in told.note) == (verdict is Verdict.UNKNOWN)


@pytest.mark.parametrize(
    ("lag_ms", "back_s", "verdict"), [(11_000, 7.0, Verdict.UNKNOWN), (30, 7.0, Verdict.FAIL), (11_000, 4.0, Verdict.PASS)]
)
def test_clients_of_a_late_generator_that_came_back_slowly_accuse_nobody(lag_ms: int, back_s: float, verdict: Verdict) -> None:
    """They come back by the same loop that was late."""
    assert judged(response_ms=90, lag_ms=lag_ms, service_ms=60, text="recovery < 5s", back_s=back_s).verdict is verdict


@pytest.mark.parametrize(
    ("number", "ours"), [(errno.EMFILE, 3), (errno.ENFILE, 3), (errno.EADDRNOTAVAIL, 3), (errno.ECONNREFUSED, 0), (errno.ETIMEDOUT, 0)]
)
def test_connections_that_our_own_machine_could_not_open_are_a_caveat_and_no_break_of_a_search(number: int, ours: int) -> None:
    told = Evidence()
    told.reasons[str(RefusedError("ws://target", network_reason(OSError(number, os.strerror(number)))))] = 3
    refused = CriterionResult(text="connect_failures == 0", observed=3.0, verdict=Verdict.FAIL, note="connect_failures was 3, wanted == 0")

    found = [one for one in caveats(scenario(), told, record_of(scenario(), told, ())) if one.text == "not_opened_by_us == 0"]

    assert [(one.observed, one.verdict) for one in found] == ([(3.0, Verdict.UNKNOWN)] if ours else [])
    result = ScenarioResult(id="a", plan="", verdict=Verdict.FAIL, scale=1.0, duration_s=1.0, criteria=(refused, *found))
    trial = trial_of(100, result)
    assert (trial.outcome, trial.generator) == ((Found.UNKNOWN, True) if ours else (Found.BROKE, False))
