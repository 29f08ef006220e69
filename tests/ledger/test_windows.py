"""Windows in time: adjacent ones partition the messages exactly, and what no sequence can be blamed for is said, never guessed."""

from __future__ import annotations

import random
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.inbox import NEVER_NS
from floodmark.ledger.publications import Publications
from floodmark.ledger.reconcile import Reckoning, reconcile
from floodmark.ledger.sheet import Sheet
from floodmark.model.finding import Guarantee, Order
from floodmark.model.result import Delivery

from .conftest import RUN, WARMUP_RUN, Row, make
from .model import Sent, SlowAccounts, play

CHANNELS, PUBLISHERS, CHANNEL_OF = 2, 5, [0, 1, 0]
SERVED = [(slot, p) for slot, channel in enumerate(CHANNEL_OF) for p in range(channel, PUBLISHERS, CHANNELS)]
PLACED = ("attempted", "acknowledged", "delivered", "lost", "indeterminate", "dropped_by_us")  # what sequences alone decide
Windows = list[tuple[str, int, int]]


def judge(publications: Publications, accounts: Accounts, windows: Windows) -> Reckoning:
    return reconcile(publications, accounts, guarantee=Guarantee.EXACTLY_ONCE, order=Order.PER_PUBLISHER, windows=windows)


def opened(*, holes_per_account: int = 4096, slots: int = len(CHANNEL_OF)) -> Accounts:
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=CHANNELS, publishers=PUBLISHERS, holes_per_account=holes_per_account)
    accounts.open_many(CHANNEL_OF[:slots], 0)
    return accounts


def published(count: int) -> Publications:
    """Every publisher sends `count` messages, message seq at 1000 + 10 * seq, acknowledged 5 ns later."""
    publications = Publications(publishers=PUBLISHERS)
    for seq in range(count):
        for publisher in range(PUBLISHERS):
            publications.sent(publisher, publications.next_seq(publisher), 1000 + 10 * seq)
            publications.acknowledged(publisher, seq, 1005 + 10 * seq)
    return publications


def rows_of(count: int) -> list[Row]:
    return [(slot, publisher, seq, True) for seq in range(count) for slot, publisher in SERVED]


def around(first_ns: int, second_ns: int) -> Windows:
    """Cover everything with three windows."""
    return [("before", 0, first_ns), ("during", first_ns, second_ns), ("after", second_ns, NEVER_NS)]


def summed(windows: dict[str, Delivery], name: str) -> int:
    return sum(getattr(delivery, name) for delivery in windows.values())


def test_windows_not_asked_for_are_not_counted() -> None:
    reckoning = judge(published(5), opened(), [])

    assert (reckoning.windows, reckoning.unplaced, reckoning.edge_error_count) == ({}, {}, 0)


def test_windows_an_outage_names_what_was_lost_in_it() -> None:
    accounts = opened()
    accounts.receive(make([row for row in rows_of(100) if not 30 <= row[2] < 45]))

    reckoning = judge(published(100), accounts, around(1300, 1450))

    accounts_count = len(SERVED)
    assert reckoning.windows == {
        "before": Delivery(attempted=30 * accounts_count, acknowledged=30 * accounts_count, delivered=30 * accounts_count),
        "during": Delivery(attempted=15 * accounts_count, acknowledged=15 * accounts_count, lost=15 * accounts_count),
        "after": Delivery(attempted=55 * accounts_count, acknowledged=55 * accounts_count, delivered=55 * accounts_count),
    }
    assert set(reckoning.unplaced.values()) == {Delivery()}
    assert reckoning.edge_error_count == 0


@pytest.mark.parametrize(
    ("edge_ns", "before"), [(0, 0), (1000, 0), (1001, 1), (1300, 30), (1301, 31), (1990, 99), (1991, 100), (9000, 100)]
)
def test_windows_a_message_sent_at_the_edge_belongs_to_the_later_one(edge_ns: int, before: int) -> None:
    accounts = opened()
    accounts.receive(make(rows_of(100)))

    windows = judge(published(100), accounts, [("before", 0, edge_ns), ("after", edge_ns, NEVER_NS)]).windows

    assert (windows["before"].delivered, windows["after"].delivered) == (before * len(SERVED), (100 - before) * len(SERVED))


