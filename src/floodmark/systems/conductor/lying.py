"""How lies are ordered on a command line: `NAME=K`, each to be told K times. What they do is said by those who tell them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from floodmark.core.errors import UsageError

_LIE = re.compile(r"([a-z-]+)=([1-9]\d{0,8})")


def read_lies(texts: Iterable[str], names: Collection[str]) -> dict[str, int]:
    """Read how often each is to be told. Raises: UsageError that quotes the text and gives the grammar.

    >>> read_lies(["skip=3", "repeat=1"], ("skip", "repeat", "swap"))
    {'skip': 3, 'repeat': 1}
    """
    ordered: dict[str, int] = {}
    for text in texts:
        match = _LIE.fullmatch(text)
        if match is None or match[1] not in names:
            raise UsageError(f"{text!r} is not a lie: a lie is NAME=K with NAME one of {', '.join(names)} and K from 1 on")
        ordered[match[1]] = int(match[2])
    return ordered
