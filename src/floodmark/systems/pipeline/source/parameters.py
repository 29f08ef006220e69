"""Turn `:name` in SQL text into the placeholders of a driver, and collect the values in the order they stand.

Left alone: quoted text and names, dollar quotes and casts (`::`) of PostgreSQL, comments. Values never enter the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import nearest

# Order matters: what is quoted or commented out is matched, and passed over, before a colon in it can be.
TOKENS = re.compile(
    r"""
      '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*`
    | \$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$
    | --[^\n]* | /\*.*?\*/
    | ::
    | (?<![\w:]):(?P<name>[A-Za-z_]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)


def bound(text: str, parameters: Mapping[str, Any], placeholder: str = "?") -> tuple[str, tuple[Any, ...]]:
    """Give the text with a placeholder for each `:name`, and the values for them.

    >>> bound("note <> ':x' AND amount > :least::int", {"least": 5})
    ("note <> ':x' AND amount > ?::int", (5,))
    """
    if "\0" in text:
        raise UsageError("SQL text must not hold a NUL character")
    values: list[Any] = []

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        if name not in parameters:
            near = nearest(name, parameters)
            hint = f"; did you mean :{near}?" if near else f"; given are: {', '.join(parameters) or 'none'}"
            raise UsageError(f"the query uses the parameter :{name}, which was not given{hint}")
        values.append(parameters[name])
        return placeholder

    return TOKENS.sub(replaced, text), tuple(values)
