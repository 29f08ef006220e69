"""Whole runs against systems that break their promise in one way each: FAIL, by exactly the criteria and counts that were planted.

200 deliveries in each (see played.py). What an expert would say stands beside each trick.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.model.verdict import Verdict
from tests.verdict.played import account, counts, failed, play, scenario

NOTHING = {"delivered": 0, "lost": 200}
BROKEN: dict[str, tuple[set[str], dict[str, int]]] = {
    # Acknowledging: what was acknowledged must arrive, and every publisher must be answered.
    "AckAll": ({"lost == 0"}, NOTHING),
    "AckThenRefuse": ({"lost == 0"}, NOTHING),
    "AckNothing": ({"unanswered == 0"}, {"acknowledged": 0}),
    "AckHalf": ({"unanswered == 0"}, {"acknowledged": 100}),
    "Refuse99": ({"refused == 0"}, {"acknowledged": 2, "delivered": 2, "indeterminate": 198}),
    "Stall": ({"unanswered == 0"}, {"acknowledged": 0, "delivered": 0, "indeterminate": 200}),
    # Who gets what.
    "EchoOnly": ({"lost == 0"}, NOTHING),
    "HalfOfThem": ({"lost == 0"}, {"delivered": 100, "lost": 100}),
    "OneTwiceOneNever": ({"lost == 0", "duplicated == 0"}, {"delivered": 100, "lost": 100, "duplicated": 100}),
    "SwapChannels": ({"lost == 0", "unexpected == 0"}, {**NOTHING, "unexpected": 200}),
    "LeakToAll": ({"unexpected == 0"}, {"unexpected": 200}),
    # Loss, duplicates, order: also where only the edge of a sequence shows it.
    "LoseFirst": ({"lost == 0"}, {"delivered": 196, "lost": 4}),
    "LoseLast": ({"lost == 0"}, {"delivered": 196, "lost": 4}),
    "TwiceLast": ({"duplicated == 0"}, {"duplicated": 4}),
    "TwiceWhenIdle": ({"duplicated == 0"}, {"duplicated": 200}),
    "SwapPairs": ({"reordered == 0"}, {"reordered": 100}),
    "TooLate": ({"lost == 0"}, NOTHING),
    "FreezeInTheDrain": ({"lost == 0"}, {"delivered": 100, "lost": 100}),
    # What is in a message.
    "Truncate": ({"corrupted == 0"}, {"delivered": 0, "corrupted": 200}),
    "UpperCase": ({"corrupted == 0"}, {"delivered": 0, "corrupted": 200}),
    "FlipStamp": ({"corrupted == 0"}, {"delivered": 0, "corrupted": 200}),
    "FlipBody": ({"corrupted == 0"}, {"delivered": 0, "corrupted": 200}),
    "OldRun": ({"unexpected == 0"}, {"unexpected": 200}),
    "StrangePublisher": ({"unexpected == 0"}, {"unexpected": 200}),
    "FutureSequence": ({"unexpected == 0"}, {"unexpected": 4}),
    "HugeSequence": ({"unexpected == 0"}, {"unexpected": 8}),
    # Connections and the process.
    "CloseHalf": ({"lost == 0", "disconnects == 0"}, {"delivered": 100, "lost": 100}),
    "CloseHalfIdle": ({"disconnects == 0"}, {}),
    "CloseOnePolitely": ({"disconnects == 0"}, {}),
    "ClosePublisher": ({"disconnects == 0", "unanswered == 0"}, {"acknowledged": 0}),
}


@pytest.mark.parametrize("trick", BROKEN)
def test_verdict_of_a_broken_system_is_fail_by_what_was_planted(trick: str, tmp_path: Path) -> None:
    criteria, planted = BROKEN[trick]

    result = play(tmp_path, scenario(trick))

    assert result.verdict is Verdict.FAIL
    assert failed(result) == criteria
    assert counts(result) == account(**planted)


@pytest.mark.parametrize("trick", ["AckHalf", "Refuse99", "LoseLast", "FlipStamp"])
def test_verdict_through_another_protocol_is_the_same(trick: str, tmp_path: Path) -> None:
    criteria, planted = BROKEN[trick]

    result = play(tmp_path, scenario(trick, driver="graphql-ws"))

    assert result.verdict is Verdict.FAIL
    assert failed(result) == criteria
    assert counts(result) == account(**planted)


def test_verdict_on_a_subscription_ended_half_way_is_fail_by_what_it_missed(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("EndHalfWay", driver="graphql-ws"))

    assert failed(result) == {"lost == 0", "ended == 0"}
    assert counts(result) == account(delivered=150, lost=50)
    assert "2 x you have seen enough" in result.note


def test_verdict_on_tokens_acknowledged_before_they_were_sent_is_fail(tmp_path: Path) -> None:
    """Some acknowledgements may come after their message all the same, so what they cover is not exact; what is lost is no less for it."""
    result = play(tmp_path, scenario("AckUnsentOnly"))

    seen = counts(result)
    assert failed(result) in ({"unanswered == 0"}, {"unanswered == 0", "lost == 0"})
    assert (seen["delivered"], seen["lost"], seen["indeterminate"]) == (0, seen["acknowledged"], 200 - seen["acknowledged"])


def test_verdict_on_a_death_after_the_last_delivery_is_fail(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("DieWhenDone"))

    assert "target_exits == 0" in failed(result) <= {"target_exits == 0", "disconnects == 0"}
    assert counts(result) == account()


def test_verdict_on_a_death_half_way_is_fail_and_what_came_before_it_is_counted(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("DieHalfWay"))

    seen = counts(result)
    assert "target_exits == 0" in failed(result)
    assert (seen["acknowledged"], seen["delivered"], seen["lost"]) == (100, 100, 0)


def test_verdict_on_half_a_warm_up_is_fail_and_says_that_the_others_never_lived(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("WarmHalf", connect_limit_s=1.5))

    assert failed(result) == {"lost == 0"}
    assert counts(result) == account(delivered=100, lost=100)
    assert "only 2 of 4 subscriptions saw a warm-up message" in result.note


def test_verdict_on_an_ignored_subscribe_is_fail_with_all_lost(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("IgnoreSubscribe", connect_limit_s=1.5))

    assert failed(result) == {"lost == 0"}
    assert counts(result) == account(delivered=0, lost=200)


def test_verdict_without_a_warm_up_on_an_ignored_subscribe_is_fail_too(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("IgnoreSubscribe", warmup=False))

    assert failed(result) == {"lost == 0"}
    assert counts(result) == account(delivered=0, lost=200)


def test_verdict_on_channels_swapped_in_the_warm_up_alone_is_fail(tmp_path: Path) -> None:
    """A probe of another channel proves no subscription active, and is not what was asked for."""
    result = play(tmp_path, scenario("SwapWarmUp", connect_limit_s=1.5))

    seen = counts(result)
    assert failed(result) == {"unexpected == 0"}
    assert seen["unexpected"] in range(4, 100, 4)  # each round of probes goes wrong four times
    assert "only 0 of 4 subscriptions saw a warm-up message" in result.note
