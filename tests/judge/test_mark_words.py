"""What a search says of itself: the sentence, the verdict, and that nobody is accused whom the trials do not accuse."""

from __future__ import annotations

import pytest

from floodmark.judge.mark import Search
from floodmark.judge.mark_words import conclude
from floodmark.model.mark import Mark, MarkTrial, Outcome
from floodmark.model.verdict import Verdict

SEARCH = Search(lo=1000, hi=4000, confirm=0, precision=0.5)
LATE = "latency_p99 < 100ms"


def held(value: float) -> MarkTrial:
    return MarkTrial(value=value, outcome=Outcome.HELD)


def broke(value: float, by: str = LATE, why: str = "latency_p99 was 212 ms, wanted < 100 ms") -> MarkTrial:
    return MarkTrial(value=value, outcome=Outcome.BROKE, by=by, why=why)


def unknown(value: float, *, generator: bool, why: str) -> MarkTrial:
    return MarkTrial(value=value, outcome=Outcome.UNKNOWN, generator=generator, why=why)


def concluded(*trials: MarkTrial, search: Search = SEARCH, stopped: str = "") -> Mark:
    return conclude(search, trials, vary="rate_hz", unit="/s", stopped=stopped)


def test_conclude_of_a_bracket_says_both_ends_and_what_broke() -> None:
    mark = concluded(held(1000), held(2000), broke(2900))

    assert mark.verdict is Verdict.PASS
    assert (mark.held, mark.broke, mark.by) == (2000, 2900, LATE)
    assert mark.why == "held up to 2,000 /s, broke at 2,900 /s by `latency_p99 < 100ms` (latency_p99 was 212 ms, wanted < 100 ms)"


def test_conclude_of_trials_that_broke_by_different_criteria_names_the_one_that_most_did() -> None:
    search = Search(lo=1000, hi=4000, confirm=2, precision=0.5)
    ends = [held(1000)] * 3 + [broke(1400, "lost == 0", "lost was 3, wanted == 0"), broke(1400), broke(1400)]

    mark = concluded(*ends, search=search)

    assert mark.verdict is Verdict.PASS
    assert mark.by == LATE


def test_conclude_of_a_break_at_the_lowest_value_is_a_fail() -> None:
    mark = concluded(broke(1000))

    assert mark.verdict is Verdict.FAIL
    assert (mark.held, mark.broke) == (None, 1000)
    assert mark.why.startswith("broke already at 1,000 /s by `latency_p99 < 100ms`")


def test_conclude_of_what_held_all_the_way_is_at_least_that() -> None:
    mark = concluded(held(1000), held(2000), held(4000))

    assert mark.verdict is Verdict.UNKNOWN
    assert (mark.held, mark.broke, mark.by) == (4000, None, "")
    assert mark.why.startswith("held all the way to 4,000 /s: the mark is at least that")


def test_conclude_where_the_generator_was_the_limit_accuses_nobody() -> None:
    late = unknown(2900, generator=True, why="the generator itself was late")

    mark = concluded(held(1000), held(2000), late, late)

    assert mark.verdict is Verdict.UNKNOWN
    assert (mark.held, mark.broke, mark.open) == (2000, None, (2900,))
    assert mark.why == "at least 2,000 /s; the load generator was the limit above it (at 2,900 /s: the generator itself was late)"


def test_conclude_where_a_target_did_not_start_does_not_blame_the_generator() -> None:
    away = unknown(2900, generator=False, why="it was not ready within 20 s")

    mark = concluded(held(1000), held(2000), away, away)

    assert mark.verdict is Verdict.UNKNOWN
    assert mark.why == "at least 2,000 /s; at 2,900 /s it could not be judged: it was not ready within 20 s"
    assert "generator" not in mark.why


@pytest.mark.parametrize(("generator", "said"), [(True, "the load generator was the limit at 1,000 /s already"), (False, "could not be")])
def test_conclude_where_the_lowest_value_could_not_be_judged_says_so(generator: bool, said: str) -> None:
    mark = concluded(*[unknown(1000, generator=generator, why="why")] * 2)

    assert mark.verdict is Verdict.UNKNOWN
    assert (mark.held, mark.broke) == (None, None)
    assert said in mark.why


def test_conclude_of_contradictions_at_the_edge_names_them_and_still_finds() -> None:
    search = Search(lo=1000, hi=4000, confirm=1, precision=0.5)
    ends = [held(1000)] * 2 + [held(1400), broke(1400), broke(2000), broke(2000)]

    mark = concluded(*ends, search=search)

    assert mark.verdict is Verdict.PASS
    assert (mark.held, mark.broke, mark.doubtful) == (1000, 2000, (1400,))
    assert "contradict each other at 1,400 /s (held 1, broke 1)" in mark.why


def test_conclude_of_contradictions_only_is_unknown() -> None:
    search = Search(lo=1000, hi=4000, confirm=1, precision=0.5)

    mark = concluded(held(1000), broke(1000), search=search)

    assert mark.verdict is Verdict.UNKNOWN
    assert "contradict each other" in mark.why
    assert mark.held is None


def test_conclude_of_what_held_again_above_its_break_says_where() -> None:
    mark = concluded(held(1000), broke(1400), held(2000))

    assert (mark.held, mark.broke, mark.held_above) == (1000, 1400, (2000,))
    assert "held again at 2,000 /s" in mark.why


def test_conclude_of_a_search_that_was_stopped_is_unknown_with_the_bracket_so_far() -> None:
    search = Search(lo=1000, hi=4000)

    mark = concluded(held(1000), broke(2000), search=search, stopped="interrupted")

    assert mark.verdict is Verdict.UNKNOWN
    assert (mark.held, mark.broke) == (1000, 2000)
    assert mark.why.startswith("not found: interrupted; so far it held up to 1,000 /s and broke at 2,000 /s by")
    assert mark.why.endswith(", not confirmed")


def test_conclude_of_a_stopped_search_that_had_its_bracket_is_unknown_all_the_same() -> None:
    assert concluded(held(1000), held(2000), broke(2900), stopped="interrupted").verdict is Verdict.UNKNOWN


def test_conclude_without_a_trial_is_unknown() -> None:
    mark = concluded()

    assert mark.verdict is Verdict.UNKNOWN
    assert mark.why.endswith("so far it has not been tried")


def test_conclude_when_trials_ran_out_says_after_how_many() -> None:
    mark = concluded(held(1000), search=Search(lo=1000, hi=4000, trials_max=1))

    assert mark.verdict is Verdict.UNKNOWN
    assert "after 1 trials" in mark.why
