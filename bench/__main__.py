"""`python -m bench [NAME ...]`: run the benchmarks and print one table. Progress goes to stderr, the table to stdout.

`leak`, `live`, `proxy`, `conductor`, `tokens` and those of the pipeline and the fleet print tables of their own, take options of their
own, and run only by name, alone: `python -m bench leak --live 20`.
Exit code 1 when floodmark itself has no figure in one of them; a peer that is not installed only says so in its row.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench import (
    chat_screen,
    conductor,
    connections,
    fanout,
    fleet_consumer,
    fleet_simulation,
    fleet_strategies,
    jetstream,
    leak,
    live,
    pipeline,
    pipeline_pdf,
    pipeline_sources,
    proxy,
    receive,
    sse,
    tokens,
)
from bench.measure import Outcome
from bench.table import markdown, replaced, terminal
from floodmark.report.machine import fingerprint

BENCHMARKS: dict[str, Callable[..., Outcome]] = {
    "receive": receive.run,
    "connections": connections.run,
    "connections-whole": connections.run_whole,
    "fanout-1": fanout.runner(1),
    "fanout-10": fanout.runner(10),
    "sse": sse.runner(1),
    "sse-16": sse.runner(16),
    "nats-pull": jetstream.runner("pull"),
    "nats-ordered": jetstream.runner("ordered"),
    "nats-core": jetstream.runner("core"),
}
ALONE: dict[str, Callable[[list[str]], int]] = {
    "conductor": conductor.main,
    "fleet-consumer": fleet_consumer.main,
    "fleet-simulation": fleet_simulation.main,
    "fleet-strategies": fleet_strategies.main,
    "leak": leak.main,
    "live": live.main,
    "proxy": proxy.main,
    "terminal": chat_screen.main,
    "pipeline": pipeline.main,
    "pipeline-pdf": pipeline_pdf.main,
    "pipeline-sources": pipeline_sources.main,
    "tokens": tokens.main,
}
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main(arguments: list[str]) -> int:
    """Run what was asked for."""
    if arguments and arguments[0] in ALONE:
        return ALONE[arguments[0]](arguments[1:])
    parser = argparse.ArgumentParser(prog="bench", description="floodmark beside its peers")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (default: all); or one of {', '.join(ALONE)}, alone"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender is measured, in turns (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the amounts of work; below 1 the figures are coarse (default: 1)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md; needs all benchmarks at full scale")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}, and {', '.join(ALONE)} alone")
    if chosen.rounds < 1 or not 0 < chosen.scale <= 1:
        parser.error("--rounds must be at least 1, and --scale above 0 and at most 1")
    names = chosen.names or list(BENCHMARKS)
    if chosen.write and (set(names) != set(BENCHMARKS) or chosen.scale != 1):
        parser.error("--write needs all benchmarks at full scale, so that docs/benchmarks.md is one run")

    outcomes = [run_one(name, rounds=chosen.rounds, scale=chosen.scale) for name in names]

    Console(width=None if sys.stdout.isatty() else 220).print(terminal(outcomes))
    if chosen.write:
        table = markdown(outcomes, fingerprint(), rounds=chosen.rounds, day=time.strftime("%Y-%m-%d"))
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), table))
        print("written: docs/benchmarks.md", file=sys.stderr)
    return int(any(outcome.figures[0].failure for outcome in outcomes))


def run_one(name: str, *, rounds: int, scale: float) -> Outcome:
    """Run one benchmark, telling on stderr how far it is."""

    def progress(contender: str, number: int, said: str) -> None:
        print(f"{name}, round {number} of {rounds}: {contender}: {said}", file=sys.stderr, flush=True)

    return BENCHMARKS[name](rounds, progress, scale=scale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
