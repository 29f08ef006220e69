"""Between processes: what comes out counts as what went in, and the parts merged are the whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.publications import Publications
from floodmark.ledger.reconcile import reconcile
from floodmark.model.finding import Guarantee, Order

from .conftest import RUN, WARMUP_RUN, Row, make
from .model import play

CHANNELS, PUBLISHERS, SLOTS = 2, 4, 6


def troubled_rows(seed: int, count: int) -> list[Row]:
    """Deliveries to all slots with every kind of fault."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for seq in range(count):
        for slot in range(SLOTS):
            for publisher in range(slot % CHANNELS, PUBLISHERS, CHANNELS):
                row = (slot, publisher, seq, True)
                match rng.choice(["", "", "", "", "drop", "twice", "late", "damage", "head", "misroute"]):
                    case "drop":
                        continue
                    case "twice":
                        rows.extend([row, row])
                    case "late":
                        rows.insert(rng.randrange(len(rows) + 1), row)
                    case "damage":
                        rows.append((*row[:3], False))
                    case "head":
                        rows.append((slot, 99, seq, False))
                    case "misroute":
                        rows.append(((slot + 1) % SLOTS, publisher, seq, True))
                    case _:
                        rows.append(row)
    return rows


def accounts_of(slots: range, rows: list[Row], *, holes_per_account: int = 4096) -> Accounts:
    """What the agent with these slots has counted."""
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=CHANNELS, publishers=PUBLISHERS, holes_per_account=holes_per_account)
    accounts.open_many([slot % CHANNELS for slot in slots], active_ns=0)
    for slot in range(len(slots)):
        accounts.close(slot, 1000 + 10 * (slot + slots[0]))
    accounts.receive(make([(slots[0] - slots.start, slots[0] % CHANNELS, 0, True)], run=WARMUP_RUN))
    accounts.receive(make([(row[0] - slots.start, *row[1:]) for row in rows if row[0] in slots]))
    return accounts


def publications_of(publishers: list[int], seed: int, count: int) -> Publications:
    publications = Publications(publishers=PUBLISHERS)
    for publisher in publishers:
        play(publications, publisher, seed + publisher, count, trouble_ratio=0.2, in_flight=4)
    return publications


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 40), holes_per_account=st.sampled_from([2, 4096]))
def test_wire_and_merge_any_run_equals_one_process(seed: int, count: int, holes_per_account: int) -> None:
    rows = troubled_rows(seed, count)
    whole = accounts_of(range(SLOTS), rows, holes_per_account=holes_per_account)
    parts = [accounts_of(slots, rows, holes_per_account=holes_per_account) for slots in (range(3), range(3, 5), range(5, 6))]

    accounts = Accounts.merge([Accounts.from_wire(part.to_wire()) for part in parts])
    publications = Publications.merge(
        [Publications.from_wire(publications_of(publishers, seed, count).to_wire()) for publishers in ([0, 2], [], [1, 3])]
    )
    one = reconcile(publications_of([0, 1, 2, 3], seed, count), whole, guarantee=Guarantee.EXACTLY_ONCE, order=Order.PER_PUBLISHER)
    many = reconcile(publications, accounts, guarantee=Guarantee.EXACTLY_ONCE, order=Order.PER_PUBLISHER)

    assert many == one
    assert accounts.seen[: accounts.slots].sum() == accounts.seen_count == len(parts)
    assert accounts.received_count == whole.received_count
    assert accounts.holes_count == whole.holes_count


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 40), cut=st.integers(0, 400))
def test_wire_half_way_can_go_on_counting(seed: int, count: int, cut: int) -> None:
    rows = troubled_rows(seed, count)
    straight, moved = accounts_of(range(SLOTS), rows), accounts_of(range(SLOTS), rows[:cut])

    moved = Accounts.from_wire(moved.to_wire())
    moved.receive(make(rows[cut:]))
    moved.open(1)
    straight.open(1)

    assert moved.to_wire() == straight.to_wire()


def test_publications_half_way_can_go_on_counting() -> None:
    straight = publications_of([0], 1, 50)
    moved = Publications.from_wire(publications_of([0], 1, 50).to_wire())

    for publications in (straight, moved):
        for _ in range(3000):
            seq = publications.next_seq(0)
            publications.sent(0, seq, 10_000 + seq)
            publications.acknowledged(0, seq, 10_001 + seq)

    assert moved.to_wire() == straight.to_wire()


def test_merge_of_one_publisher_in_two_agents_is_our_bug() -> None:
    with pytest.raises(HarnessBugError, match="two agents published as publisher 1"):
        Publications.merge([publications_of([0, 1], 1, 5), publications_of([1], 1, 5)])


def test_merge_of_different_runs_is_refused() -> None:
    other = Accounts(run=RUN + 5, warmup_run=WARMUP_RUN, channels=CHANNELS, publishers=PUBLISHERS)

    with pytest.raises(UsageError, match="different runs"):
        Accounts.merge([accounts_of(range(2), []), other])
    with pytest.raises(UsageError, match="different populations"):
        Publications.merge([Publications(publishers=1), Publications(publishers=2)])


def test_merge_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one agent"):
        Accounts.merge([])
    with pytest.raises(UsageError, match="at least one agent"):
        Publications.merge([])
