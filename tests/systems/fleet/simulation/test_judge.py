"""The judge of writes: silent on a good history and on none at all, and each invariant with a planted fault."""

from __future__ import annotations

import math

from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.records import AssignmentRecord, Heartbeat, LeaderRecord, encode
from floodmark.systems.fleet.simulation.judge import Judge
from floodmark.systems.fleet.store.base import Entry

SETTINGS = profile("fast")
START_S = 1000.0  # long after everything was calm


class Trial:
    """A judge, what it reported, and short words for what is written."""

    def __init__(self, *, partitions_count: int = 4, calm: bool = True, bounded_moves: bool = True) -> None:
        self.reports: list[str] = []
        self.completes: list[float] = []
        since_s = 0.0 if calm else math.inf
        self.judge = Judge(
            SETTINGS,
            lambda invariant, _sentence: self.reports.append(invariant),
            partitions_count=lambda: partitions_count,
            calm_since_s=lambda: since_s,
            sight_since_s=lambda _node: since_s,
            on_complete=self.completes.append,
            bounded_moves=bounded_moves,
        )

    def leads(self, at_s: float, node: str, epoch: int) -> None:
        """A worker writes that it leads."""
        value = encode(LeaderRecord(worker=node, token=f"token of {node}", epoch=epoch))
        self.judge.wrote(START_S + at_s, node, SETTINGS.election_bucket, Entry(key="leader", value=value, revision=1))

    def beats(self, at_s: float, worker: str, node: str = "", *, deleted: bool = False) -> None:
        """A heartbeat, or its deletion."""
        value = b"" if deleted else encode(Heartbeat(worker=worker, token="t"))
        entry = Entry(key=f"heartbeat.{worker}", value=value, revision=1, deleted=deleted)
        self.judge.wrote(START_S + at_s, node or f"node of {worker}", SETTINGS.heartbeat_bucket, entry)

    def assigns(
        self, at_s: float, worker: str, order: tuple[int, int], *numbers: int, node: str = "n0", why: str = "planned_scale"
    ) -> None:
        """A record."""
        partitions = [Partition(keys=(f"p{number}",)) for number in numbers]
        value = encode(AssignmentRecord(epoch=order[0], version=order[1], lifecycle=why, partitions=partitions))
        self.judge.wrote(START_S + at_s, node, SETTINGS.assignment_bucket, Entry(key=f"assignment.{worker}", value=value, revision=1))

    def removes(self, at_s: float, worker: str) -> None:
        """The deletion of a record."""
        entry = Entry(key=f"assignment.{worker}", value=b"", revision=1, deleted=True)
        self.judge.wrote(START_S + at_s, "n0", SETTINGS.assignment_bucket, entry)


def test_judge_of_a_good_history_is_silent() -> None:
    trial = Trial()

    trial.leads(0.0, "n0", 0)
    trial.leads(0.1, "n0", 5)
    trial.beats(0.0, "a")
    trial.beats(0.0, "b")
    trial.assigns(0.2, "a", (5, 1), 0, 1)
    trial.assigns(0.2, "b", (5, 1), 2, 3)
    trial.assigns(0.2, "b", (5, 1), 2, 3)  # the same again, after an answer that was lost
    trial.removes(2.0, "b")
    trial.assigns(2.0, "a", (5, 2), 0, 1, 2, 3, why="emergency")
    trial.leads(3.0, "n1", 9)
    trial.assigns(3.1, "a", (9, 3), 0, 1, 2, 3, node="n1", why="takeover")

    assert trial.reports == []
    assert len(trial.completes) == 3
    assert trial.judge.lifecycles == {"planned_scale": 1, "emergency": 1, "takeover": 1}


def test_judge_of_two_leaders_in_one_epoch_says_epoch() -> None:
    trial = Trial()

    trial.leads(0.0, "n0", 5)
    trial.leads(1.0, "n1", 5)

    assert trial.reports == ["EPOCH"]


