"""What must be true of a fleet that has been left in peace: the sentence that says what is not, or nothing.

One leader; every worker Stable, under an id of its own, with the assignment that its record says and a consumer that works on exactly
that; one record per worker and none besides, all of one epoch and version; every partition in exactly one record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.records import AssignmentRecord
from floodmark.systems.fleet.simulation.member import Member
from floodmark.systems.fleet.simulation.ownership import Ownership
from floodmark.systems.fleet.states import WorkerState


def unsettled(
    members: Sequence[Member], records: Mapping[str, AssignmentRecord], partitions: Sequence[Partition], ownership: Ownership
) -> str:
    """Say the first thing that is not as it must be; an empty text: all is."""
    live = [member for member in members if member.live]
    return _workers(live) or _records(live, records, partitions) or _following(live, records, ownership) or _left(members, ownership)


def _workers(live: Sequence[Member]) -> str:
    for member in live:
        if member.worker is None or member.worker.state is not WorkerState.STABLE:
            state = member.worker.state.value if member.worker is not None else "not there"
            return f"{member.name} ({member.worker_id or 'no id'}) is {state}, not Stable"
    leaders = [member.name for member in live if member.is_leader]
    if len(leaders) != 1:
        return f"{len(leaders)} workers lead: {', '.join(leaders) or 'none'}"
    holders: dict[str, str] = {}
    for member in live:
        if holders.setdefault(member.worker_id, member.name) != member.name:
            return f"{holders[member.worker_id]} and {member.name} are both {member.worker_id}"
    return ""


def _records(live: Sequence[Member], records: Mapping[str, AssignmentRecord], partitions: Sequence[Partition]) -> str:
    ids = {member.worker_id for member in live}
    if orphans := sorted(records.keys() - ids):
        return f"{orphans[0]} has a record and no worker"
    if missing := sorted(ids - records.keys()):
        return f"{missing[0]} has no record"
    orders = sorted({(record.epoch, record.version) for record in records.values()})
    if len(orders) > 1:
        return f"the records are of several rounds: {', '.join(f'epoch {epoch} version {version}' for epoch, version in orders)}"
    owner: dict[tuple[str, ...], str] = {}
    for worker in sorted(records):
        for partition in records[worker].partitions:
            if owner.setdefault(partition.keys, worker) != worker:
                return f"{partition.id} stands in the records of {owner[partition.keys]} and {worker}"
    expected = {partition.keys for partition in partitions}
    if owner.keys() != expected:
        missing_count, extra_count = len(expected - owner.keys()), len(owner.keys() - expected)
        return f"{missing_count} of {len(expected)} partitions have no owner, {extra_count} that are no more have one"
    return ""


def _following(live: Sequence[Member], records: Mapping[str, AssignmentRecord], ownership: Ownership) -> str:
    for member in live:
        assert member.worker is not None
        record, assignment = records[member.worker_id], member.worker.assignment
        if assignment is None or (assignment.epoch, assignment.version) != (record.epoch, record.version):
            holds = "nothing" if assignment is None else f"epoch {assignment.epoch} version {assignment.version}"
            return f"{member.name} ({member.worker_id}) follows {holds}; its record is epoch {record.epoch} version {record.version}"
        if ownership.of(member.name) != {partition.id for partition in record.partitions}:
            return f"the consumer of {member.name} ({member.worker_id}) works on other partitions than version {record.version} says"
    return ""


def _left(members: Sequence[Member], ownership: Ownership) -> str:
    for member in members:
        if member.leaving and not member.crashed:
            if not member.left:
                return f"{member.name} was told to leave and has not left"
            if ownership.of(member.name):
                return f"{member.name} has left, and its consumer works on"
            if alive := member.node.tasks_alive:
                return f"{member.name} has left, and its task {alive[0].get_name()!r} lives"
    return ""
