"""The end of a dropped socket's window: what was passed over is lost, what was on its way is nobody's, against the slow model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.ledger.accounts import Accounts
from floodmark.ledger.publications import Publications
from floodmark.ledger.reconcile import reconcile
from floodmark.model.finding import Guarantee, Order
from floodmark.model.result import Delivery

from .conftest import RUN, WARMUP_RUN, make
from .model import Sent, play

IN_FLIGHT_NS = 100


def published(count: int) -> Publications:
    """One publisher: message n is sent at 1000 + 10 n and acknowledged 5 ns later."""
    publications = Publications(publishers=1)
    for seq in range(count):
        publications.sent(0, publications.next_seq(0), 1000 + 10 * seq)
        publications.acknowledged(0, seq, 1005 + 10 * seq)
    return publications


def dropped(publications: Publications, seen: list[int], *, at_ns: int, active_ns: int = 0, order: Order = Order.PER_PUBLISHER) -> Delivery:
    """The account of one subscription that saw these and was dropped then."""
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=1)
    slot = accounts.open(0, active_ns)
    accounts.receive(make([(slot, 0, seq, True) for seq in seen]))
    accounts.close(slot, at_ns - IN_FLIGHT_NS, dropped_ns=at_ns)
    accounts = Accounts.from_wire(accounts.to_wire())
    return reconcile(publications, accounts, guarantee=Guarantee.EXACTLY_ONCE, order=order).delivery


def test_dropped_what_was_on_its_way_at_the_drop_is_not_required() -> None:
    delivery = dropped(published(100), list(range(45)), at_ns=1500)  # acknowledged to 49; 40 to 49 within the last 100 ns

    assert (delivery.lost, delivery.delivered) == (0, 45)


def test_dropped_what_was_passed_over_is_lost_though_it_was_acknowledged_a_moment_before() -> None:
    delivery = dropped(published(100), [*range(42), 45], at_ns=1500)

    assert (delivery.lost, delivery.delivered) == (3, 43)


def test_dropped_without_a_promise_of_order_nothing_is_passed_over() -> None:
    delivery = dropped(published(100), [*range(42), 45], at_ns=1500, order=Order.NONE)

    assert (delivery.lost, delivery.delivered) == (0, 43)


def test_dropped_a_sequence_that_nobody_sent_moves_nothing() -> None:
    delivery = dropped(published(100), [*range(42), 500], at_ns=1500)

    assert (delivery.lost, delivery.unexpected) == (0, 1)


def test_dropped_what_was_acknowledged_after_the_drop_is_not_required_whatever_was_seen() -> None:
    delivery = dropped(published(100), [*range(50), 60], at_ns=1500)

    assert (delivery.lost, delivery.delivered) == (0, 51)


@pytest.mark.parametrize(("seen", "lost"), [([], 0), ([43, 44], 0), ([43, 46], 2), ([46], 3)])
def test_dropped_soon_after_it_was_active_owes_only_what_lies_between(seen: list[int], lost: int) -> None:
    """Active at 1425: 43 is the first one sent after that. The window would close before it opened, but what was seen proves the rest."""
    assert dropped(published(100), seen, at_ns=1500, active_ns=1425).lost == lost


@st.composite
def courses(draw: st.DrawFn, *, trouble_ratio: float) -> tuple[Publications, list[list[Sent]], random.Random]:
    seed, count = draw(st.integers(0, 2**32)), draw(st.integers(0, 60))
    publications = Publications(publishers=2)
    publications.checkpoint_bound = 2048 if not trouble_ratio else draw(st.sampled_from([4, 2048]))
    in_flight = draw(st.integers(0, 6))
    logs = [play(publications, p, seed + p, count, trouble_ratio=trouble_ratio, in_flight=in_flight) for p in range(2)]
    return publications, logs, random.Random(seed)


edges = st.tuples(st.integers(990, 1150), st.integers(0, 150), st.integers(0, 80))  # active, closed after that, dropped after that


@settings(max_examples=300, deadline=None)
@given(course=courses(trouble_ratio=0.0), edge=edges, lost_ratio=st.sampled_from([0.0, 0.1, 0.6]), order=st.sampled_from(Order))
def test_dropped_any_losses_agree_with_the_slow_model(
    course: tuple[Publications, list[list[Sent]], random.Random], edge: tuple[int, int, int], lost_ratio: float, order: Order
) -> None:
    publications, logs, rng = course
    active_ns, closed_ns, dropped_ns = edge[0], edge[0] + edge[1], edge[0] + edge[1] + edge[2]
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=2)
    slot = accounts.open(0, active_ns)
    accounts.close(slot, closed_ns, dropped_ns=dropped_ns)
    lost = 0
    for publisher, log in enumerate(logs):
        last = rng.randrange(len(log) + 1)
        seen = [seq for seq in range(last) if rng.random() >= lost_ratio]
        accounts.receive(make([(slot, publisher, seq, True) for seq in seen]))
        for seq, sent in enumerate(log):
            assert sent.ack_ns is not None
            in_window = active_ns < sent.sent_ns and sent.ack_ns < closed_ns
            passed = order is Order.PER_PUBLISHER and active_ns < sent.sent_ns and sent.ack_ns < dropped_ns and seq < max(seen, default=-1)
            lost += seq not in seen and (in_window or passed)

    delivery = reconcile(publications, accounts, guarantee=Guarantee.EXACTLY_ONCE, order=order).delivery

    assert delivery.lost == lost


@settings(max_examples=300, deadline=None)
@given(course=courses(trouble_ratio=0.3), edge=edges, back=st.integers(0, 60))
def test_dropped_an_honest_system_is_never_accused(
    course: tuple[Publications, list[list[Sent]], random.Random], edge: tuple[int, int, int], back: int
) -> None:
    """It delivers all that it acknowledged from the opening on, in order, and the end of that was in the socket when it was dropped."""
    publications, logs, _ = course
    active_ns, closed_ns, dropped_ns = edge[0], edge[0] + edge[1], edge[0] + edge[1] + edge[2]
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=2)
    slot = accounts.open(0, active_ns)
    accounts.close(slot, closed_ns, dropped_ns=dropped_ns)
    for publisher, log in enumerate(logs):
        owed = [seq for seq, sent in enumerate(log) if sent.ack_ns is not None and sent.sent_ns > active_ns]
        sure = [seq for seq in owed if (log[seq].ack_ns or 0) < closed_ns]
        until = max(len(owed) - back, owed.index(sure[-1]) + 1 if sure else 0)
        accounts.receive(make([(slot, publisher, seq, True) for seq in owed[:until]]))

    reckoning = reconcile(publications, accounts, guarantee=Guarantee.EXACTLY_ONCE, order=Order.PER_PUBLISHER)

    assert reckoning.delivery.lost == 0
    assert not [finding for finding in reckoning.findings if finding.violation]
