"""What a run was to do to its target and did not: neither a promise that was broken nor one that was kept.

A driver that does more to the target than to put load on it, such as the words of a script, tells of it (`drivers.base.Doing`). The verdict
then is UNKNOWN at best, and what the target would have been accused of for lack of it is UNKNOWN too.
"""

from __future__ import annotations

import msgspec


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """`why` is half a sentence; `count` how many things were not done, None where nobody knows.

    `stands`: those of the target's statistics that say what they say all the same; all others say nothing.
    """

    why: str
    count: int | None = None
    stands: frozenset[str] = frozenset()
