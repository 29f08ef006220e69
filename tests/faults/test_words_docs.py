"""docs/proxy.md keeps its word: its example of another test suite that drives the proxy is run against `floodmark proxy` as it stands."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEXT = (Path(__file__).parents[2] / "docs" / "proxy.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^```python\n(import json.*?)^```$", re.MULTILINE | re.DOTALL)
LIMIT_S = 20.0


@contextmanager
def echo() -> Iterator[int]:
    """A service that sends back what one client after the other says; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                with listener.accept()[0] as sock:
                    while piece := sock.recv(4096):
                        if piece == b"end":
                            return
                        sock.sendall(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        port: int = listener.getsockname()[1]
        try:
            yield port
        finally:
            with socket.create_connection(("127.0.0.1", port)) as last:
                last.sendall(b"end")
                thread.join(LIMIT_S)


@contextmanager
def proxied(target: int) -> Iterator[tuple[int, str]]:
    """`floodmark proxy` before it; gives the port to connect to and the control endpoint, and ends it by Ctrl-C."""
    words = [sys.executable, "-m", "floodmark", "proxy", f"127.0.0.1:0=127.0.0.1:{target}", "--control-port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        try:
            _, relay, control = (process.stderr.readline() for _ in range(3))
            yield int(relay.split()[0].rpartition(":")[2]), control.split()[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()


def test_docs_example_of_another_test_suite_passes_as_it_stands() -> None:
    found = EXAMPLE.search(TEXT)
    assert found is not None
    example = found[1]
    assert "127.0.0.1:8474" in example
    assert "6543" in example

    with echo() as target, proxied(target) as (port, control):
        names: dict[str, Any] = {}
        exec(example.replace("http://127.0.0.1:8474", control).replace("6543", str(port)), names)
        tests = [one for name, one in names.items() if name.startswith("test_")]
        for test in tests:
            test()
        left = names["control"]("GET", "/faults")

    assert len(tests) == 1
    assert left == []


def test_docs_example_is_short_enough_to_be_read() -> None:
    found = EXAMPLE.search(TEXT)

    assert found is not None
    assert len([line for line in found[1].splitlines() if line.strip()]) <= 15
