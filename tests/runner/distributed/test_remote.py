"""Runs over agents that are joined by NATS, in processes of their own: the same accounts as beside the runner, on one clock, and what
becomes of a run whose agent is lost.

Several scenarios share a run, a server and agents wherever one cannot spoil the next: most of a run's time is its beginning and its end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from floodmark.core.nats_server import find_binary
from floodmark.runner.remains import SEEN_THERE
from tests.runner.distributed.away import Away, agents, nats, nats_server
from tests.runner.played import Played, play, playing, wait_for, write_scenario

HUB = 'system = "hub"'
COUNTED = 'arrival = { kind = "constant", rate_hz = 600 }\nmessages = 600'
LONG = 'arrival = {{ kind = "constant", rate_hz = 300 }}\nduration_s = {}'
POPULATION = "connections = 24\nchannels = 6\npublishers = 6"
LIMIT_S = 90.0


def hub_scenario(
    folder: Path, name: str = "tried", *, phase: str = COUNTED, top: str = "", criteria: Sequence[str] = ("success_ratio == 100%",)
) -> Path:
    """A scenario against the hub."""
    return write_scenario(folder, target=HUB, population=POPULATION, phase=phase, criteria=criteria, top=top, drain_limit_s=15.0, name=name)


def run_over(folder: Path, scenario: Path, url: str, *more: str) -> Played:
    """Play a scenario over the agents at `url`."""
    return play(folder, "run", str(scenario), "--nats", url, "--seed", "5", *more, limit_s=LIMIT_S)


def told(played: Played, scenario: str) -> list[dict[str, Any]]:
    """What a run has told of a scenario so far."""
    path = played.run / "live.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")] if path.is_file() else []
    begun = [number for number, line in enumerate(lines) if line["kind"] == "began" and line["id"] == scenario]
    return lines[begun[0] :] if begun else []


def wait_for_load(played: Played, scenario: str = "tried") -> None:
    """Wait until a scenario's load goes on and is seen to arrive."""

    def loaded() -> bool:
        assert played.process.poll() is None, played.stderr
        return any(line.get("phase") == "steady" and line.get("delivered") for line in told(played, scenario))

    wait_for(loaded, f"load of {scenario}", LIMIT_S)


def results(played: Played) -> dict[str, Any]:
    """The results of a run by scenario."""
    return {one["id"]: one for one in played.document["scenarios"]}


def in_time_namespace(seconds: int) -> list[str]:
    """Words that shift the monotonic clock of a command; none where that is not allowed: it takes root and a kernel that has them."""
    unshare = shutil.which("unshare")
    words = [unshare or "", "--time", "--monotonic", str(seconds)]
    return words if unshare is not None and not subprocess.run([*words, "true"], capture_output=True, check=False).returncode else []


def test_three_agents_away_count_what_three_beside_the_runner_count_on_clocks_far_apart_and_by_a_server_that_dies(tmp_path: Path) -> None:
    words = in_time_namespace(1000)
    alone = tmp_path / "alone"
    alone.mkdir()
    counted = hub_scenario(tmp_path, criteria=("latency_p99 < 20s", "duplicated == 0", "success_ratio == 100%"))
    restarted = hub_scenario(tmp_path, "restarted", phase='arrival = { kind = "constant", rate_hz = 300 }\nmessages = 1200')

    beside = play(alone, "run", str(counted), "--agents", "3", "--seed", "5", limit_s=LIMIT_S)
    with (
        nats_server() as server,
        agents(tmp_path, server.url, 3, under=lambda number: words if number == 2 else ()),
        playing(tmp_path, "run", str(counted), str(restarted), "--nats", server.url, "--agents", "3", "--seed", "5") as played,
    ):
        wait_for_load(played, "restarted")
        first = server.pid
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: server.pid != first, "another server")
        played.wait(LIMIT_S)

    local, away, after = beside.result, results(played)["tried"], results(played)["restarted"]
    assert (beside.code, played.code) == (0, 0), played.stderr
    assert away["delivery"] == local["delivery"]
    assert away["delivery"]["delivered"] == 600 * 4
    assert away["latency_ns"]["response"]["count"] == local["latency_ns"]["response"]["count"] == 2400
    assert 0 < away["latency_ns"]["response"]["p50"] < 20_000_000_000
    assert sorted(round(agent["offset_ns"] / 1e9) for agent in away["agents"]) == [0, 0, 1000 if words else 0]
    assert sorted(index for agent in away["agents"] for index in agent["slices"]) == [0, 1, 2]
    assert local["agents"] == []
    assert all(0 < agent["uncertainty_ns"] < 1_000_000_000 for agent in away["agents"])
    assert all(agent["rss_bytes_peak"] > 0 for agent in away["agents"])
    assert after["delivery"]["delivered"] == 1200 * 4
    assert after["generator"]["agents_lost"] == 0


