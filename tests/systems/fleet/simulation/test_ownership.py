"""Who works on what: overlaps are counted while they are short, and reported when they are long."""

from __future__ import annotations

from floodmark.systems.fleet.simulation.ownership import Ownership


def ownership() -> tuple[Ownership, list[str]]:
    reports: list[str] = []
    return Ownership(1.0, reports.append), reports


def test_ownership_without_anybody_reports_nothing() -> None:
    owned, reports = ownership()

    assert (owned.lasting(100.0), owned.overlaps_count, reports) == ([], 0, [])


def test_overlap_within_the_limit_is_a_figure() -> None:
    owned, reports = ownership()

    owned.take(0.0, "a", ["p", "q"])
    owned.take(1.0, "b", ["p"])
    owned.take(1.5, "a", ["q"])

    assert (owned.overlaps_count, owned.overlap_s_longest, reports) == (1, 0.5, [])
    assert owned.owners("p") == ("b",)


def test_overlap_beyond_the_limit_is_reported_when_it_ends() -> None:
    owned, reports = ownership()

    owned.take(0.0, "a", ["p"])
    owned.take(1.0, "b", ["p"])
    assert owned.lasting(1.5) == []
    assert owned.lasting(2.5) == ["p"]
    owned.take(3.0, "a", [])

    assert len(reports) == 1
    assert "p for 2.000 s" in reports[0]


def test_frozen_node_works_on_nothing_until_it_resumes() -> None:
    owned, reports = ownership()

    owned.take(0.0, "a", ["p"])
    owned.pause(1.0, "a")
    owned.take(2.0, "b", ["p"])
    assert owned.lasting(100.0) == []
    owned.resume(100.0, "a")
    owned.take(102.0, "a", [])

    assert len(reports) == 1
    assert owned.of("b") == {"p"}


def test_dead_node_ends_its_overlap() -> None:
    owned, reports = ownership()

    owned.take(0.0, "a", ["p"])
    owned.take(0.5, "b", ["p"])
    owned.pause(1.0, "a")

    assert (owned.overlap_s_total, owned.lasting(100.0), reports) == (0.5, [], [])
