"""Runs over agents that are joined by NATS, in processes of their own: the same accounts as beside the runner, on one clock, and what
becomes of a run whose agent is lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from floodmark.core.nats_server import find_binary
from tests.runner.distributed.away import Away, agents, nats, nats_server
from tests.runner.played import Played, play, playing, wait_for, write_scenario

HUB = 'system = "hub"'
COUNTED = 'arrival = { kind = "constant", rate_hz = 600 }\nmessages = 600'
LONG = 'arrival = { kind = "constant", rate_hz = 300 }\nduration_s = 40'
POPULATION = "connections = 24\nchannels = 6\npublishers = 6"
LIMIT_S = 90.0


def hub_scenario(folder: Path, *, phase: str = COUNTED, top: str = "", criteria: tuple[str, ...] = ("success_ratio == 100%",)) -> Path:
    """A scenario against the hub."""
    path = write_scenario(folder, target=HUB, population=POPULATION, phase=phase, criteria=criteria, top=f"drain_limit_s = 5.0\n{top}")
    path.write_text(path.read_text().replace("drain_limit_s = 2.0\n", "", 1))
    return path


def run_over(folder: Path, scenario: Path, url: str, *more: str) -> Played:
    """Play a scenario over the agents at `url`."""
    return play(folder, "run", str(scenario), "--nats", url, "--seed", "5", *more, limit_s=LIMIT_S)


def test_three_agents_away_count_what_three_beside_the_runner_count(tmp_path: Path) -> None:
    scenario = hub_scenario(tmp_path)
    local = play(tmp_path, "run", str(scenario), "--agents", "3", "--seed", "5", limit_s=LIMIT_S).result

    with nats() as url, agents(tmp_path, url, 3):
        played = run_over(tmp_path, scenario, url, "--agents", "3")

    away = played.result
    assert played.code == 0, played.stderr
    assert away["delivery"] == local["delivery"]
    assert away["delivery"]["delivered"] == 600 * 4
    assert away["latency_ns"]["response"]["count"] == local["latency_ns"]["response"]["count"] == 2400
    assert sorted(index for agent in away["agents"] for index in agent["slices"]) == [0, 1, 2]
    assert local["agents"] == []
    assert all(0 < agent["uncertainty_ns"] < 50_000_000 for agent in away["agents"])
    assert all(agent["rss_bytes_peak"] > 0 for agent in away["agents"])


def test_one_agent_with_room_plays_several_slices_of_several_runs(tmp_path: Path) -> None:
    scenario = hub_scenario(tmp_path)

    with nats() as url, agents(tmp_path, url, 1, capacity=2) as [agent]:
        first = run_over(tmp_path, scenario, url, "--agents", "2")
        second = run_over(tmp_path, scenario, url, "--agents", "2")
        wait_for(lambda: not agent.plays, "end of its slices")
        code = agent.stop()

    assert (first.code, second.code, code) == (0, 0, 0), first.stderr + second.stderr
    assert [each["slices"] for each in second.result["agents"]] == [[0, 1]]


def in_time_namespace(seconds: int) -> list[str]:
    """Words that shift the monotonic clock of a command; skips where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--time", "--monotonic", "10", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no time namespaces here: they need root and a kernel that has them")
    return [unshare, "--time", "--monotonic", str(seconds)]


def test_agents_whose_clocks_are_a_thousand_seconds_apart_give_true_latencies(tmp_path: Path) -> None:
    words = in_time_namespace(1000)
    scenario = hub_scenario(tmp_path, criteria=("latency_p99 < 1s", "duplicated == 0"))

    with nats() as url, agents(tmp_path, url, 2, under=lambda number: words if number else ()):
        played = run_over(tmp_path, scenario, url, "--agents", "2")

    result = played.result
    offsets_s = sorted(round(agent["offset_ns"] / 1e9) for agent in result["agents"])
    assert played.code == 0, played.stderr
    assert offsets_s == [0, 1000]
    assert 0 < result["latency_ns"]["response"]["p50"] < 100_000_000
    assert result["latency_ns"]["response"]["count"] == 2400


