"""Every row of the protocol's table, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import picows
import pytest

from floodmark.systems.hub import Hub, HubSettings
from floodmark.systems.hub.errors import AuthorizationFailed
from floodmark.systems.hub.testing import EVENTS, PUBLISH, Gone, connected, eventually, scenario

FREE = HubSettings(rate_limits=False)


@scenario
async def test_init_accepted_is_acknowledged() -> None:
    async with Hub(FREE) as hub, connected(hub.url, init=False) as client:
        answer = await client.init()

        assert answer == {"type": "connection_ack"}


@scenario
async def test_init_late_closes_4408() -> None:
    async with Hub(HubSettings(init_limit_s=0.1)) as hub:
        started_s = time.monotonic()
        async with connected(hub.url, init=False) as client:
            code = await client.closed()

        assert code == 4408
        assert time.monotonic() - started_s > 0.099


@scenario
async def test_init_twice_closes_4429() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        client.send({"type": "connection_init"})

        assert await client.closed() == 4429


@pytest.mark.parametrize("message", [{"type": "subscribe", "id": "1", "payload": {"query": EVENTS}}, {"type": "complete", "id": "1"}])
@scenario
async def test_operation_before_init_closes_4401(message: dict[str, Any]) -> None:
    async with Hub(FREE) as hub, connected(hub.url, init=False) as client:
        client.send(message)

        assert await client.closed() == 4401


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"type":"nonsense"}',
        b'{"type":"start","id":"1","payload":{"query":"x"}}',
        b'{"type":"subscribe","payload":{"query":"x"}}',
        b'{"type":"subscribe","id":"","payload":{"query":"x"}}',
        b'{"type":"subscribe","id":1,"payload":{"query":"x"}}',
        b'{"type":"subscribe","id":"1","payload":{}}',
        b'{"type":"subscribe","id":"1"}',
        b'{"type":"complete"}',
    ],
)
@scenario
async def test_message_malformed_closes_4400(text: bytes) -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        client.send_text(text)

        assert await client.closed() == 4400


@scenario
async def test_message_binary_closes_4400() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        client.transport.send(picows.WSMsgType.BINARY, b'{"type":"ping"}')

        assert await client.closed() == 4400


@scenario
async def test_text_not_utf8_closes_1007() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        client.send_text(b'{"type":"ping","payload":"\xff"}')

        assert await client.closed() == 1007


@scenario
async def test_message_in_fragments_is_put_together() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        whole = json.dumps({"type": "ping", "payload": {"a": 1}}).encode()
        client.transport.send(picows.WSMsgType.TEXT, whole[:9], fin=False)
        client.transport.send(picows.WSMsgType.CONTINUATION, whole[9:20], fin=False)
        client.transport.send(picows.WSMsgType.CONTINUATION, whole[20:], fin=True)

        assert await client.recv() == {"type": "pong", "payload": {"a": 1}}


@pytest.mark.parametrize("fragmented", [False, True])
@scenario
async def test_message_too_long_closes_1009_and_counts(fragmented: bool) -> None:
    async with Hub(HubSettings(message_bytes=1000)) as hub, connected(hub.url) as client:
        if fragmented:
            client.transport.send(picows.WSMsgType.TEXT, b"x" * 900, fin=False)
            client.transport.send(picows.WSMsgType.CONTINUATION, b"x" * 900)
        else:
            client.send_text(b"x" * 1001)

        assert await client.closed() == 1009
        await eventually(lambda: hub.limits.violations.get("message_bytes") == 1)


@scenario
async def test_operation_id_twice_closes_4409() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        await client.subscribe("1", "x")
        client.start("1", EVENTS, c="y")

        assert await client.closed() == 4409


@scenario
async def test_operation_id_after_its_end_can_be_used_again() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        for _ in range(3):
            await client.subscribe("1", "x")
            client.send({"type": "complete", "id": "1"})
            await client.synced()

        assert hub.snapshot().gauges["active_subscriptions"] == 0


@scenario
async def test_complete_of_unknown_closes_4404() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        client.send({"type": "complete", "id": "never"})

        assert await client.closed() == 4404


@scenario
async def test_complete_crossing_ours_is_ignored() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        await client.ask("p", PUBLISH, c="x", d=1)
        client.send({"type": "complete", "id": "p"})
        await client.synced()

        assert not client.gone.is_set()


@scenario
async def test_connect_hook_rejecting_closes_4400() -> None:
    def refuse(payload: dict[str, Any]) -> None:
        raise AuthorizationFailed(f"not you, {payload['name']}")

    async with Hub(FREE) as hub:
        hub.credentials.on_connect = refuse
        async with connected(hub.url, init=False) as client:
            client.send({"type": "connection_init", "payload": {"name": "Eve"}})

            assert await client.closed() == 4400
            assert client.close_reason == "not you, Eve"


@pytest.mark.parametrize("payload", [None, {}, {"authorization": "secret"}, {"authorization": "Bearer wrong"}, {"authorization": 7}])
@scenario
async def test_credential_wrong_closes_4401(payload: dict[str, Any] | None) -> None:
    async with Hub(HubSettings(token="secret")) as hub, connected(hub.url, init=False) as client:
        client.send({"type": "connection_init"} if payload is None else {"type": "connection_init", "payload": payload})

        assert await client.closed() == 4401


@scenario
async def test_credential_right_is_accepted() -> None:
    async with Hub(HubSettings(token="secret")) as hub, connected(hub.url, init=False) as client:
        assert await client.init({"authorization": "Bearer secret"}) == {"type": "connection_ack"}


@scenario
async def test_credential_expired_closes_4401() -> None:
    async with Hub(HubSettings(token="secret", token_lifetime_s=0.3)) as hub, connected(hub.url, init=False) as client:
        await client.init({"authorization": "Bearer secret"})

        assert await client.closed() == 4401


@scenario
async def test_credential_revoked_closes_4401_and_only_those() -> None:
    async with Hub(HubSettings(token="secret")) as hub:
        hub.credentials.grant("other")
        async with connected(hub.url, init=False) as client, connected(hub.url, init=False) as bystander:
            await client.init({"authorization": "Bearer secret"})
            await bystander.init({"authorization": "Bearer other"})
            hub.credentials.revoke("secret")

            assert await client.closed() == 4401
            assert not bystander.gone.is_set()


@scenario
async def test_ping_is_answered_with_its_payload() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        client.send({"type": "ping"})
        client.send({"type": "ping", "payload": {"n": [1, 2]}})

        assert await client.recv() == {"type": "pong"}
        assert await client.recv() == {"type": "pong", "payload": {"n": [1, 2]}}


@scenario
async def test_first_ping_is_due_at_once() -> None:
    async with Hub(HubSettings(ping_interval_s=20.0)) as hub, connected(hub.url, answers_pings=False) as client:
        assert await client.recv(15.0) == {"type": "ping"}


@scenario
async def test_pong_missing_closes_with_pong_timeout() -> None:
    settings = HubSettings(ping_interval_s=0.2, pong_limit_s=0.2)
    async with Hub(settings) as hub, connected(hub.url, answers_pings=False) as dead, connected(hub.url) as healthy:
        assert await dead.closed() == 1002
        assert dead.close_reason == "pong_timeout"
        assert not healthy.gone.is_set()


@scenario
async def test_pong_answered_keeps_the_connection() -> None:
    async with Hub(HubSettings(ping_interval_s=0.05, pong_limit_s=0.05)) as hub, connected(hub.url) as client:
        with pytest.raises(TimeoutError):
            await client.closed(0.6)


@scenario
async def test_slow_reader_that_takes_something_now_and_then_is_not_cut() -> None:
    settings = HubSettings(rate_limits=False, ping_interval_s=0.2, pong_limit_s=0.3, write_buffer_bytes=16_384, socket_send_bytes=16_384)
    async with Hub(settings) as hub, connected(hub.url, answers_pings=False, receive_bytes=16_384) as slow:
        slow.start("1", EVENTS, c="x")
        await eventually(lambda: hub.active_subscriptions == 1)
        slow.stop_reading()
        for number in range(100):
            await hub.publish("x", [number, "z" * 20_000])
        ended_s = time.monotonic() + 1.2
        while time.monotonic() < ended_s:
            slow.read_again()
            taken = slow.inbox.qsize()
            await eventually(lambda taken=taken: slow.inbox.qsize() > taken)  # type: ignore[misc]
            slow.stop_reading()
            with pytest.raises(TimeoutError):
                await slow.closed(0.1)
            if slow.inbox.qsize() >= 95:
                break

        assert hub.snapshot().labelled["closes"] == {}


@scenario
async def test_drain_completes_every_operation_then_closes_1001() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        await client.subscribe("1", "x")
        await client.subscribe("2", "y")
        await hub.stop()

        assert sorted([(await client.recv())["id"], (await client.recv())["id"]]) == ["1", "2"]
        assert await client.closed() == 1001
        with pytest.raises(Gone):
            await client.recv()


@scenario
async def test_drain_with_a_deaf_client_ends_after_its_grace() -> None:
    async with Hub(HubSettings(shutdown_grace_s=0.3)) as hub, connected(hub.url) as client:
        client.stop_reading()
        started_s = time.monotonic()
        await hub.stop()

        assert time.monotonic() - started_s < 10.0  # reading is what it would wait for, and nobody does
        client.read_again()


@scenario
async def test_protocol_modern_is_preferred_and_named_in_the_answer() -> None:
    async with Hub(FREE) as hub, connected(hub.url, protocol="graphql-ws, graphql-transport-ws") as client:
        assert client.transport.response.headers["Sec-WebSocket-Protocol"] == "graphql-transport-ws"


@scenario
async def test_protocol_none_offered_is_the_modern_one() -> None:
    async with Hub(FREE) as hub, connected(hub.url, protocol=None) as client:
        answer = await client.ask("1", PUBLISH, c="x", d=1)

        assert answer["publish"]["offset"] == 1
        assert "Sec-WebSocket-Protocol" not in client.transport.response.headers


@scenario
async def test_protocol_unknown_closes_4406() -> None:
    async with Hub(FREE) as hub, connected(hub.url, protocol="soap", init=False) as client:
        assert await client.closed() == 4406


# The legacy protocol


@scenario
async def test_legacy_speaks_start_data_stop_complete() -> None:
    async with Hub(FREE) as hub, connected(hub.url, protocol="graphql-ws") as client:
        assert await client.recv() == {"type": "ka"}
        client.send({"id": "1", "type": "start", "payload": {"query": EVENTS, "variables": {"c": "x"}}})
        await eventually(lambda: hub.active_subscriptions == 1)
        await hub.publish("x", {"n": 1})
        data = await client.recv()
        client.send({"id": "1", "type": "stop"})
        complete = await client.recv()

        assert data == {"id": "1", "type": "data", "payload": {"data": {"events": {"data": {"n": 1}, "offset": 1}}}}
        assert complete == {"id": "1", "type": "complete"}


@scenario
async def test_legacy_terminate_closes_1000() -> None:
    async with Hub(FREE) as hub, connected(hub.url, protocol="graphql-ws") as client:
        client.send({"type": "connection_terminate"})

        assert await client.closed() == 1000


@scenario
async def test_legacy_heartbeat_is_keep_alive_and_no_ping_message() -> None:
    settings = HubSettings(ping_interval_s=0.1, pong_limit_s=0.1)
    async with Hub(settings) as hub, connected(hub.url, protocol="graphql-ws") as client:
        messages = [await client.recv() for _ in range(4)]

        assert messages == [{"type": "ka"}] * 4
        assert client.ws_pings >= 3
        assert not client.gone.is_set()


@scenario
async def test_legacy_error_is_one_object() -> None:
    async with Hub(FREE) as hub, connected(hub.url, protocol="graphql-ws") as client:
        await client.recv()
        client.send({"id": "1", "type": "start", "payload": {"query": "{"}})
        error = await client.recv()

        assert error["type"] == "error"
        assert "Syntax Error" in error["payload"]["message"]


@scenario
async def test_client_closing_is_answered_and_forgotten() -> None:
    async with Hub(FREE) as hub:
        async with connected(hub.url) as client:
            await client.subscribe("1", "x")
            client.transport.send_close(picows.WSCloseCode.OK)

            assert await client.closed() == 1000
        await eventually(lambda: not hub.connections)
        assert hub.stats_now()["activeSubscribers"] == 0
        assert not hub.dispatcher.logs


@scenario
async def test_http_get_of_anything_else_is_404() -> None:
    async with Hub(FREE) as hub:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        status = await reader.readline()
        writer.close()
        await writer.wait_closed()

        assert status.split()[1] == b"404"


@scenario
async def test_handshake_of_a_browser_with_two_connection_tokens_is_accepted() -> None:
    async with Hub(FREE) as hub:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(
            b"GET /graphql HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        status = await reader.readline()
        writer.close()
        await writer.wait_closed()

        assert status.split()[1] == b"101"
