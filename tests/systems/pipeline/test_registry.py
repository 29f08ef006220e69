"""The registry: records, legal changes of status, watching stages, forgetting."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.core.clock import ManualClock, settle
from floodmark.core.states import IllegalTransitionError
from floodmark.systems.pipeline import Status
from floodmark.systems.pipeline.errors import RegistrationError, UnknownStreamError
from floodmark.systems.pipeline.registry import TRANSITIONS, Record, Registry

FINAL = [Status.COMPLETED, Status.FAILED, Status.STOPPED]


def registry(*stream_ids: str) -> Registry:
    made = Registry(ManualClock())
    for stream_id in stream_ids:
        made.register(stream_id)
    return made


def test_register_a_stream_runs_and_has_done_nothing() -> None:
    info = Registry(ManualClock(start_s=5)).register("a", metadata={"report_name": "sales"})

    assert (info.status, info.records_processed, info.memory_usage_bytes, info.completed_at_s) == (Status.RUNNING, 0, 0, None)
    assert info.started_at_s == info.last_updated_at_s == 5
    assert info.metadata == {"report_name": "sales"}


def test_register_an_id_that_is_taken_is_refused() -> None:
    with pytest.raises(RegistrationError, match="'a' is registered already"):
        registry("a").register("a")


def test_unknown_streams_are_not_found_by_any_operation() -> None:
    empty = registry()

    for operation in (
        lambda: empty.get("x"),
        lambda: empty.update_status("x", Status.PAUSED),
        lambda: empty.increment_records("x", 1),
        lambda: empty.update_memory_usage("x", 1),
        lambda: empty.deregister("x"),
    ):
        with pytest.raises(UnknownStreamError) as raised:
            operation()
        assert raised.value.kind == "not_found"


@pytest.mark.parametrize("source", list(Status))
@pytest.mark.parametrize("target", list(Status))
def test_update_status_follows_the_table_and_nothing_else(source: Status, target: Status) -> None:
    streams = registry("a")
    if source is not Status.RUNNING:
        streams.update_status("a", source)

    allowed = target is source or source in (Status.RUNNING, Status.PAUSED)
    if allowed:
        assert streams.update_status("a", target).status is target
    else:
        with pytest.raises(IllegalTransitionError):
            streams.update_status("a", target)
        assert streams.get("a").status is source


def test_the_table_ends_in_three_states() -> None:
    assert [status for status in Status if TRANSITIONS.is_final(status)] == FINAL


def test_update_status_tells_whoever_watches_each_change_once() -> None:
    told: list[tuple[Status, str]] = []

    def watch(record: Record) -> None:
        told.append((record.status, record.reason))

    streams = Registry(ManualClock())
    streams.register("a", on_change=watch)
    streams.update_status("a", Status.PAUSED, reason="call")
    streams.update_status("a", Status.PAUSED, reason="call")
    streams.update_status("a", Status.FAILED, reason="broken")

    assert told == [(Status.PAUSED, "call"), (Status.FAILED, "broken")]


def test_fail_marks_only_streams_that_have_not_ended() -> None:
    streams = registry("a", "b")
    streams.update_status("b", Status.COMPLETED)

    assert [streams.fail(stream_id, "late") for stream_id in ("a", "b", "unknown")] == [True, False, False]
    assert streams.get("b").status is Status.COMPLETED
    assert streams.get("a").reason == "late"


def test_counts_are_zero_filled_and_list_filters() -> None:
    streams = registry("a", "b", "c")
    streams.update_status("b", Status.PAUSED)

    assert streams.count_by_status() == {
        Status.RUNNING: 2,
        Status.PAUSED: 1,
        Status.COMPLETED: 0,
        Status.FAILED: 0,
        Status.STOPPED: 0,
    }
    assert [info.stream_id for info in streams.list(Status.RUNNING)] == ["a", "c"]
    assert [info.stream_id for info in streams.list()] == ["a", "b", "c"]


def test_increment_records_adds_up_and_is_a_sign_of_life() -> None:
    async def main() -> None:
        clock = ManualClock(start_s=0)
        streams = Registry(clock)
        streams.register("a")
        await clock.advance(3)

        streams.increment_records("a", 5)
        streams.increment_records("a", 2)

        assert (streams.get("a").records_processed, streams.get("a").last_updated_at_s) == (7, 3)
        for count in (0, -1):
            with pytest.raises(ValueError, match="at least 1"):
                streams.increment_records("a", count)

    asyncio.run(main())


def test_update_memory_usage_is_no_sign_of_life() -> None:
    async def main() -> None:
        clock = ManualClock(start_s=0)
        streams = Registry(clock)
        streams.register("a")
        await clock.advance(3)

        streams.update_memory_usage("a", 100)

        assert (streams.get("a").memory_usage_bytes, streams.get("a").last_updated_at_s) == (100, 0)
        with pytest.raises(ValueError, match="negative"):
            streams.update_memory_usage("a", -1)

    asyncio.run(main())


def test_cleanup_forgets_what_ended_more_than_an_hour_ago() -> None:
    async def main() -> None:
        clock = ManualClock()
        streams = Registry(clock, lifetime_s=3600)
        for stream_id in ("old", "running", "young"):
            streams.register(stream_id)
        streams.update_status("old", Status.STOPPED)
        await clock.advance(3600)
        streams.update_status("young", Status.COMPLETED)
        assert streams.cleanup() == 0

        await clock.advance(1)

        assert streams.cleanup() == 1
        assert [info.stream_id for info in streams.list()] == ["running", "young"]

    asyncio.run(main())


def test_deregister_forgets_at_once() -> None:
    streams = registry("a")

    streams.deregister("a")

    assert len(streams) == 0


@pytest.mark.parametrize("how", ["raises", "cancelled", "returns"])
def test_a_watched_stage_that_dies_makes_its_stream_failed(how: str) -> None:
    async def stage() -> None:
        if how == "raises":
            raise RuntimeError("broken")
        if how == "cancelled":
            await asyncio.Event().wait()

    async def main() -> None:
        streams = registry("a")
        task = asyncio.create_task(stage())
        streams.update_producer_consumer("a", task)
        await settle()
        if how == "cancelled":
            task.cancel()
        await asyncio.wait({task})
        await settle()

        expected = {"raises": "the stage died: RuntimeError: broken", "cancelled": "the stage was killed", "returns": ""}[how]
        assert streams.get("a").reason == expected
        assert streams.get("a").status is (Status.RUNNING if how == "returns" else Status.FAILED)

    asyncio.run(main())


def test_a_watched_stage_that_dies_after_the_end_changes_nothing() -> None:
    async def main() -> None:
        streams = registry("a")
        task = asyncio.create_task(asyncio.Event().wait())
        streams.update_producer("a", task)  # type: ignore[arg-type]  # what it gives back does not matter
        streams.update_status("a", Status.STOPPED)
        task.cancel()
        await asyncio.wait({task})
        await settle()

        assert streams.get("a").status is Status.STOPPED

    asyncio.run(main())
