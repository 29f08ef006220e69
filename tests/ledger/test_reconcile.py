"""Reconciling: each planted fault is found with its exact count, nobody honest is accused, and nothing is counted twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.decode import decode
from floodmark.ledger.inbox import NEVER_NS
from floodmark.ledger.publications import Publications
from floodmark.ledger.reconcile import Reckoning, reconcile
from floodmark.ledger.stamp import Encoding, Stamper
from floodmark.model.finding import Anomaly, Guarantee, Order
from floodmark.model.result import Delivery

from .conftest import RUN, WARMUP_RUN, Row, make
from .model import Sent, SlowAccounts, play

CHANNELS, PUBLISHERS, CHANNEL_OF = 2, 5, [0, 1, 0]
SERVED = [(slot, p) for slot, channel in enumerate(CHANNEL_OF) for p in range(channel, PUBLISHERS, CHANNELS)]
CLASSES = ("lost", "duplicated", "reordered", "corrupted", "unexpected", "indeterminate")


def judge(
    publications: Publications,
    accounts: Accounts,
    guarantee: Guarantee = Guarantee.EXACTLY_ONCE,
    order: Order = Order.PER_PUBLISHER,
    findings_limit: int = 1000,
) -> Reckoning:
    return reconcile(publications, accounts, guarantee=guarantee, order=order, findings_limit=findings_limit)


def opened(active_ns: int = 0, *, holes_per_account: int = 4096) -> Accounts:
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=CHANNELS, publishers=PUBLISHERS, holes_per_account=holes_per_account)
    accounts.open_many(CHANNEL_OF, active_ns)
    return accounts


def published(count: int) -> Publications:
    """Every publisher sends `count` messages, message seq at 1000 + 10 * seq, acknowledged 5 ns later."""
    publications = Publications(publishers=PUBLISHERS)
    for seq in range(count):
        for publisher in range(PUBLISHERS):
            publications.sent(publisher, publications.next_seq(publisher), 1000 + 10 * seq)
        for publisher in range(PUBLISHERS):
            publications.acknowledged(publisher, seq, 1005 + 10 * seq)
    return publications


def rows_of(count: int) -> list[Row]:
    return [(slot, publisher, seq, True) for seq in range(count) for slot, publisher in SERVED]


def counts(delivery: Delivery) -> dict[str, int]:
    """Give the classes that are not 0."""
    return {name: getattr(delivery, name) for name in CLASSES if getattr(delivery, name)}


def test_reconcile_empty_run_shows_that_nothing_was_delivered() -> None:
    reckoning = judge(Publications(publishers=PUBLISHERS), opened())

    assert reckoning == Reckoning(delivery=Delivery(), findings=(), truncated=False)


def test_reconcile_no_subscriptions_gives_zeros() -> None:
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=CHANNELS, publishers=PUBLISHERS)

    assert judge(published(5), accounts).delivery == Delivery()


def test_reconcile_silent_system_loses_everything() -> None:
    reckoning = judge(published(10), opened())

    assert reckoning.delivery == Delivery(attempted=80, acknowledged=80, lost=80)
    assert [finding.count for finding in reckoning.findings] == [10] * len(SERVED)


def test_reconcile_honest_run_has_no_findings() -> None:
    accounts = opened()
    accounts.receive(make(rows_of(50)))

    reckoning = judge(published(50), accounts)

    assert reckoning == Reckoning(delivery=Delivery(attempted=400, acknowledged=400, delivered=400), findings=(), truncated=False)


FAULTS: dict[str, tuple[list[Row], dict[str, int]]] = {
    "lose two of one account": ([r for r in rows_of(20) if r[:3] not in {(0, 2, 5), (0, 2, 6)}], {"lost": 2}),
    "lose the last one": ([r for r in rows_of(20) if r[:3] != (1, 3, 19)], {"lost": 1}),
    "lose the first one": ([r for r in rows_of(20) if r[:3] != (1, 3, 0)], {"lost": 1}),
    "deliver one three times": ([*rows_of(20), (0, 2, 5, True), (0, 2, 5, True)], {"duplicated": 2}),
    "deliver one late": ([*[r for r in rows_of(20) if r[:3] != (0, 2, 5)], (0, 2, 5, True)], {"reordered": 1}),
    "damage one body": ([(*r[:3], r[:3] != (0, 2, 5)) for r in rows_of(20)], {"corrupted": 1}),
    "damage one head": ([(0, 3, 7, False) if r[:3] == (0, 2, 5) else r for r in rows_of(20)], {"corrupted": 1}),
    "damage one sequence": ([(0, 2, 4, False) if r[:3] == (0, 2, 5) else r for r in rows_of(20)], {"corrupted": 1}),
    "misroute a copy": ([*rows_of(20), (1, 0, 3, True)], {"unexpected": 1}),
    "misroute one": ([(1, 0, 3, True) if r[:3] == (0, 0, 3) else r for r in rows_of(20)], {"unexpected": 1, "lost": 1}),
    "deliver what nobody sent": ([*rows_of(20), (0, 0, 20, True)], {"unexpected": 1}),
    "damage a copy and lose nothing": ([*rows_of(20), (0, 0, 20, False)], {"corrupted": 1}),
}


@pytest.mark.parametrize("batch_count", [1, 30, 1000])
@pytest.mark.parametrize("fault", FAULTS)
def test_reconcile_planted_fault_is_found_with_its_exact_count(fault: str, batch_count: int) -> None:
    rows, expected = FAULTS[fault]
    accounts = opened()

    for at in range(0, len(rows), batch_count):
        accounts.receive(make(rows[at : at + batch_count]))
    reckoning = judge(published(20), accounts)

    assert counts(reckoning.delivery) == expected
    assert {finding.anomaly.value for finding in reckoning.findings} == set(expected)
    assert sum(finding.count for finding in reckoning.findings) == sum(expected.values())
    assert all(finding.violation for finding in reckoning.findings)


def test_reconcile_loss_names_the_sequences_and_both_ends() -> None:
    accounts = opened()
    accounts.receive(make([r for r in rows_of(20) if r[:3] not in {(0, 2, 5), (0, 2, 6), (0, 2, 19)}]))

    (finding,) = judge(published(20), accounts).findings

    assert (finding.subscription, finding.channel, finding.publisher) == (0, 0, 2)
    assert (finding.count, finding.first_seq, finding.last_seq) == (3, 5, 19)
    assert "missing 5-6, 19" in finding.detail
    assert "acknowledged 20" in finding.detail


@pytest.mark.parametrize(
    ("guarantee", "order", "violations"),
    [
        (Guarantee.EXACTLY_ONCE, Order.PER_PUBLISHER, {"lost", "duplicated", "reordered"}),
        (Guarantee.AT_LEAST_ONCE, Order.PER_PUBLISHER, {"lost", "reordered"}),
        (Guarantee.AT_MOST_ONCE, Order.NONE, {"duplicated"}),
        (Guarantee.AT_LEAST_ONCE, Order.NONE, {"lost"}),
    ],
)
def test_reconcile_violation_depends_on_the_promise(guarantee: Guarantee, order: Order, violations: set[str]) -> None:
    rows = [r for r in rows_of(20) if r[:3] not in {(0, 2, 5), (0, 0, 3)}]
    accounts = opened()
    accounts.receive(make([*rows, (0, 2, 6, True), (0, 0, 3, True), (1, 0, 3, True), (1, 1, 9, False)]))

    findings = judge(published(20), accounts, guarantee, order).findings

    assert {finding.anomaly for finding in findings} == set(Anomaly)
    assert {finding.anomaly.value for finding in findings if finding.violation} == violations | {"corrupted", "unexpected"}


def test_reconcile_failed_and_unresolved_sends_are_indeterminate_and_ours_are_nobodys_loss() -> None:
    publications = Publications(publishers=1)
    for seq in range(10):
        publications.next_seq(0)
        if seq == 4:
            publications.never_sent(0, seq)
        else:
            publications.sent(0, seq, 100 + seq)
        if seq in {2, 3}:
            publications.failed(0, seq)
        elif seq not in {4, 9}:
            publications.acknowledged(0, seq, 200 + seq)
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=1)
    accounts.open(0, 0)
    accounts.receive(make([(0, 0, seq, True) for seq in (0, 1, 3, 5, 6, 7, 8)]))  # 3 arrived though its send failed

    delivery = judge(publications, accounts).delivery

    assert delivery == Delivery(attempted=9, acknowledged=6, delivered=7, indeterminate=2, dropped_by_us=1)


def test_reconcile_windows_leave_their_edges_indeterminate() -> None:
    publications = published(100)  # sent at 1000 + 10 n, acknowledged at 1005 + 10 n
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=CHANNELS, publishers=PUBLISHERS)
    slot = accounts.open(1)
    accounts.activate(slot, 1202)  # 20 is in flight
    accounts.close(slot, 1402)  # 40 is in flight

    delivery = judge(publications, accounts).delivery

    assert delivery == Delivery(attempted=2 * 21, acknowledged=2 * 19, lost=2 * 19, indeterminate=2 * 2)


def test_reconcile_late_joiner_with_history_replayed_is_not_accused() -> None:
    accounts = opened(active_ns=1500)
    accounts.receive(make(rows_of(100)))  # more than it was owed, and in order

    reckoning = judge(published(100), accounts)

    assert reckoning.findings == ()
    assert reckoning.delivery.delivered == 800
    assert reckoning.delivery.acknowledged == 49 * len(SERVED)


def test_reconcile_findings_beyond_the_limit_keep_every_class() -> None:
    rows = [r for r in rows_of(20) if r[2] != 5]
    accounts = opened()
    accounts.receive(make([*rows, (1, 1, 9, True)]))

    reckoning = judge(published(20), accounts, findings_limit=3)

    assert reckoning.truncated
    assert len(reckoning.findings) == 3
    assert {finding.anomaly for finding in reckoning.findings} == {Anomaly.LOST, Anomaly.DUPLICATED}
    assert (reckoning.delivery.lost, reckoning.delivery.duplicated) == (len(SERVED), 1)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Publications, list[list[Sent]], random.Random]:
    """What five publishers sent and had acknowledged, with trouble, and a source of chance for the system."""
    seed, count = draw(st.integers(0, 2**32)), draw(st.integers(0, 60))
    trouble_ratio, in_flight = draw(st.sampled_from([0.0, 0.05, 0.5])), draw(st.integers(0, 6))
    publications = Publications(publishers=PUBLISHERS)
    publications.checkpoint_bound = draw(st.sampled_from([4, 2048]))
    logs = [play(publications, p, seed + p, count, trouble_ratio=trouble_ratio, in_flight=in_flight) for p in range(PUBLISHERS)]
    return publications, logs, random.Random(seed)


@settings(max_examples=300, deadline=None)
@given(history=histories(), fault_ratio=st.sampled_from([0.0, 0.03, 0.4]), batch_count=st.integers(1, 100))
def test_reconcile_any_faults_in_whole_windows_agree_with_the_slow_model(
    history: tuple[Publications, list[list[Sent]], random.Random], fault_ratio: float, batch_count: int
) -> None:
    publications, logs, rng = history
    rows: list[Row] = []
    for seq in range(len(logs[0])):
        for slot, publisher in SERVED:
            if rng.random() >= fault_ratio:
                rows.extend([] if logs[publisher][seq].unsent else [(slot, publisher, seq, True)])
                continue
            match rng.choice(["drop", "twice", "late", "damage", "flip", "misroute", "ahead", "unsent"]):
                case "twice":
                    rows.extend([(slot, publisher, seq, True)] * 2)
                case "late":
                    rows.insert(rng.randrange(len(rows) + 1), (slot, publisher, seq, True))
                case "damage":
                    rows.append((slot, publisher, seq, False))
                case "flip":
                    rows.append((slot, publisher ^ (1 << rng.randrange(3)), seq ^ (1 << rng.randrange(6)), False))
                case "misroute":
                    rows.append((rng.randrange(3), publisher, seq, True))
                case "ahead":
                    rows.append((slot, publisher, seq + rng.randrange(70), True))
                case "unsent":
                    rows.append((slot, publisher, seq, True))
    accounts, slow = opened(), SlowAccounts(CHANNELS, PUBLISHERS, CHANNEL_OF)
    for at in range(0, len(rows), batch_count):
        accounts.receive(make(rows[at : at + batch_count]))
    for row in rows:
        slow.receive(*row)

    reckoning = judge(publications, accounts)

    expected = dict.fromkeys(("attempted", "acknowledged", "delivered", "missing", "damaged", "unexpected", "dropped_by_us"), 0)
    missing_of_slot = [0] * len(CHANNEL_OF)
    for slot, publisher in SERVED:
        account, log = slow.of(slot, publisher), logs[publisher]
        attempted = {seq for seq, sent in enumerate(log) if not sent.unsent}
        acknowledged = {seq for seq, sent in enumerate(log) if sent.ack_ns is not None}
        missing_of_slot[slot] += len(acknowledged - account.delivered - account.damaged)
        expected["attempted"] += len(attempted)
        expected["acknowledged"] += len(acknowledged)
        expected["delivered"] += len(account.delivered & attempted)
        expected["damaged"] += len(account.damaged & attempted)
        expected["unexpected"] += len(account.delivered - attempted)
        expected["dropped_by_us"] += len(log) - len(attempted)
    lost = sum(max(0, missing - anonymous) for missing, anonymous in zip(missing_of_slot, slow.anonymous, strict=True))
    delivery = reckoning.delivery
    assert delivery == Delivery(
        attempted=expected["attempted"],
        acknowledged=expected["acknowledged"],
        delivered=expected["delivered"],
        lost=lost,
        duplicated=sum(account.duplicated for account in slow.accounts.values()),
        reordered=sum(account.reordered for account in slow.accounts.values()),
        corrupted=slow.corrupted,
        unexpected=slow.unexpected + expected["unexpected"],
        indeterminate=expected["attempted"] - expected["delivered"] - expected["damaged"] - sum(missing_of_slot),
        dropped_by_us=expected["dropped_by_us"],
    )
    for anomaly in (Anomaly.LOST, Anomaly.DUPLICATED, Anomaly.REORDERED, Anomaly.CORRUPTED, Anomaly.UNEXPECTED):
        found = sum(finding.count for finding in reckoning.findings if finding.anomaly is anomaly)
        assert found == getattr(delivery, anomaly.value)


@settings(max_examples=300, deadline=None)
@given(
    history=histories(),
    edges=st.lists(st.tuples(st.integers(990, 1200), st.integers(0, 200)), min_size=3, max_size=3),
    holes_per_account=st.sampled_from([1, 2, 4096]),
    generous_ratio=st.sampled_from([0.0, 0.5, 1.0]),
    forever=st.booleans(),
)
def test_reconcile_honest_system_is_never_accused_whatever_the_windows(
    history: tuple[Publications, list[list[Sent]], random.Random],
    edges: list[tuple[int, int]],
    holes_per_account: int,
    generous_ratio: float,
    forever: bool,
) -> None:
    """It delivers what was acknowledged inside the window, in order; of the rest it may deliver what it likes."""
    publications, logs, rng = history
    accounts = opened(holes_per_account=holes_per_account)
    owed, rows = 0, []
    for slot, (opened_ns, length_ns) in enumerate(edges):
        closed_ns = NEVER_NS if forever else opened_ns + length_ns
        accounts.activate(slot, opened_ns)
        accounts.close(slot, closed_ns)
        for _, publisher in [served for served in SERVED if served[0] == slot]:
            for seq, sent in enumerate(logs[publisher]):
                inside = sent.ack_ns is not None and sent.sent_ns > opened_ns and sent.ack_ns < closed_ns
                owed += inside
                if inside or (not sent.unsent and rng.random() < generous_ratio):
                    rows.append((slot, publisher, seq, True))
    accounts.receive(make(rows))

    reckoning = judge(publications, accounts)

    assert [finding for finding in reckoning.findings if finding.violation] == []
    assert reckoning.delivery.delivered == len(rows)
    assert reckoning.delivery.acknowledged <= owed
    assert (reckoning.delivery.lost, reckoning.delivery.unexpected) == (0, 0)


def test_reconcile_more_gaps_than_kept_still_counts_every_loss_and_says_so() -> None:
    accounts = opened(holes_per_account=4)
    kept = [r for r in rows_of(100) if r[2] % 3]
    accounts.receive(make(kept))

    reckoning = judge(published(100), accounts)

    assert reckoning.delivery == Delivery(attempted=800, acknowledged=800, delivered=len(kept), lost=800 - len(kept))
    assert all("inexact" in finding.detail for finding in reckoning.findings)


@pytest.mark.parametrize("encoding", ["binary", "text"])
def test_reconcile_any_flipped_bit_on_the_way_is_one_corrupted_and_nothing_else(encoding: Encoding) -> None:
    stamper = Stamper(RUN, encoding, 100, seed=1)
    size_bits = 8 * 100
    publications = Publications(publishers=1)
    publications.next_seqs(0, size_bits)
    publications.sent(0, 0, 1)
    publications.acknowledged_range(0, 0, size_bits, 2)
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=1)
    accounts.open_many([0, 0], 0)
    batch = []
    for seq in range(size_bits):
        frame = bytearray(b"{" + stamper.payload(0, seq, 1, 1) + b"}")
        batch.append((1, bytes(frame), 5))
        if seq % 2:  # of the odd ones, each has another bit flipped
            frame[1 + seq // 8] ^= 1 << (seq % 8)
        batch.append((0, bytes(frame), 5))

    for at in range(0, len(batch), 64):
        accounts.receive(decode(batch[at : at + 64], encoding))
    delivery = judge(publications, accounts).delivery

    assert counts(delivery) == {"corrupted": size_bits // 2}
    assert delivery.delivered == 2 * size_bits - size_bits // 2


def test_reconcile_figures_that_contradict_are_our_bug() -> None:
    accounts = opened()
    accounts.receive(make([r for r in rows_of(20) if r[2] != 5]))
    accounts.holes[0].ends[0] += 100  # a hole that reaches beyond the next sequence

    with pytest.raises(HarnessBugError, match="does not add up"):
        judge(published(20), accounts)


def test_reconcile_of_different_populations_is_refused() -> None:
    with pytest.raises(UsageError, match="publications know 3 publishers, accounts 5"):
        judge(Publications(publishers=3), opened())
