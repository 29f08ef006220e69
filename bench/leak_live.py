"""`python -m bench.leak --live N`: how often the leak verdict is wrong about real processes, N runs of a million deliveries each.

Healthy and leaking hubs take turns. Two kinds leak: `exact` keeps just so many bytes of each delivery (`bench/leaky_hub.py`), `lie` is the
hub's own `--lie leak=BYTES`, which keeps an object of that size and so some 80 bytes more. A healthy hub that FAILs is a false alarm; a
leak that does not FAIL is a miss, whether it PASSes or is UNKNOWN. Each run is a whole scenario with its account; one whose account does
not add up counts as wrong, too. The load average before each run is printed with it: what else the machine did is part of the figure.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.session import Session, Settings

ROOT = Path(__file__).parents[1]
LIMIT_BYTES = 5
LEAKS = (("exact", 10), ("lie", 10), ("exact", 20), ("lie", 20), ("exact", 50), ("lie", 50), ("exact", 100), ("lie", 100))
DELIVERIES = 1_000_000
CONNECTIONS, CHANNELS = 100, 10
DELIVERIES_HZ = 80_000
SMALL = ("--no-rate-limits", "--history", "0", "--write-buffer-bytes", "16384", "--socket-receive-bytes", "262144")
EACH = "mutation P($events: [EventInput!]!) { publishEach(events: $events) { count } }"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One run: what was true, what was said."""

    what: str
    leaks: bool
    verdict: Verdict
    low: float | None
    slope: float | None
    high: float | None
    took_s: float
    load: float
    sound: bool  # every delivery was accounted for
    why: str = ""

    @property
    def wrong(self) -> str:
        """What is wrong about it; empty when nothing is."""
        if not self.sound:
            return "account"
        if self.leaks:
            return "" if self.verdict is Verdict.FAIL else "miss"
        return {Verdict.FAIL: "false alarm", Verdict.UNKNOWN: "undecided", Verdict.PASS: ""}[self.verdict]


def target(kind: str, leak_bytes: int) -> Target:
    """A hub that leaks in this way; `healthy` not at all."""
    if kind == "exact":
        words = (sys.executable, "-m", "bench.leaky_hub", str(leak_bytes), "--", "--port", "0", *SMALL)
        return Target(command=" ".join(words), ready_pattern=r"floodmark hub ready (\S+)")
    lies = ("--lie", f"leak={leak_bytes}") if kind == "lie" else ()
    return Target(system="hub", args=(*SMALL, *lies))


def scenario(kind: str, leak_bytes: int, *, deliveries: int = DELIVERIES, loads: int = 1) -> Scenario:
    """A load that makes deliveries cheap: ten channels with ten subscribers each, events published in batches."""
    each = CONNECTIONS // CHANNELS
    return Scenario(
        id=f"leak.{kind}-{leak_bytes}",
        target=target(kind, leak_bytes),
        driver_options={"publish_batch": EACH},
        population=Population(connections=CONNECTIONS, channels=CHANNELS),
        phases=(Phase(arrival=Constant(rate_hz=DELIVERIES_HZ / each), messages=deliveries // each // loads, payload_bytes=100),),
        criteria=(parse(f"leak_bytes_per_message < {LIMIT_BYTES}B"), parse("lost == 0")),
        warmup=False,
        lag_limit_s=5.0,  # nothing here speaks of latency
        second_load=loads == 2,
    )


async def play(one: Scenario) -> ScenarioResult:
    """Play a scenario for its result alone."""
    with tempfile.TemporaryDirectory(prefix="floodmark-bench-") as folder, Progress(quiet=True) as display:
        kept = RunFolder.create(Path(folder), "leak", datetime.now().astimezone())
        return await Session(one, Settings(), kept, display).play()


def run_one(kind: str, leak_bytes: int, *, deliveries: int = DELIVERIES, loads: int = 1) -> Told:
    """Play one run and read its verdict."""
    load, begun_s = os.getloadavg()[0], time.monotonic()
    result = asyncio.run(play(scenario(kind, leak_bytes, deliveries=deliveries, loads=loads)))
    criterion = result.criteria[0]
    low, slope, high = (result.metrics.get(name) for name in ("leak_slope_lower", "leak_slope", "leak_slope_upper"))
    return Told(
        what=f"{kind} {leak_bytes} B" if leak_bytes else kind,
        leaks=leak_bytes > 0,
        verdict=criterion.verdict,
        low=low,
        slope=slope,
        high=high,
        took_s=time.monotonic() - begun_s,
        load=load,
        sound=result.delivery.delivered == deliveries and not result.delivery.lost,
        why=criterion.note,
    )


def run(count: int, *, loads: int = 1) -> list[Told]:
    """Play so many runs, healthy and leaking hubs in turns; progress goes to stderr."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # for the leaking hub, a child of ours wherever we were started
    told: list[Told] = []
    for number in range(count):
        kind, leak_bytes = ("healthy", 0) if number % 2 == 0 else LEAKS[number // 2 % len(LEAKS)]
        one = run_one(kind, leak_bytes, loads=loads)
        told.append(one)
        print(f"run {number + 1} of {count}: {one.what}: {one.verdict.value} {one.wrong} {one.why}", file=sys.stderr, flush=True)
    return told


def report(told: list[Told]) -> int:
    """Print each run and the rates; returns 1 when anything was wrong."""
    drawn = Table("run", "hub", "verdict", "B/delivery", "99 % interval", "s", "load average", "wrong")
    for number, one in enumerate(told, 1):
        interval = "" if one.low is None or one.high is None else f"{one.low:.2f} to {one.high:.2f}"
        slope = "" if one.slope is None else f"{one.slope:.2f}"
        drawn.add_row(str(number), one.what, one.verdict.value, slope, interval, f"{one.took_s:.1f}", f"{one.load:.1f}", one.wrong)
    console = Console(width=120)
    console.print(drawn)
    healthy, leaking = [one for one in told if not one.leaks], [one for one in told if one.leaks]
    for what, runs in (("healthy", healthy), ("leaking", leaking)):
        said = ", ".join(f"{sum(one.verdict is verdict for one in runs)} {verdict.value}" for verdict in Verdict)
        console.print(f"{what}: {len(runs)} runs: {said}; {sum(bool(one.wrong) for one in runs)} wrong or undecided")
    return int(any(one.wrong for one in told))
