"""Turns, medians, ratios, and that a contender that failed once has no figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bench.measure import Figure, Outcome, Reading, rate, take_turns
from bench.processes import BenchError


def readings(*values: float) -> tuple[Reading, ...]:
    return tuple(Reading(value=value, check="all delivered") for value in values)


def contender(name: str, values: list[float | None], calls: list[str]) -> Callable[[], Reading]:
    """A contender that gives these values in turn; None is a failure."""
    left: Iterator[float | None] = iter(values)

    def measure() -> Reading:
        calls.append(name)
        value = next(left)
        if value is None:
            raise BenchError("account does not add up")
        return Reading(value=value, check="all delivered")

    return measure


def silent(contender: str, number: int, said: str) -> None:
    pass


def test_take_turns_two_contenders_interleaves_them() -> None:
    calls: list[str] = []

    figures = take_turns({"a": contender("a", [3, 1, 2], calls), "b": contender("b", [6, 4, 5], calls)}, rounds=3, progress=silent)

    assert calls == ["a", "b"] * 3
    assert [(figure.contender, figure.median, figure.spread) for figure in figures] == [("a", 2, (1, 3)), ("b", 5, (4, 6))]


def test_take_turns_failure_in_one_round_leaves_no_figure() -> None:
    calls: list[str] = []

    figures = take_turns({"a": contender("a", [1, None, 3], calls), "b": contender("b", [1, 1, 1], calls)}, rounds=3, progress=silent)

    assert figures[0] == Figure(contender="a", failure="account does not add up")
    assert calls == ["a", "b", "a", "b", "b"]


def test_take_turns_bug_in_a_contender_is_not_swallowed() -> None:
    def broken() -> Reading:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take_turns({"a": broken}, rounds=1, progress=silent)


def outcome(better: str, ours: Figure, theirs: Figure) -> Outcome:
    return Outcome(title="t", unit="u", better="higher" if better == "higher" else "lower", figures=(ours, theirs))


@pytest.mark.parametrize(("better", "wanted"), [("higher", 2.0), ("lower", 0.5)])
def test_ratio_says_how_far_the_yardstick_is_ahead(better: str, wanted: float) -> None:
    made = outcome(better, Figure(contender="a", readings=readings(20, 200, 8)), Figure(contender="b", readings=readings(10, 100, 1)))

    assert made.ratio(made.figures[1]) == wanted  # the median of 2, 2 and 8: pairs of a round, not of the medians


def test_ratio_without_both_figures_is_none() -> None:
    whole, failed = Figure(contender="a", readings=readings(1.0)), Figure(contender="b", failure="not installed")

    assert outcome("higher", whole, failed).ratio(failed) is None
    assert outcome("higher", failed, whole).ratio(whole) is None
    assert outcome("higher", whole, failed).ratio(whole) is None


def test_rate_without_a_tick_spent_is_no_measurement() -> None:
    assert rate(10, 2.0) == 5.0
    with pytest.raises(BenchError, match="too little work"):
        rate(10, 0.0)
