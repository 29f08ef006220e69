"""A publisher that does not give up, over connections of paper: what it sends again, when it tells, and that it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import pytest

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.drivers.base import Connection, Sink, Wanted
from floodmark.drivers.jetstream_retry import RetryingConnection
from tests.drivers.harness import Recorder, eventually, on_loop
from tests.drivers.nats_server import want


class Paper:
    """A connection that remembers what it was told."""

    writable = True

    def __init__(self, sink: Sink, broken: Exception | None = None) -> None:
        self.sink = sink
        self.broken = broken
        self.left = False
        self.published: list[tuple[str, bytes, int]] = []
        self.wanted: list[Wanted] = []

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        self.wanted += wanted

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        self.wanted.clear()

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        if self.broken is not None:
            raise self.broken
        self.published.append((channel, payload, token))

    def resume_point(self, frame: bytes) -> int | None:
        return len(frame)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def close(self) -> None:
        self.lose("was left by us")

    def abort(self) -> None:
        self.left = True
        self.lose("was left by us")

    def lose(self, reason: str) -> None:
        """End it."""
        self.sink.closed(self, reason)


class Place:
    """Where connections are opened; refuses while `shut`."""

    def __init__(self) -> None:
        self.made: list[Paper] = []
        self.shut = False
        self.broken: Exception | None = None
        self.broken_publish: Exception | None = None
        """What goes wrong, in opening one and on one that is open, that is no refusal."""

    async def open(self, sink: Sink, limit_s: float) -> Connection:
        if self.shut:
            raise SystemUnderTestError("nobody listens")
        if self.broken is not None:
            raise self.broken
        self.made.append(Paper(sink, self.broken_publish))
        return self.made[-1]

    async def connect(self, recorder: Recorder, *, retry_s: float = 5.0) -> RetryingConnection:
        return await RetryingConnection.open(self.open, recorder, limit_s=1.0, retry_s=retry_s)


def tokens(paper: Paper) -> list[int]:
    return [token for _, _, token in paper.published]


@on_loop
async def test_cut_publisher_comes_back_and_sends_again_what_was_not_answered_in_order() -> None:
    place, recorder = Place(), Recorder()
    connection = await place.connect(recorder)
    for token in (1, 2, 3, 4, 0):
        connection.publish("a", b"%d" % token, token)
    place.made[0].sink.acknowledged(2)
    place.made[0].sink.refused(3, "no")

    place.made[0].lose("reset")
    away = connection.writable
    connection.publish("a", b"5", 5)
    await eventually(lambda: len(place.made) == 2)
    await connection.close()

    assert not away
    assert place.made[1].published == [("a", b"1", 1), ("a", b"4", 4), ("a", b"5", 5)]
    assert (recorder.acks, recorder.refusals) == ([2], [(3, "no")])
    assert recorder.closings == ["was left by us"]
    assert connection.retries_count == 1


@on_loop
async def test_place_that_is_shut_for_a_while_is_tried_again() -> None:
    place, recorder = Place(), Recorder()
    connection = await place.connect(recorder)
    place.shut = True
    place.made[0].lose("killed")
    await asyncio.sleep(0.15)  # that nothing happens has no event

    place.shut = False
    await eventually(lambda: connection.writable)
    connection.abort()

    assert recorder.closings == ["was left by us"]


@on_loop
async def test_place_that_stays_shut_is_told_as_lost_once() -> None:
    place, recorder = Place(), Recorder()
    connection = await place.connect(recorder, retry_s=0.1)
    place.shut = True

    place.made[0].lose("killed")
    await eventually(lambda: bool(recorder.closings))
    connection.abort()
    await connection.close()

    assert recorder.closings == ["killed; it did not come back within 0.1 s"]


@on_loop
async def test_connection_with_subscriptions_is_not_brought_back_but_told() -> None:
    place, recorder = Place(), Recorder()
    connection = await place.connect(recorder)
    await connection.subscribe([want(0, "a")])

    place.made[0].lose("reset")
    with pytest.raises(SystemUnderTestError, match="lost"):
        await connection.unsubscribe([0])

    assert recorder.closings == ["reset"]
    assert len(place.made) == 1


@on_loop
async def test_leaving_while_it_is_away_ends_the_tries() -> None:
    place, recorder = Place(), Recorder()
    connection = await place.connect(recorder)
    place.shut = True
    place.made[0].lose("reset")

    await connection.close()
    place.shut = False
    await asyncio.sleep(0.1)  # that nobody connects has no event

    assert recorder.closings == ["was left by us"]
    assert len(place.made) == 1


@on_loop
async def test_mistake_on_the_way_back_is_told_as_lost_once_with_what_it_was() -> None:
    place, recorder = Place(), Recorder()
    connection = await place.connect(recorder)
    place.broken = UsageError("the credentials cannot be read")

    place.made[0].lose("killed")
    await eventually(lambda: bool(recorder.closings))
    connection.abort()
    await connection.close()

    assert recorder.closings == ["killed; it cannot be brought back (UsageError: the credentials cannot be read)"]
    assert not connection.writable


@on_loop
async def test_mistake_in_sending_again_is_told_once_and_leaves_no_connection() -> None:
    place, recorder = Place(), Recorder()
    connection = await place.connect(recorder)
    connection.publish("a", b"1", 1)
    place.broken_publish = KeyError("a")

    place.made[0].lose("reset")
    await eventually(lambda: bool(recorder.closings))

    assert recorder.closings == ["reset; it cannot be brought back (KeyError: 'a')"]
    assert (len(place.made), place.made[1].left) == (2, True)
    assert not connection.writable
