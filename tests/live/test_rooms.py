"""A JSON chat and a binary feed, written with `websockets`, tested through the websocket driver's templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.running import run, server

LOSSY = ("drain_limit_s = 15", "drain_limit_s = 2")  # what is lost takes all the time that it is given
COMMON = """
id = "live.rooms"
driver = "websocket"
criteria = ["success_ratio == 100%", "lost == 0", "disconnects == 0"]
drain_limit_s = 15
lag_limit_s = 10  # the machine may be busy; no test here speaks of the generator
phases = [{{ messages = 200, duration_s = 5, arrival = {{ kind = "constant", rate_hz = "200/s" }} }}]
"""
CHAT = (
    COMMON
    + """
population = {{ connections = 4, subscriptions_per_connection = 2, channels = 2, publishers = 1 }}
target = {{ command = {command}, ready_pattern = 'rooms ready (ws://\\S+)' }}

[driver_options]
subscribe = '{{"do": "join", "room": "$channel"}}'
unsubscribe = '{{"do": "leave", "room": "$channel"}}'
publish = '{{"do": "say", "room": "$channel", "text": "$payload", "ref": $token}}'
channel_key = "room"
subscribed = '"joined"'
acknowledged = '"ok": (\\d+)'

[[faults]]
kind = "churn"
at_s = 0.1
ratio = 0.5
"""
)
FEED = (
    COMMON
    + """
population = {{ connections = 6, channels = 2, publishers = 2 }}
target = {{ command = {command}, ready_pattern = 'feeds ready (ws://\\S+)' }}

[driver_options]
encoding = "binary"
"""
)


def test_chat_honest_passes_with_everything_accounted_for(tmp_path: Path) -> None:
    scenario = CHAT.partition("[[faults]]")[0].format(command=server("rooms.py"))

    code, result = run(tmp_path, scenario)

    assert (code, result["verdict"]) == (0, "PASS"), result
    delivery = result["delivery"]
    assert delivery["attempted"] == delivery["acknowledged"] == delivery["delivered"] == 200 * 4


def test_chat_with_leaving_and_joining_passes(tmp_path: Path) -> None:
    code, result = run(tmp_path, CHAT.format(command=server("rooms.py")))

    assert (code, result["verdict"]) == (0, "PASS"), result
    assert result["metrics"]["fault_hits"] == 2


def test_chat_lossy_fails_with_the_exact_count(tmp_path: Path) -> None:
    scenario = CHAT.partition("[[faults]]")[0].format(command=server("rooms.py", *map(str, range(30, 90, 10)))).replace(*LOSSY)

    code, result = run(tmp_path, scenario)

    assert (code, result["verdict"]) == (10, "FAIL"), result
    assert result["delivery"]["lost"] == 6 * 2 * 4  # of each of the two rooms, and each has four listeners


@pytest.mark.parametrize(("loses", "code", "verdict"), [([], 0, "PASS"), ([40, 50, 60], 10, "FAIL")])
def test_feed_binary_is_accounted_for_to_the_message(tmp_path: Path, loses: list[int], code: int, verdict: str) -> None:
    command = server("rooms.py", *map(str, loses))

    scenario = FEED.format(command=command)

    got, result = run(tmp_path, scenario.replace(*LOSSY) if loses else scenario)

    assert (got, result["verdict"]) == (code, verdict), result
    assert result["delivery"]["lost"] == len(loses) * 2 * 3
    assert result["delivery"]["delivered"] == (200 - len(loses) * 2) * 3
