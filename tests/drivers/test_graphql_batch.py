"""Batches of the graphql-ws driver: one operation for many messages, one answer for all of them."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from websockets.asyncio.server import ServerConnection

from floodmark.core.errors import UsageError
from floodmark.drivers import build
from floodmark.drivers.base import BatchConnection, batches_of
from tests.drivers.harness import GraphQLServer, Recorder, eventually, on_loop, stamped, ws_server

EACH = "mutation Ünd($events: [EventInput!]!) { publishEach(events: $events) { count } }"
OPTIONS = {"publish_batch": EACH}


async def batch_sent(server: GraphQLServer, items: list[tuple[str, bytes]], token: int) -> Recorder:
    """Send one batch and wait for its answer."""
    recorder = Recorder()
    async with ws_server(server, subprotocol="graphql-transport-ws") as url:
        connection = cast("BatchConnection", await build("graphql-ws", OPTIONS).connect(url, "room", recorder, limit_s=5.0))
        connection.publish_batch(items, token)
        await eventually(lambda: bool(recorder.acks or recorder.refusals))
        await connection.close()
    return recorder


@on_loop
async def test_batch_is_one_operation_with_every_message_in_order() -> None:
    server = GraphQLServer()
    items = [(channel, stamped(seq)) for seq, channel in enumerate(["a", 'qu"ote', "ü", "a"])]
    recorder = await batch_sent(server, items, 17)

    (message,) = server.of("subscribe")
    assert recorder.acks == [17]
    assert message["id"] == "p17"
    assert message["payload"]["query"] == EACH
    assert message["payload"]["variables"]["events"] == [{"channel": channel, "data": data.decode()} for channel, data in items]


@on_loop
async def test_batch_that_is_refused_is_refused_under_its_token() -> None:
    class Server(GraphQLServer):
        async def on_publish(self, socket: ServerConnection, message: dict[str, Any]) -> None:
            await socket.send(json.dumps({"id": message["id"], "type": "error", "payload": [{"message": "full"}]}))

    recorder = await batch_sent(Server(), [("a", stamped())], 3)

    assert (recorder.acks, recorder.refusals) == ([], [(3, "full")])


def test_batches_only_where_a_document_is_given() -> None:
    assert not batches_of(build("graphql-ws", {}))
    assert batches_of(build("graphql-ws", OPTIONS))
    assert not batches_of(build("websocket", {}))


def test_batch_document_without_its_variable_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"publish_batch document does not use \$events"):
        build("graphql-ws", {"publish_batch": "mutation { publishEach(events: []) { count } }"})
