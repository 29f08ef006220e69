"""A time between two clocks is judged only where their difference cannot change it; and what drivers say becomes the run's time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from floodmark.ledger.accounts import Accounts
from floodmark.ledger.stamp import Stamper
from floodmark.model.criterion import parse
from floodmark.model.result import CriterionResult
from floodmark.model.verdict import Verdict
from floodmark.runner.agent import clock
from floodmark.runner.agent.receiving import Intake
from floodmark.runner.lateness import undecided_by_clocks

MS = 1_000_000


def judged(text: str, observed: float, verdict: Verdict, error_ns: int) -> Verdict:
    """What remains of a verdict when clocks differ by up to so much."""
    return undecided_by_clocks(parse(text), CriterionResult(text=text, observed=observed, verdict=verdict), error_ns).verdict


@pytest.mark.parametrize(
    ("observed", "verdict", "expected"),
    [
        (0.0985, Verdict.PASS, Verdict.UNKNOWN),
        (0.1015, Verdict.FAIL, Verdict.UNKNOWN),
        (0.0975, Verdict.PASS, Verdict.PASS),
        (0.1025, Verdict.FAIL, Verdict.FAIL),
    ],
)
def test_latency_is_judged_only_beyond_what_the_clocks_may_be_wrong_by(observed: float, verdict: Verdict, expected: Verdict) -> None:
    assert judged("latency_p99 < 100ms", observed, verdict, 2 * MS) is expected


@pytest.mark.parametrize("text", ["service_latency_p99 < 100ms", "latency_p99 @ steady < 100ms", "load_time < 100ms", "recovery < 100ms"])
def test_whatever_lies_between_two_clocks_is_judged_by_them(text: str) -> None:
    assert judged(text, 0.0999, Verdict.PASS, 2 * MS) is Verdict.UNKNOWN


@pytest.mark.parametrize("text", ["ack_latency_p99 < 100ms", "ttft_p99 < 100ms"])
def test_what_one_agent_times_alone_needs_no_other_clock(text: str) -> None:
    assert judged(text, 0.0999, Verdict.PASS, 2 * MS) is Verdict.PASS


def test_one_clock_decides_everything_and_counts_need_none() -> None:
    assert judged("latency_p99 < 100ms", 0.0999999, Verdict.PASS, 0) is Verdict.PASS
    assert judged("lost == 0", 0.0, Verdict.PASS, 2 * MS) is Verdict.PASS


def test_latency_against_another_phase_needs_clocks_that_are_a_twentieth_of_it_apart_or_less() -> None:
    assert judged("latency_p99 @ after < 2x before", 0.030, Verdict.PASS, 2 * MS) is Verdict.UNKNOWN
    assert judged("latency_p99 @ after < 2x before", 0.050, Verdict.PASS, 2 * MS) is Verdict.PASS


@pytest.fixture
def own_clock() -> Iterator[None]:
    """Whatever the test does, the clock is this machine's again."""
    yield
    clock.follow(0)


def latencies_ms(*, shift_ns: int, error_ns: int, received_ns: list[int], sent_ns: int) -> tuple[int, int, int]:
    """What an agent makes of messages with these times: how many it measured, how many came too early, the longest in milliseconds."""
    clock.follow(shift_ns, error=error_ns)
    accounts = Accounts(run=7, warmup_run=8, channels=1, publishers=1)
    accounts.open_many([0], active_ns=0)
    intake = Intake(accounts, "binary", 7)
    intake.phase("steady", 0)
    stamper = Stamper(7, "binary", 64)
    for seq, at_ns in enumerate(received_ns):
        intake.put((0, stamper.payload(0, seq, sent_ns, sent_ns), at_ns))
    intake.flush()
    response = intake.response["steady"]
    return response.count, response.negative_count, response.percentile(100) // MS


def test_arrival_by_a_clock_that_is_ahead_is_put_right(own_clock: None) -> None:
    ahead_ns = 10**12

    found = latencies_ms(shift_ns=-ahead_ns, error_ns=0, received_ns=[ahead_ns + 105 * MS], sent_ns=100 * MS)

    assert found == (1, 0, 5)


def test_arrival_that_is_not_put_right_would_be_a_latency_of_the_clocks(own_clock: None) -> None:
    found = latencies_ms(shift_ns=0, error_ns=0, received_ns=[10**12 + 105 * MS], sent_ns=100 * MS)

    assert found[2] > 900_000


def test_less_than_nothing_is_nothing_as_far_as_the_clocks_may_differ_and_forged_beyond(own_clock: None) -> None:
    found = latencies_ms(shift_ns=0, error_ns=MS, received_ns=[100 * MS - MS // 2, 100 * MS - 2 * MS], sent_ns=100 * MS)

    assert found == (1, 1, 0)


def test_run_time_is_the_machines_time_and_the_shift(own_clock: None) -> None:
    own = np.array([clock.now_ns() for _ in range(3)])
    clock.follow(10**15)
    shifted = clock.now_ns()

    assert (np.diff(own) >= 0).all()
    assert 0 <= shifted - 10**15 - int(own[-1]) < 60 * 10**9
