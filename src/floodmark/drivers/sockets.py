"""What the WebSocket drivers share: opening a picows connection, and words for the ways in which that fails.

Memory: picows allocates its read buffer per connection, so it starts at 1 KiB and grows with the frames.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import urllib.request
from collections.abc import Callable
from typing import TypeVar, cast

from picows import WSHandshakeError, WSListener, WSTransport, ws_connect

from floodmark.drivers.base import RefusedError

Listener = TypeVar("Listener", bound=WSListener)

READ_BUFFER_BYTES = 1024
logging.getLogger("picows").setLevel(logging.CRITICAL)  # what goes wrong is told by RefusedError and Sink.closed


async def open_socket(
    make: Callable[[], Listener],
    url: str,
    *,
    subprotocol: str | None,
    limit_s: float,
    frame_limit_bytes: int,
    local_host: str | None = None,
    headers: dict[str, str] | None = None,
) -> Listener:
    """Connect and shake hands; the listener that `make` built is returned once it is connected.

    Raises: RefusedError that says in words how the target refused.
    """
    extra = dict(headers or {})
    if subprotocol is not None:
        extra["Sec-WebSocket-Protocol"] = subprotocol
    try:
        async with asyncio.timeout(limit_s) as limit:
            transport, made = await ws_connect(
                make,
                url,
                websocket_handshake_timeout=None,  # one limit, the one around this block
                enable_auto_pong=True,
                max_frame_size=frame_limit_bytes,
                extra_headers=extra,
                use_aiofastnet=False,
                max_redirects=0,
                read_buffer_init_size=READ_BUFFER_BYTES,
                local_addr=(local_host, 0) if local_host is not None else None,
            )
    except TimeoutError as exc:
        if not limit.expired():  # a socket's ETIMEDOUT is a TimeoutError too
            raise RefusedError(url, "did not answer on the network (ETIMEDOUT)") from exc
        raise RefusedError(url, f"took no WebSocket handshake within {limit_s:g} s") from exc
    except WSHandshakeError as exc:
        raise RefusedError(url, _handshake_reason(exc)) from exc
    except OSError as exc:
        raise RefusedError(url, _network_reason(exc)) from exc
    answered = transport.response.headers.get("Sec-WebSocket-Protocol")
    if subprotocol is not None and answered != subprotocol:
        transport.disconnect(graceful=False)
        raise RefusedError(url, f"does not speak {subprotocol} (it answered with sub-protocol {answered!r})")
    # Nobody reads the handshake again, and its parsed headers are a fifth of an idle connection's memory.
    transport.request.headers.clear()
    transport.response.headers.clear()
    return cast("Listener", made)


def _handshake_reason(exc: WSHandshakeError) -> str:
    response = exc.response
    if response is None:
        seen = bytes(exc.raw_header or b"")[:60]
        return f"closed or broke off the WebSocket handshake ({exc}{f', it sent {seen!r}' if seen else ''})"
    body = bytes(exc.raw_body or b"")[:200].decode("utf-8", "replace").strip()
    status = int(response.status)
    return f"refused the WebSocket handshake with HTTP {status}{f': {body}' if body else ''}"


def _network_reason(exc: OSError) -> str:
    match exc.errno:
        case errno.ECONNREFUSED:
            return "refuses connections: nothing listens there"
        case errno.EMFILE | errno.ENFILE:
            return "cannot be reached: this process is out of file descriptors (floodmark doctor says how to get more)"
        case errno.EADDRNOTAVAIL:
            return "cannot be reached: no local port is left (floodmark doctor says how to get more)"
        case _ if isinstance(exc, socket.gaierror):
            return f"cannot be found: {exc.strerror}"
        case _:
            return f"cannot be reached: {exc.strerror or exc}"


def describe_close(transport: WSTransport) -> str:
    """One line that says how a connection ended."""
    handshake = transport.close_handshake
    received = handshake.recv if handshake is not None else None
    if received is not None:
        reason = received.reason or ""
        return f"closed the connection with code {int(received.code.value)}{f' ({reason})' if reason else ''}"
    if handshake is not None and handshake.sent is not None:
        return "was left by us"
    return "broke the connection off without a closing handshake"


async def fetch_prometheus(url: str, *, limit_s: float = 5.0) -> dict[str, float] | None:
    """Read a Prometheus text page: sample name (with labels as they stand) to value. None when there is no such page."""

    def fetch() -> bytes:
        with urllib.request.urlopen(url, timeout=limit_s) as answer:
            return bytes(answer.read())

    try:
        page = await asyncio.to_thread(fetch)
    except (OSError, ValueError):
        return None
    samples: dict[str, float] = {}
    for line in page.decode("utf-8", "replace").splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            try:
                samples[name.strip()] = float(value)
            except ValueError:
                continue
    return samples
