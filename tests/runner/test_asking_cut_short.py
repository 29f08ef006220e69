"""Streams of answers that end before their time: by Ctrl-C, and by the death of the target in their midst."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from floodmark.model.scenario import Reconnect
from floodmark.model.verdict import Verdict
from tests.runner.asked import ALL, DRIVER, SERVER, TOKENS, broken, play, scenario
from tests.runner.played import playing, wait_for

STREAMS = 4
RATE_HZ = 50.0


def write_scenario(folder: Path, *words: str, tokens: int, drain_limit_s: float = 2.0) -> Path:
    """Four channels on two connections, one long answer each, at a pace."""
    command = shlex.join([sys.executable, str(SERVER), *words])
    path = folder / "asked.toml"
    path.write_text(
        f'id = "tried"\ndriver = {json.dumps(DRIVER)}\ncriteria = ["ttft_p99 < 60s"]\n'
        f"drain_limit_s = {drain_limit_s}\nconnect_limit_s = 10.0\nlag_limit_s = 10.0\n"
        f'[driver_options]\ntokens = "{tokens}"\nrate_hz = {RATE_HZ}\n'
        f'[target]\ncommand = {json.dumps(command)}\nready_pattern = "\\\\bready (\\\\S+)"\n'
        "[population]\nconnections = 2\nsubscriptions_per_connection = 2\nchannels = 4\n"
        f'[[phases]]\narrival = {{ kind = "constant", rate_hz = 100 }}\nmessages = {STREAMS}\n'
    )
    return path


@pytest.mark.parametrize("moment", ["load", "drain"])
def test_asking_interrupted_in_mid_stream_keeps_what_came_and_calls_nothing_lost(tmp_path: Path, moment: str) -> None:
    words = ("hang=1",) if moment == "drain" else ()
    path = write_scenario(tmp_path, "tells=100", *words, tokens=200 if words else 100_000, drain_limit_s=30.0)

    with playing(tmp_path, "run", str(path)) as played:
        wait_for(lambda: "an answer hangs" in played.log() if words else "100 tokens are out" in played.log(), "tokens")
        if words:
            wait_for(lambda: "drain" in played.stderr, "drain")
        played.signal(signal.SIGINT, group=True)
        played.wait()  # also looks whether anything has outlived it

    delivery, metrics = played.result["delivery"], played.result["metrics"]
    assert played.code == 130, played.stderr
    assert (played.document["interrupted"], played.document["verdict"]) == (True, "UNKNOWN")
    assert {criterion["verdict"] for criterion in played.result["criteria"]} == {"UNKNOWN"}
    assert delivery["delivered"] >= 100
    assert delivery["lost"] == 0
    assert delivery["indeterminate"] == delivery["attempted"] - delivery["delivered"] > 0
    assert (metrics["streams"], metrics["streams_failed"], metrics["unanswered"]) == (STREAMS, 0, 0)
    assert "never ended" not in played.result["note"]


def test_asking_a_target_that_is_killed_in_mid_stream_has_lost_what_it_owed(tmp_path: Path) -> None:
    path = write_scenario(tmp_path, "tells=100", tokens=100_000)

    with playing(tmp_path, "run", str(path)) as played:
        wait_for(lambda: "100 tokens are out" in played.log(), "tokens")
        os.kill(int(played.log().split("pid ")[1].split()[0]), signal.SIGKILL)
        played.wait()

    delivery, verdicts = played.result["delivery"], {one["text"]: one["verdict"] for one in played.result["criteria"]}
    assert played.code == 10, played.stderr
    assert delivery["delivered"] >= 100
    assert delivery["lost"] == delivery["attempted"] - delivery["delivered"] > 0
    assert {text for text, verdict in verdicts.items() if verdict == "FAIL"} >= {"target_exits == 0", "streams_failed == 0"}
    assert played.result["metrics"]["streams_failed"] == STREAMS


def test_asking_a_target_that_dies_in_mid_stream_fails_though_clients_come_back(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("die=2", reconnect=Reconnect(limit_s=1.0)))

    assert result.verdict is Verdict.FAIL
    assert broken(result)["target_exits == 0"] == "FAIL"
    assert TOKENS <= result.delivery.delivered < ALL
