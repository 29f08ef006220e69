"""A fleet's record as the figures ask it, and each figure: a record that must show it, one that must not, and an empty one."""

from __future__ import annotations

import json
import os

import pytest

from floodmark.drivers.fleet_desk import note_of
from floodmark.drivers.fleet_figures import FIGURES, figures_of
from floodmark.drivers.fleet_memory import slope_of
from floodmark.drivers.fleet_notes import Note, decode
from floodmark.drivers.fleet_play import look_at
from floodmark.drivers.fleet_reading import missed
from floodmark.drivers.nats_desk import Message
from tests.drivers.fleet_made import Made, calm, crashed


def test_decode_each_kind_of_subject_is_what_it_says() -> None:
    assert decode("$KV.parti-heartbeat.heartbeat.worker-3", b'{"epoch": 2}', None, 1.5) == Note(
        1.5, "heartbeat", "heartbeat.worker-3", {"epoch": 2}
    )
    assert decode("$KV.parti-assignment.assignment.worker-3", b"", b"DEL", 1.5) == Note(1.5, "assignment", "assignment.worker-3", None)
    assert decode("done.kill", b'{"worker": "a"}', None, 1.0) == Note(1.0, "done", "kill", {"worker": "a"})
    assert decode("mark.load", b"{}", None, 1.0) == Note(1.0, "mark", "load", {})


@pytest.mark.parametrize("subject", ["$KV.other.key", "in.p3", "domestic.kill"])
def test_decode_what_is_no_part_of_it_is_none(subject: str) -> None:
    assert decode(subject, b"{}", None, 1.0) is None


@pytest.mark.parametrize("data", [b"", b"\xff", b"[1]", b"7", b'{"worker": "\xff"}', b'{"worker": ' + b"[" * 100_000])
def test_decode_a_value_that_nobody_can_read_says_that_it_was_written(data: bytes) -> None:
    assert decode("$KV.parti-election.leader", data, None, 1.0) == Note(1.0, "election", "leader", {})


@pytest.mark.parametrize(
    "fields",
    [
        b'"epoch": "x"',
        b'"version": null',
        b'"token": 7',
        b'"partitions": 3',
        b'"partitions": [3]',
        b'"partitions": [{"keys": "p1"}]',
        b'"partitions": [{"weight": "heavy"}]',
        b'"lifecycle": []',
    ],
)
def test_decode_a_value_with_fields_of_other_types_says_that_it_was_written_and_figures_are_told_all_the_same(fields: bytes) -> None:
    subject = "$KV.parti-assignment.assignment.worker-1"
    note = decode(subject, b"{" + fields + b"}", None, 1.0)
    whole = decode(subject, b'{"epoch": 1, "version": 1, "partitions": [{"keys": ["p1"], "weight": 2}], "more": 1}', None, 1.0)

    assert note == Note(1.0, "assignment", "assignment.worker-1", {})
    assert whole is not None
    assert whole.value == {"epoch": 1, "version": 1, "partitions": [{"keys": ["p1"], "weight": 2}], "more": 1}
    assert note is not None
    made = calm()
    made.notes.append(note._replace(at_s=15.0))
    assert figures_of(made.record())["version_back"] == 1  # whoever wrote it took the worker's assignment away


@pytest.mark.parametrize("reason", [b"MaxAge", b"Purge", b"Remove"])
def test_note_of_a_marker_that_the_server_left_where_a_key_was_tells_that_it_is_gone(reason: bytes) -> None:
    headers = b"NATS/1.0\r\nNats-Marker-Reason: " + reason + b"\r\n\r\n"

    note = note_of(Message("$KV.parti-assignment.assignment.worker-3", headers, b"", 7, 1.5))

    assert note == Note(1.5, "assignment", "assignment.worker-3", None)


def test_figures_of_an_empty_record_are_none_at_all() -> None:
    assert figures_of(Made().record()) == {}