def test_windows_may_overlap_leave_gaps_and_be_empty() -> None:
    accounts = opened()
    accounts.receive(make([*rows_of(100), (0, 0, 15, True), (0, 0, 25, True)]))

    reckoning = judge(published(100), accounts, [("one", 1100, 1300), ("two", 1200, 1400), ("none", 1200, 1200)])

    assert (reckoning.windows["one"].delivered, reckoning.windows["one"].duplicated) == (20 * len(SERVED), 2)
    assert (reckoning.windows["two"].delivered, reckoning.windows["two"].duplicated) == (20 * len(SERVED), 1)
    assert reckoning.windows["none"] == reckoning.unplaced["none"] == Delivery()


def test_windows_duplicates_beyond_the_sample_are_placed_where_they_must_lie_and_else_not_at_all() -> None:
    accounts = opened(slots=1)
    accounts.receive(make([(0, 0, seq, True) for seq in range(100)]))
    accounts.receive(make([(0, 0, seq, True) for seq in range(20, 50)]))  # 8 sampled: 20 to 27; the highest, 49, is known too

    reckoning = judge(published(100), accounts, [*around(1300, 1600), ("most", 1100, 1500), ("none", 1400, 1400)])

    placed = {name: window.duplicated for name, window in reckoning.windows.items()}
    assert placed == {"before": 8, "during": 1, "after": 0, "most": 30, "none": 0}
    unplaced = {name: more.duplicated for name, more in reckoning.unplaced.items()}
    assert unplaced == {"before": 21, "during": 21, "after": 0, "most": 0, "none": 0}


def test_windows_anonymous_damage_may_stand_for_a_loss_of_either_window() -> None:
    accounts = opened(slots=1)
    rows = [(0, 0, seq, True) for seq in range(100) if seq not in (10, 11, 60)]
    accounts.receive(make([*rows, (0, 0, 90, False)]))  # a head that names what has already come

    reckoning = judge(published(100), accounts, [("before", 0, 1500), ("after", 1500, NEVER_NS)])

    others = 50 * 2  # of the other two publishers of the channel nothing came, in either window
    assert reckoning.delivery.lost == 2 + 2 * others
    assert (reckoning.windows["before"].lost, reckoning.unplaced["before"].lost) == (1 + others, 1)
    assert (reckoning.windows["after"].lost, reckoning.unplaced["after"].lost) == (others, 1)
    assert [more.corrupted for more in reckoning.unplaced.values()] == [1, 1]


def test_windows_unexpected_messages_have_no_time_and_may_be_of_any() -> None:
    accounts = opened()
    accounts.receive(make([*rows_of(100), (1, 0, 3, True), (0, 0, 100, True)]))

    reckoning = judge(published(100), accounts, around(1300, 1600))

    assert [window.unexpected for window in reckoning.windows.values()] == [0, 0, 0]
    assert [more.unexpected for more in reckoning.unplaced.values()] == [2, 2, 2]


def test_windows_thinned_checkpoints_still_partition_and_say_how_far_off() -> None:
    publications = Publications(publishers=PUBLISHERS)
    publications.checkpoint_bound = 8
    for seq in range(100):
        for publisher in range(PUBLISHERS):
            publications.sent(publisher, publications.next_seq(publisher), 1000 + 10 * seq)
            publications.acknowledged(publisher, seq, 1005 + 10 * seq)
    accounts = opened()
    accounts.receive(make([row for row in rows_of(100) if row[2] != 50]))

    reckoning = judge(publications, accounts, around(1333, 1777))

    assert 1 <= reckoning.edge_error_count < 100
    before = reckoning.windows["before"].delivered // len(SERVED)
    assert 34 <= before <= 34 + reckoning.edge_error_count
    assert summed(reckoning.windows, "delivered") == reckoning.delivery.delivered
    assert summed(reckoning.windows, "lost") == reckoning.delivery.lost == len(SERVED)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Publications, list[list[Sent]], random.Random, Windows]:
    """What five publishers sent and had acknowledged, with trouble, a source of chance for the system, and windows that cover all."""
    seed, count = draw(st.integers(0, 2**32)), draw(st.integers(0, 60))
    trouble_ratio, in_flight = draw(st.sampled_from([0.0, 0.05, 0.5])), draw(st.integers(0, 6))
    publications = Publications(publishers=PUBLISHERS)
    logs = [play(publications, p, seed + p, count, trouble_ratio=trouble_ratio, in_flight=in_flight) for p in range(PUBLISHERS)]
    first_ns = draw(st.integers(995, 1150))
    return publications, logs, random.Random(seed), around(first_ns, first_ns + draw(st.integers(0, 80)))


def window_of(windows: Windows, sent: Sent) -> str:
    """Give the one window a message belongs to."""
    (name,) = [name for name, from_ns, to_ns in windows if from_ns <= sent.sent_ns < to_ns]
    return name


