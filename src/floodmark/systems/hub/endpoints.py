"""What the hub answers to a GET: the WebSocket handshake on /graphql and /, `/metrics`, `/healthz`, and 404.

The connection limit is enforced here, before the upgrade: the client that is one too many gets 503 and one line that says so.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from floodmark.systems.hub.connection import Connection
from floodmark.systems.hub.event import encode_json
from floodmark.systems.hub.wire import DIALECTS

if TYPE_CHECKING:
    from floodmark.systems.hub.hub import Hub

HANDSHAKE_PATHS = (b"/graphql", b"/")


def route(hub: Hub, request: WSUpgradeRequest) -> Connection | WSUpgradeResponseWithListener | None:
    """Choose the answer; None is 404."""
    path = request.path.partition(b"?")[0]
    if path == b"/metrics":
        return _plain(HTTPStatus.OK, hub.snapshot().prometheus().encode(), "text/plain; version=0.0.4; charset=utf-8")
    if path == b"/healthz":
        health = {"status": "draining" if hub.draining else "ok", "connections": len(hub.connections), "mode": hub.bus.mode}
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE if hub.draining else HTTPStatus.OK, encode_json(health), "application/json")
    if path not in HANDSHAKE_PATHS:
        return None
    if hub.draining:
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE, b"the hub is shutting down\n", "text/plain")
    if len(hub.connections) >= hub.settings.connections_max:
        hub.limits.violated("connections")
        reason = f"the hub has {len(hub.connections)} connections, its limit; try again later\n"
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE, reason.encode(), "text/plain")
    if not hub.conduct.admits(len(hub.connections)):
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE, b"the hub takes no more connections\n", "text/plain")
    # Firefox sends "keep-alive, Upgrade", which is correct, but picows takes the bare word only.
    if "upgrade" in request.headers.get("Connection", "").lower():
        request.headers["Connection"] = "Upgrade"
    return _handshake(hub, request)


def _handshake(hub: Hub, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
    offered = [name.strip() for value in request.headers.getall("Sec-WebSocket-Protocol", []) for name in value.split(",")]
    chosen = next((name for name in DIALECTS if name in offered), None)
    headers = [("Sec-WebSocket-Protocol", chosen)] if chosen else []
    default = next(iter(DIALECTS.values())) if not offered else None
    connection = Connection(hub, DIALECTS[chosen] if chosen else default)
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(headers), connection)


def _plain(status: HTTPStatus, body: bytes, content_type: str) -> WSUpgradeResponseWithListener:
    response = cast("WSUpgradeResponse", WSUpgradeResponse.create_ok_response(body, {"Content-Type": content_type}))
    response.status = status
    return WSUpgradeResponseWithListener(response, None)
