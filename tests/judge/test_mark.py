"""The search for the mark: against exact limits, noisy ones, contradictions, and targets whose limit is not to be seen."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.judge.mark import Ending, Search, ending, next_value, view
from floodmark.model.mark import MarkTrial, Outcome

Finds = Callable[[float, int], Outcome]  # the value, and how often it was tried before
HELD, BROKE, UNKNOWN = Outcome.HELD, Outcome.BROKE, Outcome.UNKNOWN


def search_with(find: Finds, search: Search) -> list[MarkTrial]:
    """Search to the end."""
    trials: list[MarkTrial] = []
    while (value := next_value(search, trials)) is not None:
        before = sum(trial.value == value for trial in trials)
        trials.append(MarkTrial(value=value, outcome=find(value, before)))
    return trials


def limit(at: float) -> Finds:
    """A target that breaks above a limit, exactly."""
    return lambda value, _: HELD if value <= at else BROKE


def of(search: Search, trials: list[MarkTrial]) -> tuple[Ending, float | None, float | None]:
    seen = view(search, trials)
    return ending(search, trials), seen.held.value if seen.held else None, seen.broke.value if seen.broke else None


def test_next_value_without_trials_is_the_lowest() -> None:
    assert next_value(Search(lo=1000, hi=1e6), []) == 1000


@given(
    lo=st.floats(1, 1e4),
    ratio=st.floats(1.5, 1e6),
    place=st.floats(0.01, 0.99),
    precision=st.sampled_from([0.02, 0.05, 0.1, 0.25, 1.0]),
    confirm=st.integers(0, 3),
)
def test_search_for_an_exact_limit_brackets_it_within_the_precision(
    lo: float, ratio: float, place: float, precision: float, confirm: int
) -> None:
    search = Search(lo=lo, hi=lo * ratio, precision=precision, confirm=confirm, trials_max=60)
    truth = lo * ratio**place

    trials = search_with(limit(truth), search)

    found, held, broke = of(search, trials)
    assert found is Ending.FOUND
    assert held is not None
    assert broke is not None
    assert held <= truth < broke
    assert broke / held <= (1 + precision) * (1 + 1e-6)
    assert sum(trial.value == held for trial in trials) == sum(trial.value == broke for trial in trials) == confirm + 1


@given(truth=st.integers(1, 499), precision=st.sampled_from([0.05, 0.2]))
def test_search_in_whole_numbers_tries_nothing_else_and_ends_at_neighbours_at_least(truth: int, precision: float) -> None:
    search = Search(lo=1, hi=500, precision=precision, whole=True)

    trials = search_with(limit(truth), search)

    found, held, broke = of(search, trials)
    assert found is Ending.FOUND
    assert held is not None
    assert broke is not None
    assert held <= truth < broke
    assert broke <= max(held + 1, held * (1 + precision))
    assert all(trial.value == int(trial.value) for trial in trials)


def test_search_never_goes_beyond_one_step_above_the_limit() -> None:
    search = Search(lo=1000, hi=1e6)

    trials = search_with(limit(20_000), search)

    assert max(trial.value for trial in trials) <= 20_000 * search.factor * 1.01
    assert len(trials) < 20


def test_search_of_a_target_without_a_limit_held_to_the_end_and_never_broke() -> None:
    search = Search(lo=1000, hi=1e6)

    trials = search_with(limit(math.inf), search)

    assert of(search, trials) == (Ending.HELD_TO_HI, 1e6, None)
    assert sum(trial.value == 1e6 for trial in trials) == search.confirm + 1


def test_search_of_a_target_that_breaks_at_once_says_so_after_the_confirmations() -> None:
    search = Search(lo=1000, hi=1e6)

    trials = search_with(limit(1), search)

    assert of(search, trials) == (Ending.BROKE_AT_LO, None, 1000)
    assert [trial.value for trial in trials] == [1000] * 3


class Tried(NamedTuple):
    """What became of a thousand searches: how many found a mark, how many of these contain the truth, and the means of those."""

    found: int
    contained: int
    width_ratio: float
    trials: float


def thousand(sigma: float, flaky: float = 0.0, unjudged: float = 0.0) -> Tried:
    """Search for limits that move from trial to trial by a normal factor, and fail, or cannot be judged, by chance besides."""
    search = Search(lo=1000, hi=1e6)
    contained = 0
    widths: list[float] = []
    counts: list[int] = []
    for seed in range(1000):
        chance = random.Random(seed)
        truth = math.exp(chance.uniform(math.log(2000), math.log(500_000)))

        def find(value: float, _: int, chance: random.Random = chance, truth: float = truth) -> Outcome:
            if chance.random() < unjudged:
                return UNKNOWN
            holds = value <= truth * math.exp(chance.gauss(0, sigma)) and chance.random() >= flaky
            return HELD if holds else BROKE

        trials = search_with(find, search)
        assert len(trials) <= search.trials_max
        end, held, broke = of(search, trials)
        if end is Ending.FOUND:
            assert held is not None
            assert broke is not None
            contained += held <= truth <= broke
            widths.append(broke / held - 1)
            counts.append(len(trials))
    return Tried(len(widths), contained, sum(widths) / len(widths), sum(counts) / len(counts))


@pytest.mark.parametrize(("sigma", "flaky", "unjudged"), [(0.01, 0.0, 0.0), (0.02, 0.0, 0.0), (0.03, 0.0, 0.0), (0.02, 0.02, 0.02)])
def test_search_with_noise_brackets_the_truth_in_95_of_100_of_a_thousand_seeds(sigma: float, flaky: float, unjudged: float) -> None:
    tried = thousand(sigma, flaky, unjudged)

    assert tried.found >= 900
    assert tried.contained >= 0.95 * tried.found


def test_search_where_one_trial_of_many_failed_by_chance_goes_on_above_it() -> None:
    search = Search(lo=1000, hi=100_000)

    trials = search_with(lambda value, before: BROKE if 4000 < value < 5000 and before == 0 else limit(20_000)(value, before), search)

    found, held, broke = of(search, trials)
    assert found is Ending.FOUND
    assert held is not None
    assert broke is not None
    assert held <= 20_000 < broke


def test_search_that_contradicts_itself_at_one_value_keeps_it_inside_the_bracket() -> None:
    search = Search(lo=1000, hi=100_000)
    first = search_with(limit(20_000), search)
    _, doubted, _ = of(search, first)
    assert doubted is not None

    trials = search_with(lambda value, before: (HELD, BROKE)[before % 2] if value == doubted else limit(20_000)(value, before), search)

    found, held, broke = of(search, trials)
    assert found is Ending.FOUND
    assert held is not None
    assert broke is not None
    assert held < doubted < broke
    assert [one.value for one in view(search, trials).tallies if one.doubtful] == [doubted]


def test_search_where_everything_contradicts_itself_finds_nothing() -> None:
    search = Search(lo=1000, hi=100_000, trials_max=60)

    trials = search_with(lambda value, before: (HELD, BROKE)[(before + (value > 1000)) % 2] if value > 1000 else HELD, search)

    assert ending(search, trials) in (Ending.CONTRADICTIONS, Ending.TRIALS_RAN_OUT)
    assert ending(search, search_with(lambda _, before: (HELD, BROKE)[before % 2], search)) is not Ending.FOUND


def test_search_at_a_lowest_value_that_contradicts_itself_says_that() -> None:
    search = Search(lo=1000, hi=2000)

    trials = search_with(lambda value, before: (BROKE, HELD)[before % 2] if value == 1000 else BROKE, search)

    assert ending(search, trials) is Ending.CONTRADICTIONS


def test_search_that_cannot_be_judged_above_a_value_is_open_and_never_a_break() -> None:
    search = Search(lo=1000, hi=100_000)

    trials = search_with(lambda value, _: HELD if value <= 20_000 else UNKNOWN, search)

    found, held, broke = of(search, trials)
    assert (found, broke) == (Ending.OPEN, None)
    assert held is not None
    assert 20_000 / 1.1 <= held <= 20_000
    assert sum(trial.value == held for trial in trials) == 3


def test_search_with_one_trial_that_could_not_be_judged_makes_it_again() -> None:
    search = Search(lo=1000, hi=100_000)

    trials = search_with(lambda value, before: UNKNOWN if before == 0 and value > 5000 else limit(20_000)(value, before), search)

    found, held, broke = of(search, trials)
    assert found is Ending.FOUND
    assert held is not None
    assert broke is not None
    assert held <= 20_000 < broke


def test_search_with_an_open_value_below_a_break_finds_nothing() -> None:
    search = Search(lo=1000, hi=100_000)

    trials = search_with(lambda value, _: HELD if value < 10_000 else UNKNOWN if value < 15_000 else BROKE, search)

    found, _, broke = of(search, trials)
    assert found is Ending.OPEN
    assert broke is not None


def test_search_of_what_holds_again_above_takes_the_lowest_break() -> None:
    search = Search(lo=1000, hi=8000, confirm=0)
    trials = [MarkTrial(value=value, outcome=outcome) for value, outcome in ((1000, HELD), (2000, BROKE), (4000, HELD), (8000, BROKE))]

    while (value := next_value(search, trials)) is not None:
        trials.append(MarkTrial(value=value, outcome=limit(1500)(value, 0)))

    found, held, broke = of(search, trials)
    assert found is Ending.FOUND
    assert held is not None
    assert broke is not None
    assert held <= 1500 < broke <= 2000


def test_search_ends_after_its_trials_whatever_they_find() -> None:
    search = Search(lo=1, hi=1e9, precision=0.01, trials_max=5)

    trials = search_with(limit(12_345), search)

    assert len(trials) == 5
    assert ending(search, trials) is Ending.TRIALS_RAN_OUT


def test_search_with_the_same_trials_in_parts_wants_the_same_next() -> None:
    search = Search(lo=1000, hi=100_000)
    trials = search_with(limit(20_000), search)

    wanted = [next_value(search, trials[:count]) for count in range(len(trials))]

    assert wanted == [trial.value for trial in trials]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lo": 0.0}, "0 < LO < HI"),
        ({"lo": 20.0}, "0 < LO < HI"),
        ({"hi": math.inf}, "0 < LO < HI"),
        ({"lo": math.nan}, "0 < LO < HI"),
        ({"precision": 0.0}, "between 0.1% and 100%"),
        ({"precision": math.nan}, "between 0.1% and 100%"),
        ({"confirm": -1}, "0 to 10 times"),
        ({"trials_max": 0}, "at least 1"),
    ],
)
def test_search_with_impossible_bounds_is_a_usage_error(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Search(**{"lo": 10.0, "hi": 20.0, **wrong})  # type: ignore[arg-type]


if __name__ == "__main__":  # the table of docs/mark.md
    for sigma in (0.0, 0.01, 0.02, 0.03, 0.05):
        tried = thousand(sigma)
        print(f"{sigma:.0%}: {tried.contained / tried.found:.1%} of {tried.found}, {tried.width_ratio:.1%} wide, {tried.trials:.1f} trials")