@settings(max_examples=300, deadline=None)
@given(history=histories(), fault_ratio=st.sampled_from([0.0, 0.03, 0.4]))
def test_windows_any_faults_agree_with_the_slow_model(
    history: tuple[Publications, list[list[Sent]], random.Random, Windows], fault_ratio: float
) -> None:
    publications, logs, rng, windows = history
    rows: list[Row] = []
    for seq in range(len(logs[0])):
        for slot, publisher in SERVED:
            if logs[publisher][seq].unsent:
                continue
            if rng.random() >= fault_ratio:
                rows.append((slot, publisher, seq, True))
                continue
            match rng.choice(["drop", "twice", "late", "damage", "flip", "misroute"]):
                case "twice":
                    rows.extend([(slot, publisher, seq, True)] * rng.randrange(2, 12))
                case "late":
                    rows.insert(rng.randrange(len(rows) + 1), (slot, publisher, seq, True))
                case "damage":
                    rows.append((slot, publisher, seq, False))
                case "flip":
                    rows.append((slot, publisher ^ (1 << rng.randrange(3)), seq ^ (1 << rng.randrange(6)), False))
                case "misroute":
                    rows.append((rng.randrange(3), publisher, seq, True))
    accounts, slow = opened(), SlowAccounts(CHANNELS, PUBLISHERS, CHANNEL_OF)
    accounts.receive(make(rows))
    for row in rows:
        slow.receive(*row)

    reckoning = judge(publications, accounts, windows)

    names = ("attempted", "acknowledged", "delivered", "missing", "corrupted", "indeterminate", "duplicated", "reordered")
    truth = {window: dict.fromkeys(names, 0) for window, _, _ in windows}
    for slot, publisher in SERVED:
        account = slow.of(slot, publisher)
        for seq, sent in enumerate(logs[publisher]):
            counted = truth[window_of(windows, sent)]
            came, hurt, owed = seq in account.delivered, seq in account.damaged, sent.ack_ns is not None
            counted["duplicated"] += account.again.count(seq)
            counted["reordered"] += account.late.count(seq)
            if not sent.unsent:
                counted["attempted"] += 1
                counted["acknowledged"] += owed
                counted["delivered"] += came
                counted["corrupted"] += hurt
                counted["missing"] += owed and not came and not hurt
                counted["indeterminate"] += not owed and not came and not hurt
    anonymous = sum(slow.anonymous)
    for name, expected in truth.items():
        sure, more = reckoning.windows[name], reckoning.unplaced[name]
        for column in ("attempted", "acknowledged", "delivered", "indeterminate", "corrupted"):
            assert getattr(sure, column) == expected[column], (name, column)
        for column in ("duplicated", "reordered"):
            assert getattr(sure, column) <= expected[column] <= getattr(sure, column) + getattr(more, column), (name, column)
        assert max(0, expected["missing"] - anonymous) <= sure.lost <= expected["missing"]
        assert sure.lost + more.lost <= expected["missing"]
        if not anonymous:
            assert (sure.lost, more.lost) == (expected["missing"], 0)
    assert (
        summed(reckoning.windows, "lost")
        <= reckoning.delivery.lost
        <= summed(reckoning.windows, "lost") + summed(reckoning.unplaced, "lost")
    )
    for column in ("attempted", "acknowledged", "delivered", "indeterminate", "dropped_by_us"):
        assert summed(reckoning.windows, column) == getattr(reckoning.delivery, column), column


