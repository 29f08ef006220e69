"""A conductor in the same process, as the link of a surface."""

from __future__ import annotations

from collections.abc import Sequence

from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.conductor import Conductor


class ConductorLink:
    """Hands events over; the conductor's output channel is the queue between the two."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    async def send(self, event: say.Input) -> None:
        """Hand an event to the conductor."""
        await self._conductor.handle(event)

    async def wait(self) -> bool:
        """Wait until the conductor has said something; False once it has quit and all has been taken."""
        return await self._conductor.output.wait()

    def take(self, max_count: int) -> Sequence[say.Event]:
        """Give what it has said, oldest first."""
        return self._conductor.output.take_many(max_count)
