"""The host as a process: its ready line, its end, and what it says of a wrong option."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import typer
from typer.testing import CliRunner

from floodmark.systems.pipeline.host.command import host

WORDS = [sys.executable, "-m", "floodmark.systems.pipeline.host"]
LIMIT_S = 30.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_host_says_where_it_is_and_ends_when_asked(number: signal.Signals) -> None:
    with subprocess.Popen(WORDS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = urlsplit(line.split()[-1])
        with socket.create_connection(("127.0.0.1", url.port or 0), timeout=LIMIT_S):
            process.send_signal(number)
            rest, complaints = process.communicate(timeout=LIMIT_S)

    assert line.startswith("floodmark pipeline ready tcp://127.0.0.1:")
    assert (process.returncode, rest, complaints) == (0, "", "")


def test_host_with_a_lie_nobody_knows_is_a_usage_error() -> None:
    app = typer.Typer()
    app.command()(host)

    done = CliRunner().invoke(app, ["--lie", "drop=1"])

    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("'drop=1' is not a lie: a lie is NAME=K with NAME one of skip")
    assert done.stderr.count("\n") == 1


def test_host_on_a_port_that_is_taken_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(typer.Exit) as ended:
        host(port=taken.getsockname()[1])

    told = capfd.readouterr()
    assert ended.value.exit_code == 2
    assert told.out == ""
    assert told.err.startswith("cannot listen on 127.0.0.1:")
    assert told.err.count("\n") == 1
