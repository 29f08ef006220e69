"""Accounts: every class decided as the slow model decides it, whatever the batches; memory bounded."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger import accounts as accounts_module
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.holes import DAMAGED, DUPLICATED, MISSING, REORDERED, Holes

from .conftest import RUN, WARMUP_RUN, Deliver, Row, make
from .model import SlowAccounts

CHANNELS, PUBLISHERS, CHANNEL_OF = 2, 5, [0, 1, 0]


def one_slot() -> Accounts:
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=1)
    accounts.open(0, active_ns=0)
    return accounts


def received(*seqs: int, damaged: tuple[int, ...] = ()) -> Accounts:
    """Receive sequences one batch each; those in `damaged` are positions that are not intact."""
    accounts = one_slot()
    for i, seq in enumerate(seqs):
        accounts.receive(make([(0, 0, seq, i not in damaged)]))
    return accounts


ROWS = st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 12), st.integers(0, 6).map(bool))


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Mostly what an honest system delivers, with drops, repeats, late ones, damage and misroutes mixed in; or anything at all."""
    if draw(st.booleans()):
        return draw(st.lists(ROWS, max_size=80))
    rng = random.Random(draw(st.integers(0, 2**32)))
    fault_ratio = draw(st.sampled_from([0.0, 0.02, 0.3]))
    served = [(slot, p) for slot, channel in enumerate(CHANNEL_OF) for p in range(channel, PUBLISHERS, CHANNELS)]
    rows = [(slot, publisher, seq, True) for seq in range(draw(st.integers(0, 60))) for slot, publisher in served]
    out: list[Row] = []
    for slot, publisher, seq, _ in rows:
        fault = rng.choice(["drop", "twice", "late", "damage", "flip", "misroute"]) if rng.random() < fault_ratio else ""
        match fault:
            case "drop":
                continue
            case "late" if out:
                out.insert(rng.randrange(len(out)), (slot, publisher, seq, True))
            case "damage":
                out.append((slot, publisher, seq, False))
            case "flip":
                out.append((slot, publisher ^ (1 << rng.randrange(3)), seq ^ (1 << rng.randrange(4)), False))
            case "misroute":
                out.append((rng.randrange(3), publisher, seq, True))
            case _:
                out.extend([(slot, publisher, seq, True)] * (1 + (fault == "twice")))
    return out


@settings(max_examples=300, deadline=None)
@given(rows=streams(), cuts=st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_receive_any_stream_in_any_batches_agrees_with_the_slow_model(rows: list[Row], cuts: list[int]) -> None:
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=CHANNELS, publishers=PUBLISHERS)
    accounts.open_many(CHANNEL_OF, active_ns=0)
    slow = SlowAccounts(CHANNELS, PUBLISHERS, CHANNEL_OF)

    at = turn = 0
    while at < len(rows):
        size = cuts[turn % len(cuts)]
        accounts.receive(make(rows[at : at + size]))
        at, turn = at + size, turn + 1
    for row in rows:
        slow.receive(*row)

    for slot, channel in enumerate(CHANNEL_OF):
        for publisher in range(channel, PUBLISHERS, CHANNELS):
            account, expected = slot * accounts.ranks + publisher // CHANNELS, slow.of(slot, publisher)
            holes = accounts.holes.get(account, Holes())
            spans = list(zip(holes.starts, holes.ends, holes.kinds, strict=True))
            assert accounts.next_seq[account] == expected.next_seq
            assert accounts.delivered[account] == len(expected.delivered)
            assert {n for a, b, kind in spans if kind == DAMAGED for n in range(a, b)} == expected.damaged
            gone = set(range(expected.next_seq)) - expected.delivered - expected.damaged
            assert {n for a, b, kind in spans if kind == MISSING for n in range(a, b)} == gone
            assert (holes.tally(DUPLICATED).count, holes.tally(REORDERED).count) == (expected.duplicated, expected.reordered)
    assert accounts.anonymous[:3].tolist() == slow.anonymous
    assert (accounts.unexpected_count, accounts.corrupted_count) == (slow.unexpected, slow.corrupted)
    assert accounts.received_count == len(rows)
    assert accounts.holes_count == sum(len(holes.starts) for holes in accounts.holes.values())


def test_receive_in_order_opens_no_state() -> None:
    accounts = received(0, 1, 2)
    accounts.receive(make([(0, 0, seq, True) for seq in range(3, 100)]))

    assert accounts.holes == {}
    assert (accounts.next_seq[0], accounts.delivered[0], accounts.delivered_count) == (100, 100, 100)


def test_receive_gap_then_late_one_is_reordered_not_duplicated() -> None:
    accounts = received(0, 2, 1)

    assert (accounts.delivered_count, accounts.reordered_count, accounts.duplicated_count) == (3, 1, 0)


def test_receive_again_is_duplicated() -> None:
    accounts = received(0, 1, 1, 0)

    assert (accounts.delivered_count, accounts.duplicated_count, accounts.reordered_count) == (2, 2, 0)


