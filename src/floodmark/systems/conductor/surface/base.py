"""What a surface is, and how it is attached to a conductor in the same process."""

from __future__ import annotations

from typing import Final, Protocol

from floodmark.core import tasks
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.vocabulary import Capabilities, ConductorEvent, Connected, SurfaceType

SHOWN_COUNT: Final = 1024  # events that a surface is given at once


class Surface(Protocol):
    """Whatever shows events: a terminal, a page, nothing at all."""

    @property
    def surface_type(self) -> SurfaceType:
        """What kind it is."""

    @property
    def capabilities(self) -> Capabilities | None:
        """What it can do; None: what its kind usually can."""

    async def show(self, events: list[ConductorEvent]) -> None:
        """Take events in order. As long as it takes, so long the conductor holds back: a slow surface loses nothing."""


async def attach(conductor: Conductor, surface: Surface) -> None:
    """Introduce a surface to a conductor that is running, and feed it until the conductor has quit and everything was shown.

    Cancelled half-way, events that were not shown are still in the channel, but for the batch that was being shown.
    """
    connected = Connected(surface_type=surface.surface_type, capabilities=surface.capabilities)
    async with tasks.group() as group:
        group.create_task(conductor.handle(connected))  # beside the reading: what waits for the surface may leave no room for the answer
        while await conductor.output.wait():
            await surface.show(conductor.output.take_many(SHOWN_COUNT))