def hit_in_the_load(tmp_path: Path, number: int, *, top: str, count: int, limit_s: float = LIMIT_S) -> tuple[Played, float, str]:
    """Play on two slices, and send a signal to an agent that plays; gives the run, how long it went on, and the agent's name."""
    scenario = hub_scenario(tmp_path, phase=LONG.replace("40", "15"), top=top)
    with nats() as url, agents(tmp_path, url, count) as started:
        with playing(tmp_path, "run", str(scenario), "--nats", url, "--agents", "2", "--seed", "5", "--plain") as played:
            wait_for(lambda: " · steady · " in played.stderr and " published" in played.stderr, "load", LIMIT_S)
            victim: Away = next(each for each in started if each.plays)
            hit_s = time.monotonic()
            os.kill(victim.process.pid, number)
            played.wait(limit_s)
        return played, time.monotonic() - hit_s, victim.name


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_agent_that_is_lost_ends_the_run_as_unknown_and_by_name_and_what_was_measured_stays(tmp_path: Path, number: int) -> None:
    played, took_s, name = hit_in_the_load(tmp_path, number, top="", count=2)

    result = played.result
    assert played.code == 11, played.stderr
    assert f"agent {name} on " in result["note"]
    assert "is lost" in result["note"]
    assert took_s < 14
    assert result["delivery"]["delivered"] > 0
    assert {c["verdict"] for c in result["criteria"]} <= {"UNKNOWN"}
    assert result["generator"]["agents_lost"] == 1
    assert [f for f in result["findings"] if f["violation"]] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_agent_that_is_lost_is_taken_over_by_one_with_room_where_the_scenario_says_so(tmp_path: Path, number: int) -> None:
    played, _, name = hit_in_the_load(tmp_path, number, top='agent_loss = "take-over"', count=3)

    result = played.result
    assert played.code == 0, played.stderr
    assert f"agent {name} on " in result["note"]
    assert "took slice" in result["note"]
    assert result["generator"]["agents_lost"] == 1
    assert name not in [agent["name"] for agent in result["agents"]]
    assert result["delivery"]["lost"] == 0
    assert result["findings"] == []


def test_take_over_without_room_is_unknown(tmp_path: Path) -> None:
    played, _, name = hit_in_the_load(tmp_path, signal.SIGKILL, top='agent_loss = "take-over"', count=2)

    assert played.code == 11, played.stderr
    assert f"agent {name} on " in played.result["note"]


def test_server_that_is_killed_and_started_again_costs_the_run_nothing(tmp_path: Path) -> None:
    scenario = hub_scenario(tmp_path, phase='arrival = { kind = "constant", rate_hz = 300 }\nmessages = 3000')
    with (
        nats_server() as server,
        agents(tmp_path, server.url, 2),
        playing(tmp_path, "run", str(scenario), "--nats", server.url, "--agents", "2", "--plain") as played,
    ):
        wait_for(lambda: " · steady · " in played.stderr, "load", LIMIT_S)
        first = server.pid
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: server.pid != first, "another server")
        played.wait(LIMIT_S)

    assert played.code == 0, played.stderr
    assert played.result["delivery"]["delivered"] == 3000 * 4
    assert played.result["generator"]["agents_lost"] == 0


def test_runner_that_is_killed_leaves_its_agents_free_for_the_next_run(tmp_path: Path) -> None:
    scenario = hub_scenario(tmp_path, phase=LONG)
    with nats() as url, agents(tmp_path, url, 1) as [agent]:
        with playing(tmp_path, "run", str(scenario), "--nats", url, "--agents", "1", "--plain") as played:
            wait_for(lambda: " published" in played.stderr, "load", LIMIT_S)
            played.signal(signal.SIGKILL)
            wait_for(lambda: not agent.plays, "end of its slice", 20)
        again = run_over(tmp_path, hub_scenario(tmp_path), url, "--agents", "1")

    assert again.code == 0, again.stderr
    assert "has fallen silent" in agent.words


def test_run_that_is_interrupted_ends_its_agents_slices(tmp_path: Path) -> None:
    scenario = hub_scenario(tmp_path, phase=LONG)
    with nats() as url, agents(tmp_path, url, 1) as [agent]:
        with playing(tmp_path, "run", str(scenario), "--nats", url, "--agents", "1", "--plain") as played:
            wait_for(lambda: " published" in played.stderr, "load", LIMIT_S)
            played.signal(signal.SIGINT)
            played.wait(20)
        wait_for(lambda: not agent.plays, "end of its slice", 20)

    assert played.code == 130
    assert played.result["delivery"]["delivered"] > 0


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