@settings(max_examples=200, deadline=None)
@given(
    history=histories(),
    edges=st.lists(st.tuples(st.integers(990, 1200), st.integers(0, 200)), min_size=3, max_size=3),
    bound=st.sampled_from([4, 2048]),
    generous_ratio=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_windows_of_subscriptions_that_come_and_go_add_up_to_the_whole(
    history: tuple[Publications, list[list[Sent]], random.Random, Windows],
    edges: list[tuple[int, int]],
    bound: int,
    generous_ratio: float,
) -> None:
    _, _, rng, windows = history
    publications = Publications(publishers=PUBLISHERS)
    publications.checkpoint_bound = bound
    logs = [play(publications, p, rng.randrange(2**32), 60, trouble_ratio=0.3, in_flight=4) for p in range(PUBLISHERS)]
    accounts = opened()
    for slot, (opened_ns, length_ns) in enumerate(edges):
        accounts.activate(slot, opened_ns)
        accounts.close(slot, opened_ns + length_ns)
    came = [
        (slot, publisher, seq, True)
        for slot, publisher in SERVED
        for seq, sent in enumerate(logs[publisher])
        if not sent.unsent and rng.random() < generous_ratio
    ]
    accounts.receive(make(came))

    reckoning = judge(publications, accounts, windows)

    assert set(reckoning.unplaced.values()) == {Delivery()}
    for column in PLACED:
        assert summed(reckoning.windows, column) == getattr(reckoning.delivery, column), column
    if reckoning.edge_error_count == 0:
        for name, _, _ in windows:
            delivered = sum(window_of(windows, logs[publisher][seq]) == name for _, publisher, seq, _ in came)
            assert reckoning.windows[name].delivered == delivered


@settings(max_examples=200, deadline=None)
@given(history=histories(), holes_per_account=st.sampled_from([1, 2, 5]), gone_ratio=st.sampled_from([0.05, 0.5]))
def test_windows_what_was_written_off_is_between_the_bounds(
    history: tuple[Publications, list[list[Sent]], random.Random, Windows], holes_per_account: int, gone_ratio: float
) -> None:
    publications, logs, rng, windows = history
    accounts = opened(holes_per_account=holes_per_account)
    came = {
        (slot, publisher, seq)
        for slot, publisher in SERVED
        for seq, sent in enumerate(logs[publisher])
        if not sent.unsent and rng.random() >= gone_ratio
    }
    accounts.receive(make([(*row, True) for row in sorted(came, key=lambda row: row[2])]))

    reckoning = judge(publications, accounts, windows)

    for name, _, _ in windows:
        sure, more = reckoning.windows[name], reckoning.unplaced[name]
        inside = [
            (sent.ack_ns is not None, (slot, publisher, seq) in came)
            for slot, publisher in SERVED
            for seq, sent in enumerate(logs[publisher])
            if not sent.unsent and window_of(windows, sent) == name
        ]
        assert sure.delivered <= sum(there for _, there in inside) <= sure.delivered + more.delivered
        assert sure.lost <= sum(owed and not there for owed, there in inside)
        assert (sure.attempted, more.attempted) == (len(inside), 0)
        assert (sure.acknowledged, more.acknowledged) == (sum(owed for owed, _ in inside), 0)
    for column in PLACED:
        least, most = summed(reckoning.windows, column), summed(reckoning.windows, column) + summed(reckoning.unplaced, column)
        assert least <= getattr(reckoning.delivery, column) <= most


def test_windows_whose_parts_do_not_add_up_are_our_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = opened()
    accounts.receive(make([row for row in rows_of(20) if row[2] != 5]))
    sheet = Sheet(published(20), accounts)
    sheet.missing[0] += 1
    monkeypatch.setattr(sys.modules[reconcile.__module__], "Sheet", lambda *_, **__: sheet)

    with pytest.raises(HarnessBugError, match=r"subscription 0 and publisher 0: the parts do not add up .* missing 2"):
        judge(published(20), accounts, around(1050, 1100))


def test_windows_with_one_name_or_backwards_are_refused() -> None:
    with pytest.raises(UsageError, match="names of windows must differ"):
        judge(published(1), opened(), [("a", 0, 1), ("a", 1, 2)])
    with pytest.raises(UsageError, match="window 'a' ends 4 ns before it begins"):
        judge(published(1), opened(), [("a", 5, 1)])


@pytest.mark.alone
def test_windows_of_ten_thousand_accounts_take_little_time() -> None:
    publications = Publications(publishers=10)
    for publisher in range(10):
        for seq in range(200):
            publications.sent(publisher, publications.next_seq(publisher), 1000 + seq)
            publications.acknowledged(publisher, seq, 1000 + seq)
    accounts = Accounts(run=RUN, warmup_run=WARMUP_RUN, channels=1, publishers=10)
    accounts.open_many(np.zeros(1000, np.int64), 0)
    accounts.receive(make([(slot, p, seq, True) for slot in range(1000) for p in range(10) for seq in (0, 1, 5, 5, 3, 120, 199)]))
    alone_s: list[float] = []
    both_s: list[float] = []

    for _ in range(5):
        for windows, times_s in (([], alone_s), (around(1050, 1150), both_s)):
            start_s = time.perf_counter()
            reckoning = judge(publications, accounts, windows)
            times_s.append(time.perf_counter() - start_s)

    assert summed(reckoning.windows, "delivered") == reckoning.delivery.delivered == 10_000 * 6
    assert min(both_s) - min(alone_s) < 0.3
