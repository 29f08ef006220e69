"""What is told of each fault, from evidence made by hand: times, stretches, losses, and which clocks run when faults follow each other."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from floodmark.ledger.histogram import Histogram
from floodmark.ledger.inbox import NEVER_NS
from floodmark.ledger.reconcile import Reckoning
from floodmark.model.arrival import Arrival, Burst, Constant, Flood, Poisson
from floodmark.model.criterion import parse
from floodmark.model.result import Delivery
from floodmark.model.scenario import Fault, Phase, Population, Scenario, Target
from floodmark.runner.aftermath import TOLD_OCCASIONS, bins, fault_results, windows
from floodmark.runner.evidence import Blow, Evidence
from floodmark.runner.timeline import BIN_NS
from floodmark.runner.wire import Progress

S = 1_000_000_000
ORIGIN_NS = 100 * S
RATE_HZ = 100.0
FAN_OUT = 10


def scenario(*faults: Fault, load_s: float = 10.0, arrival: Arrival | None = None) -> Scenario:
    phase = Phase(arrival=arrival or Constant(rate_hz=RATE_HZ), duration_s=load_s)
    return Scenario(
        id="t",
        target=Target(url="ws://127.0.0.1:1/"),
        population=Population(connections=FAN_OUT),
        phases=(phase,),
        faults=faults,
        criteria=(parse("lost == 0"),),
    )


CUT = Fault(kind="disconnect")


def blow(struck_s: float, lifted_s: float, *, index: int = 0, occasion: int = 0, **fields: Any) -> Blow:
    made = Blow(kind="disconnect", struck_ns=ORIGIN_NS + int(struck_s * S), index=index, occasion=occasion)
    made.lifted_ns = ORIGIN_NS + int(lifted_s * S)
    made.clients, made.hits, made.back, made.worst_s = True, 4, 4, lifted_s - struck_s
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def evidence(*blows: Blow, speeds: dict[float, float] | None = None, load_s: float = 10.0, latency_ms: int = 5) -> Evidence:
    """A load at its rate, whose deliveries run at these shares of their rate from these seconds on."""
    made = Evidence()
    made.first_intended_ns, made.load_end_ns = ORIGIN_NS, ORIGIN_NS + int(load_s * S)
    made.blows = list(blows)
    made.timeline.mark("steady", ORIGIN_NS)
    response = Histogram()
    response.record([latency_ms * 1_000_000])
    received = 0.0
    for number in range(int(load_s * S // BIN_NS) + 1):
        t_s = (number - 1) * BIN_NS / S
        speed = [share for since_s, share in sorted((speeds or {}).items()) if since_s <= t_s][-1:] or [1.0]
        received += speed[0] * FAN_OUT * RATE_HZ * BIN_NS / S if number else 0
        made.timeline.add(
            0,
            Progress(
                at_ns=ORIGIN_NS + number * BIN_NS,
                connections=FAN_OUT,
                seen=FAN_OUT,
                published=int(RATE_HZ * number * BIN_NS / S),
                acknowledged=0,
                pending=0,
                received=int(received),
                disconnects=0,
                last_received_ns=0,
                response=response.to_wire(),
                service=response.to_wire(),
                lag=Histogram().to_wire(),
            ),
        )
    return made


def told(wanted: Scenario, seen: Evidence) -> Any:
    return fault_results(wanted, seen, seed=1, now_ns=0)


def test_fault_results_of_a_run_without_faults_or_without_a_load_are_none() -> None:
    assert told(scenario(), evidence()) == ()
    assert told(scenario(CUT), Evidence()) == ()


def test_fault_results_tell_times_rates_and_latencies_around_a_fault() -> None:
    (one,) = told(scenario(CUT), evidence(blow(2.0, 4.0), speeds={2.0: 0.5, 4.0: 1.0}))

    assert (one.struck_s, one.lifted_s, one.recovery_s, one.full_rate_s, one.degraded) == (2.0, 4.0, 2.0, 0.0, False)
    assert [stretch.duration_s for stretch in (one.before, one.during, one.after)] == [2.0, 2.0, 6.0]
    assert [stretch.delivered_hz for stretch in (one.before, one.during, one.after)] == [1000.0, 500.0, 1000.0]
    assert [stretch.published_hz for stretch in (one.before, one.during, one.after)] == [100.0, 100.0, 100.0]
    assert one.before.response_ns_p99 == pytest.approx(5_000_000, rel=0.01)
    assert one.during.rss_bytes_peak is None  # no process was watched


def test_fault_results_a_stream_slowed_by_the_first_fault_is_no_measure_for_the_second() -> None:
    first, second = told(scenario(CUT, CUT), evidence(blow(2.0, 2.0), blow(6.0, 6.0, index=1), speeds={2.0: 0.3}))

    assert (first.degraded, second.degraded) == (True, True)
    assert second.before.delivered_hz == pytest.approx(300.0)


def test_fault_results_a_clock_stops_at_the_next_strike() -> None:
    first, second = told(scenario(CUT, CUT), evidence(blow(2.0, 2.0), blow(4.0, 4.0, index=1), speeds={2.0: 0.1, 4.0: 1.0}))

    assert (first.full_rate_s, first.degraded, first.after.duration_s) == (None, None, 2.0)
    assert (second.full_rate_s, second.degraded) == (0.0, False)


def test_fault_results_faults_that_overlap_are_over_together() -> None:
    long, short = told(scenario(CUT, CUT), evidence(blow(2.0, 6.0), blow(3.0, 3.5, index=1), speeds={2.0: 0.1, 6.5: 1.0}))

    assert (long.full_rate_s, short.full_rate_s) == (0.5, 0.5)
    assert (long.lifted_s, short.lifted_s) == (6.0, 3.5)


@pytest.mark.parametrize(
    ("fields", "recovery_s"),
    [
        ({"worst_s": 1.5}, 1.5),
        ({"back": 3, "worst_s": 1.5}, None),
        ({"worst_s": 0.0}, None),  # nobody was taken away
        ({"clients": False, "worst_s": None}, None),
        ({"clients": False, "worst_s": 0.75, "reconnects": 4}, 0.75),
        ({"clients": False, "worst_s": 0.75, "reconnects": 3, "away": 1}, None),
    ],
)
def test_fault_results_recovery_is_of_the_victims_when_all_are_back(fields: dict[str, Any], recovery_s: float | None) -> None:
    (one,) = told(scenario(CUT), evidence(blow(2.0, 2.0, **fields), speeds={2.0: 0.1, 2.25: 1.0}))

    assert one.recovery_s == recovery_s


def test_fault_results_victims_that_were_to_stay_away_are_not_missed() -> None:
    gone = Fault(kind="drop", options={"back": False})

    (one,) = told(scenario(gone), evidence(blow(2.0, 2.0, hits=5, back=0, worst_s=None), speeds={2.0: 0.5}))

    assert (one.degraded, one.recovery_s) == (False, None)


def test_fault_results_losses_of_each_fault_are_those_of_its_window() -> None:
    seen = evidence(blow(2.0, 2.5), blow(5.0, 5.5, occasion=1))
    counts = {"fault#0.0": Delivery(lost=7, duplicated=1), "fault#0.1": Delivery(lost=2, indeterminate=3)}
    unplaced = {"fault#0.0": Delivery(duplicated=2), "fault#0.1": Delivery(unexpected=9)}
    seen.reckoning = Reckoning(delivery=Delivery(lost=9), findings=(), truncated=False, windows=counts, unplaced=unplaced)

    first, second = told(scenario(CUT), seen)

    assert (first.lost, first.duplicated, first.reordered, first.indeterminate, first.unplaced) == (7, 1, 0, 0, 2)
    assert (second.lost, second.indeterminate, second.unplaced) == (2, 3, 0)


def test_fault_results_without_a_ledger_claim_no_counts() -> None:
    (one,) = told(scenario(CUT), evidence(blow(2.0, 2.5)))

    assert (one.lost, one.duplicated, one.reordered, one.corrupted, one.indeterminate) == (None, None, None, None, None)


def test_fault_results_beyond_ten_occasions_are_one_entry_with_sums_and_the_worst() -> None:
    blows = [blow(1.0 + number * 0.5, 1.1 + number * 0.5, occasion=number, reconnects=number) for number in range(13)]
    seen = evidence(*blows)
    names = [name for name, _, _ in windows(seen, NEVER_NS)]
    seen.reckoning = Reckoning(delivery=Delivery(), findings=(), truncated=False, windows={name: Delivery(lost=1) for name in names})

    faults = told(scenario(CUT), seen)

    assert [one.occasion for one in faults] == list(range(TOLD_OCCASIONS + 1))
    assert names == [f"fault#0.{number}" for number in range(TOLD_OCCASIONS + 1)]
    last = faults[-1]
    assert (last.occasions, last.hits, last.reconnects, last.lost) == (3, 12, 10 + 11 + 12, 1)
    assert (last.struck_s, last.lifted_s) == (6.0, pytest.approx(7.1))
    assert last.recovery_s == pytest.approx(0.1)


def test_windows_lie_side_by_side_from_the_first_strike_to_the_end() -> None:
    blows = [blow(1.0 + number * 0.3, 9.0, index=number % 2, occasion=number // 2) for number in range(30)]

    spans = windows(evidence(*reversed(blows)), NEVER_NS)

    assert spans[0][1] == ORIGIN_NS + S
    assert spans[-1][2] == NEVER_NS
    assert all(left[2] == right[1] for left, right in pairwise(spans))
    assert len({name for name, _, _ in spans}) == len(spans)


def test_fault_results_a_standing_fault_has_counts_and_no_clocks() -> None:
    seen = evidence(Blow(kind="wire.latency", struck_ns=ORIGIN_NS - S, standing=True))
    seen.reckoning = Reckoning(delivery=Delivery(lost=3), findings=(), truncated=False)

    (one,) = told(scenario(Fault(kind="wire.latency", from_connect=True, options={"least_s": 0.1})), seen)

    assert (one.standing, one.struck_s, one.lifted_s, one.lost) == (True, 0.0, 10.0, 3)
    assert (one.full_rate_s, one.degraded) == (None, None)


@pytest.mark.parametrize(
    ("arrival", "each"),
    [(Constant(rate_hz=100.0), [25.0] * 4), (Burst(count=40, every_s=0.5), [40.0, 0.0, 40.0, 0.0]), (Flood(in_flight=3), [None] * 4)],
)
def test_bins_hold_what_the_schedule_meant_for_them(arrival: Arrival, each: list[float | None]) -> None:
    seen = bins(scenario(arrival=arrival), evidence(load_s=1.0), seed=1)

    assert [one.wanted for one in seen if 0 <= one.t_s < 1] == each


def test_bins_of_a_random_schedule_add_up_to_what_its_seed_gives() -> None:
    wanted = scenario(arrival=Poisson(rate_hz=200.0))

    totals = [sum(one.wanted or 0 for one in bins(wanted, evidence(), seed=seed)) for seed in (1, 1, 2)]

    assert totals[0] == totals[1] != totals[2]
    assert 1700 < totals[0] < 2300
