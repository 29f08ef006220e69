"""How to speak to a system: one driver per file, all of them in the table below.

`build` also takes `package.module:Class` for a driver of the user's own.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Driver, Options
from floodmark.drivers.graphql_ws import GraphQLDriver
from floodmark.drivers.websocket import WebSocketDriver

DRIVERS: dict[str, tuple[Callable[[Options], Driver], str]] = {
    "graphql-ws": (GraphQLDriver, "any server that speaks graphql-transport-ws; publishes by mutation, resumes after an offset"),
    "websocket": (WebSocketDriver, "any JSON or binary WebSocket service, described by templates for subscribe and publish"),
}


def build(name: str, options: Options) -> Driver:
    """Build a driver by its name in the table, or a class of the user's own by `package.module:Class`.

    Raises: UsageError for an unknown name (naming the nearest), a module that cannot be imported, or a wrong option.
    """
    if name in DRIVERS:
        return DRIVERS[name][0](options)
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        try:
            made: Driver = getattr(importlib.import_module(module_name), attribute)(options)
        except ImportError as exc:
            raise UsageError(f"driver {name!r}: cannot import {module_name!r} ({exc}); is it on PYTHONPATH?") from exc
        except AttributeError as exc:
            raise UsageError(f"driver {name!r}: {module_name!r} has no class {attribute!r}") from exc
        return made
    near = difflib.get_close_matches(name, DRIVERS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known drivers: {', '.join(DRIVERS)}"
    raise UsageError(f"unknown driver {name!r}; {hint} (or name a class of your own as package.module:Class)")
