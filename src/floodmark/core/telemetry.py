"""A tiny telemetry bus: parts say what happens, whoever is interested listens, nobody waits for anybody.

An event has a dotted name, measurements (numbers) and metadata (what they belong to). A handler is attached to one event or to all
events under a prefix, and is called at once, in the emitter's own turn: it must be quick and must not block. A handler that raises
is detached, with a line in the log; it never breaks what it watches. Not here: storage, export, aggregation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

Handler = Callable[[str, Mapping[str, Any], Mapping[str, Any]], None]


class TelemetryBus:
    """Hands events to the handlers that asked for them.

    >>> bus, seen = TelemetryBus(), []
    >>> detach = bus.attach("shop", lambda event, measurements, metadata: seen.append((event, dict(measurements))))
    >>> bus.emit("shop.sale", {"amount": 3}, {})
    >>> detach()
    >>> bus.emit("shop.sale", {"amount": 4}, {})
    >>> seen
    [('shop.sale', {'amount': 3})]
    """

    __slots__ = ("_attached", "_routes")

    def __init__(self) -> None:
        self._attached: dict[object, tuple[str, Handler]] = {}
        self._routes: dict[str, tuple[tuple[object, Handler], ...]] = {}  # per event name, worked out once; names are few

    def attach(self, prefix: str, handler: Handler) -> Callable[[], None]:
        """Call `handler(event, measurements, metadata)` for the event of this name and for every event below it.

        Args: prefix: `a.b` takes `a.b` and `a.b.c`, not `a.bc`; the empty one takes everything.
        Returns: a function that detaches the handler again; calling it twice does no harm.
        """
        key = object()
        self._attached[key] = (prefix, handler)
        self._routes.clear()

        def detach() -> None:
            if self._attached.pop(key, None) is not None:
                self._routes.clear()

        return detach

    def wants(self, event: str) -> bool:
        """Tell if anybody listens; an emitter may spare itself the measurements otherwise."""
        return bool(self._route(event))

    def emit(self, event: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Hand an event to its handlers, in the order in which they were attached."""
        for key, handler in self._route(event):
            try:
                handler(event, measurements, metadata)
            except Exception:
                log.exception("a telemetry handler failed at %s and is detached", event)
                if self._attached.pop(key, None) is not None:
                    self._routes.clear()

    def _route(self, event: str) -> tuple[tuple[object, Handler], ...]:
        route = self._routes.get(event)
        if route is None:
            route = tuple(
                (key, handler)
                for key, (prefix, handler) in self._attached.items()
                if not prefix or event == prefix or event.startswith(prefix + ".")
            )
            self._routes[event] = route
        return route
