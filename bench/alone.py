"""The command of one benchmark that is run by itself: its options, its progress on stderr, its table on stdout. Not here: measuring."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from bench.measure import Outcome
from bench.table import number as number_of


def main_of(run: Callable[..., Outcome], *, name: str, description: str, arguments: list[str], checked: bool) -> int:
    """Run it, and print one line per contender, with what was `checked` or without. Returns: 1 when one of them has no figure."""
    parser = argparse.ArgumentParser(prog=f"bench {name}", description=description)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    chosen = parser.parse_args(arguments)

    def progress(contender: str, number: int, said: str) -> None:
        print(f"{name}, round {number} of {chosen.rounds}: {contender}: {said}", file=sys.stderr, flush=True)

    outcome = run(chosen.rounds, progress, scale=chosen.scale)
    columns = [outcome.title, f"{outcome.unit}, median", "least .. most", *(["checked"] if checked else [])]
    print(f"| {' | '.join(columns)} |\n|---|--:|--:|{'---|' if checked else ''}")
    for figure in outcome.figures:
        if figure.failure:
            print(f"| {figure.contender} | no figure: {figure.failure} | |{' |' if checked else ''}")
            continue
        least, most = figure.spread
        check = f" {figure.readings[0].check} |" if checked else ""
        print(f"| {figure.contender} | {number_of(figure.median)} | {number_of(least)} .. {number_of(most)} |{check}")
    return int(any(figure.failure for figure in outcome.figures))
