"""Hostile targets in a whole run: the verdict is UNKNOWN with the driver's reason, mistakes are usage errors, and it ends in time."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from tests.drivers.harness import GraphQLServer, on_loop, tcp_server, ws_server
from tests.drivers.test_hostile import echo, plain_page

TRIES_COUNT = 5
SCENARIO = """
id = "hostile"
driver = "{driver}"
target = "{url}"
criteria = ["success_ratio == 100%"]
connect_limit_s = 0.5
drain_limit_s = 1
population = {{ connections = 2, subscriptions_per_connection = {each}, channels = {each} }}
phases = [{{ duration_s = 0.2 }}]
[driver_options]
{options}
"""


async def run(folder: Path, url: str, driver: str, *, each: int = 1, options: str = "") -> tuple[int, dict[str, Any], str]:
    """Run one scenario with the command line; gives exit code, result and stderr."""
    path = folder / "hostile.toml"
    path.write_text(SCENARIO.format(driver=driver, url=url, each=each, options=options))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "floodmark", "run", str(path), "--json", "--out", str(folder / "runs")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out) if out else {}, err.decode()


async def mute(socket: ServerConnection) -> None:
    await socket.wait_closed()


@pytest.mark.parametrize("driver", ["graphql-ws", "websocket"])
@on_loop
async def test_run_another_protocol_on_the_port_is_unknown(tmp_path: Path, driver: str) -> None:
    async with tcp_server(echo if driver == "websocket" else plain_page) as url:
        code, result, _ = await run(tmp_path, url, driver)

    assert code == 11
    assert "WebSocket handshake" in result["scenarios"][0]["note"]


@on_loop
async def test_run_no_acknowledgement_is_unknown_in_time(tmp_path: Path) -> None:
    began = time.monotonic()

    async with ws_server(mute, subprotocol="graphql-transport-ws") as url:
        code, result, _ = await run(tmp_path, url, "graphql-ws")

    assert code == 11
    assert "sent no connection_ack within 0.5 s" in result["scenarios"][0]["note"]
    assert time.monotonic() - began < 60


@on_loop
async def test_run_subscriptions_that_never_deliver_are_unknown(tmp_path: Path) -> None:
    async with ws_server(GraphQLServer(), subprotocol="graphql-transport-ws") as url:
        code, result, _ = await run(tmp_path, url, "graphql-ws")

    assert code in (10, 11)  # it acknowledged what it never delivered: a broken promise
    assert result["verdict"] != "PASS"
    assert "0 of 2 subscriptions saw a warm-up message" in result["scenarios"][0]["note"]


@on_loop
async def test_run_what_the_driver_cannot_tell_apart_gets_no_verdict(tmp_path: Path) -> None:
    async with ws_server(mute) as url:
        code, _, err = await run(tmp_path, url, "websocket", each=2)

    assert code in (2, 11), err
    assert "channel_key must say" in " ".join(err.split())


@on_loop
async def test_run_example_with_a_driver_of_its_own_passes(tmp_path: Path) -> None:
    for _ in range(TRIES_COUNT):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "floodmark", "run", "examples/own.toml", "--json", "--out", str(tmp_path)),
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        result = json.loads(out)["scenarios"][0]
        if result["generator"]["lag_ns_p99"] < 250_000_000:  # else the machine was held up, which is UNKNOWN as it should be
            break

    assert (process.returncode, result["verdict"]) == (0, "PASS"), result
    assert result["delivery"]["delivered"] == result["delivery"]["attempted"] == (2 * 200 + 2 * 200) * 10
