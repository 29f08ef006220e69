"""Agents in network namespaces of their own: two machines, as far as the network is concerned, with a link of 10 ms between them.

NATS and the hub listen on the runner's end of the links. Whatever a test does, namespaces, links and processes are gone afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from floodmark.core.nats_server import find_binary
from tests.live.conftest import require
from tests.runner.distributed.away import agents
from tests.runner.played import play, wait_for, write_scenario

COUNT = 2
ADDRESS = "10.213.0.1"
DELAY_MS = 5  # each way
LIMIT_S = 90.0


def ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `ip`."""
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


def allowed() -> bool:
    """Whether namespaces and links can be made here."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"fm{os.getpid() % 10000}x"
    made = ip("netns", "add", name, check=False).returncode == 0
    linked = made and ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", check=False).returncode == 0
    if linked:
        ip("link", "del", f"{name}a", check=False)
    if made:
        ip("netns", "del", name, check=False)
    return linked


@pytest.fixture
def spaces() -> Iterator[list[tuple[str, str, str]]]:
    """(name, our address, its address) of each namespace, joined to us by a link of its own."""
    require(allowed(), "network namespaces cannot be made here: they need root and iproute2")
    tag = f"fm{os.getpid() % 10000}"
    made: list[tuple[str, str, str]] = []
    try:
        for number in range(COUNT):
            name, near, far = f"{tag}n{number}", f"{tag}h{number}", f"{tag}g{number}"
            ours, theirs = f"10.213.{number}.1", f"10.213.{number}.2"
            ip("netns", "add", name)
            made.append((name, ours, theirs))
            ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
            ip("addr", "add", f"{ours}/30", "dev", near)
            ip("link", "set", near, "up")
            ip("-n", name, "addr", "add", f"{theirs}/30", "dev", far)
            ip("-n", name, "link", "set", far, "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "route", "add", "default", "via", ours)
        yield made
    finally:
        for number, (name, _, _) in enumerate(made):
            ip("link", "del", f"{tag}h{number}", check=False)
            ip("netns", "del", name, check=False)


def delayed(name: str, ours: str) -> bool:
    """Delay both ends of a link; says whether this kernel can."""
    near = json.loads(ip("-j", "addr", "show", "to", ours).stdout)[0]["ifname"]
    far = near.replace("h", "g")
    words = ["root", "netem", "delay", f"{DELAY_MS}ms"]
    done = [
        subprocess.run(["tc", "qdisc", "add", "dev", near, *words], capture_output=True, check=False).returncode,
        subprocess.run(["tc", "-n", name, "qdisc", "add", "dev", far, *words], capture_output=True, check=False).returncode,
    ]
    return not any(done)


@contextmanager
def served(words: Sequence[str], folder: Path, name: str, ready: str) -> Iterator[str]:
    """Start a command and wait for a line of its output; gives the group of `ready` in it."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_for(lambda: re.search(ready, log.read_text("utf-8", "replace")), f"{name}: {log.read_text()}")
        match = re.search(ready, log.read_text("utf-8", "replace"))
        assert match is not None
        yield match.group(1)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


@contextmanager
def nats_and_hub(folder: Path) -> Iterator[tuple[int, int]]:
    """Both on our end of the first link, which the second namespace reaches by its own; gives their ports."""
    with tempfile.TemporaryDirectory() as store:
        nats = [find_binary(), "-a", ADDRESS, "-p", "-1", "-js", "-sd", store]
        hub = [sys.executable, "-m", "floodmark", "serve", "hub", "--host", ADDRESS, "--port", "0"]
        with (
            served(nats, folder, "nats", r"Listening for client connections on \S+:(\d+)") as nats_port,
            served(hub, folder, "hub", r"ws://\S+:(\d+)") as hub_port,
        ):
            yield int(nats_port), int(hub_port)


@pytest.mark.timeout(200)
def test_agents_in_two_namespaces_reach_the_target_by_the_network_and_count_everything(
    tmp_path: Path, spaces: list[tuple[str, str, str]]
) -> None:
    slow = shutil.which("tc") is not None and all(delayed(name, ours) for name, ours, _ in spaces)
    phase = 'arrival = { kind = "constant", rate_hz = 400 }\nmessages = 800'
    with nats_and_hub(tmp_path) as (nats_port, hub_port):
        scenario = write_scenario(
            tmp_path,
            target=f'url = "ws://{ADDRESS}:{hub_port}/graphql"',
            population="connections = 40\nchannels = 8\npublishers = 8",
            phase=phase,
            drain_limit_s=15.0,
            criteria=("success_ratio == 100%", "latency_p99 < 20s"),
        )
        text = scenario.read_text()
        scenario.write_text(re.sub(r'driver = "websocket"\n\[driver_options\]\n.*?(?=\[target\])', "", text, flags=re.DOTALL))
        with agents(tmp_path, f"nats://{ADDRESS}:{nats_port}", COUNT, under=lambda number: ["ip", "netns", "exec", spaces[number][0]]):
            played = play(
                tmp_path, "run", str(scenario), "--nats", f"nats://{ADDRESS}:{nats_port}", "--agents", str(COUNT), limit_s=LIMIT_S
            )

    result = played.result
    assert played.code == 0, played.stderr
    assert result["delivery"]["delivered"] == 800 * 5
    assert result["delivery"]["lost"] == 0
    assert sorted(agent["name"] for agent in result["agents"]) == ["agent-0", "agent-1"]
    if slow:  # 10 ms there and back: the messages feel it, and the clocks are less certain by half of it
        assert result["latency_ns"]["service"]["p50"] > 2 * DELAY_MS * 1_000_000 * 0.9
        assert all(agent["uncertainty_ns"] > DELAY_MS * 1_000_000 for agent in result["agents"])
    assert all(abs(agent["offset_ns"]) <= agent["uncertainty_ns"] for agent in result["agents"])  # one machine: one true clock
