"""The Python client gql against the hub: schema by introspection, queries, mutations, a subscription, resume, and a refused token."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from floodmark.systems.hub import Hub, HubSettings
from tests.live.conftest import require

FREE = HubSettings(history_events=1000, rate_limits=False)
LIMIT_S = 20.0
EVENTS = 'subscription ($after: Offset) { events(channel: "py", after: $after) { data offset channel } }'
PUBLISH = 'mutation ($data: JSON!) { publish(channel: "py", data: $data) { offset } }'


def client(url: str, token: str = "") -> Any:
    """A client that speaks graphql-transport-ws and fetches the schema when it connects."""
    from gql import Client
    from gql.transport.websockets import WebsocketsTransport

    transport = WebsocketsTransport(
        url=url,
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        init_payload={"authorization": f"Bearer {token}"} if token else {},
    )
    return Client(transport=transport, fetch_schema_from_transport=True)


def request(text: str, **variables: Any) -> Any:
    from gql import GraphQLRequest

    return GraphQLRequest(text, variable_values=variables)


@pytest.fixture(autouse=True)
def needs() -> None:
    require(importlib.util.find_spec("gql") is not None, "the Python package gql is not installed (requirements-dev.lock)")


async def take(events: AsyncGenerator[dict[str, Any], None], count: int) -> list[tuple[int, int]]:
    """The next events as (number, offset)."""
    found: list[tuple[int, int]] = []
    async for event in events:
        found.append((event["events"]["data"]["n"], event["events"]["offset"]))
        if len(found) == count:
            break
    return found


def test_gql_queries_mutates_and_knows_the_schema() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), Hub(FREE) as hub, client(hub.url) as session:
            offsets = [(await session.execute(request(PUBLISH, data={"n": n})))["publish"]["offset"] for n in range(1, 11)]
            stats = await session.execute(request("{ stats { totalEvents activeConnections mode } }"))

            assert offsets == list(range(1, 11))
            assert stats["stats"]["totalEvents"] == 10
            assert stats["stats"]["activeConnections"] == 1
            assert set(session.client.schema.mutation_type.fields) >= {"publish", "publishMany"}

    asyncio.run(main())


def test_gql_subscribes_in_order_and_resumes_without_a_gap() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), Hub(FREE) as hub, client(hub.url) as session:
            events = session.subscribe(request(EVENTS))
            async with asyncio.TaskGroup() as group:
                taking = group.create_task(take(events, 20))
                await asyncio.sleep(0)  # the subscribe is written first, and the hub reads in order
                for n in range(1, 31):
                    await session.execute(request(PUBLISH, data={"n": n}))
            await events.aclose()
            resumed = session.subscribe(request(EVENTS, after=taking.result()[-1][1]))
            rest = await take(resumed, 10)
            await resumed.aclose()

            assert taking.result() == [(n, n) for n in range(1, 21)]
            assert rest == [(n, n) for n in range(21, 31)]

    asyncio.run(main())


def test_gql_wrong_query_is_an_error_and_the_session_goes_on() -> None:
    from gql.transport.exceptions import TransportQueryError

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), Hub(FREE) as hub, client(hub.url) as session:
            session.client.schema = None  # or the client would refuse it by itself
            with pytest.raises(TransportQueryError, match="nothing"):
                await session.execute(request("{ nothing }"))

            assert (await session.execute(request(PUBLISH, data=None)))["publish"]["offset"] == 1

    asyncio.run(main())


@pytest.mark.parametrize(("token", "let_in"), [("right", True), ("wrong", False), ("", False)])
def test_gql_token_decides_who_is_let_in(token: str, let_in: bool) -> None:
    from gql.transport.exceptions import TransportError
    from websockets.exceptions import ConnectionClosed

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), Hub(HubSettings(token="right")) as hub:
            if let_in:
                async with client(hub.url, token) as session:
                    assert (await session.execute(request("{ stats { mode } }")))["stats"]["mode"]
                return
            with pytest.raises((TransportError, ConnectionClosed)) as caught:
                async with client(hub.url, token):
                    pass

            assert "4401" in str(caught.value) or "4401" in str(caught.value.__cause__)

    asyncio.run(main())
