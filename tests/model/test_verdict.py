"""Merging verdicts: FAIL beats UNKNOWN beats PASS, and nothing at all is UNKNOWN."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from floodmark.model.verdict import Verdict, worst

RANK = [Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL]


@given(st.lists(st.sampled_from(Verdict), min_size=1))
def test_worst_of_some_is_the_highest_rank(verdicts: list[Verdict]) -> None:
    assert worst(verdicts) is max(verdicts, key=RANK.index)


def test_worst_of_none_is_unknown() -> None:
    assert worst([]) is Verdict.UNKNOWN


def test_exit_codes_are_those_of_the_command_line() -> None:
    assert {verdict.name: verdict.exit_code for verdict in Verdict} == {"PASS": 0, "FAIL": 10, "UNKNOWN": 11}
