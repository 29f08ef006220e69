"""The surfaces that are there, and how to reach one, some or all of them.

A broadcast does not wait: a surface without room is named as failed, and the others have it. Whoever must be reached is sent to with
`send_to`, which waits. At most `limit_count` surfaces; one whose channel was closed goes with the next `cleanup`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from floodmark.systems.conductor.channel import Channel
from floodmark.systems.conductor.errors import ChannelClosedError, RefusedError
from floodmark.systems.conductor.vocabulary import Capabilities, ConductorEvent, SurfaceType

LIMIT_COUNT: Final = 10_000


class RegisteredSurface(NamedTuple):
    """One surface that is there."""

    id: str
    surface_type: SurfaceType
    capabilities: Capabilities
    channel: Channel[ConductorEvent]


class BroadcastResult(NamedTuple):
    """How far a broadcast came."""

    successful: int
    failed: int
    ids: tuple[str, ...]  # those that have it


class SurfaceRegistry:
    """All surfaces, by id."""

    def __init__(self, *, limit_count: int = LIMIT_COUNT) -> None:
        self._limit_count = limit_count
        self._surfaces: dict[str, RegisteredSurface] = {}

    def __len__(self) -> int:
        return len(self._surfaces)

    def __iter__(self) -> Iterator[RegisteredSurface]:
        return iter(tuple(self._surfaces.values()))

    def register(
        self,
        channel: Channel[ConductorEvent],
        *,
        surface_type: SurfaceType = SurfaceType.HEADLESS,
        capabilities: Capabilities | None = None,
        surface_id: str = "",
    ) -> str:
        """Add a surface. Returns: its id. Raises RefusedError when the id is taken, or too many are there."""
        surface_id = surface_id or f"conn-{uuid.uuid4()}"
        if surface_id in self._surfaces:
            raise RefusedError(f"a surface {surface_id} is there already")
        if len(self._surfaces) >= self._limit_count:
            raise RefusedError(f"{self._limit_count} surfaces are there, and no more are allowed; try again when one has left")
        self._surfaces[surface_id] = RegisteredSurface(surface_id, surface_type, capabilities or Capabilities(), channel)
        return surface_id

    def unregister(self, surface_id: str) -> bool:
        """Take a surface away. Returns: whether it was there."""
        return self._surfaces.pop(surface_id, None) is not None

    def broadcast(self, events: Sequence[ConductorEvent]) -> BroadcastResult:
        """Send to all that have room, all of the events or none."""
        return self.send_to_matching(lambda surface: True, events)

    def send_to_matching(self, wanted: Callable[[RegisteredSurface], bool], events: Sequence[ConductorEvent]) -> BroadcastResult:
        """Send to those wanted that have room, all of the events or none."""
        reached: list[str] = []
        failed = 0
        for surface in self._surfaces.values():
            if not wanted(surface):
                continue
            if surface.channel.closed or surface.channel.room() < len(events):
                failed += 1
                continue
            surface.channel.put(events)
            reached.append(surface.id)
        return BroadcastResult(len(reached), failed, tuple(reached))

    async def send_to(self, surface_id: str, events: Sequence[ConductorEvent]) -> bool:
        """Send to one, waiting for room. Returns: False when it is not there, or has left meanwhile."""
        surface = self._surfaces.get(surface_id)
        if surface is None:
            return False
        try:
            await surface.channel.put_many(events)
        except ChannelClosedError:
            return False
        return True

    def cleanup(self) -> int:
        """Take away every surface whose channel was closed. Returns: how many."""
        gone = [surface.id for surface in self._surfaces.values() if surface.channel.closed]
        for surface_id in gone:
            del self._surfaces[surface_id]
        return len(gone)
