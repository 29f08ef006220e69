"""Which fields of an event a subscription asked for, under which names: turned once into a template that renders an event to JSON.

The key order of the answer is the order of the selection, as GraphQL demands; the text is compact.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from floodmark.systems.hub.event import Event

# GraphQL field -> the Event member that holds its JSON text.
MEMBERS: dict[str, str] = {
    "id": "id_json",
    "eventType": "event_type_json",
    "data": "data",
    "channel": "channel_json",
    "timestamp": "timestamp_json",
    "correlationId": "correlation_id_json",
    "offset": "offset_json",
    "__typename": "typename_json",
}


class Selection:
    """The fields of one subscription. Equal selections have equal keys and render the same bytes."""

    __slots__ = ("_members", "_template", "key")

    def __init__(self, response_key: str, fields: Sequence[tuple[str, str]]) -> None:
        """
        Args:
            response_key: the name of the subscription field in the answer: `events` or its alias.
            fields: (name in the answer, field of Event), in the order asked for, at least one.
        """
        self.key = (response_key, *fields)
        body = ",".join(f'"{name}":%b' for name, _ in fields)
        self._template = f'{{"data":{{"{response_key}":{{{body}}}}}}}'.encode()
        members = [MEMBERS[field] for _, field in fields]
        read: Callable[[Event], Any] = operator.attrgetter(*members)
        self._members: Callable[[Event], tuple[bytes, ...]] = read if len(members) > 1 else lambda event: (read(event),)

    def render(self, event: Event) -> bytes:
        """Give the payload of a `next` message."""
        return self._template % self._members(event)  # HOT: once per event and selection, at C speed
