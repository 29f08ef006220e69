"""Publications lost with their agent: indeterminate as far as they were seen, and nobody is accused by them."""

from __future__ import annotations

import pytest

from floodmark.core.errors import HarnessBugError
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.inbox import NEVER_NS
from floodmark.ledger.orphans import adopt
from floodmark.ledger.publications import Publications
from floodmark.ledger.reconcile import Reckoning, reconcile
from floodmark.model.finding import Anomaly, Guarantee, Order
from tests.ledger.conftest import RUN, WARMUP_RUN, make

Rows = list[tuple[int, int, int, bool]]


def reckoned(rows: Rows, *, orphans: tuple[int, ...], sent: int = 3) -> Reckoning:
    """Publisher 0 sent `sent` messages and its account is there; of publisher 1 there is only what two subscriptions received."""
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=2)
    accounts.open_many([0, 0], active_ns=1)
    accounts.receive(make(rows))
    publications = Publications(publishers=2)
    for _ in range(sent):
        seq = publications.next_seq(0)
        publications.sent(0, seq, 10)
        publications.acknowledged(0, seq, 11)
    adopt(publications, accounts, orphans)
    windows = [("before", 0, 15), ("after", 15, NEVER_NS)]
    return reconcile(publications, accounts, guarantee=Guarantee.EXACTLY_ONCE, order=Order.PER_PUBLISHER, windows=windows)


WHOLE: Rows = [(slot, 0, seq, True) for slot in (0, 1) for seq in range(3)]


def test_without_its_account_a_publisher_would_be_one_that_never_sent() -> None:
    reckoning = reckoned([*WHOLE, (0, 1, 0, True)], orphans=())

    assert reckoning.delivery.unexpected == 1


def test_orphans_that_arrived_are_delivered_and_what_only_some_saw_is_indeterminate() -> None:
    reckoning = reckoned([*WHOLE, (0, 1, 0, True), (0, 1, 1, True), (1, 1, 0, True)], orphans=(1,))

    assert reckoning.delivery.unexpected == 0
    assert reckoning.delivery.lost == 0
    assert reckoning.delivery.delivered == 9
    assert reckoning.delivery.indeterminate == 1
    assert reckoning.findings == ()


def test_orphans_that_came_twice_are_still_the_targets_doing() -> None:
    reckoning = reckoned([*WHOLE, (0, 1, 0, True), (0, 1, 0, True)], orphans=(1,))

    assert [finding.anomaly for finding in reckoning.findings] == [Anomaly.DUPLICATED]


def test_orphans_hide_no_loss_of_a_publisher_whose_account_is_there() -> None:
    reckoning = reckoned([*WHOLE[:-1], (0, 1, 5, True)], orphans=(1,))

    assert reckoning.delivery.lost == 1
    assert reckoning.delivery.delivered == 6


def test_orphans_that_nobody_received_change_nothing() -> None:
    assert reckoned(WHOLE, orphans=(1,)) == reckoned(WHOLE, orphans=())


def test_publisher_with_an_account_is_no_orphan() -> None:
    with pytest.raises(HarnessBugError, match="publisher 0 has an account of its own"):
        reckoned(WHOLE, orphans=(0,))
