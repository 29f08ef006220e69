"""The run's clock: the runner's monotonic nanoseconds, as this agent reads them.

Every time that an agent stamps, compares or reports is one of these, so that the times of agents on several machines can be laid side by
side. Beside its runner an agent reads the machine's own monotonic clock; elsewhere the runner has measured how far that one is ahead, and
it is taken off. Drivers know nothing of it: what they say of arrivals is local, and is put right once per batch with `shift_ns`.
Limits: one shift for a whole run. How far the clocks drifted apart meanwhile is the runner's to measure, and is in the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable

shift_ns = 0
"""What is added to the machine's monotonic clock."""
error_ns = 0
"""How far two agents' clocks may lie apart: what arrives earlier than it was sent by less than that took no time that could be told."""
now_ns: Callable[[], int] = time.monotonic_ns
"""HOT: the time of the run. Read it as `clock.now_ns()`: it is another function once a shift is set."""


def follow(shift: int, *, error: int = 0) -> None:
    """Read the machine's clock with this shift from now on; 0 costs nothing."""
    global shift_ns, error_ns, now_ns
    shift_ns, error_ns = shift, error
    local_ns = time.monotonic_ns
    now_ns = (lambda: local_ns() + shift) if shift else local_ns
