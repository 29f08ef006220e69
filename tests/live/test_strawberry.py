"""A Strawberry server behind uvicorn, started and tested by floodmark: the driver's documents are all that is told about it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tests.live.conftest import require
from tests.live.running import run, server

SCENARIO = """
id = "live.strawberry"
driver = "graphql-ws"
criteria = ["success_ratio == 100%", "lost == 0", "disconnects == 0"]
phases = [{{ messages = {messages}, duration_s = 5, arrival = {{ kind = "constant", rate_hz = "200/s" }} }}]
population = {{ connections = {connections}, channels = {channels}, publishers = 2 }}
target = {{ command = {command}, ready_pattern = '(ws://\\S+)' }}
drain_limit_s = {drain_s}
lag_limit_s = 10

[driver_options]
subscribe = "subscription S($channel: String!) {{ said(room: $channel) {{ text offset }} }}"
publish = "mutation P($channel: String!, $data: String!) {{ say(room: $channel, text: $data) }}"
"""


def needs() -> None:
    for name in ("strawberry", "uvicorn"):
        require(importlib.util.find_spec(name) is not None, f"the Python package {name} is not installed (requirements-dev.lock)")


def test_strawberry_honest_passes_with_everything_accounted_for(tmp_path: Path) -> None:
    needs()
    command = server("strawberry_broadcast.py")

    code, result = run(tmp_path, SCENARIO.format(command=command, messages=400, connections=20, channels=4, drain_s=15))

    assert (code, result["verdict"]) == (0, "PASS"), result
    delivery = result["delivery"]
    assert delivery["attempted"] == delivery["acknowledged"] == delivery["delivered"] == 400 * 5
    assert [delivery[kind] for kind in ("lost", "duplicated", "reordered", "corrupted", "unexpected", "indeterminate")] == [0] * 6


def test_strawberry_lossy_fails_with_the_exact_count(tmp_path: Path) -> None:
    needs()
    command = server("strawberry_broadcast.py", *map(str, range(30, 180, 10)))  # past what the warm-up may take

    code, result = run(tmp_path, SCENARIO.format(command=command, messages=200, connections=6, channels=1, drain_s=2))

    assert (code, result["verdict"]) == (10, "FAIL"), result
    assert result["delivery"]["lost"] == 15 * 6
    assert result["delivery"]["delivered"] == (200 - 15) * 6
