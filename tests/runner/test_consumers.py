"""Consumers that read slowly, in bursts or not at all, against a hub that blocks its publishers: nothing is lost, the drain ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runner.played import play, write_scenario

HUB = """system = "hub"
args = ["--no-rate-limits", "--policy", "block", "--queue", "20", "--write-buffer-bytes", "16384", "--socket-send-bytes", "16384"]
"""
PROFILES = {
    "slow": '{ profile = "slow", rate_bytes_per_s = 2000000 }',
    "bursty": '{ profile = "bursty", read_s = 0.1, pause_s = 0.2 }',
    "stuck": '{ profile = "stuck", after_s = 0.1 }',
}


@pytest.mark.parametrize("profile", PROFILES)
def test_consumer_that_does_not_keep_up_loses_nothing_and_is_drained(tmp_path: Path, profile: str) -> None:
    scenario = write_scenario(
        tmp_path,
        target=HUB,
        population=f"connections = 4\nconsumer = {PROFILES[profile]}\nconsumer_ratio = 0.5",
        phase='arrival = { kind = "constant", rate_hz = 200 }\npayload_bytes = 20000\nduration_s = 1.5',
        drain_limit_s=10.0,
    )

    played = play(tmp_path, "run", str(scenario))

    delivery = played.result["delivery"]
    assert delivery["lost"] == 0
    assert delivery["attempted"] == delivery["delivered"] == delivery["acknowledged"] == 4 * 300, played.stderr
    assert played.result["metrics"]["latency_max"] > 0.15  # they did fall behind
    assert played.code == 0, played.stderr
