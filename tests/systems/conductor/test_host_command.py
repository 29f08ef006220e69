"""The host as a process: its ready line, its end, and what it says of a wrong option."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

WORDS = [sys.executable, "-m", "floodmark.systems.conductor.host"]
LIMIT_S = 30.0


SERVE = [sys.executable, "-m", "floodmark", "serve", "conductor"]


@pytest.mark.parametrize(("words", "number"), [(WORDS, signal.SIGTERM), (WORDS, signal.SIGINT), (SERVE, signal.SIGTERM)])
def test_host_says_where_it_is_and_ends_when_asked(words: list[str], number: signal.Signals) -> None:
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = urlsplit(line.split()[-1])
        with socket.create_connection(("127.0.0.1", url.port or 0), timeout=LIMIT_S):
            process.send_signal(number)
            rest, complaints = process.communicate(timeout=LIMIT_S)

    assert line.startswith("floodmark conductor ready tcp://127.0.0.1:")
    assert (process.returncode, rest, complaints) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lie", "drop=1"], "'drop=1' is not a lie: a lie is NAME=K with NAME one of skip"),
        (["--channel", "1"], "channel_count must be at least 16"),
        (["--backend", "opnai"], "did you mean 'openai'?"),
        (["--backend", "mock", "--url", "http://x"], "has no URL"),
        (["--api-key-env", "NO_SUCH_KEY_HERE"], "NO_SUCH_KEY_HERE"),
    ],
)
def test_host_with_a_wrong_option_is_a_usage_error(words: list[str], said: str) -> None:
    done = subprocess.run([*WORDS, *words], capture_output=True, text=True, timeout=LIMIT_S, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_host_on_a_port_that_is_taken_is_a_usage_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [*WORDS, "--port", str(taken.getsockname()[1])]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr
