"""`python -m bench live [--rounds N] [--seconds S] [--rate HZ]`: what the live view costs a run, and what it takes away from it.

A run with the live view on a pseudo-terminal that only takes what is written: 100 subscribers of the embedded hub, first at a paced rate,
then flooded, when a run takes all the processor time there is. In the flooded phase the view is halted and let go on, in turns of `TURN_S`;
each turn with the view is held against the turns without it before and after, so that both sides of the ratio are the same run on the same
machine, moments apart. Processor time and memory of the view are read from the run folder, where it is a process tree of its own, over the
paced phase. Exit code 1 when a figure is missing, the view takes more than `CPU_MOST_RATIO` of one core, the throughput with it is below
`LEAST_RATIO` of that without, or a run did not pass.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from floodmark.live.tail import Tail
from floodmark.report.folder import RunFolder
from floodmark.report.live import LIVE, Figures

CPU_MOST_RATIO = 0.25
LEAST_RATIO = 0.9  # of the throughput without the view
COLUMNS, ROWS = 140, 40
TURN_S = 1.5
TURNS_COUNT = 200
LOOK_S = 0.02
LIMIT_S = 300.0
SCENARIO = """\
id = "bench.live"
target = {{ system = "hub", args = ["--no-rate-limits"] }}
criteria = ["lost == 0"]
lag_limit_s = "5s"
[population]
connections = 100
channels = 10
[[phases]]
name = "paced"
arrival = {{ kind = "constant", rate_hz = {rate_hz} }}
duration_s = {seconds}
[[phases]]
name = "flooded"
arrival = {{ kind = "flood", in_flight = 200 }}
duration_s = {seconds}
"""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the flooded phase, with the view running or halted."""

    view: bool
    delivered_hz: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One run; None is what was not seen."""

    verdict: str
    cpu_s_per_minute: float | None = None
    rss_bytes: float | None = None
    written_hz: float = 0.0
    ratio: float | None = None
    turns: int = 0


class Turns:
    """Halts the view and lets it go on, by what the run tells of itself."""

    def __init__(self, tail: Tail, process: psutil.Process) -> None:
        self._tail, self._process = tail, process
        self._view: psutil.Process | None = None
        self._halted = False
        self._began: Figures | None = None  # of this turn
        self.turns: list[Turn] = []

    def look(self) -> None:
        """Read what is new; a turn ends with the first line that is `TURN_S` later than its own."""
        for line in self._tail.read():
            if not isinstance(line, Figures) or line.phase != "flooded" or line.delivered is None:
                continue
            if self._began is None:
                self._began = line
                continue
            took_s = line.t_s - self._began.t_s
            if took_s >= TURN_S:
                rate_hz = (line.delivered - (self._began.delivered or 0)) / took_s
                self.turns.append(Turn(view=not self._halted, delivered_hz=rate_hz))
                self._switch()
                self._began = line

    def go_on(self) -> None:
        """Let the view run, so that it can be ended."""
        if self._halted:
            self._switch()

    def _switch(self) -> None:
        if self._view is None:
            children = self._process.children(recursive=True)
            self._view = next((child for child in children if "floodmark.live" in child.cmdline()), None)
        if self._view is not None:
            self._halted = not self._halted
            with suppress(psutil.NoSuchProcess):  # it has left with the run
                self._view.send_signal(signal.SIGSTOP if self._halted else signal.SIGCONT)


def ratio(turns: list[Turn]) -> float | None:
    """The throughput of the turns with the view by that of their neighbours without it, the median of all; None without a neighbour."""
    found = []
    for at, turn in enumerate(turns[1:-1], 1):
        before, after = turns[at - 1], turns[at + 1]
        if turn.view and not before.view and not after.view and before.delivered_hz + after.delivered_hz > 0:
            found.append(2 * turn.delivered_hz / (before.delivered_hz + after.delivered_hz))
    return statistics.median(found) if found else None


def play(folder: Path, scenario: Path) -> Measured:
    """Run once on a terminal. Raises: RuntimeError when it took too long."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "floodmark", "run", str(scenario), "--seed", "7", "--out", str(folder)],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    began_s = time.monotonic()
    written = 0
    with Tail(folder / "latest" / LIVE) as tail:
        turns = Turns(tail, psutil.Process(process.pid))
        try:
            while process.poll() is None:
                if time.monotonic() > began_s + LIMIT_S:
                    raise RuntimeError(f"a run of the bench took more than {LIMIT_S:g} s")
                while select.select([ours], [], [], LOOK_S)[0]:
                    written += len(os.read(ours, 65_536))
                turns.look()
                if len(turns.turns) >= TURNS_COUNT:
                    turns.go_on()
        finally:
            turns.go_on()
            if process.poll() is None:
                process.kill()
            process.wait()
            os.close(theirs)
            os.close(ours)
    took_s = time.monotonic() - began_s
    return measured(RunFolder((folder / "latest").resolve()), turns.turns, written_hz=written / took_s)


