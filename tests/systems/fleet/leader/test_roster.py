"""Who is there: expiry to the moment, refreshes that are no news, and a watch that is late."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.leader.roster import SLACK_RATIO, Roster
from floodmark.systems.fleet.records import Heartbeat, encode, heartbeat_key
from floodmark.systems.fleet.store.base import Entry

TTL_S = 6.0
HEARTBEAT_S = 2.0


def roster() -> Roster:
    return Roster(heartbeat_s=HEARTBEAT_S, ttl_s=TTL_S)


def beat(worker: str, revision: int, written_s: float, *, deleted: bool = False, value: bytes = b"{}") -> Entry:
    return Entry(key=heartbeat_key(worker), value=value, revision=revision, written_s=written_s, deleted=deleted)


def test_roster_tells_news_of_those_who_come_and_leave_and_of_nobody_else() -> None:
    seen = roster()

    news = [
        seen.note(beat("a", 1, 0.0), 0.0),
        seen.note(beat("a", 2, 2.0), 2.0),
        seen.note(beat("a", 3, 3.0, deleted=True), 3.0),
        seen.note(beat("a", 4, 4.0), 4.0),
    ]

    assert news == [True, False, True, True]
    assert seen.present == {"a"}


def test_roster_knows_who_is_overdue_to_the_moment_of_the_last_refresh() -> None:
    seen = roster()
    seen.note(beat("a", 1, 0.0), 0.0)
    seen.note(beat("b", 2, 1.0), 1.0)
    seen.note(beat("a", 3, 2.0), 2.1)  # a tenth late

    assert seen.next_due_s() == 1.0 + TTL_S
    assert seen.overdue(1.0 + TTL_S) == ["b"]
    assert seen.looked("b", None, 7.0)
    assert seen.next_due_s() == 2.0 + TTL_S
    assert seen.present == {"a"}


def test_roster_for_a_worker_found_in_a_list_counts_the_time_that_has_passed() -> None:
    seen = roster()

    seen.listed([beat("a", 1, 5.0)], 9.0, 9.0)

    assert seen.next_due_s() == 5.0 + TTL_S


def test_roster_keeps_an_overdue_worker_that_the_store_has_newer_word_of() -> None:
    seen = roster()
    seen.note(beat("a", 1, 0.0), 0.0)
    assert seen.overdue(TTL_S) == ["a"]

    assert not seen.looked("a", beat("a", 2, 5.5), TTL_S)

    assert seen.present == {"a"}
    assert seen.next_due_s() > TTL_S + HEARTBEAT_S


def test_roster_waits_for_a_store_that_expires_late_and_not_for_ever() -> None:
    seen = roster()
    seen.note(beat("a", 1, 0.0), 0.0)
    late_s = (1 + SLACK_RATIO) * TTL_S

    looks = 0
    now_s = seen.next_due_s()
    while seen.present:
        assert seen.overdue(now_s) == ["a"]
        seen.looked("a", beat("a", 1, 0.0), now_s)
        looks += 1
        now_s = seen.next_due_s()
    assert looks <= SLACK_RATIO / 0.02 + 2
    assert math.isinf(now_s)

    assert not seen.note(beat("a", 1, 0.0), late_s)  # the same heartbeat does not bring it back
    assert seen.present == frozenset()


def test_roster_with_a_list_gives_up_who_is_not_on_it_unless_seen_since() -> None:
    seen = roster()
    seen.note(beat("a", 1, 0.0), 0.0)
    seen.note(beat("b", 2, 0.0), 0.0)
    seen.note(beat("c", 4, 3.5), 3.5)

    news = seen.listed([beat("a", 1, 0.0)], 3.0, 4.0)

    assert news
    assert seen.present == {"a", "c"}


def test_roster_does_not_let_a_late_delete_remove_a_worker_that_is_back() -> None:
    seen = roster()
    seen.note(beat("a", 1, 0.0), 0.0)
    seen.note(beat("a", 5, 2.0), 2.0)

    assert not seen.note(beat("a", 4, 1.9, deleted=True), 2.1)

    assert seen.present == {"a"}


def test_roster_with_a_clock_that_is_off_looks_early_and_gives_nobody_up() -> None:
    seen = roster()
    seen.note(beat("a", 1, -100.0), 0.0)

    assert seen.overdue(0.0) == ["a"]
    assert not seen.looked("a", beat("a", 1, -100.0), 0.0)

    assert seen.present == {"a"}


def test_roster_reads_what_a_worker_told_last_and_not_what_nobody_can_read() -> None:
    seen = roster()
    told = Heartbeat(worker="a", token="t", epoch=3, version=9, applied=True)
    seen.note(beat("a", 1, 0.0, value=encode(told)), 0.0)
    seen.note(beat("b", 2, 0.0, value=b"?"), 0.0)

    assert seen.heartbeat("a") == told
    assert seen.heartbeat("b") is None
    assert seen.heartbeat("c") is None


events = st.lists(st.tuples(st.floats(0.01, 5.0), st.sampled_from("abc"), st.sampled_from(["beat", "delete", "look"])), max_size=60)


@given(events)
def test_roster_for_any_history_has_those_whose_last_heartbeat_is_younger_than_the_ttl(history: list[tuple[float, str, str]]) -> None:
    seen = roster()
    written_s: dict[str, float] = {}
    now_s = 0.0
    for revision, (pause_s, worker, what) in enumerate(history, start=1):
        now_s += pause_s
        for late in seen.overdue(now_s):
            seen.looked(late, None, now_s)
        if what == "beat":
            written_s[worker] = now_s
            seen.note(beat(worker, revision, now_s), now_s)
        elif what == "delete":
            written_s.pop(worker, None)
            seen.note(beat(worker, revision, now_s, deleted=True), now_s)

        alive = {who: at_s for who, at_s in written_s.items() if at_s + TTL_S > now_s}
        assert seen.present == alive.keys()
        assert seen.next_due_s() == min((at_s + TTL_S for at_s in alive.values()), default=math.inf)
