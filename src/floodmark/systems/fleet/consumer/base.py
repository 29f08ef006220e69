"""What a worker asks of whoever consumes for it.

Contract: after `update` has returned, nothing of a partition that is not in the list is begun. Updates may overlap; the newest wins. An
update that fails leaves the partitions as they were before it. An empty list stops consuming.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from floodmark.systems.fleet.partition import Partition


class Consumer(Protocol):
    """Consumes the partitions of one worker."""

    async def update(self, worker_id: str, partitions: Sequence[Partition], *, epoch: int = 0, version: int = 0) -> None:
        """Consume these from now on, and no others.

        Args:
            epoch, version: of the assignment that says so; of two workers that claim a partition, the one with the larger pair has it.
                Without them (0) the last one has it.
        """
        ...

    async def aclose(self) -> None:
        """Stop consuming for good."""
        ...
