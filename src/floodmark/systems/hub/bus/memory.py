"""The in-memory bus: one process, offsets dense per channel from 1, an event is acknowledged when it stands in the log.

As the second way of a stream whose messages stand `offsets_apart` from each other it numbers on from the stream's last one, and refuses
what would reach the next one's numbers: offsets would fall when the stream is back, and resume points mean something else.
"""

from __future__ import annotations

from floodmark.systems.hub.dispatch import Dispatcher
from floodmark.systems.hub.errors import EventBusError
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.intake import Intake, PublishJob


class MemoryBus:
    """Numbers events and hands them straight to the dispatcher, as soon as every queue has room."""

    mode = "in-memory"
    takes_mixed = True
    retried_count = 0
    full = True  # a job that is pending waits for room, and whoever sent it should wait too

    def __init__(self, dispatcher: Dispatcher, intake: Intake, *, offsets_apart: int = 0) -> None:
        self._dispatcher = dispatcher
        self._intake = intake
        self._offsets_apart = offsets_apart  # 0: nobody else numbers
        self._promised: dict[str, int] = {}  # per channel, the highest offset that what was taken may get

    @property
    def waiting_count(self) -> int:
        """Publishes that wait for room."""
        return self._intake.parked_count

    async def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing to let go of."""

    async def healthy(self) -> bool:
        """Memory always is."""
        return True

    def give_up(self, error: EventBusError) -> None:
        """What waits for room here waits on: it has nowhere to get lost."""

    def publish(self, job: PublishJob) -> bool:
        """Admit the events, now or when there is room."""
        if self._offsets_apart and job.events and not self._has_numbers(job):
            words = f"the bus is down, and the fallback has no number left for this channel: {self._offsets_apart:,} at most while it is"
            job.done(job, EventBusError(words))
            return False
        return self._intake.submit(job, self._append)

    def _has_numbers(self, job: PublishJob) -> bool:
        """Set numbers aside for a job, which is of one channel; if it is cancelled, they stay so until the stream is back."""
        channel = job.events[0].channel
        newest = self._dispatcher.newest_offsets.get(channel, 0)
        last = max(newest, self._promised.get(channel, 0)) + len(job.events) - job.admitted_count
        if last // self._offsets_apart > newest // self._offsets_apart:
            return False
        self._promised[channel] = last
        return True

    def _append(self, event: Event) -> None:
        dispatcher = self._dispatcher
        event.offset = dispatcher.newest_offsets.get(event.channel, 0) + 1
        dispatcher.append(event)
