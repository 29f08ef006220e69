"""The in-memory bus: one process, offsets dense per channel from 1, an event is acknowledged when it stands in the log."""

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

    def __init__(self, dispatcher: Dispatcher, intake: Intake) -> None:
        self._dispatcher = dispatcher
        self._intake = intake

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
        return self._intake.submit(job, self._append)

    def _append(self, event: Event) -> None:
        dispatcher = self._dispatcher
        event.offset = dispatcher.newest_offsets.get(event.channel, 0) + 1
        dispatcher.append(event)
