"""A steady load on the embedded hub, at three payload sizes: the same words as in TOML, with Python's loops.

    floodmark run examples/steady.py

Run it as it is; then put your own target in place of `hub`. A file assigns `scenario` (one) or `scenarios` (several).
"""

from __future__ import annotations

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.finding import Guarantee
from floodmark.model.scenario import Phase, Population, Scenario, Target

SIZES_BYTES = (200, 2_000, 20_000)
RATE_HZ = 100.0


def steady(payload_bytes: int) -> Scenario:
    """Fifty subscribers of five channels, ten seconds, and every message accounted for."""
    return Scenario(
        id=f"steady.{payload_bytes}-bytes",
        title=f"A steady {RATE_HZ:g} messages/s of {payload_bytes:,} bytes",
        target=Target(system="hub"),
        population=Population(connections=50, channels=5, publishers=5),
        phases=(Phase(name="steady", arrival=Constant(rate_hz=RATE_HZ), payload_bytes=payload_bytes, duration_s=10.0),),
        guarantee=Guarantee.EXACTLY_ONCE,
        criteria=(
            parse("success_ratio == 100%"),
            parse("lost == 0"),
            parse("latency_p99 < 100ms"),
            parse("rss_growth < 1.5x"),
        ),
    )


scenarios = tuple(steady(size_bytes) for size_bytes in SIZES_BYTES)
