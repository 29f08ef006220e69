"""The official JavaScript client, npm's graphql-ws, against the hub: a hub that only our own driver understands would prove nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

import pytest

from floodmark.systems.hub import Hub, HubSettings
from tests.live.conftest import NODE_MODULES, require

SCRIPT = NODE_MODULES.parent / "client.mjs"
LIMIT_S = 30.0


async def spoken() -> dict[str, Any]:
    """What the client saw."""
    settings = HubSettings(history_events=1000, rate_limits=False, init_limit_s=0.5)
    async with Hub(settings) as hub, asyncio.timeout(LIMIT_S):
        node = await asyncio.create_subprocess_exec(
            *("node", str(SCRIPT), hub.url), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            out, err = await node.communicate()
        except asyncio.CancelledError:
            node.kill()
            await node.wait()
            raise
    assert node.returncode == 0, err.decode()
    seen: dict[str, Any] = json.loads(out)
    return seen


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    require(shutil.which("node") is not None, "node is not installed")
    require((NODE_MODULES / "graphql-ws").is_dir(), "run `npm ci` in tests/live/npm")
    return asyncio.run(spoken())


def test_subscription_gets_every_event_in_order(seen: dict[str, Any]) -> None:
    assert seen["offsets"] == list(range(1, 51))
    assert seen["live"] == [{"n": n, "offset": n} for n in range(1, 51)]


def test_resume_gets_what_was_published_after_the_unsubscribe(seen: dict[str, Any]) -> None:
    assert seen["after_unsubscribe"] == list(range(51, 61))
    assert seen["resumed"] == [{"n": n, "offset": n} for n in range(51, 61)]


def test_introspection_names_the_three_roots(seen: dict[str, Any]) -> None:
    assert {root: named["name"] for root, named in seen["types"].items()} == {
        "queryType": "Query",
        "mutationType": "Mutation",
        "subscriptionType": "Subscription",
    }


def test_wrong_query_is_an_error_of_that_operation_only(seen: dict[str, Any]) -> None:
    assert "nothing" in seen["wrong"][0]["message"]


def test_broken_protocol_gets_the_documented_close_codes(seen: dict[str, Any]) -> None:
    assert seen["codes"] == {
        "malformed": 4400,
        "before_init": 4401,
        "second_init": 4429,
        "duplicate_id": 4409,
        "init_late": 4408,
    }
