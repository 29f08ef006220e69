"""The benchmarks from end to end, small: real processes, and no figure without its account.

Locust and Artillery are not installed for the tests; `make bench` is where they run, and where a failed account of theirs would show.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

from bench import connections, fanout, receive
from bench.__main__ import main
from bench.blaster import Sender
from bench.fanout import SERVERS
from bench.peers import commands, k6_listener
from bench.peers.commands import Task
from bench.processes import BenchError, Child

# A peer that stops at the first message and claims nine.
LIAR = """
import sys, time
from websockets.sync.client import connect
from bench.peers.check import report
with connect(sys.argv[1]) as client:
    client.recv()
    report(received=9, bad=0)
    time.sleep(60)
"""


def test_receive_agent_accounts_for_every_message() -> None:
    with Sender() as sender:
        sender.prepare(receive.RUN, 200_000)

        made = receive.measure_agent(sender, 200_000)

    assert made.value > 0
    assert made.check == "200,000 of 200,000 delivered"


def test_receive_agent_repeated_messages_give_no_figure() -> None:
    with Sender() as sender:
        sender.prepare(receive.RUN, 500)

        with pytest.raises(BenchError, match="does not add up: 500 of 1,000 delivered, 500 of them bad"):
            receive.measure_agent(sender, 1_000)  # the second half is the first again


def test_receive_counter_counts_every_frame() -> None:
    with Sender() as sender:
        sender.prepare(receive.RUN, 1_000)

        made = receive.measure_peer(sender, 1_000_000, commands.counter)

    assert made.check == "1,000,000 of 1,000,000 delivered"


def test_receive_peer_that_reports_too_few_gives_no_figure() -> None:
    def liar(task: Task) -> Child:
        return Child([sys.executable, "-c", LIAR, task.url], env=task.environment, cwd=commands.ROOT, what="liar")

    with Sender() as sender:
        sender.prepare(receive.RUN, 10)

        with pytest.raises(BenchError, match="9 of 10 delivered"):
            receive.measure_peer(sender, 10, liar)


def test_connections_agent_holds_all_and_gives_a_slope() -> None:
    with Sender() as sender:
        made = connections.per_connection(lambda count: connections.hold_agent(sender, count), 50, 550)

    assert 1.0 < made.value < 200.0  # KiB
    assert made.check == "550 of 550 connections open"


def test_connections_memory_that_does_not_follow_gives_no_figure() -> None:
    with pytest.raises(BenchError, match="does not follow the connections: 200 MiB with 10, 201 MiB with 10,010"):
        connections.per_connection(lambda count: (200 if count == 10 else 201) << 20, 10, 10_010)


def test_connections_fewer_than_asked_give_no_figure() -> None:
    def one(task: Task) -> Child:
        return commands.counter(task)  # opens one connection, whatever the task says

    with Sender() as sender, pytest.raises(BenchError, match="not connected 2 times"):
        connections.hold_peer(sender, 2, one, limit_s=1.0)


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("burst", [1, 10])
def test_fanout_every_server_reaches_every_subscriber(name: str, burst: int) -> None:
    made = fanout.measure(SERVERS[name], burst=burst, frames=300 * burst, subscribers=100)

    assert made.value > 0
    assert made.check == f"{300 * burst:,} of {300 * burst:,} at each of 100 subscribers"


def test_peer_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "ARTILLERY", Path("nowhere"))
    with tempfile.TemporaryDirectory() as folder, pytest.raises(BenchError, match="Artillery is not installed"):
        commands.artillery(Task(url="", run=1, expected=0, folder=Path(folder)))


@pytest.mark.parametrize("arguments", ["nonsense", "--rounds 0", "--scale 2", "--write receive", "--write --scale 0.5"])
def test_main_wrong_argument_is_a_usage_error(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())

    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_k6_missing_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BenchError, match="k6 is not on the path"):
        commands.k6(Task(url="", run=1, expected=0, folder=tmp_path))


def test_k6_listener_turns_the_line_of_its_script_into_a_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    monkeypatch.setenv("BENCH_REPORT", str(report))
    stand_in = tmp_path / "k6"
    stand_in.write_text("#!/bin/sh\necho starting\necho BENCH 12 3\n")
    stand_in.chmod(0o755)

    code = k6_listener.main(str(stand_in), "script.js")

    assert code == 0
    assert json.loads(report.read_text()) == {"received": 12, "bad": 3}
