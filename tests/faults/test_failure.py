"""Failures in the client: exactly as many as asked for, the same ones from every agent, and none at rate 0."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.faults import plan
from floodmark.faults.failure import Failing, Failure
from floodmark.model.scenario import Fault
from floodmark.runner.agent.holding import Standing, Withheld
from tests.faults.schedule import Due

MS = 1_000_000


@given(of=st.integers(1, 500), data=st.data(), lanes=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_failing_is_the_exact_count_of_every_so_many_whatever_the_lanes(of: int, data: st.DataObject, lanes: int, seed: int) -> None:
    count = data.draw(st.integers(0, of))
    rounds = 3
    failing = Failing(Failure(count=count, of=of), ratio=1.0, seed=(seed,), lanes=lanes)

    failed = [failing.fails(number % lanes) for number in range(rounds * of)]

    assert [sum(failed[start : start + of]) for start in range(0, rounds * of, of)] == [count] * rounds
    assert failing.hits == rounds * count


def test_failing_exactly_200_of_1000_over_two_agents_that_know_nothing_of_each_other() -> None:
    agents = [Failing(Failure(count=200, of=1000), ratio=1.0, seed=(5, 0, 0), lanes=10) for _ in range(2)]

    for number in range(1000):
        lane = number % 10
        agents[lane % 2].fails(lane)

    assert agents[0].hits + agents[1].hits == 200
    assert agents[0].hits > 0 < agents[1].hits


def test_failing_at_rate_0_is_nothing_and_at_1_everything() -> None:
    for fault in (Failure(), Failure(count=5, of=10)):
        never = Failing(fault, ratio=0.0, seed=(1,), lanes=3)
        assert not any(never.fails(number % 3) for number in range(10_000))
        assert never.hits == 0
    always = Failing(Failure(), ratio=1.0, seed=(1,), lanes=3)
    assert all(always.fails(number % 3) for number in range(10_000))


def test_failing_at_a_rate_is_about_that_share_and_by_the_seed() -> None:
    def history(seed: int) -> list[bool]:
        failing = Failing(Failure(), ratio=0.3, seed=(seed,), lanes=7)
        return [failing.fails(number % 7) for number in range(10_000)]

    assert 2_800 < sum(history(1)) < 3_200
    assert history(1) == history(1)
    assert history(1) != history(2)


def test_failing_of_the_publishes_are_dropped_by_us_and_the_others_go_out() -> None:
    dropped: list[int] = []
    standing = Standing()
    standing.failing["publish"].append(Failing(Failure(count=200, of=1000), ratio=1.0, seed=(2,), lanes=10))
    withheld = Withheld(Due(sources=10, every_ns=MS, count=1000), standing=standing, drop=dropped.append)

    sources, offsets_ns = withheld.take(1000 * MS, 5000)

    assert len(dropped) == 200
    assert len(sources) == 800
    assert offsets_ns.tolist() == sorted(offsets_ns.tolist())
    assert sorted(dropped + sources.tolist()) == sorted(number % 10 for number in range(1000))
    assert withheld.exhausted


def test_plan_a_rate_beside_an_exact_count_is_refused() -> None:
    with pytest.raises(UsageError, match="leave ratio out"):
        plan(Fault(kind="failure", ratio=0.5, options={"count": 2, "of": 10}))
