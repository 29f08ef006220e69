"""The control endpoint: a little HTTP that lists, adds and removes faults while traffic flows.

    GET /               what there is           GET /faults           POST /faults          DELETE /faults/ID      POST /reset
    GET /connections                            GET /journal

Bodies are JSON both ways. Small on purpose: one request per connection, no chunked bodies, at most CONNECTIONS_MAX at a time, sizes and
time bounded, nothing but the standard library. It has no password: it listens on the loopback address only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from floodmark import __version__
from floodmark.core.errors import UsageError
from floodmark.faults.wire.active import ActiveFault
from floodmark.faults.wire.parse import parse_fault, wire_fault
from floodmark.faults.wire.proxy import Proxy

CONNECTIONS_MAX = 16
HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 64 * 1024
REQUEST_LIMIT_S = 5.0
LINGER_S = 1.0
HOST = "127.0.0.1"


class NewFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /faults: `fault` as on the command line, or `kind` and `options` as in a scenario file.

    `proxy` is the index of one proxy, all of them without it; `connections` restricts the choice to these, and needs `proxy`.
    """

    fault: str | None = None
    kind: str | None = None
    options: dict[str, float | int | str | bool] = {}
    proxy: int | None = None
    connections: tuple[int, ...] | None = None


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


class Control:
    """Answers requests about some proxies; no sockets, so that it can be asked directly."""

    def __init__(self, proxies: Sequence[Proxy]) -> None:
        self._proxies = proxies

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """Carry out one request and give what is to be sent back as JSON. Raises: Refusal."""
        parts = [part for part in path.partition("?")[0].split("/") if part]
        resource = parts[0] if parts else ""
        routes = self._routes()
        if resource not in routes or len(parts) > 2 or (len(parts) == 2 and resource != "faults"):
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no {path!r}; there are: {', '.join('/' + name for name in routes)}")
        if len(parts) == 2:
            if method != "DELETE":
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes DELETE, not {method}")
            return self._remove(parts[1])
        action = routes[resource].get(method)
        if action is None:
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"/{resource} takes {' or '.join(routes[resource])}, not {method}")
        try:
            return action(body)
        except UsageError as exc:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(exc)) from exc

    def _routes(self) -> dict[str, dict[str, Callable[[bytes], Any]]]:
        return {
            "": {"GET": self._overview},
            "faults": {"GET": self._faults, "POST": self._add},
            "connections": {"GET": self._connections},
            "journal": {"GET": self._journal},
            "reset": {"POST": self._reset},
        }

    def _overview(self, _: bytes) -> Any:
        relays = [
            {
                "proxy": index,
                "listen": f"{proxy.listen[0]}:{proxy.port}",
                "upstream": f"{proxy.upstream[0]}:{proxy.upstream[1]}",
                "seed": proxy.seed,
                "connections": len(proxy.connections()),
                "faults": len(proxy.faults()),
            }
            for index, proxy in enumerate(self._proxies)
        ]
        return {"floodmark": __version__, "proxies": relays}

    def _faults(self, _: bytes) -> Any:
        return [self._show(index, active) for index, proxy in enumerate(self._proxies) for active in proxy.faults()]

    def _add(self, body: bytes) -> Any:
        try:
            wanted = msgspec.json.decode(body, type=NewFault)
        except msgspec.DecodeError as exc:
            raise UsageError(f'{exc}; send for example {{"fault": "latency=50ms..500ms,share=50%"}}') from exc
        if (wanted.fault is None) == (wanted.kind is None):
            raise UsageError("give one of fault (as on the command line) and kind (with options)")
        spec = parse_fault(wanted.fault) if wanted.fault is not None else wire_fault(wanted.kind or "", wanted.options)
        if wanted.connections is not None and wanted.proxy is None:
            raise UsageError("connections are numbered per proxy; say which proxy they belong to")
        if wanted.proxy is not None and not 0 <= wanted.proxy < len(self._proxies):
            raise UsageError(f"no proxy {wanted.proxy}; there are 0 to {len(self._proxies) - 1}")
        chosen = range(len(self._proxies)) if wanted.proxy is None else [wanted.proxy]
        added: list[tuple[int, ActiveFault]] = []
        try:
            for index in chosen:
                added.append((index, self._proxies[index].add(spec, connections=wanted.connections)))  # noqa: PERF401  those before a failure
        except BaseException:
            for index, active in added:  # on all of them or on none
                self._proxies[index].remove(active)
            raise
        return [self._show(index, active) for index, active in added]

    def _remove(self, name: str) -> Any:
        for index, proxy in enumerate(self._proxies):
            for active in proxy.faults():
                if name == f"{index}.{active.number}":
                    proxy.remove(active)
                    return self._show(index, active)
        known = ", ".join(one["id"] for one in self._faults(b"")) or "none"
        raise Refusal(HTTPStatus.NOT_FOUND, f"no fault {name!r} is at work; at work: {known}")

    def _reset(self, _: bytes) -> Any:
        removed = self._faults(b"")
        for proxy in self._proxies:
            for active in proxy.faults():
                proxy.remove(active)
        return {"removed": removed}

    def _connections(self, _: bytes) -> Any:
        return [
            {"proxy": index, **msgspec.to_builtins(connection)}
            for index, proxy in enumerate(self._proxies)
            for connection in proxy.connections()
        ]

    def _journal(self, _: bytes) -> Any:
        return [
            {"proxy": index, "forgotten_count": proxy.journal().forgotten_count, "entries": proxy.journal().entries()}
            for index, proxy in enumerate(self._proxies)
        ]

    def _show(self, index: int, active: ActiveFault) -> dict[str, Any]:
        options = msgspec.to_builtins(active.spec)
        return {
            "id": f"{index}.{active.number}",
            "kind": active.spec.kind,
            "options": options,
            "hits": active.hits,
            "size_bytes": active.size_bytes,
        }


