"""Three-valued verdicts. No evidence is UNKNOWN, and UNKNOWN is never rounded up to PASS."""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Verdict(enum.Enum):
    """What a check found. Ordered by `worst`, not by value."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"

    @property
    def exit_code(self) -> int:
        """The process exit code: 0, 10 or 11 (1 and 2 already mean "traceback" and "usage")."""
        return {Verdict.PASS: 0, Verdict.FAIL: 10, Verdict.UNKNOWN: 11}[self]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Merge verdicts: FAIL beats UNKNOWN beats PASS, and no verdicts at all is UNKNOWN.

    >>> worst([Verdict.PASS, Verdict.UNKNOWN]), worst([])
    (<Verdict.UNKNOWN: 'UNKNOWN'>, <Verdict.UNKNOWN: 'UNKNOWN'>)
    """
    seen = set(verdicts)
    if Verdict.FAIL in seen:
        return Verdict.FAIL
    return Verdict.PASS if seen == {Verdict.PASS} else Verdict.UNKNOWN
