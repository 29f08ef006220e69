"""Back-off: how long a client that lost its connection waits between one try to come back and the next. Pure: seconds in a row.

The options of every fault whose victims come back; exponential, with a ceiling, and with a jitter that keeps a crowd from trying in step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np

from floodmark.core.errors import UsageError

TRIES = 50


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The wait before try n (the first has none) is backoff_s * backoff_factor ** (n - 2), at most backoff_max_s.

    `backoff_jitter` is the share of each wait that is up to chance: 0.5 makes it anything from half of it to all of it.
    """

    backoff_s: float = 0.05
    backoff_factor: float = 2.0
    backoff_max_s: float = 1.0
    backoff_jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("backoff_s", "backoff_max_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"option {name} of a fault must be finite and >= 0, got {value!r}")
        if not 1 <= self.backoff_factor < math.inf:
            raise UsageError(f"option backoff_factor of a fault must be finite and >= 1, got {self.backoff_factor!r}")
        if not 0 <= self.backoff_jitter <= 1:
            raise UsageError(f"option backoff_jitter of a fault must be between 0 and 1, got {self.backoff_jitter!r}")

    def waits_s(self, rng: np.random.Generator) -> Iterator[float]:
        """The waits before each of TRIES tries.

        >>> [round(wait_s, 2) for wait_s in Backoff(backoff_s=0.1, backoff_max_s=0.5).waits_s(np.random.default_rng(1))][:5]
        [0.0, 0.1, 0.2, 0.4, 0.5]
        """
        wait_s = self.backoff_s
        yield 0.0
        for _ in range(TRIES - 1):
            wait_s = min(wait_s, self.backoff_max_s)
            yield wait_s * (1 - self.backoff_jitter * rng.random()) if self.backoff_jitter else wait_s
            wait_s *= self.backoff_factor
