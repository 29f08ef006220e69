"""Publications: what was acknowledged is kept exactly, and a window never requires what cannot be proven to lie in it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.core.errors import HarnessBugError
from floodmark.ledger import publications as publications_module
from floodmark.ledger.inbox import NEVER_NS
from floodmark.ledger.publications import Publications

from .model import play

PLAYS = {
    "seed": st.integers(0, 2**32),
    "count": st.integers(0, 150),
    "trouble_ratio": st.sampled_from([0.0, 0.05, 0.5]),
    "in_flight": st.integers(0, 8),
}


@settings(deadline=None)
@given(bound=st.sampled_from([4, 64, 2048]), **PLAYS)
def test_index_any_history_counts_like_a_list(bound: int, seed: int, count: int, trouble_ratio: float, in_flight: int) -> None:
    publications = Publications(publishers=3)
    publications.checkpoint_bound = bound
    logs = {p: play(publications, p, seed + p, count, trouble_ratio=trouble_ratio, in_flight=in_flight) for p in (0, 2)}
    index = publications.index()

    for publisher, log in logs.items():
        numbers = np.arange(count + 1)
        owners = np.full(count + 1, publisher)
        acknowledged = [sum(sent.ack_ns is not None for sent in log[:n]) for n in range(count + 1)]
        assert index.acknowledged_below(owners, numbers).tolist() == acknowledged
        assert index.attempted_below(owners, numbers).tolist() == [sum(not sent.unsent for sent in log[:n]) for n in range(count + 1)]
    everything = [sent for log in logs.values() for sent in log]
    assert publications.acknowledged_count == sum(sent.ack_ns is not None for sent in everything)
    assert publications.dropped_by_us_count == sum(sent.unsent for sent in everything)
    assert publications.attempted_count == sum(not sent.unsent for sent in everything)
    assert all(len(points.seqs) < bound for kind in (publications.sent_points, publications.ack_points) for points in kind.values())


@settings(max_examples=300, deadline=None)
@given(bound=st.sampled_from([4, 64, 2048]), opened_ns=st.integers(990, 1400), length_ns=st.integers(0, 300), **PLAYS)
def test_window_any_history_requires_only_what_lies_inside(
    bound: int, opened_ns: int, length_ns: int, seed: int, count: int, trouble_ratio: float, in_flight: int
) -> None:
    publications = Publications(publishers=1)
    publications.checkpoint_bound = bound
    log = play(publications, 0, seed, count, trouble_ratio=trouble_ratio, in_flight=in_flight)
    closed_ns = opened_ns + length_ns

    window = publications.index().window(np.array([0]), np.array([opened_ns]), np.array([closed_ns]))

    required = range(int(window.required_low[0]), int(window.required_high[0]))
    possible = range(int(window.possible_low[0]), int(window.possible_high[0]))
    for seq in required:
        sent = log[seq]
        assert sent.ack_ns is None or (sent.sent_ns > opened_ns and sent.ack_ns < closed_ns)
        assert seq in possible
    if length_ns:
        for seq, sent in enumerate(log):
            if not sent.unsent and sent.sent_ns < closed_ns and sent.ack_ns is not None and sent.ack_ns >= opened_ns:
                assert seq in possible


def test_window_in_order_is_exact_to_the_message() -> None:
    publications = Publications(publishers=1)
    for seq in range(100):
        publications.sent(0, publications.next_seq(0), 10 * seq)
        publications.acknowledged(0, seq, 10 * seq + 5)

    window = publications.index().window(np.array([0, 0]), np.array([200, -1]), np.array([405, NEVER_NS]))

    assert window.required_low.tolist() == [21, 0]
    assert window.required_high.tolist() == [40, 100]


def test_window_of_a_slot_never_activated_requires_nothing() -> None:
    publications = Publications(publishers=1)
    publications.sent(0, publications.next_seq(0), 5)
    publications.acknowledged(0, 0, 6)

    window = publications.index().window(np.array([0]), np.array([NEVER_NS]), np.array([NEVER_NS]))

    assert window.required_high.tolist() == window.required_low.tolist()


def test_failed_then_acknowledged_stays_indeterminate() -> None:
    publications = Publications(publishers=1)
    seq = publications.next_seq(0)
    publications.sent(0, seq, 1)

    publications.failed(0, seq)
    publications.acknowledged(0, seq, 2)

    assert (publications.acknowledged_count, publications.failed_count, publications.ignored_count) == (0, 1, 1)
    assert publications.index().acknowledged_below(np.array([0]), np.array([1])).tolist() == [0]


def test_acknowledged_range_counts_only_what_is_new() -> None:
    publications = Publications(publishers=1)
    publications.next_seqs(0, 10)

    publications.acknowledged_range(0, 2, 5, 1)
    publications.acknowledged_range(0, 0, 10, 2)

    assert (publications.acknowledged_count, publications.ignored_count, publications.resolved_end[0]) == (10, 3, 10)
    assert publications.early == {}


def test_many_failures_stay_within_the_bound_and_accuse_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publications_module, "RANGES_PER_PUBLISHER", 50)
    publications = Publications(publishers=1)
    rng = random.Random(1)
    acknowledged = set()

    for seq in range(5000):
        publications.sent(0, publications.next_seq(0), seq)
        match rng.randrange(4):
            case 0:
                publications.failed(0, seq)
            case 1:
                publications.never_sent(0, seq)
            case 2:
                publications.acknowledged(0, seq, seq)
                acknowledged.add(seq)

    below = publications.index().acknowledged_below(np.zeros(5001, np.int64), np.arange(5001))
    assert set(np.flatnonzero(np.diff(below)).tolist()) <= acknowledged
    assert all(len(kind[0]) <= 51 for kind in (publications.early, publications.failures, publications.unsent))


def test_ten_thousand_publishers_of_one_message_keep_little_state() -> None:
    publications = Publications(publishers=10_000)

    for publisher in range(10_000):
        publications.sent(publisher, publications.next_seq(publisher), 1)
        publications.acknowledged(publisher, 0, 2)

    assert not publications.early
    assert not publications.failures
    assert publications.checkpoint_bound * 10_000 * 32 < 200_000_000


def test_acknowledged_sequence_nobody_handed_out_is_our_bug() -> None:
    publications = Publications(publishers=1)
    publications.acknowledged(0, 0, 1)

    with pytest.raises(HarnessBugError, match="only 0 were handed out"):
        publications.index()
