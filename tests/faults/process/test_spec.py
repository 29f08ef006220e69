"""The pure part: who is drawn, what the options refuse, what the journal keeps."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.faults.process import PROCESS_FAULTS, Descriptors, Journal, Memory, Restart, Scene, Starve
from floodmark.faults.process.descriptors import limit_for
from floodmark.faults.process.journal import PIDS_MAX
from floodmark.faults.process.procfs import parse_stat
from floodmark.faults.process.spec import drawn
from floodmark.faults.process.tree import Process, Tree

NOBODY = Tree(2**22 + 7, 1)  # above the largest PID there can be


def scene(ratio: float, seed: int = 0, occasion: int = 0) -> Scene:
    """A scene on nobody."""
    return Scene(tree=NOBODY, journal=Journal(lambda: 0.0), ratio=ratio, seed=seed, occasion=occasion)


@given(count=st.integers(0, 200), ratio=st.floats(0, 1), seed=st.integers(0, 2**32), occasion=st.integers(0, 1000))
def test_drawn_is_exact_within_range_and_repeatable(count: int, ratio: float, seed: int, occasion: int) -> None:
    places = drawn(count, ratio, seed=seed, occasion=occasion)

    assert len(places) == round(ratio * count)
    assert places <= set(range(count))
    assert places == drawn(count, ratio, seed=seed, occasion=occasion)


def test_drawn_other_seed_or_occasion_draws_others() -> None:
    first = drawn(1000, 0.5, seed=1, occasion=0)

    assert drawn(1000, 0.5, seed=2, occasion=0) != first
    assert drawn(1000, 0.5, seed=1, occasion=1) != first


def test_victims_depend_on_age_and_not_on_the_order_they_are_listed_in() -> None:
    processes = [Process(age, 9000 - age) for age in range(50)]

    chosen = scene(0.3, seed=5).victims(processes, "tree")

    assert chosen == scene(0.3, seed=5).victims(processes[::-1], "tree")
    assert len(chosen) == 15


def test_victims_by_whom_are_the_root_or_the_others() -> None:
    processes = [NOBODY.root, Process(5, 10), Process(6, 11)]

    assert scene(1).victims(processes, "root") == [NOBODY.root]
    assert scene(1).victims(processes, "workers") == processes[1:]
    assert scene(1).victims(processes, "tree") == processes


@given(used=st.sets(st.integers(0, 60)), extra=st.integers(0, 20))
def test_limit_for_leaves_exactly_that_many_free_numbers(used: set[int], extra: int) -> None:
    limit = limit_for(used, extra)

    assert len(set(range(limit)) - used) == extra
    assert limit not in used


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_scene_with_a_wrong_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        scene(ratio)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Memory, {"extra_bytes": -1}),
        (Memory, {"factor": 0.0}),
        (Memory, {"factor": float("nan")}),
        (Memory, {"factor": float("inf")}),
        (Descriptors, {"extra": -1}),
        (Starve, {"burners_per_core": 0}),
        (Starve, {"burners_per_core": 10_000}),
        (Starve, {"nice": -1}),
        (Starve, {"nice": 20}),
        (Restart, {"grace_s": -1.0}),
        (Restart, {"grace_s": float("inf")}),
    ],
)
def test_options_out_of_range_are_refused_by_name(kind: type[Any], options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        kind(**options)


@pytest.mark.parametrize("kind", list(PROCESS_FAULTS))
def test_table_names_each_fault_as_it_names_itself_and_refuses_unknown_options(kind: str) -> None:
    fault, text = PROCESS_FAULTS[kind]

    assert kind == fault.KIND
    assert text
    msgspec.convert({}, fault)
    with pytest.raises(msgspec.ValidationError, match="unknown"):
        msgspec.convert({"unknown": 1}, fault)


def test_journal_full_forgets_the_oldest_and_tells() -> None:
    clock = iter(range(100))
    log = Journal(lambda: next(clock), entries_max=3)

    for number in range(5):
        log.act("kill", number).applied([Process(1, 2)])

    assert [entry.occasion for entry in log.entries()] == [2, 3, 4]
    assert log.forgotten_count == 2


def test_journal_entry_of_a_large_tree_keeps_the_count_and_the_first_pids() -> None:
    log = Journal(lambda: 1.0)

    entry = log.act("kill", 0).applied([Process(1, pid) for pid in range(1000)])

    assert entry.hits == 1000
    assert entry.pids == tuple(range(PIDS_MAX))
    assert msgspec.json.decode(msgspec.json.encode(entry), type=type(entry)) == entry


@given(name=st.binary(min_size=1, max_size=15))
def test_parse_stat_any_name_leaves_the_fields_in_place(name: bytes) -> None:
    look = parse_stat(b"42 (" + name + b") S 7 8 9 0 -1 0 0 0 0 0 100 23 0 0 20 0 1 0 900 0 0")

    assert (look.pid, look.state, look.parent, look.session, look.cpu_ticks, look.started_ticks) == (42, "S", 7, 9, 123, 900)