@contextlib.asynccontextmanager
async def listening(control: Control, port: int) -> AsyncIterator[int]:
    """Answer on the loopback address for as long as the block lasts; gives the port. Raises: UsageError when it cannot be had."""
    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            if len(open_now) > CONNECTIONS_MAX:
                await _send(writer, HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"more than {CONNECTIONS_MAX} requests at a time"})
            else:
                await _send(writer, *await _respond(control, reader))
            await _linger(reader, writer)
        except OSError:
            pass  # the asker is gone: nobody is left to tell
        finally:
            open_now.discard(writer)
            writer.close()

    try:
        server = await asyncio.start_server(serve, HOST, port, limit=HEAD_BYTES_MAX)
    except (OSError, OverflowError) as exc:
        raise UsageError(f"cannot listen for control on {HOST}:{port}: {exc}; name a free port, or 0 for any") from exc
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in tuple(open_now):
            writer.transport.abort()
        while open_now:  # noqa: ASYNC110 - each ends at its next step, its socket is gone
            await asyncio.sleep(0)


async def _respond(control: Control, reader: asyncio.StreamReader) -> tuple[HTTPStatus, Any]:
    try:
        async with asyncio.timeout(REQUEST_LIMIT_S):
            method, path, body = await _read(reader)
        return HTTPStatus.OK, control.answer(method, path, body)
    except Refusal as exc:
        return exc.status, {"error": exc.text}
    except TimeoutError:
        return HTTPStatus.REQUEST_TIMEOUT, {"error": f"the request was not complete after {REQUEST_LIMIT_S:g} s"}
    except asyncio.LimitOverrunError:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, {"error": f"request line and headers may have {HEAD_BYTES_MAX} bytes"}
    except asyncio.IncompleteReadError:
        return HTTPStatus.BAD_REQUEST, {"error": "the request ended too early"}


async def _read(reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[0].isalpha() or not words[1].startswith("/") or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise Refusal(HTTPStatus.BAD_REQUEST, "the first line is not that of an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip() or (name == "content-length" and name in headers):
            raise Refusal(HTTPStatus.BAD_REQUEST, "a header line is malformed, or the length is given twice")
        headers[name] = value.strip()
    if "transfer-encoding" in headers:
        raise Refusal(HTTPStatus.LENGTH_REQUIRED, "bodies need a Content-Length; chunked ones are not taken")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Refusal(HTTPStatus.BAD_REQUEST, "Content-Length is not a whole number")
    if len(length) > 9 or int(length) > BODY_BYTES_MAX:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {BODY_BYTES_MAX} bytes")
    return words[0], words[1], await reader.readexactly(int(length))


async def _send(writer: asyncio.StreamWriter, status: HTTPStatus, answer: Any) -> None:
    if writer.is_closing():  # nobody is left to answer
        return
    body = msgspec.json.encode(answer) + b"\n"
    first = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    rest = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    async with asyncio.timeout(REQUEST_LIMIT_S):
        writer.write((first + rest).encode() + body)
        await writer.drain()


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what was not read of the request, within bounds: closing over unread bytes is a reset, and that would take the answer along."""
    if writer.is_closing():  # the asker is gone, or the endpoint closes
        return
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            for _ in range(2 * BODY_BYTES_MAX // HEAD_BYTES_MAX):
                if not await reader.read(HEAD_BYTES_MAX):
                    return
