"""Delays in the client: inside their bounds, by the seed, none at ratio 0, and the order of every publisher and subscription is kept."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.faults.latency import Delays, Latency
from floodmark.runner.agent.holding import Frame, LateInbox, Standing, Withheld
from tests.faults.schedule import Due

DISTRIBUTIONS: tuple[Literal["uniform", "normal", "pareto"], ...] = ("uniform", "normal", "pareto")
MS = 1_000_000


def delays(least_s: float, most_s: float | None = None, *, ratio: float = 1.0, seed: int = 7) -> Delays:
    """A fault in place."""
    return Delays(Latency(least_s=least_s, most_s=most_s), ratio=ratio, seed=(seed,))


@given(least_s=st.floats(0.001, 2), width_s=st.floats(0, 2), seed=st.integers(0, 2**31), distribution=st.sampled_from(DISTRIBUTIONS))
def test_latency_is_within_its_bounds(
    least_s: float, width_s: float, seed: int, distribution: Literal["uniform", "normal", "pareto"]
) -> None:
    fault = Latency(least_s=least_s, most_s=least_s + width_s, distribution=distribution)

    drawn_ns = fault.draw_ns(np.random.default_rng(seed), 200)

    assert drawn_ns.min() >= least_s * 1e9 - 1
    assert drawn_ns.max() <= (least_s + width_s) * 1e9 + 1


def test_latency_distributions_have_their_shapes() -> None:
    def quartiles_s(distribution: Literal["uniform", "normal", "pareto"]) -> list[float]:
        drawn_ns = Latency(least_s=1.0, most_s=7.0, distribution=distribution).draw_ns(np.random.default_rng(1), 20_000)
        return [float(each) for each in np.quantile(drawn_ns / 1e9, [0.25, 0.5, 0.75])]

    assert quartiles_s("uniform") == pytest.approx([2.5, 4.0, 5.5], abs=0.1)
    assert quartiles_s("normal") == pytest.approx([4 - 0.6745, 4.0, 4 + 0.6745], abs=0.05)  # a deviation of one second
    tail = 1 - 7**-1.5
    assert quartiles_s("pareto") == pytest.approx([(1 - share * tail) ** (-1 / 1.5) for share in (0.25, 0.5, 0.75)], abs=0.05)


def test_delays_at_ratio_0_are_none_and_at_a_half_about_a_half() -> None:
    none, half = delays(0.5, ratio=0.0), delays(0.5, ratio=0.5)

    assert [none.draw_ns() for _ in range(3000)] == [0] * 3000
    assert none.hits == 0
    drawn_ns = [half.draw_ns() for _ in range(3000)]
    assert half.hits == sum(delay_ns > 0 for delay_ns in drawn_ns)
    assert 1400 < half.hits < 1600


def test_delays_of_a_seed_are_the_same_again_and_of_another_others() -> None:
    def history(seed: int) -> list[int]:
        one = delays(0.1, 0.9, seed=seed)
        return [one.draw_ns() for _ in range(50)]

    assert history(1) == history(1)
    assert history(1) != history(2)


def test_withheld_without_a_fault_is_the_schedule_itself() -> None:
    taken, plain = Due(sources=3, every_ns=MS, count=50), Due(sources=3, every_ns=MS, count=50)
    withheld = Withheld(taken, standing=Standing(), drop=lambda source: pytest.fail(f"dropped one of {source}"))

    for now_ns in range(0, 60 * MS, 7 * MS):
        assert withheld.next_due_ns() == plain.next_due_ns()
        got, wanted = withheld.take(now_ns, 5), plain.take(now_ns, 5)
        assert got[0].tolist() == wanted[0].tolist()
        assert got[1].tolist() == wanted[1].tolist()


@given(least_ms=st.integers(0, 40), width_ms=st.integers(0, 40), seed=st.integers(0, 1000), step_ms=st.integers(1, 30))
def test_withheld_gives_every_message_once_late_in_order_and_meant_for_then(least_ms: int, width_ms: int, seed: int, step_ms: int) -> None:
    standing = Standing()
    standing.delays["publish"].append(delays(least_ms / 1e3, (least_ms + width_ms) / 1e3, seed=seed))
    withheld = Withheld(Due(sources=4, every_ns=MS, count=100), standing=standing, drop=lambda source: None)
    order: dict[int, list[int]] = {source: [] for source in range(4)}

    now_ns = 0
    while not withheld.exhausted:
        assert withheld.next_due_ns() is not None
        sources, offsets_ns = withheld.take(now_ns, 1000)
        assert (offsets_ns <= now_ns).all()  # nothing before its time: the generator's lag begins then
        for source, offset_ns in zip(sources.tolist(), offsets_ns.tolist(), strict=True):
            order[source].append(offset_ns)
        now_ns += step_ms * MS

    for source, offsets in order.items():
        assert offsets == sorted(offsets)
        assert len(offsets) == 25
        # Message k of a source was due at (4 k + source) ms; its delay line adds no more than the longest delay: it is no brake.
        late_ns = [offset - (4 * k + source) * MS for k, offset in enumerate(offsets)]
        assert min(late_ns) >= least_ms * MS
        assert max(late_ns) <= (least_ms + width_ms) * MS


def test_withheld_after_the_fault_is_gone_lets_nothing_overtake_what_is_held() -> None:
    standing = Standing()
    standing.delays["publish"].append(delays(0.010))
    withheld = Withheld(Due(sources=1, every_ns=MS, count=20), standing=standing, drop=lambda source: None)
    withheld.take(4 * MS, 100)  # five messages are held
    standing.delays["publish"].clear()

    first = withheld.take(9 * MS, 100)[1].tolist()
    rest = withheld.take(40 * MS, 100)[1].tolist()

    assert first == []  # five more, behind the five
    assert len(rest) == 20
    assert rest == sorted(rest)


def test_late_inbox_without_a_fault_passes_everything_on_at_once() -> None:
    seen: list[Frame] = []
    inbox = LateInbox(seen.append, Standing())

    inbox.put((3, b"a", 17))

    assert seen == [(3, b"a", 17)]
    assert not inbox.holding


def test_late_inbox_keeps_each_subscription_in_order_and_the_times_of_arrival() -> None:
    standing, seen = Standing(), list[Frame]()
    standing.delays["receive"].append(delays(0.0001, 0.002))
    inbox = LateInbox(seen.append, standing)
    sent = [(slot, b"%d" % number, time.monotonic_ns()) for number in range(200) for slot in (1, 2)]

    for frame in sent:
        inbox.put(frame)
    assert seen == []
    assert inbox.holding
    standing.delays["receive"].clear()
    last = (1, b"last", time.monotonic_ns())
    inbox.put(last)
    inbox.release_all()

    for slot in (1, 2):
        assert [frame for frame in seen if frame[0] == slot] == [frame for frame in [*sent, last] if frame[0] == slot]
    assert not inbox.holding


def test_late_inbox_releases_what_is_due_and_nothing_else() -> None:
    standing, seen = Standing(), list[Frame]()
    standing.delays["receive"].append(delays(60.0))
    inbox = LateInbox(seen.append, standing)
    now_ns = time.monotonic_ns()
    old, new = (1, b"old", now_ns - 61_000_000_000), (2, b"new", now_ns)

    inbox.put(old)
    inbox.put(new)
    inbox.release()

    assert seen == [old]