def test_judge_of_an_epoch_below_what_was_published_says_epoch() -> None:
    trial = Trial()

    trial.assigns(0.0, "a", (7, 1), 0)
    trial.leads(1.0, "n1", 6)

    assert trial.reports == ["EPOCH"]


def test_judge_of_a_version_that_falls_says_order() -> None:
    trial = Trial()

    trial.assigns(0.0, "a", (5, 2), 0)
    trial.assigns(1.0, "a", (5, 1), 0)

    assert trial.reports == ["ORDER"]


def test_judge_of_two_contents_of_one_version_says_order() -> None:
    trial = Trial()

    trial.assigns(0.0, "a", (5, 2), 0)
    trial.assigns(1.0, "a", (5, 2), 1)

    assert "ORDER" in trial.reports


def test_judge_of_an_old_epoch_after_a_whole_round_of_a_newer_one_says_stale() -> None:
    trial = Trial(partitions_count=1)

    trial.assigns(0.0, "a", (9, 3), 0)
    trial.assigns(1.0, "b", (5, 2))

    assert trial.reports == ["STALE"]


def test_judge_of_a_round_that_gives_a_partition_twice_says_round() -> None:
    trial = Trial()

    trial.assigns(0.0, "a", (5, 1), 0, 1)
    trial.assigns(0.1, "b", (5, 1), 1, 2)

    assert trial.reports == ["ROUND"]


def test_judge_of_a_record_that_goes_before_the_grace_says_grace() -> None:
    trial = Trial()
    trial.beats(0.0, "a")
    absent_s = SETTINGS.heartbeat_ttl_s

    trial.removes(absent_s + 0.5 * SETTINGS.emergency_grace_s, "a")

    assert trial.reports == ["GRACE"]


def test_judge_of_a_record_that_goes_after_the_grace_is_silent() -> None:
    trial = Trial()
    trial.beats(0.0, "a")
    trial.beats(0.0, "b")
    trial.beats(5.0, "b", deleted=True)

    trial.removes(SETTINGS.heartbeat_ttl_s + SETTINGS.emergency_grace_s, "a")
    trial.removes(5.0 + SETTINGS.emergency_grace_s, "b")

    assert trial.reports == []


def test_judge_of_a_record_that_goes_while_its_leader_cannot_see_is_silent() -> None:
    trial = Trial(calm=False)
    trial.beats(0.0, "a")

    trial.removes(0.1, "a")

    assert trial.reports == []


def test_judge_of_an_id_that_its_old_holder_speaks_under_again_says_identity() -> None:
    trial = Trial()

    trial.beats(0.0, "a", "n1")
    trial.beats(9.0, "a", "n2")
    trial.beats(9.1, "a", "n1")

    assert trial.reports == ["IDENTITY"]


def test_judge_of_a_planned_round_that_moves_too_much_says_moves() -> None:
    trial = Trial(partitions_count=40)

    trial.assigns(0.0, "a", (5, 1), *range(20))
    trial.assigns(0.0, "b", (5, 1), *range(20, 40))
    trial.assigns(1.0, "a", (5, 2), *range(20, 34))
    trial.assigns(1.0, "b", (5, 2), *range(13))
    trial.assigns(1.0, "c", (5, 2), *range(13, 20), *range(34, 40))

    assert trial.reports == ["MOVES"]


def test_judge_of_a_planned_round_that_moves_its_share_is_silent() -> None:
    trial = Trial(partitions_count=40)

    trial.assigns(0.0, "a", (5, 1), *range(20))
    trial.assigns(0.0, "b", (5, 1), *range(20, 40))
    trial.assigns(1.0, "a", (5, 2), *range(13))
    trial.assigns(1.0, "b", (5, 2), *range(20, 34))
    trial.assigns(1.0, "c", (5, 2), *range(13, 20), *range(34, 40))

    assert trial.reports == []
