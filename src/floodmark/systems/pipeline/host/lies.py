"""What a lying host's pipeline does wrong: `NAME=K`, a number of times in all, the first times that it can.

    skip=K      leaves out K chunks
    repeat=K    gives the chunk before once more after K queries that failed
    ahead=K     fetches K records more than anybody has asked for, and keeps them ready
    overemit=K  gives K records beyond the demand, once
    miscount=K  counts one record too many in K groups
    late=K      holds the first records of K streams back for LATE_S, when its own clock has stopped

Acting on it is the matter of `edges.py` (what is fetched) and `channel.py` (what is given). The bookkeeping at both edges of the pipeline
does not lie, so that a liar can be caught.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from floodmark.core.errors import UsageError

LIES = ("skip", "repeat", "ahead", "overemit", "miscount", "late")
LATE_S = 0.1
_LIE = re.compile(r"([a-z]+)=([1-9]\d{0,8})")


class Lies:
    """How much of each lie is left to tell."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Read them. Raises: UsageError that quotes the text and gives the grammar."""
        self._left: dict[str, int] = {}
        for text in texts:
            match = _LIE.fullmatch(text)
            if match is None or match[1] not in LIES:
                raise UsageError(f"{text!r} is not a lie: a lie is NAME=K with NAME one of {', '.join(LIES)} and K from 1 on")
            self._left[match[1]] = int(match[2])

    def __bool__(self) -> bool:
        return bool(self._left)

    def wants(self, name: str) -> bool:
        """Whether there is some left."""
        return self._left.get(name, 0) > 0

    def left(self, name: str) -> int:
        """How much of a lie is left."""
        return self._left.get(name, 0)

    def tell(self, name: str) -> bool:
        """Tell a lie once, if there is one left."""
        if not self.wants(name):
            return False
        self._left[name] -= 1
        return True

    def tell_all(self, name: str, most: int = 10**9) -> int:
        """Tell what is left of a lie at once, at most `most`; how much that was."""
        count = min(self._left.get(name, 0), most)
        if count:
            self._left[name] -= count
        return count
