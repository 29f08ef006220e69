"""After a take-over a run may not pass, nor fail, by what the lost agent took along; and what it had reported counts."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from floodmark.judge.verdict import Observations, judge
from floodmark.ledger.histogram import Histogram
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.model.verdict import Verdict
from floodmark.runner.distributed.agents import RemoteAgents
from floodmark.runner.distributed.clocks import SLEW_PPM, Offset, RoundTrip
from floodmark.runner.distributed.line import Away
from floodmark.runner.distributed.roll import Known
from floodmark.runner.distributed.words import Claim, Here
from floodmark.runner.evidence import Evidence
from floodmark.runner.gathering import record_of
from floodmark.runner.remains import Remains, Reported, at_least, responses
from floodmark.runner.wire import Progress

MS = 1_000_000
SEEN = Observations(
    values={
        **{"published": 1000, "throughput": 500.0, "lost": 0, "duplicated": 3, "disconnects": 0, "unexpected": 0, "corrupted": 0},
        **{"delivery_ratio": 1.0, "stats_error": 0.2, "recovery": 9.0, "degraded": 1.0, "latency_p99": 0.2, "latency_max": 0.5},
    },
    delivered=4000,
    statistics={"delivered": 5000.0},
    phases={"during": {"delivered": 100, "lost": 0, "duplicated": 2, "delivery_ratio": 1.0, "latency_p99": 0.1}},
)
NOTHING = Histogram().to_wire()


def judged(text: str, lost_count: int) -> Verdict:
    """The verdict of one criterion where so many agents were replaced."""
    [result] = judge([parse(text)], at_least(SEEN, lost_count))
    return result.verdict


@pytest.mark.parametrize(
    ("text", "whole", "left"),
    [
        ("throughput > 400/s", Verdict.PASS, Verdict.PASS),  # it was even more
        ("throughput > 600/s", Verdict.FAIL, Verdict.UNKNOWN),
        ("throughput < 600/s", Verdict.PASS, Verdict.UNKNOWN),
        ("throughput < 400/s", Verdict.FAIL, Verdict.FAIL),
        ("published == 1000", Verdict.PASS, Verdict.UNKNOWN),
        ("published == 900", Verdict.FAIL, Verdict.FAIL),
        ("published >= 1000", Verdict.PASS, Verdict.PASS),
        ("lost == 0", Verdict.PASS, Verdict.UNKNOWN),  # nobody knows what its subscriptions had missed
        ("lost <= 10", Verdict.PASS, Verdict.UNKNOWN),
        ("unexpected == 0", Verdict.PASS, Verdict.UNKNOWN),
        ("corrupted == 0", Verdict.PASS, Verdict.UNKNOWN),
        ("disconnects == 0", Verdict.PASS, Verdict.UNKNOWN),
        ("duplicated == 0", Verdict.FAIL, Verdict.FAIL),  # those that others saw are seen
        ("duplicated <= 3", Verdict.PASS, Verdict.UNKNOWN),
        ("duplicated >= 5", Verdict.FAIL, Verdict.UNKNOWN),
        ("lost @ during == 0", Verdict.PASS, Verdict.UNKNOWN),
        ("duplicated @ during == 0", Verdict.FAIL, Verdict.FAIL),
        ("delivery_ratio @ during >= 99%", Verdict.PASS, Verdict.UNKNOWN),
        ("latency_p99 @ during < 1s", Verdict.PASS, Verdict.PASS),
        ("latency_p99 < 1s", Verdict.PASS, Verdict.PASS),
        ("latency_max < 1s", Verdict.PASS, Verdict.UNKNOWN),
        ("latency_max < 100ms", Verdict.FAIL, Verdict.FAIL),
        ("delivery_ratio >= 99%", Verdict.PASS, Verdict.UNKNOWN),
        ("stats_error <= 1%", Verdict.FAIL, Verdict.UNKNOWN),  # the target counted what the lost one had received, and we do not
        ("recovery < 5s", Verdict.FAIL, Verdict.UNKNOWN),  # nor does a part of the load that was away come back by the target's doing
        ("degraded == 0", Verdict.FAIL, Verdict.UNKNOWN),
        ("delivered >= 1", Verdict.UNKNOWN, Verdict.UNKNOWN),  # never observed
    ],
)
def test_figures_of_the_whole_load_are_least_ones_once_an_agent_was_lost(text: str, whole: Verdict, left: Verdict) -> None:
    assert (judged(text, 0), judged(text, 1)) == (whole, left)


def progress(*latencies_ms: int, published: int = 0, disconnects: int = 0) -> Progress:
    """A report with these response latencies."""
    histogram = Histogram()
    histogram.record(np.array(latencies_ms, np.int64) * MS)
    return Progress(
        at_ns=0,
        connections=1,
        seen=1,
        published=published,
        acknowledged=0,
        pending=0,
        received=0,
        disconnects=disconnects,
        last_received_ns=0,
        response=histogram.to_wire(),
        service=NOTHING,
        lag=NOTHING,
    )


def lost_after(*reports: tuple[Progress, int]) -> Remains:
    """What is left of an agent that made these reports."""
    reported = Reported()
    for report, phase in reports:
        reported.add(report, phase)
    return reported.remains()


def test_slow_deliveries_that_a_lost_agent_had_reported_are_in_the_latencies() -> None:
    evidence = Evidence()
    scenario = Scenario(
        id="tried",
        criteria=(parse("lost == 0"),),
        target=Target(url="ws://127.0.0.1:1"),
        driver="websocket",
        population=Population(connections=2),
        phases=(Phase(arrival=Constant(rate_hz=1), messages=1),),
    )

    before = record_of(scenario, evidence, ())
    evidence.remains = (lost_after((progress(5, published=10), 0), (progress(2000, published=25, disconnects=3), 1)),)
    after = record_of(scenario, evidence, ())

    assert (before.response.count, before.published, before.disconnects) == (0, 0, 0)
    assert (after.response.count, after.published, after.disconnects) == (2, 25, 3)
    assert round(after.response.max / MS) == pytest.approx(2000, abs=2)


def test_reports_count_for_the_phase_in_which_they_came() -> None:
    left = [lost_after((progress(5), 0), (progress(7, 9), 1))]

    counts = [sum(Histogram.from_wire(data).count for data in responses(left, phase)) for phase in (None, 0, 1, 2)]

    assert counts == [3, 1, 2, 0]


# -- clocks -----------------------------------------------------------------------------------------------------------------------------


def test_clock_that_nobody_looks_at_again_may_have_drifted_since() -> None:
    offset = Offset()
    offset.look([RoundTrip(0, 0, MS)])
    before_ns = offset.uncertainty_ns

    offset.unseen(MS + 10 * 10**9)

    assert offset.uncertainty_ns - before_ns == 10 * 1000 * SLEW_PPM


def here(name: str) -> Here:
    """What an agent answers."""
    return Here(
        name=name, token="t", host="m1", version="1", worker="w", capacity=1, playing=0, run="r", number=0, now_ns=0, rss_bytes=0, cpu_s=0
    )


def known_with(uncertainty_ns: int) -> Known:
    """An agent whose clock is known so well."""
    known = Known(here("any"))
    known.offset.look([RoundTrip(0, uncertainty_ns, 2 * uncertainty_ns)])
    return known


def test_clock_of_an_agent_that_is_gone_counts_since_others_receive_what_it_had_stamped() -> None:
    async def main() -> list[int]:
        agents = RemoteAgents("nats://127.0.0.1:1", lambda index, progress: None)
        found = []
        for number, uncertainty_ms in enumerate((50, 2, 1, 2)):
            agents._roll.known["one name"] = known_with(uncertainty_ms * MS)  # it comes again, each time another process
            line = Away(number)
            line.claim = Claim(name="one name", token="t", index=number, link="x", pid=1)
            agents._note_clock(line)
            agents._note_clock(line)
            found.append(agents.clock_error_ns() // MS)
        return found

    assert asyncio.run(main()) == [0, 52, 52, 52]


def test_agent_that_came_after_the_first_look_is_looked_at_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    class LookedError(Exception):
        """It did."""

    async def main() -> None:
        agents = RemoteAgents("nats://127.0.0.1:1", lambda index, progress: None)
        line = Away(0)
        line.claim = Claim(name="late", token="t", index=0, link="x", pid=1)
        line.claimed.set()
        agents._agents = [line]
        agents._roll.known = {"late": Known(here("late"))}

        async def look() -> None:
            raise LookedError

        monkeypatch.setattr(agents._roll, "look", look)
        monkeypatch.setattr(agents, "_require_reach", lambda line: None)
        async with asyncio.TaskGroup() as group:
            await agents.start([], group)

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(main())

    assert raised.group_contains(LookedError)