def test_agent_plays_on_whatever_becomes_of_its_runners_and_several_slices_at_once(tmp_path: Path) -> None:
    long, short = hub_scenario(tmp_path, "long", phase=LONG.format(40)), hub_scenario(tmp_path)
    killed_in, interrupted_in = tmp_path / "killed", tmp_path / "interrupted"
    killed_in.mkdir()
    interrupted_in.mkdir()

    with nats() as url, agents(tmp_path, url, 1, capacity=2) as [agent], ExitStack() as runs:
        killed, interrupted = (
            runs.enter_context(playing(folder, "run", str(long), "--nats", url, "--agents", "1", "--plain"))
            for folder in (killed_in, interrupted_in)
        )
        wait_for_load(killed, "long")
        wait_for_load(interrupted, "long")
        killed.signal(signal.SIGKILL)
        interrupted.signal(signal.SIGINT)
        interrupted.wait(LIMIT_S)
        wait_for(lambda: not agent.plays, "end of its slices")
        again = run_over(tmp_path, short, url, "--agents", "2")
        wait_for(lambda: not agent.plays, "end of its slices")
        code = agent.stop()

    assert "has fallen silent" in agent.words
    assert interrupted.code == 130
    assert interrupted.result["delivery"]["delivered"] > 0
    assert (again.code, code) == (0, 0), again.stderr
    assert [each["slices"] for each in again.result["agents"]] == [[0, 1]]


def player(started: Sequence[Away], *others: Away) -> Away:
    """An agent that plays, and is none of these."""
    return next(each for each in started if each.plays and each not in others)


def test_agent_that_is_lost_ends_the_run_as_unknown_and_by_name_and_what_was_measured_stays(tmp_path: Path) -> None:
    numbers = {"killed": signal.SIGKILL, "paused": signal.SIGSTOP, "asked": signal.SIGTERM}
    files = [str(hub_scenario(tmp_path, name, phase=LONG.format(30))) for name in numbers]
    lost: dict[str, Away] = {}
    took_s: dict[str, float] = {}

    with (
        nats() as url,
        agents(tmp_path, url, 4) as started,
        playing(tmp_path, "run", *files, "--nats", url, "--agents", "2", "--seed", "5") as played,
    ):
        for name, number in numbers.items():
            wait_for_load(played, name)
            lost[name] = victim = player(started, *lost.values())
            hit_s = time.monotonic()
            os.kill(victim.process.pid, number)
            wait_for(lambda name=name: [line for line in told(played, name) if line["kind"] == "done"], f"end of {name}")  # type: ignore[misc]
            took_s[name] = time.monotonic() - hit_s
        played.wait(LIMIT_S)

    assert played.code == 11, played.stderr
    assert results(played).keys() == numbers.keys()
    for name, result in results(played).items():
        assert f"agent {lost[name].name} on " in result["note"]
        assert "is lost" in result["note"]
        assert took_s[name] < 25  # of the 30 s that the load would have gone on
        assert result["delivery"]["delivered"] > 0
        assert {c["verdict"] for c in result["criteria"]} == {"UNKNOWN"}
        assert result["generator"]["agents_lost"] == 1
        assert [f for f in result["findings"] if f["violation"]] == []


