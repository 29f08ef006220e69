"""Which URLs a proxy can stand before: those without TLS, with a port of their own or the one of their kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from floodmark.core.errors import UsageError
from floodmark.faults import plan
from floodmark.model.scenario import Fault
from floodmark.runner import blows

CUT = plan(Fault(kind="wire.cut", options={"after_s": 1.0}))


async def seen(url: str) -> str:
    """The URL that the clients get."""
    async with blows.before(url, [CUT], seed=1) as (place, _):
        return place


@pytest.mark.parametrize("url", ["tls://127.0.0.1:4222", "wss://127.0.0.1:80/x", "https://127.0.0.1"])
def test_before_an_encrypted_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="without TLS"):
        asyncio.run(seen(url))


@pytest.mark.parametrize(("url", "port"), [("nats://h", 4222), ("nats://h:5222", 5222), ("ws://h/x", 80)])
def test_before_a_url_the_proxy_leads_to_its_port(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    led: list[tuple[str, int]] = []

    @asynccontextmanager
    async def running(listen: tuple[str, int], upstream: tuple[str, int], *, seed: int) -> AsyncIterator[SimpleNamespace]:
        led.append(upstream)
        yield SimpleNamespace(port=1234)

    monkeypatch.setattr(blows, "running", running)

    place = asyncio.run(seen(url))

    assert led == [("h", port)]
    assert place.startswith(url.split("h", 1)[0] + "127.0.0.1:1234")
