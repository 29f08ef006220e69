"""Whole runs that prove nothing, or less than they seem to: UNKNOWN with the reason, never PASS."""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.model.finding import Guarantee, Order
from floodmark.model.verdict import Verdict
from tests.verdict.played import account, broken, counts, failed, play, scenario

STATISTICS = "stats_error <= 1%"


@pytest.mark.parametrize("trick", ["FromTheFuture", "HalfFromTheFuture"])
def test_verdict_on_deliveries_older_than_their_sending_is_unknown(trick: str, tmp_path: Path) -> None:
    """The checksum fits, so the stamp was forged (or two clocks differ): a latency criterion must not pass on the honest half."""
    result = play(tmp_path, scenario(trick, "latency_p99 < 60s"))

    assert result.verdict is Verdict.UNKNOWN
    assert broken(result)["latency_min >= 0s"] == "UNKNOWN"
    assert counts(result) == account()


def test_verdict_on_subscriptions_ended_after_the_last_delivery_is_fail(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("EndWhenIdle", driver="graphql-ws"))

    assert (result.verdict, broken(result)) == (Verdict.FAIL, {"ended == 0": "FAIL"})
    assert counts(result) == account()


def test_verdict_on_nothing_delivered_where_nothing_was_promised_is_unknown(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("AckAll", "connect_time < 60s", guarantee=Guarantee.AT_MOST_ONCE, order=Order.NONE))

    assert result.verdict is Verdict.UNKNOWN
    assert counts(result) == account(delivered=0, lost=200)


def test_verdict_on_nothing_acknowledged_is_unknown_even_where_silence_is_allowed(tmp_path: Path) -> None:
    """All is delivered, but nothing was required, so "lost == 0" holds for want of anything to lose."""
    result = play(tmp_path, scenario("AckNothing", "lost == 0", "unanswered <= 100"))

    assert (result.verdict, broken(result)) == (Verdict.UNKNOWN, {"acknowledged > 0": "UNKNOWN"})
    assert counts(result) == account(acknowledged=0)


def test_verdict_on_a_death_that_is_allowed_is_unknown_since_the_load_was_cut_short(tmp_path: Path) -> None:
    allowed = ("target_exits <= 1", "disconnects <= 100", "unanswered <= 100", "lost <= 1000")

    result = play(tmp_path, scenario("DieHalfWay", *allowed, guarantee=Guarantee.AT_MOST_ONCE))

    assert result.verdict is Verdict.UNKNOWN
    assert broken(result)["the run came to its end"] == "UNKNOWN"
    assert not failed(result)


def test_verdict_on_true_statistics_is_pass(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("Pages", STATISTICS, driver="graphql-ws", drain_limit_s=20.0))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})


def test_verdict_on_false_statistics_is_fail(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("PageOfLies", STATISTICS, driver="graphql-ws"))

    assert (result.verdict, broken(result)) == (Verdict.FAIL, {STATISTICS: "FAIL"})
    assert result.metrics["stats_error"] == 1.0  # twice as much as was delivered


@pytest.mark.parametrize("trick", ["PageOfNans", "PageWithoutDeliveries", "PageOfGarbage", "Honest"])
def test_verdict_on_statistics_that_say_nothing_is_unknown(trick: str, tmp_path: Path) -> None:
    """No number, no count of deliveries, no readable page, no page at all."""
    result = play(tmp_path, scenario(trick, STATISTICS, driver="graphql-ws"))

    assert (result.verdict, broken(result)) == (Verdict.UNKNOWN, {STATISTICS: "UNKNOWN"})
    assert "stats_error" not in result.metrics
