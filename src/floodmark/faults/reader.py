"""Reader: chosen connections read slowly, or not at all, for a while. The kernel's buffers fill, and the target feels it.

Unlike the `consumer` of a population it comes and goes: `at_s` and `for_s` of the fault say when. Healed, the connections read what has
waited; nothing of it is lost unless the target gave up on them. Pure: the agent pauses and resumes the sockets.
"""

from __future__ import annotations

import math

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model.scenario import Consumer, Slow, Stuck


class Reader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rate_bytes_per_s` is what each victim still reads; 0 is nothing."""

    rate_bytes_per_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate_bytes_per_s < math.inf:
            raise UsageError(f"fault 'reader': rate_bytes_per_s must be finite and >= 0, got {self.rate_bytes_per_s!r}")

    def consumer(self) -> Consumer:
        """The same as a way of reading."""
        return Slow(rate_bytes_per_s=self.rate_bytes_per_s) if self.rate_bytes_per_s else Stuck()
