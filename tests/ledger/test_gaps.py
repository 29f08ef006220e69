"""What was sent while a subscriber was away: indeterminate, never lost, and counted once where the next window does not cover it too."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from floodmark.ledger.accounts import Accounts
from floodmark.ledger.inbox import NEVER_NS
from floodmark.ledger.publications import Publications
from floodmark.ledger.reconcile import reconcile
from floodmark.ledger.wire import accounts_from_wire, accounts_to_wire, merge_accounts
from floodmark.model.finding import Guarantee, Order

STEP_NS = 1000
COUNT = 40


def published() -> Publications:
    """One message a step, acknowledged half a step later."""
    publications = Publications(publishers=1)
    for seq in range(COUNT):
        assert publications.next_seq(0) == seq
        publications.sent(0, seq, seq * STEP_NS)
        publications.acknowledged(0, seq, seq * STEP_NS + STEP_NS // 2)
    return publications


@given(closed=st.integers(0, COUNT), away=st.integers(0, COUNT))
def test_gap_is_indeterminate_from_the_closing_to_the_return(closed: int, away: int) -> None:
    """The first window ends just before message `closed` is sent; the subscriber is back before `closed + away`."""
    back = min(closed + away, COUNT)
    accounts = Accounts(run=2, warmup_run=3, channels=1, publishers=1)
    slot = accounts.open(0, active_ns=-1)
    accounts.close(slot, closed * STEP_NS - 1)
    accounts.missed(slot, back * STEP_NS - 1)
    accounts.open(0, active_ns=back * STEP_NS - 1)

    delivery = reconcile(published(), accounts, guarantee=Guarantee.EXACTLY_ONCE, order=Order.PER_PUBLISHER).delivery

    assert delivery.indeterminate == back - closed
    assert delivery.lost == COUNT - (back - closed)  # nothing was delivered at all, so all that was required is lost
    assert delivery.attempted == COUNT


def test_gap_without_an_end_lasts_to_the_end() -> None:
    accounts = Accounts(run=2, warmup_run=3, channels=1, publishers=1)
    accounts.close(accounts.open(0, active_ns=-1), 10 * STEP_NS - 1)
    accounts.missed(0, NEVER_NS)

    delivery = reconcile(published(), accounts, guarantee=Guarantee.EXACTLY_ONCE, order=Order.PER_PUBLISHER).delivery

    assert (delivery.lost, delivery.indeterminate) == (10, COUNT - 10)


def test_gap_travels_between_processes() -> None:
    parts = []
    for until_ns in (7, 0):
        accounts = Accounts(run=2, warmup_run=3, channels=1, publishers=1)
        accounts.close(accounts.open(0, active_ns=0), 5)
        accounts.missed(0, until_ns)
        parts.append(accounts_from_wire(accounts_to_wire(accounts)))

    assert np.array_equal(merge_accounts(parts).missed_ns[:2], [7, 0])
