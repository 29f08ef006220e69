"""One table of all outcomes, for a terminal and for docs/benchmarks.md. Pure: text in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from bench.measure import Outcome
from floodmark.report.machine import Machine

COLUMNS = ("what", "contender", "median", "least .. most", "floodmark is ahead by", "checked in every round")
BEGIN, END = "<!-- table: written by `make bench WRITE=1` -->", "<!-- end of table -->"


def number(value: float) -> str:
    """Write a figure with three significant digits and no exponent.

    >>> number(1234567.0), number(15.34), number(0.5)
    ('1,230,000', '15.3', '0.5')
    """
    digits = 2 - len(str(int(abs(value)))) + 1
    rounded = round(value, digits)
    return f"{rounded:,.0f}" if digits <= 0 else f"{rounded:,.{digits}f}".rstrip("0").rstrip(".")


def rows(outcomes: Iterable[Outcome]) -> list[tuple[str, ...]]:
    """Give one row per contender. A contender without a figure says why, and shows no number at all."""
    table: list[tuple[str, ...]] = []
    for outcome in outcomes:
        for place, figure in enumerate(outcome.figures):
            what = f"{outcome.title} ({outcome.unit}, {outcome.better} is better)" if place == 0 else ""
            if figure.failure:
                table.append((what, figure.contender, "no figure", "", "", figure.failure))
                continue
            least, most = figure.spread
            ratio = outcome.ratio(figure)
            ahead = "" if ratio is None else f"{ratio:.2f}x"
            table.append(
                (what, figure.contender, number(figure.median), f"{number(least)} .. {number(most)}", ahead, figure.readings[0].check)
            )
    return table


def terminal(outcomes: Iterable[Outcome]) -> Table:
    """Draw the table for a terminal."""
    table = Table(*COLUMNS, show_lines=False)
    for row in rows(outcomes):
        table.add_row(*row, end_section=False)
    return table


def markdown(outcomes: Sequence[Outcome], machine: Machine, *, rounds: int, day: str) -> str:
    """Write the table with the machine it was measured on."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    memory_gib = machine.memory_bytes / 2**30
    lines = [
        f"Measured {day}, {rounds} rounds, on {machine.cpu}, {machine.cores} cores, {memory_gib:.0f} GiB; {machine.kernel}, "
        f"{machine.python}, {versions}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|--:|--:|--:|---|",
        *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows(outcomes)),
    ]
    return "\n".join(lines)


def replaced(document: str, table: str) -> str:
    """Put a new table between the two marks of a document; raises ValueError when they are not there."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks the marks {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
