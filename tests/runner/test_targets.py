"""Targets that misbehave, each a real process: the verdict, the words, the account, and nothing left behind."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from floodmark.runner.target import RunningTarget
from tests.runner.played import play, server, write_scenario
from tests.runner.server import FLOOD_BYTES, WORDS


def test_target_honest_passes_and_accounts_for_everything(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server())

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 0, played.stderr
    assert played.result["delivery"]["delivered"] == 400
    assert played.result["delivery"]["attempted"] == 400
    names = {path.name for path in played.run.iterdir()}
    assert names >= {"run.json", "samples.parquet", "findings.jsonl", "report.md", "report.html", "junit.xml", "logs"}


def test_target_that_loses_fails_with_the_exact_count(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server("loses"), top="warmup = false", drain_limit_s=1.0)

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 10, played.stderr
    assert played.result["delivery"]["lost"] == 40
    assert "first anomaly" in played.stderr
    assert len((played.run / "findings.jsonl").read_text().splitlines()) > 0


def test_target_that_prints_nothing_and_sleeps_is_unknown_after_its_limit(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command="sleep 60", start_limit_s=0.5)

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 11, played.stderr
    assert "sleep 60 was not ready within 0.5 s (waiting for its ready line); it printed nothing" in played.result["note"]
    assert played.document["verdict"] == "UNKNOWN"
    assert all(criterion["verdict"] == "UNKNOWN" for criterion in played.result["criteria"])


def test_target_that_only_talks_is_unknown_with_its_last_lines(tmp_path: Path) -> None:
    command = "sh -c 'echo one; echo still loading the model; sleep 60'"
    scenario = write_scenario(tmp_path, command=command, start_limit_s=0.5)

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 11, played.stderr
    assert "its last words: still loading the model" in played.result["note"]
    assert played.log().splitlines() == ["one", "still loading the model"]


def test_target_that_exits_at_once_is_unknown_with_its_words(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command="sh -c 'echo no licence; exit 7'")

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 11, played.stderr
    assert "ended with exit code 7 before it was ready; its last words: no licence" in played.result["note"]


def test_target_that_cannot_bind_is_unknown_with_its_words(tmp_path: Path, taken_port: int) -> None:
    scenario = write_scenario(tmp_path, command=server("--port", str(taken_port)))

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 11, played.stderr
    assert "its last words: cannot listen:" in played.result["note"]


def test_target_url_that_somebody_else_serves_is_a_usage_error(tmp_path: Path, taken_port: int) -> None:
    place = f'command = "sleep 60"\nurl = "ws://127.0.0.1:{taken_port}"'
    scenario = write_scenario(tmp_path, target=place)

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 2, played.stderr
    assert "takes connections before 'sleep 60' was started" in played.sentence


@pytest.mark.parametrize(("mischief", "how"), [("exits", "ended with exit code 3"), ("is-killed", "was killed by SIGKILL")])
def test_target_that_dies_half_way_fails_with_the_log_and_the_account(tmp_path: Path, mischief: str, how: str) -> None:
    scenario = write_scenario(tmp_path, command=server(mischief, "--after", "100"), top="warmup = false")

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 10, played.stderr
    assert f"{how} in the phase 'steady'; its last words: {WORDS}" in played.result["note"]
    assert WORDS in played.result["log_tail"]
    (exits,) = [criterion for criterion in played.result["criteria"] if criterion["text"] == "target_exits == 0"]
    assert (exits["observed"], exits["verdict"]) == (1, "FAIL")
    assert 0 < played.result["delivery"]["delivered"] <= 2 * 99


def test_target_that_floods_its_log_is_bounded_and_not_held_up(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server("floods-log", "--after", "1"))

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 0, played.stderr
    assert played.result["delivery"]["lost"] == 0
    text = played.log()
    assert len(text) < 3 * 2**20
    left_out = re.search(r"\[floodmark: (\d+) bytes left out here\]", text)
    assert left_out is not None
    assert int(left_out[1]) + len(text) > FLOOD_BYTES // 50  # how much it got out before its end depends on the machine


def test_target_that_leaves_stubborn_children_leaves_none(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server("leaves-children"))

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 0, played.stderr  # `play` has looked for survivors


def test_target_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server("ignores-sigterm"))

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 0, played.stderr


@pytest.mark.parametrize(
    ("mischief", "words"),
    [
        ("refuses-connections", "refuses connections: nothing listens there"),
        ("hangs-up", "closed or broke off the WebSocket handshake"),
        ("garbage", "WebSocket handshake"),
        ("http", "WebSocket handshake"),
        ("never-answers", "took no WebSocket handshake within 2 s"),
        ("never-confirms", "confirmed no subscription within 2 s"),
    ],
)
def test_target_that_nobody_can_speak_to_is_unknown_with_the_reason(tmp_path: Path, mischief: str, words: str) -> None:
    scenario = write_scenario(tmp_path, command=server(mischief), connect_limit_s=2.0)

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 11, played.stderr
    assert words in played.result["note"]
    assert played.result["delivery"]["delivered"] == 0


def test_target_that_sends_frames_beyond_the_limit_is_not_passed(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server("huge-frames"), top="warmup = false")

    played = play(tmp_path, "run", str(scenario))

    assert played.code in (10, 11), played.stderr
    assert played.result["note"]


def test_target_that_swallows_everything_it_acknowledged_fails(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server("swallows"), top="warmup = false", drain_limit_s=1.0)

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 10, played.stderr
    assert played.result["delivery"]["lost"] == 400


def test_target_that_drops_the_publisher_fails_and_the_rest_is_dropped_by_us_not_lost(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server("drops-publisher", "--after", "50"), top="warmup = false")

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 10, played.stderr
    told = {criterion["text"]: criterion["verdict"] for criterion in played.result["criteria"]}
    assert told["disconnects == 0"] == "FAIL"
    assert told["dropped_by_us == 0"] == "UNKNOWN"
    published = played.result["metrics"]["published"]
    assert 50 <= published < 100  # a few may leave before the connection is seen to be closed
    assert played.result["delivery"]["dropped_by_us"] == 2 * (200 - published)
    assert played.result["delivery"]["lost"] == 0
    assert "code 1011 (no more of you)" in played.result["note"]


def test_target_that_refuses_publishes_counts_them_and_claims_no_loss(tmp_path: Path) -> None:
    scenario = write_scenario(
        tmp_path, command=server("refuses", "--after", "101"), top="warmup = false", criteria=("refused == 0", "lost == 0")
    )

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 10, played.stderr
    assert played.result["metrics"]["refused"] == 100
    assert played.result["delivery"]["lost"] == 0
    assert played.result["delivery"]["delivered"] == 200


def test_target_that_is_paused_in_the_load_loses_nothing_and_shows_it_in_the_latency(tmp_path: Path) -> None:
    scenario = write_scenario(
        tmp_path,
        command=server("pauses", "--after", "50"),
        top="warmup = false",
        criteria=("latency_max >= 2.5s", "lost == 0"),
        drain_limit_s=8.0,
    )

    played = play(tmp_path, "run", str(scenario))

    assert played.code == 0, played.stderr
    assert played.result["delivery"]["delivered"] == 400


def test_target_that_is_closed_by_a_run_that_is_cancelled_does_not_hide_that() -> None:
    """A watch takes a moment to end, and the cancellation comes in just that moment."""

    async def job() -> asyncio.Task[None]:
        target, ending, end = RunningTarget("it", ""), asyncio.Event(), asyncio.Event()

        async def watch() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                await end.wait()

        target._watches.append(asyncio.create_task(watch()))
        await asyncio.sleep(0)
        closing = asyncio.create_task(target.close())
        await ending.wait()
        closing.cancel()
        end.set()
        await asyncio.wait([closing, *target._watches])
        return closing

    assert asyncio.run(job()).cancelled()