def measured(folder: RunFolder, turns: list[Turn], *, written_hz: float) -> Measured:
    """Put together what a run has shown."""
    (result,) = folder.result().scenarios
    timeline = folder.timelines()[result.id]
    marks = {mark.text: mark.t_s for mark in timeline.marks}
    cpu, rss = timeline.curves.get("view_cpu_ratio"), timeline.curves.get("view_rss_bytes")
    paced = (
        [] if cpu is None else [share for t_s, share in zip(cpu.t_s, cpu.values, strict=True) if marks["paced"] <= t_s < marks["flooded"]]
    )
    return Measured(
        verdict=result.verdict.value,
        cpu_s_per_minute=60 * statistics.fmean(paced) if paced else None,
        rss_bytes=max(rss.values) if rss is not None else None,
        written_hz=written_hz,
        ratio=ratio(turns),
        turns=len(turns),
    )


def missed(rounds: list[Measured]) -> list[str]:
    """The figures that are not reached, by the medians of all rounds; one that was not seen is not reached."""
    found = []
    cpu_s, share = median([one.cpu_s_per_minute for one in rounds]), median([one.ratio for one in rounds])
    if cpu_s is None or cpu_s > CPU_MOST_RATIO * 60:
        found.append(f"processor time of the view: {cpu_s} s a minute, wanted at most {CPU_MOST_RATIO * 60:g}")
    if share is None or share < LEAST_RATIO:
        found.append(f"throughput with the view: {share} of that without, wanted at least {LEAST_RATIO}")
    verdicts = [one.verdict for one in rounds]
    if not verdicts or set(verdicts) != {"PASS"}:
        found.append(f"verdicts: {', '.join(verdicts) or 'none'}, wanted PASS alone")
    return found


def median(values: list[float | None]) -> float | None:
    """The median of what was seen; None when nothing was."""
    seen = [value for value in values if value is not None]
    return statistics.median(seen) if seen else None


def main(arguments: list[str]) -> int:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(prog="bench live", description="the cost of the live view")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the paced phase, and of the flooded one")
    parser.add_argument("--rate", type=float, default=500.0, help="messages per second of the paced phase, ten deliveries each")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1 or chosen.seconds < 3 or not 0 < chosen.rate < 1e6:
        parser.error("--rounds must be at least 1, --seconds at least 3, --rate between 0 and a million")
    rounds: list[Measured] = []
    for number in range(chosen.rounds):
        with tempfile.TemporaryDirectory(prefix="floodmark-bench-") as name:
            scenario = Path(name) / "live.toml"
            scenario.write_text(SCENARIO.format(rate_hz=chosen.rate, seconds=chosen.seconds))
            rounds.append(play(Path(name), scenario))
        print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr, flush=True)
    rss_bytes = median([one.rss_bytes for one in rounds])
    print(f"processor time of the view   {_shown(median([one.cpu_s_per_minute for one in rounds]), ' s per minute of run')}")
    print(f"its memory                   {_shown(None if rss_bytes is None else rss_bytes / 2**20, ' MiB')}")
    print(f"written to the terminal      {_shown(statistics.median(one.written_hz for one in rounds) / 1024, ' KiB/s')}")
    print(f"throughput with the view     {_shown(median([one.ratio for one in rounds]), ' of that without it')}")
    for line in (lines := missed(rounds)):
        print(f"missed: {line}", file=sys.stderr)
    return int(bool(lines))


def _shown(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.3g}{unit}"
