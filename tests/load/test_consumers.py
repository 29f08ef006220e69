"""Consumer profiles as a caller sees them: by asking again and again."""

from __future__ import annotations

import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.load.consumers import CONSUMERS, selected, wants_to_read
from floodmark.model.scenario import Bursty, Consumer, Fast, Slow, Stuck

MS = 1_000_000


def test_consumers_table_names_every_profile() -> None:
    assert set(CONSUMERS) == set(typing.get_args(Consumer))


@pytest.mark.parametrize("consumer", [Fast(), Slow(rate_bytes_per_s=1), Bursty(read_s=1, pause_s=1), Stuck()])
def test_wants_to_read_before_the_measured_phase_is_always_yes(consumer: Consumer) -> None:
    assert wants_to_read(consumer, elapsed_ns=-1, received_bytes=10**9)


def test_fast_reads_always() -> None:
    assert all(wants_to_read(Fast(), elapsed_ns=at, received_bytes=at) for at in range(0, 10**10, 10**9))


@given(rate=st.floats(100, 1e5), read_bytes=st.integers(1000, 65_536), tick_ns=st.integers(MS, 100 * MS))
def test_slow_receives_its_rate_and_at_most_one_read_more(rate: float, read_bytes: int, tick_ns: int) -> None:
    received = 0
    for tick in range(30):
        elapsed_ns = tick * tick_ns
        while wants_to_read(Slow(rate_bytes_per_s=rate), elapsed_ns=elapsed_ns, received_bytes=received):
            received += read_bytes
        budget = rate * elapsed_ns / 1e9
        assert budget * (1 - 1e-12) <= received <= budget * (1 + 1e-12) + read_bytes


def test_bursty_reads_and_pauses_in_turn() -> None:
    consumer = Bursty(read_s=0.2, pause_s=0.3)

    answers = [wants_to_read(consumer, elapsed_ns=at * 100 * MS, received_bytes=0) for at in range(10)]

    assert answers == [True, True, False, False, False] * 2


def test_stuck_never_reads_again_after_its_time() -> None:
    consumer = Stuck(after_s=1.5)

    assert wants_to_read(consumer, elapsed_ns=1_500 * MS - 1, received_bytes=0)
    assert not any(wants_to_read(consumer, elapsed_ns=at * 500 * MS, received_bytes=0) for at in range(3, 100))


@given(connections=st.integers(1, 2000), ratio=st.floats(0.0, 1.0), seed=st.integers(-10, 10))
def test_selected_is_exactly_the_share_of_different_connections(connections: int, ratio: float, seed: int) -> None:
    chosen = selected(connections, ratio, seed)

    assert len(chosen) == round(ratio * connections)
    assert (np.diff(chosen) > 0).all()
    assert not len(chosen) or (chosen[0] >= 0 and chosen[-1] < connections)
    assert np.array_equal(chosen, selected(connections, ratio, seed))


def test_selected_another_seed_chooses_others() -> None:
    assert not np.array_equal(selected(1000, 0.1, seed=1), selected(1000, 0.1, seed=2))
