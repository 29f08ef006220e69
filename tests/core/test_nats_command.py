"""The nats-server as a command: its ready line, its end at a signal, a death that is told or made good, and options that are no words."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from floodmark.core.nats_command import main, parser

LIMIT_S = 30.0


@contextmanager
def command(*words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command and the port it is ready at."""
    process = subprocess.Popen(
        [sys.executable, "-m", "floodmark.core.nats_command", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = re.fullmatch(r"floodmark nats ready nats://127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert ready is not None
        yield process, int(ready[1])
    finally:
        process.kill()
        process.communicate()


def info(port: int) -> dict[str, object]:
    """What the server says of itself."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client, client.makefile("rb") as stream:
        told: dict[str, object] = json.loads(stream.readline().removeprefix(b"INFO "))
        return told


def server_of(process: subprocess.Popen[str]) -> psutil.Process:
    (server,) = [child for child in psutil.Process(process.pid).children() if child.name() == "nats-server"]
    return server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_is_ready_with_jetstream_and_ends_at_a_signal_with_its_server(number: signal.Signals) -> None:
    with command("--max-payload", "2MB") as (process, port):
        told, server = info(port), server_of(process)

        process.send_signal(number)
        code = process.wait(LIMIT_S)

    assert (told["jetstream"], told["max_payload"]) == (True, 2 * 1024 * 1024)
    assert code == 0
    assert not server.is_running()


def test_server_that_dies_is_the_death_of_the_command() -> None:
    with command() as (process, _):
        server_of(process).kill()

        assert process.wait(LIMIT_S) == 1
        assert process.stderr is not None
        assert "ended by itself" in process.stderr.read()


def test_keep_starts_a_server_that_died_again_at_the_same_port(tmp_path: Path) -> None:
    with command("--keep", "--store", str(tmp_path / "kept")) as (process, port):
        before = info(port)["server_id"]
        dead = server_of(process)
        dead.kill()
        dead.wait(LIMIT_S)
        after = None
        while after is None:  # bounded by the test's own limit
            try:
                after = info(port)["server_id"]
            except (OSError, ValueError):
                assert process.poll() is None

        assert after != before


def test_port_that_is_given_is_the_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with command("--port", str(port)) as (_, ready_at):
        assert ready_at == port


@pytest.mark.parametrize("words", [("--sync", "often"), ("--max-pending", "1MB }"), ("--write-deadline", "5"), ("--port", "x")])
def test_option_that_is_no_word_of_a_configuration_is_a_usage_error(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(words)

    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize(("words", "why"), [(["--port", "99999"], "invalid port"), (["--store", "/proc/none"], "could not create storage")])
def test_server_that_cannot_start_says_why_in_one_line(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2

    told = capsys.readouterr().err
    assert told.startswith("nats-server did not start: ")
    assert why in told
    assert told.count("\n") == 1
