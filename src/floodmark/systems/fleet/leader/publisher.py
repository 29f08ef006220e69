"""Publishing fenced rounds."""

from __future__ import annotations

from typing import Protocol


class Lease(Protocol):
    """One term of one leader."""

    @property
    def epoch(self) -> int:
        """The number of the term; a later leader's is larger."""
        ...

    def held(self) -> bool:
        """Whether the term still runs, by this worker's own clock."""
        ...