def test_agent_that_is_lost_is_taken_over_by_one_with_room_where_the_scenario_says_so_and_without_room_is_unknown(tmp_path: Path) -> None:
    top = 'agent_loss = "take-over"'
    criteria = ("success_ratio == 100%", "throughput > 1/s", "throughput > 100k/s", "published < 1M")
    room = hub_scenario(tmp_path, "room", phase=LONG.format(10), top=top, criteria=criteria)
    none = hub_scenario(tmp_path, "none", phase=LONG.format(30), top=top)

    with (
        nats() as url,
        agents(tmp_path, url, 5) as started,
        playing(tmp_path, "run", str(room), str(none), "--nats", url, "--agents", "3", "--seed", "5") as played,
    ):
        wait_for_load(played, "room")
        killed = player(started)
        paused = player(started, killed)
        os.kill(killed.process.pid, signal.SIGKILL)
        os.kill(paused.process.pid, signal.SIGSTOP)
        wait_for_load(played, "none")
        last = player(started, killed, paused)
        os.kill(last.process.pid, signal.SIGKILL)
        played.wait(LIMIT_S)

    taken_over, given_up = results(played)["room"], results(played)["none"]
    verdicts = {one["text"]: one["verdict"] for one in taken_over["criteria"]}
    open_ = {"throughput > 100k/s", "published < 1M"} | ({f"{name} == 0" for name in SEEN_THERE} & set(verdicts))
    assert {"lost == 0", "unexpected == 0"} <= open_
    assert {text for text, verdict in verdicts.items() if verdict != "PASS"} == open_, played.stderr
    assert {verdicts[text] for text in open_} == {"UNKNOWN"}  # what the lost ones had counted is gone
    assert all(f"agent {each.name} on " in taken_over["note"] for each in (killed, paused))
    assert taken_over["note"].count("took slice") == 2
    assert taken_over["generator"]["agents_lost"] == 2
    assert {agent["name"] for agent in taken_over["agents"] if agent["lost"]} == {killed.name, paused.name}
    assert sorted(index for agent in taken_over["agents"] for index in agent["slices"] if index not in agent["lost"]) == [0, 1, 2]
    assert taken_over["delivery"]["lost"] == 0
    assert taken_over["findings"] == []
    assert given_up["verdict"] == "UNKNOWN"
    assert f"agent {last.name} on " in given_up["note"]


