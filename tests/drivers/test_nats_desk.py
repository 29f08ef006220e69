"""A desk at a NATS server: an answer that says nothing to us is the other side's, in words."""

from __future__ import annotations

import asyncio

import nats
import pytest
from nats.aio.msg import Msg

from floodmark.core.nats_server import EmbeddedNats
from floodmark.drivers.base import RefusedError
from floodmark.drivers.fleet_desk import open_desk
from floodmark.drivers.nats_address import ADDRESS_DEFAULTS, address_of
from tests.drivers.harness import on_loop

LIMIT_S = 30.0


@pytest.mark.parametrize("payload", [b"", b"what?", b"[1]", b"\xff\xfe", b'{"ok": "\xff"}', b'{"ok": ' + b"[" * 100_000])
@on_loop
async def test_desk_that_is_answered_with_what_is_no_object_says_so(payload: bytes) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(payload)

    async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server:
        client = await nats.connect(server.url)
        try:
            await client.subscribe("asked", cb=answer)
            await client.flush()
            desk = await open_desk(address_of("fleet", server.url, ADDRESS_DEFAULTS), limit_s=LIMIT_S)
            try:
                with pytest.raises(RefusedError, match="answered asked with what is no JSON object: ") as raised:
                    await desk.call("asked", {})
                assert len(str(raised.value)) < 500
            finally:
                desk.abort()
        finally:
            await client.close()
