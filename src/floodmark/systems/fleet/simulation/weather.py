"""How bad a simulated network is: delays, failures, lost watches, in numbers drawn from a seed. Pure data.

`CALM` is what a fleet settles in. The others are what a seed can draw; each is a climate for the whole run, and `Link`s draw from it.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """One climate. Delays are log-normal: `median_s` is usual, `spread` widens the tail, `limit_s` ends it."""

    name: str
    median_s: float = 0.001
    spread: float = 0.5
    limit_s: float = 0.05
    fail_before_ratio: float = 0.0  # operations that fail and were not done
    fail_after_ratio: float = 0.0  # operations that were done and are told to have failed
    watch_loss_ratio: float = 0.0  # events after which the watch breaks instead
    in_order: bool = True  # False: requests of one node may overtake each other, and a watch is in order per key only
    detect_limit_s: float = 2.0  # a cut connection is noticed within this
    reconnect_limit_s: float = 0.5  # after a cut has healed
    late_packet_ratio: float = 0.0  # requests on their way into a cut that arrive when it heals, long after they were given up
    clock_error_s: float = 0.002  # how wrong a node's idea of the server's clock is at most
    consumer_limit_s: float = 0.03  # how long the consumer's update takes at most
    consumer_fail_ratio: float = 0.0

    def delay_s(self, draw: float, normal: float) -> float:
        """One delay, from a uniform and a normal number."""
        return min(self.median_s * (0.5 + draw) * math.exp(self.spread * normal), self.limit_s)


CALM: Final = Weather(name="calm")
CLIMATES: Final = (
    CALM,
    Weather(
        name="lan with losses",
        clock_error_s=0.05,
        fail_before_ratio=0.02,
        fail_after_ratio=0.02,
        watch_loss_ratio=0.01,
        late_packet_ratio=0.5,
    ),
    Weather(
        name="wide area",
        median_s=0.04,
        clock_error_s=0.2,
        spread=0.6,
        limit_s=0.5,
        in_order=False,
        consumer_limit_s=0.2,
        late_packet_ratio=0.3,
    ),
    Weather(
        name="heavy tail",
        median_s=0.005,
        spread=1.8,
        limit_s=4.0,
        in_order=False,
        watch_loss_ratio=0.005,
        consumer_limit_s=1.0,
        late_packet_ratio=0.5,
        detect_limit_s=4.0,
    ),
    Weather(
        name="failing store",
        median_s=0.003,
        fail_before_ratio=0.1,
        fail_after_ratio=0.1,
        watch_loss_ratio=0.03,
        consumer_limit_s=0.3,
        consumer_fail_ratio=0.2,
        late_packet_ratio=0.5,
        reconnect_limit_s=2.0,
    ),
)