def test_agent_that_came_by_the_name_of_one_that_is_killed_takes_over_on_its_own_clock(tmp_path: Path) -> None:
    words = in_time_namespace(1000)
    long = hub_scenario(tmp_path, phase=LONG.format(15), top='agent_loss = "take-over"', criteria=("latency_p99 < 20s", "throughput > 1/s"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    with (
        nats() as url,
        agents(tmp_path, url, 1) as [first],
        playing(tmp_path, "run", str(long), "--nats", url, "--agents", "1", "--seed", "5") as played,
    ):
        wait_for_load(played)
        with agents(elsewhere, url, 1, under=lambda number: words) as [twin]:
            os.kill(first.process.pid, signal.SIGKILL)
            played.wait(LIMIT_S)

    result = played.result
    assert first.name == twin.name
    assert f"agent {twin.name} took slice 0 over" in result["note"], played.stderr
    assert [(round(agent["offset_ns"] / 1e9), agent["slices"], agent["lost"]) for agent in result["agents"]] == [
        (0, [0], [0]),
        (1000 if words else 0, [0], []),
    ]
    assert 0 < result["latency_ns"]["response"]["p99"] < 20_000_000_000


# -- what a person does wrong -----------------------------------------------------------------------------------------------------------


def test_run_without_enough_agents_says_how_many_came(tmp_path: Path) -> None:
    scenario = hub_scenario(tmp_path)
    with nats() as url:
        none = run_over(tmp_path, scenario, url, "--agents", "2", "--wait", "1")
        with agents(tmp_path, url, 1):
            one = run_over(tmp_path, scenario, url, "--agents", "2", "--wait", "1")

    assert (none.code, one.code) == (2, 2)
    assert none.sentence.startswith("floodmark: no agent came within 1 s where 2 slices are to be played; start more with `floodmark agent")
    assert one.sentence.startswith("floodmark: 1 agent with room for 1 slices came within 1 s where 2 slices are to be played")


def test_no_server_at_the_url_is_one_sentence_for_runner_and_agent(tmp_path: Path) -> None:
    scenario = hub_scenario(tmp_path)

    run = run_over(tmp_path, scenario, "nats://127.0.0.1:1", "--agents", "1")
    agent = play(tmp_path, "agent", "--nats", "nats://127.0.0.1:1")

    assert (run.code, agent.code) == (2, 2)
    assert run.sentence.startswith("floodmark: no NATS server at nats://127.0.0.1:1: ")
    assert agent.sentence.startswith("floodmark: no NATS server at nats://127.0.0.1:1: ")


def test_server_without_jetstream_is_one_sentence_for_an_agent(tmp_path: Path) -> None:
    with (tmp_path / "nats.log").open("wb") as log:
        server = subprocess.Popen([find_binary(), "-a", "127.0.0.1", "-p", "-1"], stderr=log)
    try:
        said = wait_for(lambda: re.search(r"client connections on \S+:(\d+)", (tmp_path / "nats.log").read_text()), "server")
        agent = play(tmp_path, "agent", "--nats", f"nats://127.0.0.1:{said.group(1)}")
    finally:
        server.terminate()
        server.wait(10)

    assert agent.code == 2
    assert "has no JetStream" in agent.sentence


def test_target_on_loopback_is_refused_for_an_agent_on_another_machine(tmp_path: Path) -> None:
    elsewhere = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*elsewhere, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces for names here: they need root")
    scenario = hub_scenario(tmp_path)

    with nats() as url, agents(tmp_path, url, 1, under=lambda number: elsewhere):
        run = run_over(tmp_path, scenario, url, "--agents", "1")

    assert run.code == 2
    assert run.sentence.startswith(
        "floodmark: the clients are to connect to 127.0.0.1, and agent agent-0 is on elsewhere, another machine; "
    )


def test_nats_without_agents_and_a_capacity_of_nothing_are_refused(tmp_path: Path) -> None:
    run = play(tmp_path, "run", str(hub_scenario(tmp_path)), "--nats", "nats://127.0.0.1:1")
    agent = play(tmp_path, "agent", "--nats", "nats://127.0.0.1:1", "--capacity", "0")

    assert (run.code, agent.code) == (2, 2)
    assert "say with --agents how many load processes are needed" in run.sentence
    assert agent.sentence == "floodmark: --capacity must be at least 1, got 0"


def test_agent_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    other = "import floodmark; floodmark.__version__ = '9.9'; from floodmark.__main__ import main; import sys; sys.argv[1:1] = []; main()"
    scenario = hub_scenario(tmp_path)
    with nats() as url:
        with (tmp_path / "other.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-c", other, "agent", "--nats", url, "--name", "other"], stderr=log)
        try:
            wait_for(lambda: b"is there" in (tmp_path / "other.log").read_bytes(), "the other agent")
            run = run_over(tmp_path, scenario, url, "--agents", "1")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)

    assert run.code == 2
    assert "agent other on " in run.sentence
    assert "is floodmark 9.9, this is" in run.sentence


def test_take_over_of_streams_that_are_answers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "asks.toml"
    path.write_text(
        'id = "asks"\nagent_loss = "take-over"\ncriteria = ["streams_failed == 0"]\ndriver = "sse"\n'
        '[target]\nsystem = "tokens"\n[population]\nconnections = 2\nchannels = 2\n'
        '[[phases]]\narrival = { kind = "constant", rate_hz = 2 }\nmessages = 2\n'
    )

    run = run_over(tmp_path, path, "nats://127.0.0.1:1", "--agents", "1")

    assert run.code == 2
    assert "agent_loss = 'take-over' is for published streams" in run.sentence
