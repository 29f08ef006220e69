"""Whole runs against systems that keep their promise in an unusual way: PASS, with a flawless account. A false accusation fails here.

Also the known limits: what a liar can do that floodmark does not see, so that nobody takes a PASS for more than it is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.model.arrival import Burst, Flood
from floodmark.model.scenario import Phase, Population
from floodmark.model.verdict import Verdict
from tests.verdict.played import DELIVERIES, MESSAGES, account, broken, counts, play, scenario

PATIENT_S = 20.0  # a run ends as soon as all is there, so this costs nothing
ODD = [
    "Honest",
    "AckFirst",
    "AckTwice",
    "AckUnsent",
    "AckBackwards",
    "AckAtTheEnd",
    "HoldOnePublisher",
    "SlowButComplete",
    "Bursts",
    "Fragments",
    "ReplayToLateJoiners",
]


@pytest.mark.parametrize("trick", ODD)
def test_verdict_of_an_odd_but_honest_system_is_pass(trick: str, tmp_path: Path) -> None:
    result = play(tmp_path, scenario(trick, "lost == 0", f"delivered == {DELIVERIES}", drain_limit_s=PATIENT_S))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert counts(result) == account()


@pytest.mark.parametrize("trick", ["AckFirst", "AckBackwards"])
def test_verdict_of_an_odd_but_honest_system_through_another_protocol_is_pass(trick: str, tmp_path: Path) -> None:
    result = play(tmp_path, scenario(trick, driver="graphql-ws", drain_limit_s=PATIENT_S))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert counts(result) == account()


@pytest.mark.parametrize("arrival", [Burst(count=MESSAGES, every_s=60.0), Flood(in_flight=7)], ids=["burst", "closed-loop"])
def test_verdict_of_an_honest_system_under_another_arrival_is_pass(arrival: Burst | Flood, tmp_path: Path) -> None:
    result = play(tmp_path, scenario("Honest", phases=(Phase(arrival=arrival, messages=MESSAGES),), drain_limit_s=PATIENT_S))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert counts(result) == account()


def test_verdict_on_order_across_publishers_of_one_channel_is_pass(tmp_path: Path) -> None:
    """The first of three publishers is delivered after the two others; order is promised per publisher only."""
    population = Population(connections=4, channels=1, publishers=3)

    result = play(tmp_path, scenario("HoldOnePublisher", population=population, drain_limit_s=PATIENT_S))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert counts(result) == account(attempted=400, acknowledged=400, delivered=400)


@pytest.mark.parametrize("trick", ["Pad", "LateTwins"])
def test_verdict_on_what_cannot_be_seen_is_pass_within_known_limits(trick: str, tmp_path: Path) -> None:
    """What stands behind a payload's own length is the system's envelope; what comes after the drain meets nobody."""
    result = play(tmp_path, scenario(trick, drain_limit_s=PATIENT_S))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert counts(result) == account()
