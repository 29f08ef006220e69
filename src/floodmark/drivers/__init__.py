"""How to speak to a system: one driver per file, all of them in the table below.

`build` also takes a driver of the user's own: `path/to/file.py:Class` (from where floodmark is started) or `package.module:Class`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Driver, Options
from floodmark.drivers.conductor import ConductorDriver
from floodmark.drivers.fleet import FleetDriver
from floodmark.drivers.graphql_ws import GraphQLDriver
from floodmark.drivers.jetstream import JetStreamDriver
from floodmark.drivers.nats import NatsDriver
from floodmark.drivers.pulled import PulledDriver
from floodmark.drivers.sse import SSEDriver
from floodmark.drivers.websocket import WebSocketDriver

DRIVERS: dict[str, tuple[Callable[[Options], Driver], str]] = {
    "graphql-ws": (GraphQLDriver, "any server that speaks graphql-transport-ws; publishes by mutation, resumes after an offset"),
    "websocket": (WebSocketDriver, "any JSON or binary WebSocket service, described by templates for subscribe and publish"),
    "pulled": (
        PulledDriver,
        "a stream that gives only what it is asked for, in a host process that is fed and drained; checks demand and groups",
    ),
    "sse": (
        SSEDriver,
        "streams of server-sent events over HTTP: any OpenAI-compatible server, plain ones by options; asks and checks answers",
    ),
    "conductor": (
        ConductorDriver,
        "a surface of a conductor over its socket: conversations side by side, each answer checked token by token",
    ),
    "nats": (NatsDriver, "any NATS server, core publish and subscribe: at most once; queue groups; publishes confirmed by PING"),
    "jetstream": (
        JetStreamDriver,
        "streams of a NATS server: acknowledged publishes, message ids, consumers that are pulled, pushed or ordered; resumes by sequence",
    ),
    "fleet": (
        FleetDriver,
        "workers that share partitions through NATS: each message through the worker that holds its partition, a script of what is done to "
        "them, and a record of who held what",
    ),
}


_PARTS = ("encoding", "acknowledges", "resumes", "connect", "statistics")


def build(name: str, options: Options) -> Driver:
    """Build a driver by its name in the table, or a class of the user's own by `file.py:Class` or `package.module:Class`.

    Raises: UsageError for an unknown name (naming the nearest), a module that cannot be imported, a class that is no driver, or a wrong
    option.
    """
    if name in DRIVERS:
        return DRIVERS[name][0](options)
    if ":" in name:
        return _build_own(name, options)
    near = difflib.get_close_matches(name, DRIVERS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known drivers: {', '.join(DRIVERS)}"
    raise UsageError(f"unknown driver {name!r}; {hint} (or name a class of your own as file.py:Class or package.module:Class)")


def _build_own(name: str, options: Options) -> Driver:
    place, _, attribute = name.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as exc:  # whatever the user's module raises while it is imported
        hint = "" if place.endswith(".py") else "; is it on PYTHONPATH? (file.py:Class needs no path)"
        raise UsageError(f"driver {name!r}: cannot import {place!r} ({type(exc).__name__}: {exc}){hint}") from exc
    make = getattr(module, attribute, None)
    if not callable(make):
        raise UsageError(f"driver {name!r}: {place!r} has no class {attribute!r}")
    made = make(options)
    missing = [part for part in _PARTS if not hasattr(made, part)]
    if missing:
        raise UsageError(f"driver {name!r} lacks {' and '.join(missing)}; derive it from floodmark.drivers.base.BaseDriver")
    driver: Driver = made
    return driver


def _from_file(path: Path) -> ModuleType:
    """Run a file as a module of its own name; its folder joins the import path, so that it finds its neighbours."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.resolve()}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"floodmark_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # decorators that look up their own module need it there
    spec.loader.exec_module(module)
    return module
