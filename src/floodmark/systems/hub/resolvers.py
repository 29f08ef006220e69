"""The slow path: what graphql-core calls for queries and for mutations of several fields.

One `publish` alone in a mutation never comes here; `documents.py` compiles it for the fast path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from floodmark.systems.hub.hub import Hub


class Root:
    """The root value; graphql-core finds a field's resolver by its name."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def stats(self, _info: object) -> dict[str, int | str]:
        """Live counters, summed over all processes."""
        return await self._hub.stats()

    async def publish(
        self,
        _info: object,
        *,
        channel: str,
        data: Any,
        eventType: str | None = None,  # noqa: N803  names of the schema
        correlationId: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """One event."""
        event = await self._hub.publish(channel, data, event_type=eventType or "event", correlation_id=correlationId)
        return {"id": event.id, "offset": event.offset}

    async def publishMany(  # noqa: N802  names of the schema
        self,
        _info: object,
        *,
        channel: str,
        data: list[Any],
        eventType: str | None = None,  # noqa: N803
        correlationId: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """Several events, one after the other."""
        first_offset = 0
        for value in data:
            event = await self._hub.publish(channel, value, event_type=eventType or "event", correlation_id=correlationId)
            first_offset = first_offset or event.offset
        return {"firstOffset": first_offset, "count": len(data)}

    async def publishEach(self, _info: object, *, events: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N802  names of the schema
        """Events for any channels, one after the other."""
        for each in events:
            await self._hub.publish(
                each["channel"], each["data"], event_type=each.get("eventType") or "event", correlation_id=each.get("correlationId")
            )
        return {"count": len(events)}
