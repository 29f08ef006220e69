"""The same tricks under other shapes of load, other promises and more agents: the counts are still exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.model.arrival import Constant
from floodmark.model.finding import Guarantee, Order
from floodmark.model.scenario import Phase, Population
from floodmark.model.verdict import Verdict
from tests.verdict.played import MESSAGES, RATE_HZ, account, broken, counts, failed, play, scenario


@pytest.mark.parametrize(
    ("trick", "criteria", "planted", "agents"),
    [
        ("LoseTenth", {"lost == 0"}, {"delivered": 180, "lost": 20}, 2),
        ("OneTwiceOneNever", {"lost == 0", "duplicated == 0"}, {"delivered": 100, "lost": 100, "duplicated": 100}, 3),
        ("Honest", set(), {}, 2),
        ("Honest", set(), {}, 3),
    ],
)
def test_verdict_by_several_agents_is_that_of_one(
    trick: str, criteria: set[str], planted: dict[str, int], agents: int, tmp_path: Path
) -> None:
    result = play(tmp_path, scenario(trick, drain_limit_s=20.0 if not criteria else 1.5), agents=agents)

    assert failed(result) == criteria
    assert result.verdict is (Verdict.FAIL if criteria else Verdict.PASS)
    assert counts(result) == account(**planted)


@pytest.mark.parametrize(
    ("population", "deliveries", "lost"),
    [
        (Population(connections=4, channels=2, publishers=4), 200, 8),  # 4 sequences, each heard by 2
        (Population(connections=4, channels=4, publishers=2), 100, 4),  # 4 sequences, each heard by 1
        (Population(connections=2, subscriptions_per_connection=2, channels=4, publishers=3), 100, 4),
        (Population(connections=3, channels=1, publishers=1), 300, 3),
    ],
)
def test_verdict_on_a_lost_first_message_counts_each_publisher_and_subscription(
    population: Population, deliveries: int, lost: int, tmp_path: Path
) -> None:
    result = play(tmp_path, scenario("LoseFirst", population=population))

    assert failed(result) == {"lost == 0"}
    assert counts(result) == account(attempted=deliveries, acknowledged=deliveries, delivered=deliveries - lost, lost=lost)


@pytest.mark.parametrize("driver", ["websocket", "graphql-ws"])
def test_verdict_on_swapped_channels_of_shared_connections_is_fail(driver: str, tmp_path: Path) -> None:
    population = Population(connections=2, subscriptions_per_connection=2, channels=4, publishers=2)

    result = play(tmp_path, scenario("SwapChannels", driver=driver, population=population))

    assert failed(result) == {"lost == 0", "unexpected == 0"}
    assert counts(result) == account(attempted=100, acknowledged=100, delivered=0, lost=100, unexpected=100)


@pytest.mark.parametrize(
    ("trick", "planted"), [("LoseTenth", {"delivered": 360, "lost": 40}), ("Truncate", {"delivered": 0, "corrupted": 400})]
)
def test_verdict_over_phases_of_different_sizes_counts_both(trick: str, planted: dict[str, int], tmp_path: Path) -> None:
    phases = tuple(
        Phase(name=name, arrival=Constant(rate_hz=RATE_HZ), messages=MESSAGES, payload_bytes=size)
        for name, size in (("least", 84), ("large", 5_000))
    )

    result = play(tmp_path, scenario(trick, phases=phases))

    assert result.verdict is Verdict.FAIL
    assert counts(result) == account(**{"attempted": 400, "acknowledged": 400, **planted})


@pytest.mark.parametrize(
    ("trick", "guarantee", "order", "criteria"),
    [
        ("LoseTenth", Guarantee.AT_MOST_ONCE, Order.PER_PUBLISHER, set()),
        ("TwiceTenth", Guarantee.AT_MOST_ONCE, Order.PER_PUBLISHER, {"duplicated == 0"}),
        ("TwiceTenth", Guarantee.AT_LEAST_ONCE, Order.PER_PUBLISHER, set()),
        ("SwapPairs", Guarantee.EXACTLY_ONCE, Order.NONE, set()),
        ("SwapPairs", Guarantee.AT_LEAST_ONCE, Order.PER_PUBLISHER, {"reordered == 0"}),
        ("HugeSequence", Guarantee.AT_LEAST_ONCE, Order.NONE, {"unexpected == 0"}),
        ("FlipBody", Guarantee.AT_MOST_ONCE, Order.NONE, {"corrupted == 0"}),
    ],
)
def test_verdict_by_a_weaker_promise_forgives_what_it_does_not_speak_of(
    trick: str, guarantee: Guarantee, order: Order, criteria: set[str], tmp_path: Path
) -> None:
    result = play(tmp_path, scenario(trick, "connect_time < 60s", guarantee=guarantee, order=order))

    assert failed(result) == criteria
    assert result.verdict is (Verdict.FAIL if criteria else Verdict.PASS), broken(result)
