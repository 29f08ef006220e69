"""The durable consumer on a real server, case by case (B33)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import nats
import pytest
from nats.js.api import RetentionPolicy

from floodmark.systems.fleet.consumer import (
    ConsumerStoppedError,
    DurableConsumer,
    Message,
    ServerError,
    TooManySubjectsError,
    UnsuitableStreamError,
    WorkerIdChangedError,
)
from floodmark.systems.fleet.consumer.control import Control
from floodmark.systems.fleet.metrics import Counters, Metric
from tests.systems.fleet.consumer.places import STREAM, Place, parts, place, settings, until


def test_update_with_the_first_partitions_makes_the_durable_and_handles_what_was_published_before() -> None:
    async def play() -> None:
        async with place() as here, here.consumer("a") as consumer:
            await here.publish("in.x", 3)

            await consumer.update("w/1", [*parts("y", "x"), *parts("x")])
            await here.until_empty()

            assert await here.durables() == {"fleet-w_1": ["in.x", "in.y"]}
            assert consumer.subjects == ("in.x", "in.y")
            assert here.log.sequences("in.x") == [1, 2, 3]

    asyncio.run(play())


def test_update_with_the_same_partitions_in_another_order_changes_nothing() -> None:
    async def play() -> None:
        counters = Counters()
        async with place() as here, here.consumer("a", metrics=counters) as consumer:
            await consumer.update("w", parts("x", "y"), epoch=1, version=1)
            made = (await here.js.consumer_info(STREAM, "fleet-w")).created

            await consumer.update("w", parts("y", "x"), epoch=1, version=1)
            await consumer.update("w", parts("y", "x", "y"), epoch=1, version=2)

            info = await here.js.consumer_info(STREAM, "fleet-w")
            assert info.created == made
            assert (info.config.metadata or {})["floodmark-version"] == "1.2"
            assert (counters.counted(Metric.CONSUMER_UPDATES, "noop"), counters.counted(Metric.CONSUMER_UPDATES, "success")) == (1, 2)

    asyncio.run(play())


def test_update_that_adds_a_subject_delivers_what_lies_below_the_position_too() -> None:
    # The fault that this is built against: a filter that grows does not rewind.
    async def play() -> None:
        async with place() as here, here.consumer("a") as consumer:
            await consumer.update("w", parts("x"))
            await here.publish("in.late", 3)
            await here.publish("in.x", 3)
            await until(lambda: len(here.log.entries) == 3, "the position is above what comes now")

            await consumer.update("w", parts("x", "late"))
            await here.until_empty()

            assert here.log.sequences("in.late") == [1, 2, 3]
            assert here.log.sequences("in.x") == [4, 5, 6]

    asyncio.run(play())


def test_update_that_only_removes_changes_the_durable_where_it_is() -> None:
    async def play() -> None:
        async with place() as here, here.consumer("a") as consumer:
            await consumer.update("w", parts("x", "y", "z"))
            made = (await here.js.consumer_info(STREAM, "fleet-w")).created

            await consumer.update("w", parts("y"))
            await here.publish("in.x", 2)
            await here.publish("in.y", 2)
            await until(lambda: len(here.log.entries) == 2, "what is left is handled")

            assert (await here.js.consumer_info(STREAM, "fleet-w")).created == made
            assert await here.durables() == {"fleet-w": ["in.y"]}
            assert here.log.sequences("in.x") == []

    asyncio.run(play())


def test_update_while_a_message_is_in_the_handler_does_not_restart_it_nor_handle_it_twice() -> None:
    async def play() -> None:
        async with place() as here, here.consumer("a", batch_count=10) as consumer:
            here.log.gate.clear()
            await consumer.update("w", parts("x"))
            await here.publish("in.x", 5)
            await until(lambda: len(here.log.entries) == 1, "the first is in the handler")

            await consumer.update("w", parts("x", "y"))  # made anew: all five come again
            await here.publish("in.y", 1)
            here.log.gate.set()
            await here.until_empty()

            assert here.log.sequences() == [1, 2, 3, 4, 5, 6]
            assert consumer.counts.known == 1  # the first: it came again, and was acknowledged again

    asyncio.run(play())


def test_update_that_removes_the_subject_in_the_handler_waits_for_it_and_begins_nothing_more() -> None:
    async def play() -> None:
        async with place() as here, here.consumer("a", batch_count=10) as consumer:
            here.log.gate.clear()
            await consumer.update("w", parts("x", "y"))
            await here.publish("in.x", 5)
            await until(lambda: len(here.log.entries) == 1, "the first is in the handler")

            async with asyncio.TaskGroup() as tasks:
                removal = tasks.create_task(consumer.update("w", parts("y")))
                await until(lambda: consumer.subjects == ("in.y",), "the removal has begun")
                still_waits = not removal.done()
                here.log.gate.set()

            assert still_waits
            assert here.log.sequences() == [1]
            async with here.consumer("b") as other:
                await other.update("w2", parts("x"))
                await here.until_empty()
            assert here.log.sequences("in.x", "b") == [2, 3, 4, 5]

    asyncio.run(play())


def test_update_with_a_handler_that_never_ends_is_held_up_only_so_long() -> None:
    async def play() -> None:
        async with place() as here, here.consumer("a", removal_s=0.1) as consumer:
            here.log.gate.clear()
            await consumer.update("w", parts("x", "y"))
            await here.publish("in.x", 1)
            await until(lambda: len(here.log.entries) == 1, "the first is in the handler")

            async with asyncio.timeout(20):  # a handler that never ends has no other limit
                await consumer.update("w", parts("y"))

            assert await here.durables() == {"fleet-w": ["in.y"]}
            here.log.gate.set()

    asyncio.run(play())


def test_updates_all_at_once_end_with_the_newest() -> None:
    async def play() -> None:
        async with place() as here, here.consumer("a") as consumer:
            async with asyncio.TaskGroup() as tasks:
                for number in range(20):
                    tasks.create_task(
                        consumer.update("w", parts(*(f"p{count}" for count in range(number + 1))), epoch=1, version=number + 1)
                    )

            assert len(consumer.subjects) == 20
            assert len((await here.durables())["fleet-w"]) == 20

    asyncio.run(play())


def test_update_of_an_older_assignment_than_the_last_is_not_done() -> None:
    async def play() -> None:
        async with place() as here, here.consumer("a") as consumer:
            await consumer.update("w", parts("x"), epoch=2, version=1)

            await consumer.update("w", parts("y"), epoch=1, version=9)

            assert consumer.subjects == ("in.x",)
            assert await here.durables() == {"fleet-w": ["in.x"]}

    asyncio.run(play())


def test_update_without_partitions_stops_and_leaves_no_durable_to_be_taken() -> None:
    async def play() -> None:
        async with place() as here, here.consumer("a") as consumer:
            await consumer.update("w", parts("x"))

            await consumer.update("w", [])
            await here.publish("in.x", 2)

            assert (consumer.subjects, await here.durables(), await here.left()) == ((), {}, 2)
            await consumer.update("w", parts("x"))
            await here.until_empty()

    asyncio.run(play())


def test_update_without_partitions_stops_even_when_the_server_is_gone() -> None:
    async def play() -> None:
        async with place(again_after_s=1.0) as here, here.consumer("a", operation_s=0.2) as consumer:
            await consumer.update("w", parts("x"))
            assert here.server.process is not None
            here.server.process.kill()
            await until(lambda: not here.nc.is_connected, "the connection is lost")

            await consumer.update("w", [])

            assert consumer.subjects == ()
            assert here.server.restart_count == 0
            await until(lambda: here.nc.is_connected, "the server is back, so that the connection can be closed")

    asyncio.run(play())


def test_update_that_the_server_does_not_do_keeps_the_old_partitions_and_works_later() -> None:
    async def play() -> None:
        counters = Counters()
        short = {"operation_s": 0.1, "retries_count": 1, "backoff_s": 0.01}
        async with (
            place(again_after_s=1.5) as here,
            DurableConsumer(here.nc, settings(**short), here.log.handler("a"), metrics=counters, on_error=lambda exc: None) as consumer,
        ):
            await consumer.update("w", parts("x"), epoch=1, version=1)
            await here.publish("in.x", 1)
            await until(lambda: len(here.log.entries) == 1, "it works")
            assert here.server.process is not None
            here.server.process.kill()

            with pytest.raises(ServerError, match="answer"):
                await consumer.update("w", parts("x", "y"), epoch=1, version=2)
            kept = consumer.subjects
            await until(lambda: here.nc.is_connected and here.server.restart_count > 0, "the server is back")
            await here.publish("in.x", 1)
            await until(lambda: len(here.log.sequences("in.x")) == 2, "the old subject still comes")
            await consumer.update("w", parts("x", "y"), epoch=1, version=2)
            await here.publish("in.y", 1)
            await until(lambda: len(here.log.sequences("in.y")) == 1, "and the new one")

            assert kept == ("in.x",)
            assert counters.counted(Metric.CONSUMER_UPDATES, "failure") == 1
            assert counters.counted(Metric.CONSUMER_CONTROL_RETRIES) >= 1

    asyncio.run(play())


def test_update_whose_answer_is_lost_does_not_trust_the_filter_and_makes_the_durable_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    # A removal that the server did and did not confirm, and then the subject comes back: adding it in place would lose what came between.
    async def play() -> None:
        async with place() as here, here.consumer("a", retries_count=0) as consumer:
            await consumer.update("w", parts("x", "y"), epoch=1, version=1)
            change = Control.change

            async def unanswered(self: Control, *args: Any, **kwargs: Any) -> None:
                await change(self, *args, **kwargs)
                raise ServerError("CONSUMER.CREATE", 0, 0, "no answer")

            monkeypatch.setattr(Control, "change", unanswered)
            with pytest.raises(ServerError):
                await consumer.update("w", parts("y"), epoch=1, version=2)
            monkeypatch.setattr(Control, "change", change)
            await here.publish("in.x", 3)
            await here.publish("in.y", 3)
            await until(lambda: len(here.log.sequences("in.y")) == 3, "the position is above what came to the lost subject")
            await consumer.update("w", parts("x", "y"), epoch=1, version=3)
            await here.until_empty()

            assert here.log.sequences("in.x") == [1, 2, 3]
            assert here.log.sequences("in.y") == [4, 5, 6]

    asyncio.run(play())


def test_update_that_fails_while_messages_are_handled_lets_nothing_overtake_what_it_made_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    # The removal of x has begun, the first x was left alone for that, and then the removal fails: the second x must wait for the first.
    async def play() -> None:
        log: list[int] = []
        may_go_on = asyncio.Semaphore(0)

        async def handle(message: Message) -> None:
            log.append(message.sequence)
            if message.subject == "in.y":
                await may_go_on.acquire()

        async def refused(*_: Any, **__: Any) -> None:
            may_go_on.release()
            await until(lambda: log == [1, 3], "the first x was passed over, and the second y is in the handler")
            raise ServerError("CONSUMER.CREATE", 500, 0, "insufficient resources")

        async with place() as here:
            for subject in ("in.y", "in.x", "in.y", "in.x"):
                await here.publish(subject)
            config = settings(batch_count=4, retries_count=0)
            async with DurableConsumer(here.nc, config, handle, on_error=lambda exc: None) as consumer:
                await consumer.update("w", parts("x", "y"), epoch=1, version=1)
                await until(lambda: log == [1], "the first y is in the handler")
                pull = consumer._feed.pull
                assert pull is not None
                await until(lambda: pull.last == 4, "all four are in hand")
                monkeypatch.setattr(Control, "change", refused)
                with pytest.raises(ServerError, match="resources"):
                    await consumer.update("w", parts("y"), epoch=1, version=2)
                may_go_on.release()
                await here.until_empty()

        assert log == [1, 3, 2, 4]

    asyncio.run(play())


def test_update_with_too_many_subjects_is_refused_and_near_to_it_is_warned_of() -> None:
    async def play() -> None:
        counters = Counters()
        async with place() as here, here.consumer("a", metrics=counters, max_subjects_count=10) as consumer:
            await consumer.update("w", parts(*"abcdefgh"))
            warned_at_eight = counters.counted(Metric.CONSUMER_THRESHOLD_WARNINGS)
            await consumer.update("w", parts(*"abcdefghi"))
            warned_at_nine = counters.counted(Metric.CONSUMER_THRESHOLD_WARNINGS)

            with pytest.raises(TooManySubjectsError, match="11"):
                await consumer.update("w", parts(*"abcdefghijk"))

            assert (warned_at_eight, warned_at_nine) == (0, 1)
            assert len(consumer.subjects) == 9
            assert counters.counted(Metric.CONSUMER_GUARDRAIL, "max_subjects") == 1

    asyncio.run(play())


def test_update_on_a_stream_that_forgets_what_nobody_wants_is_refused() -> None:
    async def play() -> None:
        async with place(retention=RetentionPolicy.INTEREST) as here, here.consumer("a") as consumer:
            with pytest.raises(UnsuitableStreamError, match="interest"):
                await consumer.update("w", parts("x"))

            assert await here.durables() == {}

    asyncio.run(play())


def test_update_as_another_worker_is_refused_unless_it_is_allowed() -> None:
    async def play() -> None:
        counters = Counters()
        async with place() as here, here.consumer("a", metrics=counters) as consumer:
            await consumer.update("w-1", parts("x"))

            with pytest.raises(WorkerIdChangedError, match="w-2"):
                await consumer.update("w-2", parts("x"))

            assert await here.durables() == {"fleet-w-1": ["in.x"]}
            assert counters.counted(Metric.CONSUMER_GUARDRAIL, "workerid_mutation") == 1

    asyncio.run(play())


@pytest.mark.parametrize("retention", [RetentionPolicy.WORK_QUEUE, RetentionPolicy.LIMITS], ids=lambda policy: policy.value)
def test_update_as_another_worker_when_allowed_removes_the_old_durable(retention: RetentionPolicy) -> None:
    async def play() -> None:
        async with place(retention=retention) as here, here.consumer("a", allow_worker_id_change=True) as consumer:
            await consumer.update("w-1", parts("x"))
            await here.publish("in.x", 2)
            await until(lambda: len(here.log.entries) == 2, "handled under the old name")

            async with asyncio.timeout(5):
                await consumer.update("w-2", parts("x"))
            await here.publish("in.x", 2)
            await until(lambda: len(here.log.entries) == 4, "handled under the new name")

            assert await here.durables() == {"fleet-w-2": ["in.x"]}
            assert consumer.worker_id == "w-2"

    asyncio.run(play())


@pytest.mark.parametrize("retention", [RetentionPolicy.WORK_QUEUE, RetentionPolicy.LIMITS], ids=lambda policy: policy.value)
def test_update_as_another_worker_leaves_the_durable_of_whoever_has_the_old_name_by_now(retention: RetentionPolicy) -> None:
    async def play() -> None:
        async with (
            place(retention=retention) as here,
            here.consumer("lost", allow_worker_id_change=True) as lost,
            here.consumer("heir") as heir,
        ):
            await lost.update("w-1", parts("x"), epoch=1, version=1)
            await lost.update("w-1", [])  # it has lost its id
            await heir.update("w-1", parts("x"), epoch=1, version=2)
            made = (await here.js.consumer_info(STREAM, "fleet-w-1")).created

            await lost.update("w-2", parts("y"), epoch=1, version=3)

            assert await here.durables() == {"fleet-w-1": ["in.x"], "fleet-w-2": ["in.y"]}
            assert (await here.js.consumer_info(STREAM, "fleet-w-1")).created == made

    asyncio.run(play())


def test_consumer_whose_durable_is_deleted_from_outside_makes_it_again() -> None:
    async def play() -> None:
        counters = Counters()
        async with place() as here, here.consumer("a", metrics=counters) as consumer:
            await consumer.update("w", parts("x"))
            await here.publish("in.x", 1)
            await until(lambda: len(here.log.entries) == 1, "it works")

            await here.js.delete_consumer(STREAM, "fleet-w")
            await here.publish("in.x", 2)
            async with asyncio.timeout(10):
                await here.until_empty()

            assert here.log.sequences() == [1, 2, 3]
            assert counters.counted(Metric.CONSUMER_RECREATIONS, "success") == 1
            assert consumer.healthy

    asyncio.run(play())


async def _break_pulls(here: Place, consumer: DurableConsumer, description: str, times: int) -> None:
    """Say to the running pull, once for each time, as the server would, that it has ended."""
    said: set[str] = set()
    for _ in range(times):
        failures = consumer._health.pull_failures

        def running() -> str:
            pull = consumer._feed.pull
            return f"{pull._inbox}.{pull._number}" if pull is not None and pull._number else ""

        await until(lambda running=running: running() not in said | {""}, "a pull runs")  # type: ignore[misc]
        said.add(running())
        await here.nc.publish(running(), headers={"Status": "409", "Description": description})
        await until(lambda failures=failures: consumer._health.pull_failures > failures, "it has failed")  # type: ignore[misc]


def test_consumer_with_two_pulls_that_fail_goes_on_and_no_update_has_failed() -> None:
    async def play() -> None:
        counters = Counters()
        async with place() as here, here.consumer("a", metrics=counters) as consumer:
            await consumer.update("w", parts("x"))

            await _break_pulls(here, consumer, "Leadership Change", 2)
            in_a_row = counters.gauges[Metric.CONSUMER_FAILURES_IN_A_ROW, ""]
            await here.publish("in.x", 3)
            await here.until_empty()

            assert in_a_row == 2
            assert here.log.sequences() == [1, 2, 3]
            assert counters.counted(Metric.CONSUMER_ITERATOR_RESTARTS, "transient") >= 2
            assert counters.counted(Metric.CONSUMER_UPDATES, "failure") == 0
            assert counters.gauges[Metric.CONSUMER_FAILURES_IN_A_ROW, ""] == 0
            assert counters.counted(Metric.CONSUMER_ESCALATIONS) == 0

    asyncio.run(play())


def test_consumer_with_three_pulls_that_fail_within_the_window_is_made_anew_once() -> None:
    async def play() -> None:
        counters = Counters()
        async with place() as here, here.consumer("a", metrics=counters, health_count=10) as consumer:
            await consumer.update("w", parts("x"))

            await _break_pulls(here, consumer, "Server Shutdown", 5)
            await here.publish("in.x", 1)
            await here.until_empty()

            assert counters.counted(Metric.CONSUMER_ESCALATIONS) == 1
            assert counters.counted(Metric.CONSUMER_RECREATIONS, "success") == 1

    asyncio.run(play())


def test_consumer_whose_client_does_not_take_an_answer_goes_on_and_handles_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # As when the buffer of a connection that is away is full. A loop that ended there would hold its subjects and never handle them.
    async def play() -> None:
        told: list[Exception] = []
        say = Message.say

        async def full(message: Message, word: bytes) -> None:
            if message.sequence == 2 and not told:
                raise nats.errors.OutboundBufferLimitError
            await say(message, word)

        def tell(exc: Exception) -> None:
            told.append(exc)
            raise RuntimeError("a callback that raises ends nothing either")

        monkeypatch.setattr(Message, "say", full)
        async with place() as here, DurableConsumer(here.nc, settings(), here.log.handler("a"), on_error=tell) as consumer:
            await here.publish("in.x", 4)
            await consumer.update("w", parts("x"))
            await here.until_empty()

            assert here.log.sequences() == [1, 2, 3, 4]
            assert [type(exc) for exc in told] == [nats.errors.OutboundBufferLimitError]
            assert consumer.counts.known == 1

    asyncio.run(play())


def test_consumer_whose_server_forbids_it_stops_and_says_so() -> None:
    async def play() -> None:
        counters = Counters()
        async with place() as here, here.consumer("a", metrics=counters) as consumer:
            await consumer.update("w", parts("x"))
            pull = consumer._feed.pull
            assert pull is not None
            await until(lambda: pull._number > 0, "a pull runs")

            await here.nc.publish(f"{pull._inbox}.{pull._number}", headers={"Status": "403", "Description": "Forbidden"})
            await until(lambda: not consumer.healthy, "it has stopped")

            with pytest.raises(ConsumerStoppedError, match="403"):
                await consumer.update("w", parts("x", "y"))

    asyncio.run(play())


def test_consumer_when_the_server_is_killed_and_comes_back_loses_nothing_and_keeps_the_order() -> None:
    async def play() -> None:
        async with place(again_after_s=0.05) as here, here.consumer("a", batch_count=10, operation_s=1) as consumer:
            await consumer.update("w", parts("x"))
            await here.publish("in.x", 20)
            await until(lambda: len(here.log.entries) >= 5, "it is at work")

            assert here.server.process is not None
            here.server.process.kill()
            await until(lambda: here.server.restart_count == 1 and here.nc.is_connected, "the server is back")
            await here.publish("in.x", 20)
            await here.until_empty()

            handled = here.log.sequences()
            assert sorted(set(handled)) == list(range(1, 41))
            assert sorted(handled) == handled

    asyncio.run(play())


def test_handler_that_fails_gets_the_message_again_before_what_follows_it_on_its_subject() -> None:
    async def play() -> None:
        entries: list[tuple[str, int]] = []

        async def handle(message: Message) -> None:
            entries.append((message.subject, message.sequence))
            if message.sequence in (1, 4) and message.deliveries < 3:
                raise ValueError("not yet")

        async with place() as here:
            await here.publish("in.x", 3)
            await here.publish("in.y", 3)
            await here.publish("in.x", 3)
            async with DurableConsumer(here.nc, settings(batch_count=100), handle, on_error=lambda exc: None) as consumer:
                await consumer.update("w", parts("x", "y"))
                await here.until_empty()
                counts = consumer.counts

        by_subject: dict[str, list[int]] = {"in.x": [], "in.y": []}
        for subject, sequence in entries:
            by_subject[subject].append(sequence)
        assert by_subject == {"in.x": [1, 1, 1, 2, 3, 7, 8, 9], "in.y": [4, 4, 4, 5, 6]}
        assert (counts.handled, counts.refused, counts.given_up) == (9, 4, 0)

    asyncio.run(play())


def test_handler_that_fails_every_time_gives_the_message_up_and_goes_on_with_what_follows() -> None:
    async def play() -> None:
        entries: list[int] = []
        told: list[Exception] = []
        counters = Counters()

        async def handle(message: Message) -> None:
            entries.append(message.sequence)
            if message.sequence == 1:
                raise ValueError("never")

        async with place() as here:
            await here.publish("in.x", 4)
            async with DurableConsumer(here.nc, settings(batch_count=2), handle, metrics=counters, on_error=told.append) as consumer:
                await consumer.update("w", parts("x"))
                await until(lambda: 4 in entries, "what follows is handled")
                await here.until_left(1)  # never acknowledged, and so still there to be looked at
                counts = consumer.counts

            assert entries == [1, 1, 1, 2, 3, 4]
            assert (counts.refused, counts.given_up, counters.counted(Metric.CONSUMER_GIVEN_UP)) == (3, 1, 1)
            assert [str(exc) for exc in told] == [
                "never",
                "never",
                "message 1 of in.x is given up: delivery 3 was its last and failed with ValueError('never'); it stays in the stream",
            ]

    asyncio.run(play())


def test_manual_mode_with_room_for_two_never_lends_more_and_ends_with_nothing_pending() -> None:
    async def play() -> None:
        lent: asyncio.Queue[Message] = asyncio.Queue(maxsize=10)
        depth = 0

        async def handle(message: Message) -> None:
            nonlocal depth
            lent.put_nowait(message)
            depth = max(depth, lent.qsize())

        async with place() as here:
            await here.publish("in.x", 10)
            config = settings(manual_ack=True, max_ack_pending_count=2, batch_count=2)
            async with DurableConsumer(here.nc, config, handle) as consumer:
                await consumer.update("w", parts("x"))
                settled: Sequence[int] = []
                for _ in range(10):
                    if lent.qsize() < 2 and len(settled) < 8:
                        await until(lambda: lent.qsize() == 2, "the next ones are lent")
                    message = await asyncio.wait_for(lent.get(), 5)  # wait_for: the test's own limit
                    settled = [*settled, message.sequence]
                    await message.ack()
                await here.until_empty()
                info = await here.js.consumer_info(STREAM, "fleet-w")

            assert settled == list(range(1, 11))
            assert depth == 2
            assert (info.num_ack_pending, info.num_pending) == (0, 0)

    asyncio.run(play())


def test_manual_mode_when_the_durable_is_made_anew_lends_nothing_twice_and_late_words_still_count() -> None:
    async def play() -> None:
        lent: list[Message] = []

        async def handle(message: Message) -> None:
            lent.append(message)

        async with place() as here:
            await here.publish("in.x", 3)
            async with DurableConsumer(here.nc, settings(manual_ack=True, batch_count=5), handle) as consumer:
                await consumer.update("w", parts("x"))
                await until(lambda: len(lent) == 3, "lent")
                await consumer.update("w", parts("x", "y"))
                await here.publish("in.y", 1)
                await until(lambda: len(lent) == 4, "the new durable has delivered everything again")

                for message in lent:
                    await message.ack()
                await here.until_empty()

            assert [message.sequence for message in lent] == [1, 2, 3, 4]

    asyncio.run(play())


def test_manual_mode_with_a_message_that_is_refused_lends_it_again() -> None:
    async def play() -> None:
        lent: list[Message] = []

        async def handle(message: Message) -> None:
            lent.append(message)

        async with place() as here:
            await here.publish("in.x", 1)
            async with DurableConsumer(here.nc, settings(manual_ack=True), handle) as consumer:
                await consumer.update("w", parts("x"))
                await until(lambda: len(lent) == 1, "lent")
                await lent[0].nak()
                await until(lambda: len(lent) == 2, "lent again")
                await lent[1].ack()
                await lent[1].ack()  # once is enough, twice is no error
                await here.until_empty()

            assert [message.deliveries for message in lent] == [1, 2]

    asyncio.run(play())


def test_consumer_closed_twice_is_closed_and_takes_no_update() -> None:
    async def play() -> None:
        async with place() as here:
            consumer = here.consumer("a")
            await consumer.update("w", parts("x"))

            await consumer.aclose()
            await consumer.aclose()

            assert await here.durables() == {}
            with pytest.raises(ConsumerStoppedError, match="closed"):
                await consumer.update("w", parts("x"))

    asyncio.run(play())


def test_consumer_closed_before_any_update_leaves_nothing() -> None:
    async def play() -> None:
        async with place() as here:
            await here.consumer("a").aclose()

            assert await here.durables() == {}

    asyncio.run(play())


def test_consumer_on_a_connection_that_is_closed_closes_all_the_same() -> None:
    async def play() -> None:
        async with place() as here:
            nc = await nats.connect(here.server.url)
            consumer = here.consumer("a", nc=nc)
            await consumer.update("w", parts("x"))
            await nc.close()

            async with asyncio.timeout(5):
                await consumer.aclose()

            assert consumer.subjects == ()

    asyncio.run(play())
