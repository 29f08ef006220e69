"""The agents' shares against the whole schedule, walked in the dullest way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.core.errors import HarnessBugError
from floodmark.load.arrivals import schedule
from floodmark.load.pacing import Pacer
from floodmark.load.turns import turns
from floodmark.model.arrival import Arrival, Burst, Constant, Poisson, Ramp, Spike, Wave

ARRIVALS: list[Arrival] = [
    Constant(rate_hz=977.3),
    Ramp(from_hz=10, to_hz=2000),
    Spike(rate_hz=50, peak_hz=5000, at_s=0.4, for_s=0.2),
    Wave(rate_hz=800, amplitude_hz=800, period_s=0.5),
    Burst(count=37, every_s=0.11),
    Poisson(rate_hz=900),
]


def _drained(pacer: Pacer, steps: list[int], limits: list[int]) -> list[tuple[int, int]]:
    """Walk to the end in uneven steps; return (intended offset, source) of everything taken."""
    taken: list[tuple[int, int]] = []
    elapsed_ns, turn = 0, 0
    while not pacer.exhausted:
        elapsed_ns += steps[turn % len(steps)]
        limit = limits[turn % len(limits)]
        sources, offsets_ns = pacer.take(elapsed_ns, limit)
        assert len(sources) == len(offsets_ns) <= limit
        assert not len(offsets_ns) or offsets_ns.max() <= elapsed_ns
        taken += zip(offsets_ns.tolist(), sources.tolist(), strict=True)
        turn += 1
    assert len(pacer.take(2**61, 10)[0]) == 0
    assert pacer.next_due_ns() is None
    return taken


@settings(max_examples=120, deadline=None)
@given(
    arrival=st.sampled_from(ARRIVALS),
    sources=st.integers(1, 40),
    agents=st.integers(1, 5),
    shares=st.lists(st.integers(1, 50), max_size=40),
    messages=st.one_of(st.none(), st.integers(1, 1500)),
    duration_s=st.sampled_from([0.001, 0.5, 0.7303, 1.0]),
    steps=st.lists(st.integers(1_000_000, 300_000_000), min_size=1, max_size=5),
    limits=st.lists(st.integers(1, 700), min_size=1, max_size=5),
    shuffle=st.randoms(use_true_random=False),
)
def test_pacer_all_agents_together_send_exactly_the_schedule(
    arrival: Arrival,
    sources: int,
    agents: int,
    shares: list[int],
    messages: int | None,
    duration_s: float,
    steps: list[int],
    limits: list[int],
    shuffle: object,
) -> None:
    plan = schedule(arrival, duration_s=duration_s, seed=2)
    total = plan.due(round(duration_s * 1e9) - 1)
    total = total if messages is None else min(total, messages)
    order = turns(sources, shares[:sources])
    expected = [(at, int(order[i % len(order)])) for i, at in enumerate(plan.times_ns(0, total).tolist())]
    owner = np.array([shuffle.randrange(agents) for _ in range(sources)])  # type: ignore[attr-defined]

    taken: list[tuple[int, int]] = []
    for agent in range(agents):
        own_plan = schedule(arrival, duration_s=duration_s, seed=2)
        pacer = Pacer(own_plan, turns=order, owned=np.flatnonzero(owner == agent), messages=messages, duration_s=duration_s)
        share = _drained(pacer, steps, limits)
        assert [at for at, _ in share] == sorted(at for at, _ in share)
        assert pacer.taken == len(share)
        taken += share

    assert sorted(taken) == sorted(expected)


def test_pacer_late_caller_gets_what_was_missed_with_its_old_times() -> None:
    pacer = Pacer(
        schedule(Constant(rate_hz=1000), duration_s=None, seed=0), turns=turns(2), owned=np.array([1]), messages=None, duration_s=None
    )

    sources, offsets_ns = pacer.take(5_500_000, 100)

    assert sources.tolist() == [1, 1, 1]
    assert offsets_ns.tolist() == [1_000_000, 3_000_000, 5_000_000]
    assert pacer.next_due_ns() == 7_000_000


def test_pacer_limit_leaves_the_rest_due() -> None:
    pacer = Pacer(
        schedule(Burst(count=10, every_s=1), duration_s=None, seed=0), turns=turns(3), owned=np.arange(3), messages=10, duration_s=None
    )

    first, _ = pacer.take(0, 4)
    assert pacer.next_due_ns() == 0
    rest, _ = pacer.take(0, 100)

    assert first.tolist() == [0, 1, 2, 0]
    assert rest.tolist() == [1, 2, 0, 1, 2, 0]
    assert pacer.exhausted


def test_pacer_message_at_the_very_end_of_the_phase_does_not_exist() -> None:
    pacer = Pacer(
        schedule(Constant(rate_hz=10), duration_s=1.0, seed=0), turns=turns(1), owned=np.array([0]), messages=None, duration_s=1.0
    )

    _, offsets_ns = pacer.take(10**12, 1000)

    assert offsets_ns.tolist() == [i * 100_000_000 for i in range(10)]
    assert pacer.exhausted


def test_pacer_without_sources_is_exhausted_from_the_start() -> None:
    plan = schedule(Constant(rate_hz=10), duration_s=None, seed=0)
    pacer = Pacer(plan, turns=turns(5), owned=np.array([], dtype=np.int64), messages=None, duration_s=None)

    assert pacer.exhausted
    assert pacer.next_due_ns() is None
    assert len(pacer.take(10**9, 5)[0]) == 0


def test_pacer_one_source_among_many_computes_in_bounded_pieces() -> None:
    plan = schedule(Constant(rate_hz=1e6), duration_s=None, seed=0)
    widest = 0

    class Spy:
        def due(self, elapsed_ns: int) -> int:
            return plan.due(elapsed_ns)

        def times_ns(self, start: int, stop: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            nonlocal widest
            widest = max(widest, stop - start)
            return plan.times_ns(start, stop)

    pacer = Pacer(Spy(), turns=turns(30_000), owned=np.array([29_999]), messages=None, duration_s=None)

    _, offsets_ns = pacer.take(60 * 10**9, 1000)

    assert offsets_ns.tolist() == [(29_999 + 30_000 * j) * 1000 for j in range(1000)]
    assert widest <= 65_536


@pytest.mark.parametrize("owned", [[2, 1], [0, 0], [-1], [5]])
def test_pacer_owned_sources_out_of_order_or_range_are_a_harness_bug(owned: list[int]) -> None:
    with pytest.raises(HarnessBugError, match="owned"):
        Pacer(schedule(Constant(rate_hz=1), duration_s=None, seed=0), turns=turns(5), owned=np.array(owned), messages=None, duration_s=None)
