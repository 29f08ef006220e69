"""`python -m bench live [--rounds N] [--seconds S] [--rate HZ]`: what the live view costs a run, and what it takes away from it.

The same run is played with the live view and without it (`--plain`), in turns, each on a pseudo-terminal that only takes what is written:
100 subscribers of the embedded hub, first at a paced rate, then flooded, when a run takes all the processor time there is. Measured:
processor time of the view per minute of run, its memory, what it writes to the terminal, and the throughput of both phases with the view
as a ratio of that without. All of it is read from the run folders, where the view is a process tree of its own.
Exit code 1 when a figure is missing, the view took more than `CPU_MOST_RATIO` of one core, or a run was not judged.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import msgspec

from floodmark.report.folder import RunFolder

CPU_MOST_RATIO = 0.25
LEAST_RATIO = 0.9  # of the throughput without the view
COLUMNS, ROWS = 140, 40
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


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One run. The figures of the view are None without it."""

    verdict: str
    paced_hz: float
    flooded_hz: float
    load_s: float
    view_cpu_s: float | None = None
    view_rss_bytes: float | None = None
    written_bytes: int = 0


def play(folder: Path, scenario: Path, *, view: bool) -> Measured:
    """Run once on a terminal. Raises: RuntimeError when it took too long."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "floodmark", "run", str(scenario), "--seed", "7", *([] if view else ["--plain"])]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    written = 0
    end_s = time.monotonic() + LIMIT_S
    try:
        while process.poll() is None:
            if time.monotonic() > end_s:
                raise RuntimeError(f"a run of the bench took more than {LIMIT_S:g} s")
            while select.select([ours], [], [], 0.05)[0]:
                written += len(os.read(ours, 65_536))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)
    return measured(RunFolder((folder / "runs" / "latest").resolve()), written_bytes=written)


def measured(folder: RunFolder, *, written_bytes: int = 0) -> Measured:
    """Read a run."""
    (result,) = folder.result().scenarios
    timeline = folder.timelines()[result.id]
    marks = {mark.text: mark.t_s for mark in timeline.marks}
    delivered = timeline.curves["delivered_hz"]

    def mean_hz(from_s: float, to_s: float) -> float:
        inside = [value for t_s, value in zip(delivered.t_s, delivered.values, strict=True) if from_s + 0.5 <= t_s < to_s - 0.5]
        return statistics.fmean(inside) if inside else 0.0

    cpu, rss = timeline.curves.get("view_cpu_ratio"), timeline.curves.get("view_rss_bytes")
    load_s = marks["drain"] - marks["paced"]
    shares = [] if cpu is None else [value for t_s, value in zip(cpu.t_s, cpu.values, strict=True) if 0 <= t_s < load_s]
    return Measured(
        verdict=result.verdict.value,
        paced_hz=mean_hz(marks["paced"], marks["flooded"]),
        flooded_hz=mean_hz(marks["flooded"], marks["drain"]),
        load_s=load_s,
        view_cpu_s=statistics.fmean(shares) * load_s if shares else None,
        view_rss_bytes=max(rss.values) if rss is not None else None,
        written_bytes=written_bytes,
    )


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """The rounds together; medians."""

    cpu_s_per_minute: float | None
    rss_bytes: float | None
    written_hz: float
    paced_ratio: float | None
    flooded_ratio: float | None
    verdicts: tuple[str, ...]

    def missed(self) -> list[str]:
        """The figures that are not reached; one that was not seen is not reached."""
        found = []
        if self.cpu_s_per_minute is None or self.cpu_s_per_minute > CPU_MOST_RATIO * 60:
            found.append(f"processor time of the view: {self.cpu_s_per_minute} s a minute, wanted at most {CPU_MOST_RATIO * 60:g}")
        for name, ratio in (("paced", self.paced_ratio), ("flooded", self.flooded_ratio)):
            if ratio is None or ratio < LEAST_RATIO:
                found.append(f"throughput with the view, {name}: {ratio} of that without, wanted at least {LEAST_RATIO}")
        if not self.verdicts or set(self.verdicts) != {"PASS"}:
            found.append(f"verdicts: {', '.join(self.verdicts) or 'none'}, wanted PASS alone")
        return found


def compared(with_view: list[Measured], without: list[Measured]) -> Compared:
    """Put rounds together; the n-th with the view is held against the n-th without."""
    shown = [one for one in with_view if one.view_cpu_s is not None and one.load_s > 0]
    pairs = [(one, other) for one, other in zip(with_view, without, strict=True) if other.paced_hz and other.flooded_hz]
    return Compared(
        cpu_s_per_minute=statistics.median((one.view_cpu_s or 0.0) / one.load_s * 60 for one in shown) if shown else None,
        rss_bytes=statistics.median(one.view_rss_bytes or 0.0 for one in shown) if shown else None,
        written_hz=statistics.median(one.written_bytes / one.load_s for one in shown) if shown else 0.0,
        paced_ratio=statistics.median(one.paced_hz / other.paced_hz for one, other in pairs) if pairs else None,
        flooded_ratio=statistics.median(one.flooded_hz / other.flooded_hz for one, other in pairs) if pairs else None,
        verdicts=tuple(one.verdict for one in (*with_view, *without)),
    )


def main(arguments: list[str]) -> int:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(prog="bench live", description="the cost of the live view")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each of the two phases")
    parser.add_argument("--rate", type=float, default=500.0, help="messages per second of the paced phase, ten deliveries each")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1 or chosen.seconds < 3 or not 0 < chosen.rate < 1e6:
        parser.error("--rounds must be at least 1, --seconds at least 3, --rate between 0 and a million")
    with_view: list[Measured] = []
    without: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="floodmark-bench-") as name:
        scenario = Path(name) / "live.toml"
        scenario.write_text(SCENARIO.format(rate_hz=chosen.rate, seconds=chosen.seconds))
        for number in range(chosen.rounds):
            for view in (True, False) if number % 2 == 0 else (False, True):
                one = play(Path(name), scenario, view=view)
                (with_view if view else without).append(one)
                print(f"round {number + 1} {'with' if view else 'without'} the view: {one}", file=sys.stderr, flush=True)
    figures = compared(with_view, without)
    print(f"processor time of the view   {_shown(figures.cpu_s_per_minute, ' s per minute of run')}")
    print(f"its memory                   {_shown(figures.rss_bytes and figures.rss_bytes / 2**20, ' MiB')}")
    print(f"written to the terminal      {_shown(figures.written_hz / 1024, ' KiB/s')}")
    print(f"throughput, paced            {_shown(figures.paced_ratio, ' of that without the view')}")
    print(f"throughput, flooded          {_shown(figures.flooded_ratio, ' of that without the view')}")
    print("  ".join(f"{one.flooded_hz:,.0f}/{other.flooded_hz:,.0f}" for one, other in zip(with_view, without, strict=True)))
    missed = figures.missed()
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return int(bool(missed))


def _shown(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.3g}{unit}"
