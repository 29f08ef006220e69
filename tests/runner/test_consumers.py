"""Consumers that read slowly, in bursts or not at all, against a hub that blocks its publishers: nothing is lost, the drain ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from floodmark.drivers.base import Connection
from floodmark.model.scenario import Stuck
from floodmark.runner.agent.subscribing import Member, consume
from tests.runner.played import play, write_scenario

HUB = """system = "hub"
args = ["--no-rate-limits", "--policy", "block", "--queue", "20", "--write-buffer-bytes", "16384", "--socket-send-bytes", "16384"]
"""
PROFILES = {
    "slow": ('{ profile = "slow", rate_bytes_per_s = 2000000 }', 200),
    "bursty": ('{ profile = "bursty", read_s = 0.1, pause_s = 0.2 }', 200),
    "stuck": ('{ profile = "stuck", after_s = 0.1 }', 500),  # more than all buffers hold: the publisher stands still until the drain
}


@pytest.mark.parametrize("profile", PROFILES)
def test_consumer_that_does_not_keep_up_loses_nothing_and_is_drained(tmp_path: Path, profile: str) -> None:
    consumer, rate_hz = PROFILES[profile]
    scenario = write_scenario(
        tmp_path,
        target=HUB,
        population=f"connections = 4\nconsumer = {consumer}\nconsumer_ratio = 0.5",
        phase=f'arrival = {{ kind = "constant", rate_hz = {rate_hz} }}\npayload_bytes = 20000\nduration_s = 1',
        drain_limit_s=10.0,
    )

    played = play(tmp_path, "run", str(scenario))

    delivery = played.result["delivery"]
    assert delivery["lost"] == 0
    assert delivery["attempted"] == delivery["delivered"] == delivery["acknowledged"] == 4 * rate_hz, played.stderr
    assert played.result["metrics"]["latency_max"] > 0.15  # they did fall behind
    assert played.code == 0, played.stderr


class Line:
    """A connection as far as a consumer knows one."""

    def __init__(self) -> None:
        self.paused = asyncio.Event()

    def pause_reading(self) -> None:
        self.paused.set()

    def resume_reading(self) -> None:
        self.paused.clear()


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
def test_consumer_that_stopped_reading_reads_again_however_it_ends(how: str) -> None:
    async def job() -> bool:
        member, line, stop = Member(0, [0]), Line(), asyncio.Event()
        member.connection = cast("Connection", line)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            reading = group.create_task(consume(Stuck(), [member], start_ns=0, received_bytes=lambda number: 0, stop=stop))
            await line.paused.wait()
            stop.set() if how == "stopped" else reading.cancel()
        return line.paused.is_set()

    assert not asyncio.run(job())
