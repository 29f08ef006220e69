"""Who is hit by a fault: the exact share, decided by the seed and the occasion alone, and nobody at ratio 0."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.faults import FAULTS, plan
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


@pytest.mark.parametrize("kind", FAULTS)
def test_plan_without_options_takes_the_defaults(kind: str) -> None:
    assert isinstance(plan(Fault(kind=kind)), FAULTS[kind][0])


@pytest.mark.parametrize(
    ("kind", "options", "part"),
    [
        ("disconect", {}, "unknown fault 'disconect'; did you mean 'disconnect'?"),
        ("zzz", {}, f"known faults: {', '.join(FAULTS)}"),
        ("disconnect", {"spred_s": 1.0}, "fault 'disconnect' has no option 'spred_s'; it has: resume, abrupt, back_after_s, spread_s"),
        ("disconnect", {"back_after_s": -1.0}, "back_after_s must be finite and >= 0, got -1.0"),
        ("disconnect", {"back_after_s": float("nan")}, "back_after_s must be finite and >= 0, got nan"),
        ("disconnect", {"spread_s": float("inf")}, "spread_s must be finite and >= 0, got inf"),
        ("disconnect", {"resume": "yes"}, "fault 'disconnect': Expected `bool`"),
        ("churn", {"failure_ratio": 1.5}, "failure_ratio must be between 0 and 1, got 1.5"),
        ("churn", {"failure_ratio": float("nan")}, "failure_ratio must be between 0 and 1, got nan"),
    ],
)
def test_plan_a_wrong_fault_is_refused_in_one_sentence(kind: str, options: dict[str, float | int | str | bool], part: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan(Fault(kind=kind, options=options))

    assert part in str(refused.value)
    assert "\n" not in str(refused.value)
