"""The in-memory bus: one process, offsets dense per channel from 1."""

from __future__ import annotations

from floodmark.systems.hub.dispatch import Dispatcher
from floodmark.systems.hub.event import Event


class MemoryBus:
    """Numbers events and hands them straight to the dispatcher."""

    mode = "in-memory"

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def append(self, event: Event) -> None:
        """Take an event for which every queue has room."""
        dispatcher = self._dispatcher
        event.offset = dispatcher.newest_offsets.get(event.channel, 0) + 1
        dispatcher.append(event)