def test_receive_damaged_next_fills_its_sequence() -> None:
    accounts = received(0, 1, 2, damaged=(1,))

    assert (accounts.delivered_count, accounts.corrupted_count, accounts.anonymous[0], accounts.next_seq[0]) == (2, 1, 0, 3)


def test_receive_intact_after_a_damaged_head_took_its_place_is_delivered() -> None:
    accounts = received(0, 1, 1, damaged=(1,))

    assert (accounts.delivered_count, accounts.duplicated_count, accounts.reordered_count, accounts.anonymous[0]) == (2, 0, 0, 1)


@pytest.mark.parametrize(("row", "run", "readable", "why"), [
    ((0, 1, 0, True), RUN, True, accounts_module.WRONG_CHANNEL),
    ((0, 9, 0, True), RUN, True, accounts_module.UNKNOWN_PUBLISHER),
    ((0, 0, 0, True), 99, True, accounts_module.FOREIGN_RUN),
    ((0, -1, -1, False), -1, False, accounts_module.UNREADABLE),
])  # fmt: skip
def test_receive_what_belongs_elsewhere_is_unexpected(deliver: Deliver, row: Row, run: int, readable: bool, why: int) -> None:
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=2, publishers=2)
    accounts.open_many([0, 1], active_ns=0)

    accounts.receive(deliver([row], run=run, readable=readable))

    assert (accounts.unexpected_count, accounts.delivered_count, accounts.corrupted_count) == (1, 0, 0)
    assert list(accounts.unexpected) == [(0, why)]


def test_receive_warmup_only_marks_the_slot_as_seen(deliver: Deliver) -> None:
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=1)
    accounts.open_many([0, 0, 0], active_ns=0)

    accounts.receive(deliver([(1, 0, 5, True), (1, 0, 5, True), (2, 0, 0, True)], run=WARMUP_RUN))

    assert accounts.seen[:3].tolist() == [False, True, True]
    assert (accounts.seen_count, accounts.received_count, accounts.delivered_count, accounts.unexpected_count) == (2, 0, 0, 0)


def test_receive_million_random_gaps_stays_within_its_bound() -> None:
    accounts = one_slot()
    rng = random.Random(1)
    seqs, seq = [], 0
    for _ in range(1_000_000):
        seq += rng.choice((1, 2, 3))
        seqs.append(seq)

    for at in range(0, len(seqs), 10_000):
        accounts.receive(make([(0, 0, n, True) for n in seqs[at : at + 10_000]]))

    holes = accounts.holes[0]
    assert len(holes.starts) == accounts.holes_per_account
    assert sum(sys.getsizeof(column) for column in (holes.starts, holes.ends, holes.kinds)) < 200_000
    assert accounts.delivered_count == 1_000_000
    still = sum(holes.ends) - sum(holes.starts)
    assert holes.missing_written_off + still == seq + 1 - 1_000_000


def test_receive_many_accounts_full_of_holes_share_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_module, "HOLES_TOTAL", 200)
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=1)
    accounts.open_many([0] * 100, active_ns=0)

    for seq in range(1, 200, 2):
        accounts.receive(make([(slot, 0, seq, True) for slot in range(100)]))

    assert accounts.holes_count <= 200 + 100 * accounts_module.HOLES_WHEN_FULL


def test_open_beyond_capacity_keeps_the_counts() -> None:
    accounts = received(0, 1, 2)

    first = accounts.open_many([0] * 1000, active_ns=5)

    assert (first, accounts.slots) == (1, 1001)
    assert (accounts.next_seq[0], accounts.active_ns[0], accounts.active_ns[1000], accounts.next_seq[1000]) == (3, 0, 5, 0)


def test_receive_for_a_slot_never_opened_is_our_bug() -> None:
    with pytest.raises(HarnessBugError, match="only 1 were opened"):
        one_slot().receive(make([(1, 0, 0, True)]))


def test_accounts_with_fewer_publishers_than_channels_are_refused() -> None:
    with pytest.raises(UsageError, match="3 channels and 2 publishers"):
        Accounts(run=1, warmup_run=2, channels=3, publishers=2)


def test_open_of_a_channel_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="channel must be"):
        one_slot().open(1)


def test_receive_in_order_behind_damaged_strays_is_not_reordered() -> None:
    accounts = received(0, 1, 2, 3, 1, 2, 3, 4, damaged=(1, 2, 3))

    assert (accounts.delivered_count, accounts.corrupted_count, accounts.reordered_count, accounts.anonymous[0]) == (5, 3, 0, 3)


def test_receive_behind_damaged_strays_and_an_intact_one_is_reordered() -> None:
    accounts = received(0, 1, 2, 3, 4, 2, damaged=(1, 2, 3))

    assert (accounts.delivered_count, accounts.reordered_count) == (3, 1)
