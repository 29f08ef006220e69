"""report.md: true to run.json, and deaf to what foreign text tries."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from floodmark.report import RunFolder, markdown, render
from tests.report import made

Write = Callable[..., RunFolder]
FACTORS = {
    "s": 1e9,
    "ms": 1e6,
    "µs": 1e3,
    "ns": 1.0,
    "B": 1.0,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "/s": 1.0,
    "x": 1.0,
    "%": 0.01,
}
FIGURE = re.compile(r"(\d[\d,]*(?:\.\d+)?) ?(s|ms|µs|ns|B|KiB|MiB|GiB|/s|x|%)?")


def numbers(plain: Any) -> Iterator[float]:
    """Every number of a JSON document."""
    if isinstance(plain, dict):
        plain = list(plain.values())
    if isinstance(plain, list):
        for value in plain:
            yield from numbers(value)
    elif isinstance(plain, int | float) and not isinstance(plain, bool):
        yield float(plain)


def cells(text: str) -> list[str]:
    """Every cell of every table that is nothing but a figure."""
    split = [cell.strip() for line in text.splitlines() if line.startswith("| ") for cell in line.strip("| ").split(" | ")]
    return [cell for cell in split if FIGURE.fullmatch(cell)]


def known(cell: str, numbers_known: list[float]) -> bool:
    """Whether a figure stands in the document: exactly when it is a count, to its last digit when it has a unit."""
    match = FIGURE.fullmatch(cell)
    assert match is not None
    value = float(match.group(1).replace(",", "")) * FACTORS.get(match.group(2) or "", 1.0)
    tolerance = 0.0051 if match.group(2) else 0.0
    seconds = [number * 1e9 for number in numbers_known] if match.group(2) in ("s", "ms", "µs", "ns") else []
    return any(math.isclose(value, number, rel_tol=tolerance) for number in (*numbers_known, *seconds))


def test_render_every_figure_stands_in_run_json(written: Write) -> None:
    folder = written(made.passed(1), made.failed(2), made.unknown(3))
    in_run = list(numbers(msgspec.json.decode((folder.path / "run.json").read_bytes())))

    shown = cells(render(folder, "md"))

    assert len(shown) > 100
    assert [cell for cell in shown if not known(cell, in_run)] == []
    assert not known("99,998", in_run)
    assert not known("7.77 ms", in_run)


def test_render_says_verdict_first_and_command_last() -> None:
    text = markdown.render(made.document_of(made.failed(2)))

    assert text.startswith("# ✗ FAIL: ")
    assert made.COMMAND in text.rpartition("## Run it again")[2]


def test_render_hostile_text_stays_text() -> None:
    scenario = made.unknown(title="<script>alert(1)</script> | [x](y)\n# not a heading", log_tail=("```", "# nor this", "\x1b[2Jgone"))

    text = markdown.render(made.document_of(scenario))

    assert "<script>" not in text
    assert "\\<script\\>" in text
    assert "\n# not a heading" not in text
    assert "\x1b" not in text
    assert "````text\n```\n# nor this" in text


def test_render_table_rows_have_as_many_cells_as_their_head() -> None:
    scenario = made.failed(findings=tuple(msgspec.structs.replace(one, detail="a | b \\| c `|`") for one in made.failed().findings))

    lines = markdown.render(made.document_of(scenario, made.passed(1))).splitlines()

    widths: list[set[int]] = [set()]
    for line in lines:
        if line.startswith("|"):
            widths[-1].add(len(re.findall(r"(?<!\\)\|", re.sub(r"\\\\", "", line))))
        elif widths[-1]:
            widths.append(set())
    assert [width for width in widths if len(width) > 1] == []


def test_render_empty_run_proves_nothing() -> None:
    text = markdown.render(made.document_of())

    assert text.startswith("# ? UNKNOWN: No scenario ran, so nothing is proved.")
