"""Promises that workers of this host can be told to break, so that a harness can show that it notices.

Each is NAME=N. `drop` and `twice` act on every N-th message that one worker is handed, counted by that worker from 1, `linger` on each
partition that is taken from a worker, `keep` on each worker that stops (`office.py`), the others on what a leader writes (`lying.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from floodmark.core.errors import UsageError

LIES = {
    "drop": "acknowledge every N-th message and hand it to nobody",
    "twice": "hand on every N-th message twice",
    "linger": "hand on the last message of a partition N times more, a second after that was taken away",
    "keep": "leave N bytes of memory behind whenever a worker has stopped",
    "lose": "leave the first N partitions out of every assignment",
    "share": "have the first N partitions in every assignment",
    "stale": "write N assignments once more as of the epoch before",
    "back": "write N assignments once more as of the version before",
}
_LIE = re.compile(r"([a-z-]+)=(\d+)")


def read_lies(words: Sequence[str]) -> dict[str, int]:
    """Read NAME=N. Raises: UsageError, naming those there are.

    >>> read_lies(["drop=100"])
    {'drop': 100}
    """
    found = {}
    for word in words:
        match = _LIE.fullmatch(word)
        if match is None or match[1] not in LIES or not int(match[2]):
            raise UsageError(f"--lie: {word!r} is no lie; there are: {', '.join(f'{name}=N' for name in LIES)}, N from 1")
        found[match[1]] = int(match[2])
    return found
