"""When messages are meant to be sent: the parameters of each arrival schedule. The arithmetic is in `load/arrivals/`.

Rates are messages per second, all publishers of the scenario together. In TOML the schedule is picked by `kind`:
`arrival = { kind = "ramp", from_hz = 100, to_hz = "10k/s" }`.
"""

from __future__ import annotations

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model import checks


def _positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        checks.positive(f"{owner}.{name}", value)


class Constant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="constant"):
    """`rate_hz` messages per second, evenly spaced."""

    rate_hz: float

    def __post_init__(self) -> None:
        _positive("constant", rate_hz=self.rate_hz)


class Ramp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="ramp"):
    """The rate goes in a straight line from `from_hz` to `to_hz` over the phase."""

    from_hz: float
    to_hz: float

    def __post_init__(self) -> None:
        _positive("ramp", from_hz=self.from_hz, to_hz=self.to_hz)


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="step"):
    """The rate starts at `from_hz` and rises by `step_hz` every `every_s` seconds."""

    from_hz: float
    step_hz: float
    every_s: float

    def __post_init__(self) -> None:
        _positive("step", from_hz=self.from_hz, step_hz=self.step_hz, every_s=self.every_s)


class Spike(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="spike"):
    """`rate_hz`, but `peak_hz` from `at_s` for `for_s` seconds."""

    rate_hz: float
    peak_hz: float
    at_s: float
    for_s: float

    def __post_init__(self) -> None:
        _positive("spike", rate_hz=self.rate_hz, peak_hz=self.peak_hz, for_s=self.for_s)
        checks.not_negative("spike.at_s", self.at_s)


class Wave(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="wave"):
    """A sine around `rate_hz` that reaches `rate_hz` plus and minus `amplitude_hz` once in `period_s`."""

    rate_hz: float
    amplitude_hz: float
    period_s: float

    def __post_init__(self) -> None:
        _positive("wave", rate_hz=self.rate_hz, amplitude_hz=self.amplitude_hz, period_s=self.period_s)
        if self.amplitude_hz > self.rate_hz:
            raise UsageError(
                f"wave.amplitude_hz must not exceed rate_hz ({self.rate_hz:g}), got {self.amplitude_hz:g}: a rate cannot be negative"
            )


class Burst(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="burst"):
    """`count` messages at once, every `every_s` seconds."""

    count: int
    every_s: float

    def __post_init__(self) -> None:
        checks.whole("burst.count", self.count)
        _positive("burst", every_s=self.every_s)


class Poisson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="poisson"):
    """Independent arrivals with the mean rate `rate_hz`; the seed of the run fixes them."""

    rate_hz: float

    def __post_init__(self) -> None:
        _positive("poisson", rate_hz=self.rate_hz)


class Flood(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="flood"):
    """As fast as possible, at most `in_flight` messages of an agent not yet acknowledged.

    A closed loop: the target sets the pace, so it says nothing about response times.
    """

    in_flight: int = 1000

    def __post_init__(self) -> None:
        checks.whole("flood.in_flight", self.in_flight)


Arrival = Constant | Ramp | Step | Spike | Wave | Burst | Poisson | Flood
