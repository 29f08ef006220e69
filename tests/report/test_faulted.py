"""What is said of a fault: only what was measured, and what was not is named."""

from __future__ import annotations

import msgspec
import pytest

from floodmark.model.result import FaultResult
from floodmark.report import faulted
from tests.report import made

FIRST, SECOND, BARE = made.faulted().faults


def test_degradation_of_a_measured_fault_gives_its_figures() -> None:
    text = faulted.degradation(FIRST)

    assert "from 5,990 /s to 1,750 /s while it held (29.2 % of before)" in text
    assert "from 3.12 ms to 412 ms while it held (132x)" in text
    assert "no delivery sent from the strike on went wrong" in text


def test_degradation_of_an_unmeasured_fault_names_what_is_missing() -> None:
    text = faulted.degradation(BARE)

    assert "rate of deliveries changed was not measured" in text
    assert "latency changed was not measured" in text
    assert "was not counted" in text
    assert not any(letter.isdigit() for letter in text)


def test_degradation_counts_losses_and_says_how_sure_it_is() -> None:
    text = faulted.degradation(msgspec.structs.replace(SECOND, duplicated=3, unplaced=7))

    assert "1,234 lost, 3 duplicated (up to 7 more may belong here)" in text


def test_degradation_that_did_not_come_is_not_claimed() -> None:
    better = msgspec.structs.replace(FIRST, during=msgspec.structs.replace(FIRST.during, delivered_hz=6_000.0, response_ns_p99=3_000_000))

    assert faulted.degradation(better).startswith("By these figures it did not: deliveries went from 5,990 /s to 6,000 /s")
    assert not faulted.degradation(msgspec.structs.replace(better, lost=1)).startswith("By these figures")
    assert not faulted.degradation(msgspec.structs.replace(better, lost=None)).startswith("By these figures")


def test_degradation_of_a_fault_that_hit_nobody_says_so() -> None:
    assert faulted.degradation(msgspec.structs.replace(FIRST, hits=0)).startswith("It touched nothing")


def test_degradation_to_a_standstill_is_zero_and_not_a_dash() -> None:
    still = msgspec.structs.replace(FIRST, during=msgspec.structs.replace(FIRST.during, delivered_hz=0.0))

    assert "to 0 /s while it held (0 % of before)" in faulted.degradation(still)
    assert faulted.course(still)[1] == "0 /s"


def test_recovery_names_the_clocks_that_never_came() -> None:
    assert "the full rate was back after 2.75 s" in faulted.recovery(FIRST)
    assert faulted.recovery(SECOND).endswith("Not seen: the full rate.")
    assert faulted.recovery(FaultResult(kind="drop", index=0, struck_s=1.0, lifted_s=1.0)) == "No moment of the recovery was seen."


@pytest.mark.parametrize(("degraded", "begins"), [(True, "It stayed degraded"), (False, "It did not stay"), (None, "Whether it stayed")])
def test_lasting_tells_three_cases_apart(degraded: bool | None, begins: str) -> None:
    assert faulted.lasting(msgspec.structs.replace(FIRST, degraded=degraded)).startswith(begins)


def test_cells_have_as_many_as_their_heads() -> None:
    for one in (FIRST, SECOND, BARE):
        assert len(faulted.account(one)) == len(faulted.ACCOUNT)
        assert len(faulted.course(one)) == len(faulted.COURSE)
        assert len(faulted.clocks(one)) == len(faulted.CLOCKS)


def test_cells_of_what_was_not_seen_are_dashes() -> None:
    assert faulted.account(BARE)[5:] == ("–",) * 5
    assert set(faulted.course(BARE)) == {"–"}
    assert set(faulted.clocks(BARE)) == {"–"}


def test_slots_gather_the_occasions_of_a_fault() -> None:
    assert faulted.slots((BARE, SECOND, FIRST)) == [(FIRST, SECOND), (BARE,)]


def test_worst_prefers_what_stayed_degraded_then_what_lost() -> None:
    lossy = msgspec.structs.replace(FIRST, lost=5)

    assert faulted.worst((FIRST, SECOND, BARE)) is SECOND
    assert faulted.worst((FIRST, lossy, BARE)) is lossy


def test_name_of_merged_occasions_is_their_range() -> None:
    rest = msgspec.structs.replace(FIRST, occasion=10, occasions=90)

    assert faulted.name(rest) == "disconnect, 11 to 100"
    assert faulted.name(SECOND) == "disconnect, 2nd time"