def test_figures_of_a_calm_fleet_accuse_nobody() -> None:
    figures = figures_of(calm().record())

    wrong = (
        *("coverage_gaps", "orphans", "owners_twice", "strangers", "unapplied", "idle_workers", "leaders_twice", "version_back"),
        *("stale_writes", "emergencies", "ids_twice", "versions_load"),
    )
    assert {name: figures[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert (figures["workers"], figures["assigned"], figures["partitions_min"], figures["partitions_max"]) == (2, 4, 2, 2)
    assert (figures["leaders"], figures["versions"], figures["ids"]) == (1, 1, 2)
    assert figures.keys() <= FIGURES.keys()


def test_coverage_gaps_a_partition_that_nobody_holds_is_counted() -> None:
    made = calm()
    made.assign(10.0, a=[0, 1], b=[2])

    assert figures_of(made.record())["coverage_gaps"] == 1
    assert figures_of(made.record())["assigned"] == 3


def test_owners_twice_a_partition_in_two_records_is_counted() -> None:
    made = calm()
    made.assign(10.0, a=[0, 1, 2], b=[2, 3])

    assert figures_of(made.record())["owners_twice"] == 1
    assert figures_of(made.record())["coverage_gaps"] == 0


def test_owners_twice_within_the_writes_of_a_round_is_nobodys_fault() -> None:
    made = calm()
    made.assign(10.0, a=[0, 1, 2], version=2)
    made.assign(10.3, b=[3], version=2)

    assert figures_of(made.record())["owners_twice"] == 0


def test_coverage_before_the_fleet_had_its_time_is_not_judged() -> None:
    made = crashed(given_s=7.0)

    figures = figures_of(made.record(end_s=7.9))

    assert figures["settled_points"] == 1  # the one before the blow
    assert figures["orphans"] == 0


def test_coverage_of_a_fleet_that_stood_late_is_judged_from_the_load_on() -> None:
    made = Made()
    made.do(0.5, "start", "a")
    made.assign(6.0, a=[0, 1, 2, 3])
    made.beat("a", 6.0, 20.0)
    made.mark(6.5, "load")

    assert figures_of(made.record())["coverage_gaps"] == 0
    assert figures_of(made.record())["settled_points"] == 1


def test_coverage_of_a_fleet_that_never_stood_is_judged_from_the_load_on() -> None:
    made = Made()
    made.do(0.5, "start", "a")
    made.assign(6.0, a=[0, 1, 2])
    made.beat("a", 6.0, 20.0)
    made.mark(6.5, "load")

    assert figures_of(made.record())["coverage_gaps"] == 1


def test_settled_points_are_counted_from_the_end_of_a_word() -> None:
    made = calm()
    made.do(5.0, "start", "c", at_ns=11_000_000_000)
    made.do(13.0, "start", "d")

    assert figures_of(made.record(end_s=15.0))["settled_points"] == 1  # that before the first of them


def test_settled_points_without_time_enough_there_is_no_figure() -> None:
    figures = figures_of(calm().record(end_s=3.0))

    assert "coverage_gaps" not in figures


def test_orphans_what_only_a_dead_worker_holds_is_counted() -> None:
    assert figures_of(crashed(given_s=None).record())["orphans"] == 2
    assert figures_of(crashed().record())["orphans"] == 0


def test_owners_twice_a_dead_workers_record_that_was_left_is_counted() -> None:
    figures = figures_of(crashed(twice=True).record())

    assert figures["owners_twice"] == 2
    assert figures["orphans"] == 0


def test_strangers_what_the_source_has_no_more_is_counted() -> None:
    made = calm()
    made.do(10.0, "refresh", "a")
    made.mark(10.1, "source", partitions=["p0", "p1", "p2"])

    assert figures_of(made.record())["strangers"] == 1
    made.assign(11.0, a=[0, 1], b=[2])
    assert figures_of(made.record())["strangers"] == 0


def test_coverage_gaps_what_a_refresh_added_must_be_held() -> None:
    made = calm()
    made.do(10.0, "refresh", "a")
    made.mark(10.1, "source", partitions=["p0", "p1", "p2", "p3", "p4", "p5"])

    assert figures_of(made.record())["coverage_gaps"] == 2
    made.assign(11.0, a=[0, 1, 4], b=[2, 3, 5])
    assert figures_of(made.record())["coverage_gaps"] == 0


def test_coverage_of_a_fleet_that_was_started_and_assigned_nothing_is_none_at_all() -> None:
    made = Made()
    made.do(0.5, "start", "a")
    made.beat("a", 1.0, 20.0)

    figures = figures_of(made.record())

    assert (figures["coverage_gaps"], figures["idle_workers"], figures["assigned"]) == (4, 1, 0)


def test_shares_where_something_was_done_shortly_before_the_end_are_not_told() -> None:
    made = calm()
    made.do(18.0, "start", "c")

    figures = figures_of(made.record())

    assert figures["coverage_gaps"] == 0
    assert figures.keys() & {"workers", "assigned", "partitions_min", "affinity_ratio"} == set()


def test_unapplied_a_worker_that_goes_on_by_an_old_version_is_counted() -> None:
    made = calm()
    made.assign(4.0, a=[0, 1], b=[2, 3])

    assert figures_of(made.record())["unapplied"] == 2


def test_unapplied_a_worker_that_was_told_a_moment_ago_has_its_time() -> None:
    made = calm()
    made.assign(18.5, a=[0, 1], b=[2, 3])

    assert figures_of(made.record())["unapplied"] == 0


def test_idle_workers_one_that_beats_and_has_no_record_is_counted() -> None:
    made = calm()
    made.beat("c", 1.0, 20.0)

    assert figures_of(made.record())["idle_workers"] == 1


def test_weights_deviation_is_that_of_the_worst_worker() -> None:
    made = Made(partitions_count=3)
    made.do(0.5, "start", "a", "b")
    made.weigh(1.0, "a", {0: 300, 1: 100})
    made.weigh(1.0, "b", {2: 100})
    made.beat("a", 0.9, 20.0)
    made.beat("b", 0.9, 20.0)

    figures = figures_of(made.record())

    assert figures["weight_sum"] == 500
    assert figures["weight_deviation_ratio"] == pytest.approx(0.6)


def test_affinity_what_moved_between_settled_points_is_not_kept() -> None:
    made = calm()
    made.do(8.0, "start", "c")
    made.assign(8.5, a=[0], b=[2, 3], c=[1])
    made.beat("c", 8.4, 20.0, version=2)

    figures = figures_of(made.record())

    assert (figures["affinity_ratio"], figures["moved_max"], figures["moved_sum"]) == (0.75, 1, 1)


def test_affinity_one_settled_point_is_no_comparison() -> None:
    assert "affinity_ratio" not in figures_of(calm().record())


def test_leaders_twice_two_claims_of_one_epoch_are_counted() -> None:
    made = calm()
    made.lead(9.0, "b", epoch=1)

    figures = figures_of(made.record())

    assert (figures["leaders"], figures["leaders_twice"]) == (2, 1)


def test_leaders_a_new_epoch_is_one_more_tenure_and_nothing_wrong() -> None:
    made = calm()
    made.lead(5.0, "a", epoch=1)
    made.lead(9.0, "b", epoch=0)
    made.lead(9.1, "b", epoch=5)

    figures = figures_of(made.record())

    assert (figures["leaders"], figures["leaders_twice"]) == (2, 0)


def test_version_back_a_lower_version_is_counted() -> None:
    made = calm()
    made.assign(9.0, a=[0, 1], version=5)
    made.assign(10.0, b=[2, 3], version=4)

    assert figures_of(made.record())["version_back"] == 1


def test_version_back_the_same_version_with_other_partitions_is_counted() -> None:
    made = calm()
    made.assign(9.0, a=[0], version=1)

    assert figures_of(made.record())["version_back"] == 1


def test_version_back_a_round_that_is_written_again_is_not_counted() -> None:
    made = calm()
    made.assign(9.0, a=[1, 0], b=[2, 3], version=1)

    assert figures_of(made.record())["version_back"] == 0


def test_stale_writes_an_epoch_that_is_over_is_counted() -> None:
    made = calm()
    made.lead(9.0, "b", epoch=7)
    made.assign(10.0, a=[0, 1], epoch=1)

    assert figures_of(made.record())["stale_writes"] == 1


def test_emergencies_rounds_are_counted_by_what_they_are_called() -> None:
    figures = figures_of(crashed().record())

    assert (figures["versions"], figures["versions_load"], figures["emergencies"], figures["emergencies_load"]) == (2, 1, 1, 1)


def test_versions_without_a_load_are_not_counted_since_it_began() -> None:
    made = Made()
    made.assign(1.0, a=[0])

    assert "versions_load" not in figures_of(made.record())


def test_ids_twice_a_holder_that_is_back_after_another_is_counted() -> None:
    made = calm()
    made.claim(9.0, "a", token="other")
    made.claim(9.5, "a")

    assert figures_of(made.record())["ids_twice"] == 1


def test_ids_twice_a_new_holder_is_none() -> None:
    made = calm()
    made.claim(9.0, "a", token="other")
    made.claim(9.5, "a", token="other")

    assert figures_of(made.record())["ids_twice"] == 0


def test_claims_each_holder_of_an_id_is_one() -> None:
    made = calm()
    made.claim(9.0, "a")
    made.claim(10.0, "a", token="next")

    figures = figures_of(made.record())

    assert (figures["ids"], figures["claims"]) == (2, 3)


def test_stop_is_timed_from_its_beginning_to_its_end() -> None:
    made = calm()
    made.do(10.0, "stop", "b", at_ns=10_750_000_000)

    assert figures_of(made.record())["stop_max_s"] == pytest.approx(0.75)
    assert "stop_max_s" not in figures_of(crashed().record())


def test_joined_is_from_the_claim_to_the_first_assignment() -> None:
    made = calm()
    made.claim(10.0, "c")
    made.assign(10.5, a=[0], b=[2, 3], c=[1])

    figures = figures_of(made.record())

    assert (figures["joined"], figures["not_joined"]) == (1, 0)
    assert figures["joined_max_s"] == pytest.approx(0.502)


def test_joined_one_who_is_given_nothing_is_counted_and_has_no_time() -> None:
    made = calm()
    made.claim(10.0, "c")

    figures = figures_of(made.record())

    assert figures["not_joined"] == 1
    assert "joined_max_s" not in figures


def test_joined_who_finds_the_record_of_the_last_holder_waits_for_nothing() -> None:
    made = calm()
    made.claim(10.0, "b", token="next")

    assert figures_of(made.record())["joined_max_s"] == 0


def test_joined_before_the_load_is_not_of_it() -> None:
    assert "joined" not in figures_of(calm().record())


def test_silence_is_that_of_one_holder_only() -> None:
    made = Made()
    made.beat("a", 1.0, 2.0)
    made.beat("a", 3.5, 4.0)
    made.beat("a", 9.0, 9.5, token="other")

    assert figures_of(made.record())["silence_max_s"] == pytest.approx(1.5)


def test_standing_times_are_from_the_start_and_from_the_claim() -> None:
    figures = figures_of(calm().record())

    assert figures["first_assignment_s"] == pytest.approx(0.4)
    assert figures["assigned_s"] == pytest.approx(0.501)
    assert figures["stable_s"] == pytest.approx(0.501)


def test_standing_a_fleet_that_lacks_a_partition_has_no_time() -> None:
    made = Made()
    made.do(0.5, "start", "a", "b")
    made.assign(1.0, a=[0, 1], b=[2])

    assert "assigned_s" not in figures_of(made.record())


def test_standing_a_fleet_that_has_not_applied_it_is_assigned_and_not_stable() -> None:
    made = Made()
    made.do(0.5, "start", "a")
    made.assign(1.0, a=[0, 1, 2, 3], version=2)
    made.beat("a", 1.1, 9.0, version=1)

    figures = figures_of(made.record())

    assert "assigned_s" in figures
    assert "stable_s" not in figures


def test_reassign_is_from_the_blow_to_the_last_partition() -> None:
    made = crashed(given_s=None)
    made.assign(8.0, a=[0, 1, 2])
    made.assign(9.5, a=[0, 1, 2, 3])

    figures = figures_of(made.record())

    assert figures["reassign_max_s"] == figures["reassign_min_s"] == pytest.approx(4.5)
    assert (figures["reassigned"], figures["not_reassigned"], figures["blips"]) == (1, 0, 0)


def test_reassign_what_is_never_given_away_is_counted_and_has_no_time() -> None:
    figures = figures_of(crashed(given_s=None).record())

    assert figures["not_reassigned"] == 1
    assert "reassign_max_s" not in figures


def test_reassign_who_is_dead_as_well_is_no_new_owner() -> None:
    made = crashed(given_s=None)
    made.do(5.0, "kill", "c")
    made.beat("c", 0.9, 5.0)
    made.assign(7.0, lifecycle="emergency", a=[0, 1, 2], c=[3])

    figures = figures_of(made.record())
    assert (figures["reassigned"], figures["not_reassigned"]) == (0, 1)
    assert "reassign_max_s" not in figures

    made.assign(9.0, lifecycle="emergency", a=[0, 1, 2, 3])
    figures = figures_of(made.record())
    assert (figures["reassigned"], figures["not_reassigned"]) == (1, 0)
    assert figures["reassign_max_s"] == pytest.approx(4.0)


def test_reassign_who_beats_again_only_later_is_no_new_owner_yet() -> None:
    made = crashed(given_s=None)
    made.beat("c", 0.9, 5.0)
    made.beat("c", 15.0, 20.0)
    made.assign(7.0, lifecycle="emergency", a=[0, 1, 2], c=[3])

    assert figures_of(made.record())["not_reassigned"] == 1


def test_reassign_a_worker_that_is_back_at_once_is_a_blip() -> None:
    made = calm()
    made.notes = [note for note in made.notes if note.kind != "heartbeat"]
    made.do(10.0, "pause", "b")
    made.beat("b", 10.6, 20.0)

    assert figures_of(made.record())["blips"] == 1
    assert "reassign_max_s" not in figures_of(made.record())


def test_reassign_another_one_under_the_identity_of_the_killed_is_a_new_owner_and_no_blip() -> None:
    made = calm()
    made.notes = [note for note in made.notes if note.kind != "heartbeat"]
    made.beat("b", 1.0, 9.5)
    made.do(10.0, "kill", "b")
    made.beat("b", 11.0, 11.0, token="another", epoch=0, version=0)
    made.beat("b", 12.5, 20.0, token="another")

    figures = figures_of(made.record())

    assert (figures["reassigned"], figures["not_reassigned"], figures["blips"]) == (1, 0, 0)
    assert figures["reassign_max_s"] == pytest.approx(2.5)


def test_reassign_another_one_who_never_works_is_neither_a_blip_nor_an_owner() -> None:
    made = calm()
    made.notes = [note for note in made.notes if note.kind != "heartbeat"]
    made.beat("b", 1.0, 9.5)
    made.do(10.0, "kill", "b")
    made.beat("b", 11.0, 20.0, token="another", epoch=0, version=0)

    figures = figures_of(made.record())

    assert (figures["reassigned"], figures["not_reassigned"], figures["blips"]) == (0, 1, 0)
    assert "reassign_max_s" not in figures


def test_reassign_a_worker_that_is_back_late_was_not_handled() -> None:
    made = calm()
    made.notes = [note for note in made.notes if note.kind != "heartbeat"]
    made.do(10.0, "pause", "b")
    made.beat("b", 14.0, 20.0)

    assert figures_of(made.record())["not_reassigned"] == 1


def test_reassign_one_who_held_nothing_is_nobody() -> None:
    made = calm()
    made.do(10.0, "kill", "c")

    assert "not_reassigned" not in figures_of(made.record())


def test_failover_is_from_the_blow_to_the_next_leader() -> None:
    made = crashed()
    made.notes.append(Note(5.0, "done", "kill", {"begun_ns": 5_000_000_000, "worker": "a"}))
    made.lead(7.25, "c", epoch=9)

    figures = figures_of(made.record())

    assert (figures["failovers"], figures["no_new_leader"]) == (1, 0)
    assert figures["failover_max_s"] == pytest.approx(2.25)


def test_failover_without_a_next_leader_is_counted_and_has_no_time() -> None:
    made = calm()
    made.do(10.0, "kill", "a")

    figures = figures_of(made.record())

    assert figures["no_new_leader"] == 1
    assert "failover_max_s" not in figures


def test_failover_a_leader_that_goes_on_was_not_lost() -> None:
    made = calm()
    made.do(10.0, "pause", "a")
    made.lead(10.5, "a", epoch=1)

    assert "failovers" not in figures_of(made.record())


def test_failover_a_follower_that_is_struck_says_nothing_of_it() -> None:
    assert "failovers" not in figures_of(crashed().record())


def test_overlap_is_how_long_the_former_owner_went_on() -> None:
    made = crashed()
    made.deliver("b", 2, 4.0, 7.9, 8.4, 8.6)
    made.deliver("a", 2, 8.1, 8.5, 9.0)

    figures = figures_of(made.record())

    assert (figures["handovers"], figures["overlap_messages"]) == (1, 2)
    assert figures["overlap_max_s"] == pytest.approx(0.5)


def test_overlap_a_clean_handover_has_none() -> None:
    made = crashed()
    made.deliver("b", 2, 4.0, 4.9)
    made.deliver("a", 2, 8.1, 8.5)

    figures = figures_of(made.record())

    assert (figures["handovers"], figures["overlap_messages"], figures["overlap_max_s"]) == (1, 0, 0)


def test_overlap_without_a_handover_has_no_length() -> None:
    made = crashed()
    made.deliver("b", 2, 4.0, 4.9)

    figures = figures_of(made.record())

    assert (figures["handovers"], figures["overlap_messages"]) == (0, 0)
    assert "overlap_max_s" not in figures


def test_overlap_one_who_was_given_it_again_is_no_former_owner() -> None:
    made = crashed()
    made.assign(10.0, a=[0, 1], b=[2, 3])
    made.deliver("b", 2, 4.0, 10.1)
    made.deliver("a", 2, 8.1, 8.5)

    figures = figures_of(made.record())

    assert (figures["handovers"], figures["overlap_messages"]) == (2, 0)


def test_memory_slope_is_that_of_the_levels_with_its_interval() -> None:
    made = Made()
    for number, workers in enumerate([1, 1, 5, 5, 10, 10, 20, 20]):
        made.mark(float(number), "memory", workers=workers, partitions=100, bytes=50_000_000 + 200_000 * workers + number % 2, tasks=3)

    figures = figures_of(made.record())

    assert figures["memory_per_worker_bytes"] == pytest.approx(200_000, rel=1e-4)
    assert figures["memory_per_worker_lower_bytes"] <= figures["memory_per_worker_bytes"] <= figures["memory_per_worker_upper_bytes"]
    assert "memory_per_partition_bytes" not in figures
    assert (figures["looks"], figures["tasks_max"], figures["memory_rise_bytes"]) == (8, 3, 19 * 200_000)


def test_memory_slope_of_two_levels_has_no_interval_and_is_none() -> None:
    assert slope_of({1: [10], 2: [20]}) is None


def test_memory_slope_of_scattered_levels_has_a_wide_interval() -> None:
    slope = slope_of({1: [100], 2: [400], 3: [200], 4: [500]})

    assert slope is not None
    assert slope.lower < 0 < slope.upper


def test_memory_levels_in_more_and_more_processes_say_nothing() -> None:
    made = Made()
    for number in range(1, 5):
        made.mark(float(number), "memory", workers=number, partitions=100, processes=number, bytes=number * 1000, tasks=1)

    assert "memory_per_worker_bytes" not in figures_of(made.record())


def test_memory_levels_where_both_numbers_vary_say_nothing() -> None:
    made = Made()
    for number in range(1, 5):
        made.mark(float(number), "memory", workers=number, partitions=number * 10, bytes=number * 1000, tasks=1)

    assert "memory_per_worker_bytes" not in figures_of(made.record())


def test_tasks_that_not_all_processes_told_lower_no_figure() -> None:
    made = Made()
    for number in range(12):
        told = {"tasks": 100 + 10 * number} if number < 8 else {"tasks": 0}
        made.mark(float(number), "memory", workers=2, partitions=100, processes=2, bytes=1000, **told)

    figures = figures_of(made.record())

    assert (figures["looks"], figures["tasks_max"], figures["tasks_rise"]) == (12, 170, 60)


def test_tasks_that_nobody_told_have_no_figure() -> None:
    made = Made()
    for number in range(8):
        made.mark(float(number), "memory", workers=2, partitions=100, processes=2, bytes=1000, tasks=0)

    figures = figures_of(made.record())

    assert figures["memory_rise_bytes"] == 0
    assert not {"tasks_max", "tasks_rise"} & figures.keys()


def test_look_without_one_of_the_processes_is_no_sum() -> None:
    ours = {"worker": "a", "pid": os.getpid(), "state": "Stable", "tasks": 6}
    gone = {"worker": "b", "pid": 2**22 + 1, "state": "Stable", "tasks": 0, "rss_bytes": 0}

    whole, part = look_at([ours], 4), look_at([ours, gone], 4)

    assert whole["bytes"] > 0
    assert (whole["tasks"], whole["processes"]) == (6, 1)
    assert (part["bytes"], part["tasks"], part["processes"]) == (0, 0, 2)


def test_puts_failed_what_was_made_to_fail_was_felt() -> None:
    made = calm()
    made.do(5.0, "fail_put")

    assert figures_of(made.record())["puts_failed"] == 1
    assert "puts_failed" not in figures_of(calm().record())


def test_words_that_failed_and_that_were_never_said_are_counted() -> None:
    made = calm()
    made.mark(0.6, "said", word="0 start count=2")
    made.mark(5.0, "failed", word="5 kill worker=9", error="there is no worker 9")
    made.mark(6.0, "late", word="6 kill", late_s=0.75)

    figures = figures_of(made.record(script_count=4))

    assert (figures["words_said"], figures["words_failed"], figures["words_unsaid"], figures["words_late_max_s"]) == (1, 1, 2, 0.75)


def test_words_unsaid_are_not_outweighed_by_a_look_that_failed() -> None:
    made = calm()
    made.mark(0.6, "said", word="0 start count=2")
    made.mark(5.0, "failed", word="5 measure", error="tells no status")

    figures = figures_of(made.record(script_count=2))

    assert (figures["words_said"], figures["words_failed"], figures["words_unsaid"]) == (1, 1, 1)


def test_messages_that_nobody_handed_on_in_time_are_counted_and_unknown_without_a_queue() -> None:
    assert figures_of(calm().record(queued_count=818))["queued"] == 818
    assert figures_of(calm().record(queued_count=0))["queued"] == 0
    assert "queued" not in figures_of(calm().record())


def test_words_that_the_host_has_not_recorded_are_not_taken_for_done() -> None:
    made = calm()
    made.mark(0.6, "said", word="0 start count=2")
    made.mark(5.0, "said", word="5 kill worker=leader")
    assert figures_of(made.record(script_count=2))["words_unsaid"] == 1

    made.do(4.9, "kill", "c")

    assert figures_of(made.record(script_count=2))["words_unsaid"] == 0


def test_words_noted_twice_stand_for_no_other_word() -> None:
    made = calm()
    made.mark(0.6, "said", word="0 start count=2")
    made.mark(0.7, "said", word="0 start count=2")

    assert figures_of(made.record(script_count=2))["words_unsaid"] == 1


def copies(*places: int, begin: int | None = 2) -> list[Message]:
    """Messages of a record that copied these entries of one bucket, after its beginning was noted."""
    beginning = [Message("mark.begin", b"", json.dumps({"KV_x": begin}).encode(), 1, 0.0)] if begin is not None else []
    head = "NATS/1.0\r\nNats-Stream-Source: KV_x {} > > $KV.x.leader Gybi3aU2\r\n\r\n"
    return [*beginning, *(Message("$KV.x.leader", head.format(place).encode(), b"{}", place, 1.0) for place in places)]


def test_missed_are_the_entries_since_the_beginning_that_were_not_copied() -> None:
    assert missed(copies(1, 2, 3, 4, 5), {"KV_x": 5}) == 0
    assert missed(copies(3, 5), {"KV_x": 5}) == 1
    assert missed(copies(3, 4), {"KV_x": 7}) == 3
    assert missed(copies(1, 2), {"KV_x": 2}) == 0


def test_missed_is_not_known_without_a_beginning() -> None:
    assert missed(copies(1, 2, begin=None), {"KV_x": 2}) is None


def test_record_that_missed_something_says_so_and_one_that_nobody_compared_says_nothing() -> None:
    assert figures_of(calm().record(missed_count=3))["record_missed"] == 3
    assert "record_missed" not in figures_of(calm().record())


def test_record_that_missed_something_shows_what_was_broken_and_not_that_nothing_was() -> None:
    assert figures_of(calm().record(missed_count=0))["owners_twice"] == 0
    assert "owners_twice" not in figures_of(calm().record(missed_count=1))
    assert figures_of(crashed(twice=True).record(missed_count=1))["owners_twice"] == 2
