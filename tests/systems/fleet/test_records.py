"""The JSON of the buckets."""

from __future__ import annotations

import pytest

from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.records import AssignmentRecord, Heartbeat, LeaderRecord, RecordError, StableIdRecord, decode, encode


@pytest.mark.parametrize(
    "record",
    [
        StableIdRecord(worker="worker-3", token="t"),
        LeaderRecord(worker="worker-3", token="t", epoch=9),
        Heartbeat(worker="worker-3", token="t", epoch=9, version=4, applied=True, seen_epoch=9, seen_version=5),
        AssignmentRecord(epoch=9, version=4, lifecycle="emergency", partitions=[Partition(keys=("a", "1"), weight=7)]),
    ],
)
def test_record_decoded_from_its_own_json_is_equal(record: StableIdRecord | LeaderRecord | Heartbeat | AssignmentRecord) -> None:
    assert decode(type(record), "k", encode(record)) == record


def test_assignment_json_has_the_fields_that_other_readers_know() -> None:
    record = AssignmentRecord(epoch=2, version=3, lifecycle="planned_scale", partitions=[Partition(keys=("a", "b"))])

    assert encode(record) == b'{"epoch":2,"version":3,"lifecycle":"planned_scale","partitions":[{"keys":["a","b"],"weight":100}]}'


def test_decode_of_a_field_it_does_not_know_ignores_it() -> None:
    assert decode(LeaderRecord, "leader", b'{"worker":"w","token":"t","epoch":1,"mood":"good"}').epoch == 1


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"{", b"[]", b'{"worker":1}', b'{"epoch":1,"version":1,"lifecycle":"x","partitions":[{"keys":[]}]}'),
        *(b'{"lifecycle":"\xff"}', b'{"more":' + b"[" * 100_000),
    ],
)
def test_decode_of_what_is_no_record_names_the_key(value: bytes) -> None:
    with pytest.raises(RecordError, match=r"assignment\.w-1"):
        decode(AssignmentRecord, "assignment.w-1", value)
