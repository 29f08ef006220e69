"""A fleet in peace: each thing that can be wrong with it is said, and a good one is not accused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.records import AssignmentRecord
from floodmark.systems.fleet.simulation.member import Member
from floodmark.systems.fleet.simulation.ownership import Ownership
from floodmark.systems.fleet.simulation.settled import unsettled
from floodmark.systems.fleet.states import WorkerState

PARTITIONS = [Partition(keys=(f"p{number}",)) for number in range(4)]


class Peace:
    """Two workers that share four partitions, as they should; a test spoils one thing."""

    def __init__(self) -> None:
        self.ownership = Ownership(1.0, lambda _sentence: None)
        self.records = {"worker-0": self.record(0, 1), "worker-1": self.record(2, 3)}
        self.members: list[Any] = []
        for number in range(2):
            worker_id = f"worker-{number}"
            assignment = self.records[worker_id]
            worker = SimpleNamespace(state=WorkerState.STABLE, assignment=assignment)
            node = SimpleNamespace(tasks_alive=[])
            self.members.append(
                SimpleNamespace(
                    name=f"n{number}",
                    live=True,
                    leaving=False,
                    left=False,
                    crashed=False,
                    worker=worker,
                    worker_id=worker_id,
                    is_leader=number == 0,
                    node=node,
                )
            )
            self.ownership.take(0.0, f"n{number}", [partition.id for partition in assignment.partitions])

    @staticmethod
    def record(*numbers: int, version: int = 1) -> AssignmentRecord:
        """What one worker shall have."""
        return AssignmentRecord(epoch=1, version=version, lifecycle="cold_start", partitions=[PARTITIONS[number] for number in numbers])

    def said(self) -> str:
        """The first thing that is wrong."""
        return unsettled(cast("list[Member]", self.members), self.records, PARTITIONS, self.ownership)


def test_fleet_as_it_should_be_is_settled() -> None:
    assert Peace().said() == ""


def test_fleet_of_nobody_with_records_is_not_settled() -> None:
    peace = Peace()
    peace.members.clear()

    assert peace.said() == "0 workers lead: none"


def test_worker_that_is_not_stable_is_said() -> None:
    peace = Peace()
    peace.members[1].worker.state = WorkerState.DEGRADED

    assert peace.said() == "n1 (worker-1) is Degraded, not Stable"


def test_two_leaders_are_said() -> None:
    peace = Peace()
    peace.members[1].is_leader = True

    assert peace.said() == "2 workers lead: n0, n1"


def test_one_id_of_two_workers_is_said() -> None:
    peace = Peace()
    peace.members[1].worker_id = "worker-0"

    assert peace.said() == "n0 and n1 are both worker-0"


def test_record_without_a_worker_is_said() -> None:
    peace = Peace()
    peace.records["worker-9"] = peace.record()

    assert peace.said() == "worker-9 has a record and no worker"


def test_worker_without_a_record_is_said() -> None:
    peace = Peace()
    del peace.records["worker-1"]

    assert peace.said() == "worker-1 has no record"


def test_records_of_two_rounds_are_said() -> None:
    peace = Peace()
    peace.records["worker-1"] = peace.record(2, 3, version=2)

    assert peace.said() == "the records are of several rounds: epoch 1 version 1, epoch 1 version 2"


def test_partition_in_two_records_is_said() -> None:
    peace = Peace()
    peace.records["worker-1"] = peace.record(1, 2, 3)

    assert peace.said() == "p1 stands in the records of worker-0 and worker-1"


def test_partition_in_no_record_is_said() -> None:
    peace = Peace()
    peace.records["worker-1"] = peace.record(2)

    assert peace.said() == "1 of 4 partitions have no owner, 0 that are no more have one"


def test_worker_that_follows_an_old_version_is_said() -> None:
    peace = Peace()
    for worker_id, numbers in (("worker-0", (0, 1)), ("worker-1", (2, 3))):
        peace.records[worker_id] = peace.record(*numbers, version=2)

    assert peace.said() == "n0 (worker-0) follows epoch 1 version 1; its record is epoch 1 version 2"


def test_consumer_that_works_on_something_else_is_said() -> None:
    peace = Peace()
    peace.ownership.take(0.0, "n1", ["p2"])

    assert peace.said() == "the consumer of n1 (worker-1) works on other partitions than version 1 says"


def test_member_that_left_and_did_not_go_is_said() -> None:
    peace = Peace()
    gone = SimpleNamespace(name="n2", live=False, leaving=True, left=False, crashed=False, node=SimpleNamespace(tasks_alive=[]))
    peace.members.append(gone)

    assert peace.said() == "n2 was told to leave and has not left"
    gone.left = True
    assert peace.said() == ""
    gone.node.tasks_alive = [SimpleNamespace(get_name=lambda: "heartbeats")]
    assert peace.said() == "n2 has left, and its task 'heartbeats' lives"
