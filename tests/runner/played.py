"""Run the real `floodmark` as a person would, and look at what it left: exit code, words, run folder, processes, temporary files.

Every process that a run starts inherits a mark in its environment that is none of floodmark's own, so that the tests find all of them.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")
MARK = "FLOODMARK_TESTED_BY"
LIMIT_S = 60.0
POLL_S = 0.01
GONE_S = 20.0
SERVER = Path(__file__).with_name("server.py")
SPEAKS = """
driver = "websocket"
[driver_options]
subscribe = '{"sub": "$channel"}'
publish = '{"pub": "$channel", "ref": $token, "text": "$payload"}'
subscribed = '"subscribed"'
acknowledged = '"ok": (\\d+)'
refused = '"no": (\\d+)'
frame_limit_bytes = 50000
"""


def server(*words: str) -> str:
    """The command line of our misbehaving server."""
    return shlex.join([sys.executable, str(SERVER), *words])


def write_scenario(
    folder: Path,
    *,
    command: str = "",
    target: str = "",
    top: str = "",
    population: str = "connections = 4\nchannels = 2",
    phase: str = 'arrival = { kind = "constant", rate_hz = 500 }\nmessages = 200',
    criteria: Sequence[str] = ("success_ratio == 100%",),
    tail: str = "",
    start_limit_s: float = 10.0,
    drain_limit_s: float = 10.0,
    connect_limit_s: float = 10.0,
    lag_limit_s: float = 10.0,
    name: str = "tried",
) -> Path:
    """Write a small scenario file; `command` is a target that prints its URL, `target` another [target] table.

    Its limits are for a busy machine: a test that speaks of one of them gives its own.
    """
    place = target or f'command = {json.dumps(command)}\nready_pattern = "\\\\bready (\\\\S+)"\nstart_limit_s = {start_limit_s}'
    speaks = SPEAKS if "system" not in place else ""
    path = folder / f"{name}.toml"
    path.write_text(
        f'id = "{name}"\ncriteria = {json.dumps(list(criteria))}\ndrain_limit_s = {drain_limit_s}\nconnect_limit_s = {connect_limit_s}\n'
        f"lag_limit_s = {lag_limit_s}\n{top}\n"
        f"{speaks}\n[target]\n{place}\n[population]\n{population}\n[[phases]]\n{phase}\n{tail}\n"
    )
    return path


def holders(mark: str) -> list[str]:
    """The processes that carry this mark, in words; a zombie has no environment and does not count."""
    found: list[str] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                found.append(f"{process.pid}: {' '.join(process.cmdline())}")
    return found


def wait_for(look: Callable[[], T | None], what: str, limit_s: float = LIMIT_S) -> T:
    """Poll until there is something to return."""
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        found = look()
        if found:
            return found
        time.sleep(POLL_S)
    raise AssertionError(f"within {limit_s:g} s there was no {what}")


class Played:
    """One floodmark process, running or ended."""

    def __init__(self, folder: Path, arguments: Sequence[str], mark: str, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.arguments, self.mark, self.process = folder, arguments, mark, process
        self._ended_run: Path | None = None
        self._ended_words: dict[str, str] = {}

    @property
    def code(self) -> int:
        """The exit code."""
        code = self.process.returncode
        assert code is not None
        return code

    @property
    def stdout(self) -> str:
        return self._words("stdout")

    @property
    def stderr(self) -> str:
        return self._words("stderr")

    def _words(self, name: str) -> str:
        """What it has printed so far; once it has ended, what it had printed by then, whoever writes into the folder later."""
        ended = self._ended_words.get(name)
        return ended if ended is not None else (self.folder / name).read_text()

    @property
    def sentence(self) -> str:
        """The last line on stderr, which must be ours."""
        lines = self.stderr.splitlines()
        assert lines, "nothing on stderr"
        assert "Traceback" not in self.stderr, self.stderr
        return lines[-1]

    @property
    def run(self) -> Path:
        """This run's folder: the newest one for as long as it lasts."""
        return self._ended_run or (self.folder / "runs" / "latest").resolve()

    @property
    def document(self) -> dict[str, Any]:
        """run.json."""
        document: dict[str, Any] = json.loads((self.run / "run.json").read_bytes())
        return document

    @property
    def result(self) -> dict[str, Any]:
        """The first scenario of run.json."""
        result: dict[str, Any] = self.document["scenarios"][0]
        return result

    def log(self, name: str = "tried") -> str:
        """A target's log so far; empty before there is one."""
        path = self.run / "logs" / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.is_file() else ""

    def wait(self, limit_s: float = LIMIT_S) -> Played:
        """Wait for its end and hold it to the promise that nothing is left behind."""
        self.process.wait(limit_s)
        self._ended_run = self.run
        self._ended_words = {name: self._words(name) for name in ("stdout", "stderr")}
        self.assert_nothing_left()
        return self

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the runner alone, or to its process group as a terminal's Ctrl-C does."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def assert_nothing_left(self, within_s: float = GONE_S) -> None:
        """No process, no temporary file, no half-written file."""
        until_s = time.monotonic() + within_s
        while (left := holders(self.mark)) and time.monotonic() < until_s:
            time.sleep(POLL_S)
        assert not left, f"still there: {left}\n{self.stderr}"
        assert not list((self.folder / "tmp").iterdir())
        runs = self.folder / "runs"
        hidden = [str(path) for path in runs.rglob(".*")] if runs.is_dir() else []
        assert not hidden


@contextmanager
def playing(folder: Path, *arguments: str, before: Callable[[], None] | None = None, **more: str) -> Iterator[Played]:
    """Start `floodmark ARGUMENTS` in `folder`; whatever the test does, every process of the run is gone afterwards."""
    mark = uuid.uuid4().hex
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {**os.environ, MARK: mark, "TMPDIR": str(folder / "tmp"), "COLUMNS": "400", "NO_COLOR": "1", **more}
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "floodmark", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            start_new_session=True,
            preexec_fn=before,
        )
    try:
        yield Played(folder, arguments, mark, process)
    finally:
        for _ in range(3):
            for line in holders(mark):
                with suppress(ProcessLookupError):
                    os.kill(int(line.split(":")[0]), signal.SIGKILL)
        process.wait(LIMIT_S)


def play(folder: Path, *arguments: str, before: Callable[[], None] | None = None, limit_s: float = LIMIT_S, **more: str) -> Played:
    """Run `floodmark ARGUMENTS` to its end."""
    with playing(folder, *arguments, before=before, **more) as played:
        return played.wait(limit_s)
