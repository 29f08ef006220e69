"""Who has a subject, decided without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.fleet.consumer.claims import Holder, floors, holder_of, is_ahead, metadata_of, plan

subjects = st.sets(st.sampled_from(["in.a", "in.b", "in.c"]))
versions = st.tuples(st.integers(0, 2), st.integers(0, 2))


def holder(name: str, *subjects: str, version: tuple[int, int] = (1, 1), floor: int = 0, **left: tuple[tuple[int, int], int]) -> Holder:
    return Holder(
        name=name, subjects=subjects, version=version, owner=name, ack_floor=floor, left={f"in.{key}": told for key, told in left.items()}
    )


def test_plan_with_nobody_else_has_everything() -> None:
    planned = plan(("in.a", "in.b"), (1, 1), [], take=True)

    assert (planned.subjects, planned.refused, planned.rob) == (("in.a", "in.b"), (), ())


def test_plan_with_a_holder_of_an_older_assignment_takes_from_it_and_from_nobody_else() -> None:
    old, apart = holder("old", "in.a", "in.z", version=(1, 9)), holder("apart", "in.y", version=(1, 0))

    planned = plan(("in.a", "in.b"), (2, 1), [old, apart], take=False)

    assert (planned.subjects, planned.rob) == (("in.a", "in.b"), (old,))


def test_plan_with_a_holder_of_a_newer_assignment_leaves_its_subjects() -> None:
    planned = plan(("in.a", "in.b"), (2, 1), [holder("new", "in.a", version=(2, 2))], take=True)

    assert (planned.subjects, planned.refused, planned.rob) == (("in.b",), ("in.a",), ())


def test_plan_at_the_same_version_takes_in_an_update_and_leaves_in_a_re_creation() -> None:
    same = holder("same", "in.a", version=(0, 0))

    taking, leaving = plan(("in.a",), (0, 0), [same], take=True), plan(("in.a",), (0, 0), [same], take=False)

    assert (taking.subjects, taking.rob) == (("in.a",), (same,))
    assert (leaving.subjects, leaving.refused, leaving.rob) == ((), ("in.a",), ())


@given(wanted=subjects, version=versions, take=st.booleans(), others=st.lists(st.tuples(subjects, versions), max_size=4))
def test_plan_of_anything_never_keeps_a_subject_that_an_unrobbed_holder_has(
    wanted: set[str], version: tuple[int, int], take: bool, others: list[tuple[set[str], tuple[int, int]]]
) -> None:
    holders = [holder(str(number), *sorted(theirs), version=theirs_version) for number, (theirs, theirs_version) in enumerate(others)]

    planned = plan(tuple(sorted(wanted)), version, holders, take=take)

    robbed = {one.name for one in planned.rob}
    assert set(planned.subjects) | set(planned.refused) == wanted
    assert not any(set(one.subjects) & set(planned.subjects) for one in holders if one.name not in robbed)
    assert all(one.version <= version for one in planned.rob)


def test_floors_of_a_subject_follow_the_newest_assignment_that_knew_it() -> None:
    dead = holder("dead", "in.a", version=(1, 5), floor=10)
    owner = holder("owner", "in.a", "in.b", version=(1, 6), floor=70)
    left = holder("left", "in.c", version=(1, 9), floor=90, b=((1, 4), 50), a=((1, 7), 80))

    assert floors(["in.a", "in.b", "in.c", "in.new"], [dead, owner, left]) == {"in.a": 80, "in.b": 70, "in.c": 90}


def test_floors_that_we_know_ourselves_count_until_somebody_newer_tells_otherwise() -> None:
    told = {"in.a": ((1, 5), 50), "in.b": ((1, 5), 50)}

    assert floors(["in.a", "in.b"], [holder("newer", "in.b", version=(1, 6), floor=60)], told) == {"in.a": 50, "in.b": 60}


@pytest.mark.parametrize(
    ("owner", "version", "take", "expected"),
    [
        ("x", (1, 3), False, True),
        ("x", (1, 3), True, True),
        ("x", (1, 2), False, True),
        ("x", (1, 2), True, False),
        ("x", (1, 1), False, False),
    ],
)
def test_is_ahead_of_another_under_our_name_follows_the_versions_and_never_of_ourselves(
    owner: str, version: tuple[int, int], take: bool, expected: bool
) -> None:
    assert is_ahead(holder(owner, version=version), (1, 2), "me", take=take) is expected
    assert not is_ahead(holder("me", version=version), (1, 2), "me", take=take)


def test_floors_of_equal_versions_take_the_one_furthest_behind() -> None:
    assert floors(["in.a"], [holder("one", "in.a", floor=7), holder("other", "in.a", floor=3)]) == {"in.a": 3}


@given(
    version=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), left=st.dictionaries(st.text("ab.", min_size=1), st.integers(0, 99))
)
def test_holder_of_metadata_reads_what_was_said(version: tuple[int, int], left: dict[str, int]) -> None:
    told = {subject: (version, floor) for subject, floor in left.items()}

    again = holder_of("x", ["in.b", "in.a"], 4, metadata_of(version, "me", told))

    assert (again.version, again.owner, dict(again.left)) == (version, "me", told)
    assert (again.subjects, again.ack_floor) == (("in.a", "in.b"), 4)


def test_holder_of_metadata_that_somebody_else_wrote_counts_as_no_version() -> None:
    for metadata in ({}, {"floodmark-version": "new"}, {"floodmark-version": "1.2.3"}, {"floodmark-left": "[]"}):
        assert holder_of("x", [], 0, metadata).version == (0, 0)
