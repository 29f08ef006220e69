"""The control endpoint asked over real sockets, with good requests and with bad ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from floodmark.faults.wire import control
from floodmark.faults.wire.control import BODY_BYTES_MAX, CONNECTIONS_MAX, HEAD_BYTES_MAX, Control, listening
from floodmark.faults.wire.proxy import Proxy

from .relay import HOST, ask, client, play, relay


async def send(port: int, request: bytes, *, end: bool = False) -> tuple[int, Any]:
    """Send raw bytes and give status and body."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(request)
        if end:
            writer.write_eof()
        answer = await reader.read(-1)
    finally:
        writer.transport.abort()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), msgspec.json.decode(body)


async def call(port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Make a proper request."""
    content = b"" if body is None else msgspec.json.encode(body)
    return await send(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)


@contextlib.asynccontextmanager
async def controlled() -> AsyncIterator[tuple[Proxy, int]]:
    """A relay and the port of its control."""
    async with relay() as (proxy, _), listening(Control([proxy]), 0) as port:
        yield proxy, port


def test_control_adds_lists_and_removes_a_fault_on_a_live_connection() -> None:
    async def job() -> None:
        async with controlled() as (proxy, port), client(proxy) as (reader, writer):
            await ask(reader, writer, b"hello")

            status, added = await call(port, "POST", "/faults", {"fault": "latency=100ms,direction=upstream"})
            _, slow_s = await ask(reader, writer, b"hello")
            _, listed = await call(port, "GET", "/faults")
            _, connections = await call(port, "GET", "/connections")
            removed_status, removed = await call(port, "DELETE", f"/faults/{added[0]['id']}")
            _, journal = await call(port, "GET", "/journal")
            _, overview = await call(port, "GET", "/")

            assert (status, removed_status) == (200, 200)
            assert slow_s > 0.099
            assert listed[0]["kind"] == "latency"
            assert listed[0]["hits"] == removed["hits"] == 1
            assert connections[0]["faults"] == [1]
            assert connections[0]["upstream_bytes"] == 10
            assert [entry["action"] for entry in journal[0]["entries"]] == ["added", "touched", "removed"]
            assert overview["proxies"][0]["listen"].endswith(str(proxy.port))
            assert overview["proxies"][0]["faults"] == 0

    play(job())


def test_control_reset_removes_all_and_heals() -> None:
    async def job() -> tuple[int, bytes]:
        async with controlled() as (proxy, port), client(proxy) as (reader, writer):
            await call(port, "POST", "/faults", {"kind": "partition", "options": {"direction": "both"}})
            await call(port, "POST", "/faults", {"fault": "slice=10B"})
            writer.write(b"held")
            _, answer = await call(port, "POST", "/reset")
            return len(answer["removed"]), await reader.readexactly(4)

    assert play(job()) == (2, b"held")


def test_control_restricts_a_fault_to_named_connections() -> None:
    async def job() -> list[tuple[int, ...]]:
        async with controlled() as (proxy, port), client(proxy) as first, client(proxy) as second:
            await ask(*first, b"1")
            await ask(*second, b"2")
            status, _ = await call(port, "POST", "/faults", {"fault": "latency=1ms", "proxy": 0, "connections": [2]})
            assert status == 200
            return [one.faults for one in proxy.connections()]

    assert play(job()) == [(), (1,)]


@pytest.mark.parametrize(
    ("request_bytes", "status", "says"),
    [
        pytest.param(b"\x16\x03\x01 not http at all\r\n\r\n", 400, "first line", id="not-http"),
        pytest.param(b"GET http://x/ HTTP/1.1\r\n\r\n", 400, "first line", id="absolute-target"),
        pytest.param(b"GET / HTTP/2\r\n\r\n", 400, "first line", id="other-version"),
        pytest.param(b"GET / HTTP/1.1\r\nbroken\r\n\r\n", 400, "malformed", id="header-without-colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "malformed", id="space-before-colon"),
        pytest.param(b"POST /reset HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "twice", id="two-lengths"),
        pytest.param(b"POST /reset HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "whole number", id="negative-length"),
        pytest.param(b"POST /reset HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413, str(BODY_BYTES_MAX), id="huge-length"),
        pytest.param(b"POST /faults HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, "Content-Length", id="chunked"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n", 431, str(HEAD_BYTES_MAX), id="long-head"),
        pytest.param(b"x" * (3 * HEAD_BYTES_MAX), 431, str(HEAD_BYTES_MAX), id="endless-line"),
        pytest.param(b"GET / HTT", 400, "too early", id="cut-off-head"),
        pytest.param(b"POST /faults HTTP/1.1\r\nContent-Length: 50\r\n\r\n{", 400, "too early", id="cut-off-body"),
        pytest.param(b"GET /nothing HTTP/1.1\r\n\r\n", 404, "/faults", id="unknown-path"),
        pytest.param(b"GET /journal/1 HTTP/1.1\r\n\r\n", 404, "/faults", id="deep-path"),
        pytest.param(b"DELETE /journal HTTP/1.1\r\n\r\n", 405, "GET", id="wrong-method"),
        pytest.param(b"GET /faults/0.1 HTTP/1.1\r\n\r\n", 405, "DELETE", id="wrong-method-on-a-fault"),
        pytest.param(b"DELETE /faults/0.9 HTTP/1.1\r\n\r\n", 404, "at work: none", id="unknown-fault"),
    ],
)
def test_control_bad_request_is_refused_with_a_reason(request_bytes: bytes, status: int, says: str) -> None:
    async def job() -> tuple[int, Any]:
        async with controlled() as (_, port):
            answer = await send(port, request_bytes, end=True)
            assert (await call(port, "GET", "/faults")) == (200, [])  # and the endpoint lives on
            return answer

    found, body = play(job())

    assert found == status
    assert says in body["error"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "Expected `object`"),
        ({}, "give one of fault"),
        ({"fault": "latency=1s", "kind": "reset"}, "give one of fault"),
        ({"fault": "latencies=1s"}, "did you mean 'latency'"),
        ({"kind": "cut"}, "after_s"),
        ({"kind": "cut", "options": {"after": 1}}, "it has: share, after_s"),
        ({"fault": "reset", "speed": 1}, "speed"),
        ({"fault": "reset", "proxy": 3}, "no proxy 3"),
        ({"fault": "reset", "connections": [1]}, "which proxy"),
        ({"fault": "reset", "proxy": 0, "connections": [1]}, "no connection 1"),
    ],
)
def test_control_bad_fault_is_a_400_that_names_what_exists(body: object, says: str) -> None:
    async def job() -> tuple[int, Any]:
        async with controlled() as (_, port):
            return await call(port, "POST", "/faults", body)

    status, answer = play(job())

    assert status == 400
    assert says in answer["error"]


def test_control_slow_asker_is_timed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_LIMIT_S", 0.1)

    async def job() -> tuple[int, Any]:
        async with controlled() as (_, port):
            return await send(port, b"GET / HTTP/1.1\r\n")

    assert play(job())[0] == 408


def test_control_too_many_at_a_time_are_turned_away_and_closing_ends_them() -> None:
    async def job() -> int:
        async with controlled() as (_, port):
            waiting = [await asyncio.open_connection(HOST, port) for _ in range(CONNECTIONS_MAX)]
            try:
                status, _ = await send(port, b"GET / HTTP/1.1\r\n\r\n", end=True)
            finally:
                for _, writer in waiting[1:]:
                    writer.transport.abort()
        assert await waiting[0][0].read() == b""  # closing the endpoint ended the one that was left
        waiting[0][1].transport.abort()
        return status

    assert play(job()) == 503
