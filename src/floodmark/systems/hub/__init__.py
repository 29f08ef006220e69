"""A GraphQL subscription hub over WebSocket: publish to channels, subscribe to them, lose nothing.

    async with Hub(HubSettings(history_events=1000)) as hub:
        print(hub.url)
        await hub.publish("orders", {"id": 7})

`docs/systems/hub.md` tells how it is used and what it promises. It stands alone: of floodmark it uses only `core`.
"""

from floodmark.systems.hub.errors import EventsLagged, HubError, OffsetExpired
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.hub import Hub
from floodmark.systems.hub.settings import PRESETS, HubSettings, Policy, settings_from
from floodmark.systems.hub.streams import EventStream, StreamClosed

__all__ = [
    "PRESETS",
    "Event",
    "EventStream",
    "EventsLagged",
    "Hub",
    "HubError",
    "HubSettings",
    "OffsetExpired",
    "Policy",
    "StreamClosed",
    "settings_from",
]
