"""Read a guide as a reader does: which files it has one save, which commands it has one type, and what is to come of them.

A fenced block is a step when an HTML comment stands right above it:

    <!-- file: NAME -->              save the block under that name
    <!-- exit: CODE -->              run the block in a shell; it ends with that code
    <!-- exit: 10, lost: 25 -->      and the newest run has this figure, or `broken: CRITERION` among what FAILed
    <!-- background: NAME -->        run the block beside what follows; what it prints fills in PORT in later blocks
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

STEP = re.compile(r"^<!-- (?P<kind>file|exit|background): (?P<rest>.+?) -->\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"ready ws://127\.0\.0\.1:(\d+)/")
LIMIT_S = 120.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One marked block. `name` is a file's or a background command's; `expected` holds what a command must come to, `exit` first."""

    kind: str
    text: str
    name: str = ""
    expected: dict[str, str] = {}


def steps(markdown: str) -> list[Step]:
    """Every marked block of a page, in order.

    >>> steps("<!-- exit: 10, lost: 2 -->\\n```sh\\nfalse\\n```\\n")[0].expected
    {'exit': '10', 'lost': '2'}
    """
    found = []
    for match in STEP.finditer(markdown):
        kind, rest = match["kind"], match["rest"]
        if kind == "exit":
            pairs = (part.split(": ", 1) for part in f"exit: {rest}".split(", "))
            found.append(Step(kind=kind, text=match["text"], expected=dict(pairs)))
        else:
            found.append(Step(kind=kind, text=match["text"], name=rest))
    return found


def unmarked(markdown: str) -> list[str]:
    """The shell blocks that are no step."""
    marked = {step.text for step in steps(markdown)}
    return [text for text in FENCE.findall(markdown) if text not in marked]


def environment() -> dict[str, str]:
    """The reader's shell after `. .venv/bin/activate`."""
    return dict(os.environ, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def follow(found: list[Step], folder: Path) -> None:
    """Save and type everything in a folder, and hold every command to what the page says of it."""
    ports: list[str] = []
    background: Step | None = None
    for step in found:
        match step.kind:
            case "file":
                (folder / step.name).write_text(step.text, encoding="utf-8")
            case "background":
                background = step
            case _ if background is not None:
                with running(background.text, folder) as port:
                    ports.append(port)
                    check(step, folder, port)
                background = None
            case _:
                check(step, folder, "")


def check(step: Step, folder: Path, port: str) -> None:
    """Run one block in a shell and compare."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step.text.replace(":PORT", f":{port}")],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    expected = dict(step.expected)
    assert done.returncode == int(expected.pop("exit")), f"{step.text}{done.stdout}{done.stderr}"
    if expected:
        differs(expected, newest(folder))


def newest(folder: Path) -> dict[str, Any]:
    """The scenario of the newest run, as run.json has it."""
    document = json.loads((folder / "runs" / "latest" / "run.json").read_text(encoding="utf-8"))
    scenario: dict[str, Any] = document["scenarios"][0]
    return scenario


def differs(expected: dict[str, str], scenario: dict[str, Any]) -> None:
    """Hold a scenario to what a page says of it."""
    failed = [criterion["text"] for criterion in scenario["criteria"] if criterion["verdict"] == "FAIL"]
    for name, value in expected.items():
        if name == "broken":
            assert value in failed, f"wanted {value!r} broken, and these are: {failed}"
        else:
            assert scenario["delivery"][name] == int(value), f"wanted {name} {value}, got {scenario['delivery'][name]}"


@contextmanager
def running(text: str, folder: Path) -> Iterator[str]:
    """Run a block as in a terminal of its own until Ctrl-C, which it must obey; gives the port that it printed."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {text}"], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        ready = PORT.search(process.stdout.readline())
        assert ready is not None, f"no port in the first line of {text!r}"
        yield ready[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
