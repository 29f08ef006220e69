"""Who is hit by a fault: the exact share, decided by the seed and the occasion alone, and nobody at ratio 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.faults import CLIENT_FAULTS, FAULTS, plan
from floodmark.faults.backoff import TRIES, Backoff
from floodmark.faults.churn import failing
from floodmark.faults.disconnect import victims
from floodmark.model.scenario import Fault

SEEDS = st.integers(0, 2**31 - 1)
RATIOS = st.floats(0, 1)


@given(connections=st.integers(1, 2000), ratio=RATIOS, seed=SEEDS, occasion=st.integers(0, 500))
def test_victims_are_the_exact_share_of_the_connections(connections: int, ratio: float, seed: int, occasion: int) -> None:
    chosen = victims(connections, ratio, seed=seed, occasion=occasion)

    assert len(chosen) == round(ratio * connections)
    assert chosen <= set(range(connections))
    assert chosen == victims(connections, ratio, seed=seed, occasion=occasion)


@given(connections=st.integers(1, 2000), seed=SEEDS, occasion=st.integers(0, 500))
def test_victims_at_ratio_0_are_nobody_and_at_1_everybody(connections: int, seed: int, occasion: int) -> None:
    assert victims(connections, 0.0, seed=seed, occasion=occasion) == set()
    assert victims(connections, 1.0, seed=seed, occasion=occasion) == set(range(connections))


def test_victims_of_another_seed_or_another_occasion_are_others() -> None:
    chosen = [frozenset(victims(1000, 0.5, seed=seed, occasion=occasion)) for seed in range(5) for occasion in range(5)]

    assert len(set(chosen)) == len(chosen)


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=60), ratio=RATIOS, seed=SEEDS)
def test_failing_are_among_the_churned_and_decided_by_the_seed(sizes: list[int], ratio: float, seed: int) -> None:
    for occasion, size in enumerate(sizes):
        churned = set(range(7, 7 + size))
        chosen = failing(churned, ratio, seed=seed, occasion=occasion)

        assert chosen <= churned
        assert chosen == failing(churned, ratio, seed=seed, occasion=occasion)


@given(each=st.integers(1, 20), ratio=RATIOS, seed=SEEDS, occasions=st.integers(1, 100))
def test_failing_over_all_occasions_are_the_exact_share(each: int, ratio: float, seed: int, occasions: int) -> None:
    churned = set(range(each))

    total = sum(len(failing(churned, ratio, seed=seed, occasion=occasion)) for occasion in range(occasions))

    assert total == round(ratio * each * occasions)


def test_failing_at_ratio_0_is_nobody_at_1_everybody() -> None:
    assert all(failing({1, 2, 3}, 0.0, seed=1, occasion=occasion) == set() for occasion in range(100))
    assert all(failing({1, 2, 3}, 1.0, seed=1, occasion=occasion) == {1, 2, 3} for occasion in range(100))


def test_failing_of_another_seed_are_others() -> None:
    def history(seed: int) -> list[set[int]]:
        return [failing(set(range(100)), 0.5, seed=seed, occasion=occasion) for occasion in range(5)]

    assert history(1) == history(1)
    assert history(1) != history(2)


@given(connections=st.integers(1, 300), ratio=RATIOS, seed=SEEDS, data=st.data())
def test_victims_are_never_among_those_who_are_gone(connections: int, ratio: float, seed: int, data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(0, connections - 1)))
    chosen = victims(connections, ratio, seed=seed, occasion=0, gone=gone)

    assert not chosen & gone
    assert len(chosen) == min(round(ratio * connections), connections - len(gone))


def test_victims_of_four_faults_that_stay_away_are_four_times_the_exact_share() -> None:
    gone: set[int] = set()
    for dropped in (200, 400, 600, 800):
        gone |= victims(1000, 0.2, seed=3, occasion=0, gone=gone)
        assert len(gone) == dropped


@given(backoff_s=st.floats(0, 10), factor=st.floats(1, 10), ceiling_s=st.floats(0, 10), jitter=st.floats(0, 1), seed=SEEDS)
def test_backoff_waits_grow_to_the_ceiling_and_the_jitter_only_shortens_them(
    backoff_s: float, factor: float, ceiling_s: float, jitter: float, seed: int
) -> None:
    def waits_s(share: float) -> list[float]:
        plan = Backoff(backoff_s=backoff_s, backoff_factor=factor, backoff_max_s=ceiling_s, backoff_jitter=share)
        return list(plan.waits_s(np.random.default_rng(seed)))

    steady_s, shaken_s = waits_s(0.0), waits_s(jitter)
    assert len(steady_s) == len(shaken_s) == TRIES
    assert steady_s == sorted(steady_s)
    assert max(steady_s) <= ceiling_s
    assert steady_s[0] == shaken_s[0] == 0.0
    for most_s, wait_s in zip(steady_s, shaken_s, strict=True):
        assert (1 - jitter) * most_s - 1e-9 <= wait_s <= most_s
    assert shaken_s == waits_s(jitter)


@pytest.mark.parametrize("kind", CLIENT_FAULTS)
def test_plan_without_options_takes_the_defaults(kind: str) -> None:
    assert isinstance(plan(Fault(kind=kind)), FAULTS[kind][0])


@pytest.mark.parametrize(
    ("kind", "options", "part"),
    [
        ("disconect", {}, "unknown fault 'disconect'; did you mean 'disconnect'?"),
        ("zzz", {}, f"known faults: {', '.join(FAULTS)}"),
        ("disconnect", {"spred_s": 1.0}, "fault 'disconnect' has no option 'spred_s'; it has: backoff_s, "),
        ("disconnect", {"back_after_s": -1.0}, "back_after_s must be finite and >= 0, got -1.0"),
        ("disconnect", {"back_after_s": float("nan")}, "back_after_s must be finite and >= 0, got nan"),
        ("disconnect", {"spread_s": float("inf")}, "spread_s must be finite and >= 0, got inf"),
        ("disconnect", {"resume": "yes"}, "fault 'disconnect': Expected `bool`"),
        ("disconnect", {"backoff_s": -0.1}, "backoff_s of a fault must be finite and >= 0, got -0.1"),
        ("disconnect", {"backoff_factor": 0.5}, "backoff_factor of a fault must be finite and >= 1, got 0.5"),
        ("disconnect", {"backoff_jitter": 1.1}, "backoff_jitter of a fault must be between 0 and 1, got 1.1"),
        ("drop", {"during": "sleep"}, "fault 'drop': Invalid enum value 'sleep'"),
        ("drop", {"how": "politely"}, "fault 'drop': Invalid enum value 'politely'"),
        ("drop", {"back": False, "resume": True}, "fault 'drop': resume without back"),
        ("drop", {"during": "subscribe", "resume": True}, "fault 'drop': resume goes with publish or receive"),
        ("drop", {"limit_s": float("inf")}, "fault 'drop': limit_s must be finite and >= 0, got inf"),
        ("failure", {"count": 3, "of": 2}, "fault 'failure': count must be from 0 to of (2), got 3"),
        ("failure", {"of": -1}, "fault 'failure': of must be a whole number from 0"),
        ("latency", {"least_s": -1.0}, "fault 'latency': least_s must be finite and >= 0, got -1.0"),
        ("latency", {"least_s": 2.0, "most_s": 1.0}, "fault 'latency': most_s must be at least least_s (2), got 1"),
        ("latency", {"most_s": 1.0, "distribution": "pareto"}, "fault 'latency': a pareto distribution needs a least_s above 0"),
        ("latency", {"on": "connect"}, "fault 'latency': Invalid enum value 'connect'"),
        ("reader", {"rate_bytes_per_s": -5.0}, "fault 'reader': rate_bytes_per_s must be finite and >= 0, got -5.0"),
        ("churn", {"failure_ratio": 1.5}, "failure_ratio must be between 0 and 1, got 1.5"),
        ("churn", {"failure_ratio": float("nan")}, "failure_ratio must be between 0 and 1, got nan"),
    ],
)
def test_plan_a_wrong_fault_is_refused_in_one_sentence(kind: str, options: dict[str, float | int | str | bool], part: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan(Fault(kind=kind, options=options))

    assert part in str(refused.value)
    assert "\n" not in str(refused.value)
