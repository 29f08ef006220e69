"""What the leak verdict says. Every figure has its unit beside it; None means that there was nothing to work it out from."""

from __future__ import annotations

import msgspec

from floodmark.model.verdict import Verdict


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What one column did over one load.

    `slope`, `lower`, `upper` and `limit` share `unit`; the interval holds 99 % and includes what an allocator hides. `span` and `warm_up`
    are in `span_unit`, `warm_up` counted from the start of the load. `cycles`: times memory was seen to be given back and to rise again.
    """

    verdict: Verdict
    reason: str
    unit: str
    limit: float
    span_unit: str
    slope: float | None = None
    lower: float | None = None
    upper: float | None = None
    span: float = 0.0
    points: int = 0
    cycles: int = 0
    warm_up: float | None = None
    warm_up_why: str = ""
    more: float | None = None  # how much more of `span_unit` should decide, where the verdict is UNKNOWN for want of length


class Retained(msgspec.Struct, frozen=True, kw_only=True):
    """What is left after a drain, held against the memory before the load: caches and pools are in it, so it is no verdict."""

    total_bytes: int
    bytes_per_message: float | None


class LeakResult(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict and all that led to it.

    `bytes_per_message` or, when nothing was counted, `bytes_per_hour` is the slope that the verdict rests on, with `lower` and `upper` in
    the same unit; the other one is converted by the load's mean rate. `second_ratio`: growth in the second load / growth in the first.
    `memory` is the first load by itself, `second` the second, `decided` what both say together, with the slope that this rests on;
    `verdict` and `reason` weigh descriptors, threads and the ceiling too.
    """

    verdict: Verdict
    reason: str
    memory: Growth
    decided: Growth
    bytes_per_message: float | None = None
    bytes_per_hour: float | None = None
    second: Growth | None = None
    second_ratio: float | None = None
    unique: Growth | None = None  # asked only where resident memory says FAIL
    descriptors: Growth | None = None  # per thousand messages (per hour when none were counted)
    threads: Growth | None = None
    retained: Retained | None = None
    peak_bytes: int | None = None
