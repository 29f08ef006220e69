"""Pieces of Markdown: tables, code, plain text, in the flavour that a pull request and a terminal both show well.

Foreign text (titles, log lines, names from a target) goes through `text`, `code` or `fence`: nothing in it becomes markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from floodmark.report import figures
from floodmark.report.figures import Row

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#+!|~$&])")  # without its brackets a link is none, so parentheses may stay


def text(foreign: str) -> str:
    """Make foreign text plain: no markup, no HTML, no line end takes effect.

    >>> text("a *b* |\\nc")
    'a \\\\*b\\\\* \\\\| c'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(figures.clean(foreign).split()))


def code(foreign: str) -> str:
    """A code span that holds whatever backticks the text has; a bar would end the table cell even there."""
    plain = " ".join(figures.clean(foreign).split()).replace("|", "¦")
    ticks = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    pad = " " if "`" in plain else ""
    return f"{ticks}{pad}{plain}{pad}{ticks}" if plain else ""


def fence(lines: Iterable[str]) -> str:
    """A block of lines as they are."""
    body = "\n".join(figures.clean(line).rstrip("\n") for line in lines)
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    return f"{ticks}text\n{body}\n{ticks}"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, left: int) -> str:
    """A table of cells that are Markdown already; the first `left` columns are text, the others figures on the right."""
    names = list(heads)
    rule = ["---" if column < left else "---:" for column in range(len(names))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, rule, *rows))


def rows_table(name: str, rows: Iterable[Row]) -> str:
    """Named figures under each other."""
    return table((name, ""), [(text(row.name), text(row.figure)) for row in rows], left=1)
