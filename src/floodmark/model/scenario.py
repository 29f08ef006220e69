"""A scenario: what is put on the target, for how long, what goes wrong meanwhile, and what must hold.

The same frozen structs come from Python and from TOML (`model/read.py`). Numbers are in base units and the unit ends the name.
"""

from __future__ import annotations

import math

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model.arrival import Arrival, Constant
from floodmark.model.criterion import Criterion
from floodmark.model.finding import Guarantee, Order


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise UsageError(text)


class Fast(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="profile", tag="fast"):
    """Reads whatever arrives at once."""


class Slow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="profile", tag="slow"):
    """Reads at most `rate_bytes_per_s` on each connection, by pausing its socket."""

    rate_bytes_per_s: float

    def __post_init__(self) -> None:
        _require(0 < self.rate_bytes_per_s < math.inf, f"slow.rate_bytes_per_s must be finite and > 0, got {self.rate_bytes_per_s!r}")


class Bursty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="profile", tag="bursty"):
    """Reads for `read_s`, then not at all for `pause_s`, again and again."""

    read_s: float
    pause_s: float

    def __post_init__(self) -> None:
        _require(0 < self.read_s < math.inf, f"bursty.read_s must be finite and > 0, got {self.read_s!r}")
        _require(0 < self.pause_s < math.inf, f"bursty.pause_s must be finite and > 0, got {self.pause_s!r}")


class Stuck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="profile", tag="stuck"):
    """Stops reading `after_s` into the first measured phase and never reads again until the drain."""

    after_s: float = 0.0

    def __post_init__(self) -> None:
        _require(0 <= self.after_s < math.inf, f"stuck.after_s must be finite and >= 0, got {self.after_s!r}")


Consumer = Fast | Slow | Bursty | Stuck


class Population(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is on the target.

    `connections` subscriber connections with `subscriptions_per_connection` each, spread round-robin over `channels`: subscription i
    listens to channel i % channels. `publishers` further connections publish; publisher and channel are matched round-robin as well.
    `consumer_ratio` of the connections read in the way of `consumer`, the others fast. `waves` connects in that many equal parts.
    """

    connections: int
    subscriptions_per_connection: int = 1
    channels: int = 1
    publishers: int = 1
    consumer: Consumer = Fast()
    consumer_ratio: float = 1.0
    waves: int = 1

    def __post_init__(self) -> None:
        for name in ("connections", "subscriptions_per_connection", "channels", "publishers", "waves"):
            value = getattr(self, name)
            _require(value >= 1, f"population.{name} must be at least 1, got {value!r}")
        _require(0 < self.consumer_ratio <= 1, f"population.consumer_ratio must be above 0 and at most 1, got {self.consumer_ratio!r}")
        _require(
            self.channels <= self.subscriptions,
            f"population.channels is {self.channels}, but only {self.subscriptions} subscriptions would listen: raise connections or lower channels",
        )

    @property
    def subscriptions(self) -> int:
        """All subscriptions together."""
        return self.connections * self.subscriptions_per_connection

    @property
    def sources(self) -> int:
        """Logical publishers, each with one sequence and one channel: at least one per channel."""
        return max(self.publishers, self.channels)


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of load. It ends after `duration_s`, or when `messages` were sent, whichever comes first; at least one must be given.

    `payload_bytes` is the size of the published payload with its stamp.
    """

    name: str = "steady"
    arrival: Arrival = Constant(rate_hz=100.0)
    payload_bytes: int = 200
    duration_s: float | None = None
    messages: int | None = None

    def __post_init__(self) -> None:
        _require(bool(self.name), "phase.name must not be empty")
        _require(self.payload_bytes >= 1, f"phase.payload_bytes must be at least 1, got {self.payload_bytes!r}")
        _require(
            self.duration_s is not None or self.messages is not None,
            f"phase {self.name!r} has neither duration_s nor messages, so it would never end; give one of them",
        )
        if self.duration_s is not None:
            _require(0 < self.duration_s < math.inf, f"phase.duration_s must be finite and > 0, got {self.duration_s!r}")
        if self.messages is not None:
            _require(self.messages >= 1, f"phase.messages must be at least 1, got {self.messages!r}")


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault slot: what goes wrong, when, how often, and for which share of the connections.

    `kind` is one of the faults that `floodmark list faults` shows. `at_s` counts from the start of the first measured phase;
    `repeat` times, `every_s` apart. `options` are the fault's own settings.
    """

    kind: str
    at_s: float = 0.0
    for_s: float = 0.0
    repeat: int = 1
    every_s: float = 1.0
    ratio: float = 1.0
    options: dict[str, float | int | str | bool] = {}

    def __post_init__(self) -> None:
        _require(0 <= self.at_s < math.inf, f"fault.at_s must be finite and >= 0, got {self.at_s!r}")
        _require(0 <= self.for_s < math.inf, f"fault.for_s must be finite and >= 0, got {self.for_s!r}")
        _require(self.repeat >= 1, f"fault.repeat must be at least 1, got {self.repeat!r}")
        _require(0 <= self.every_s < math.inf, f"fault.every_s must be finite and >= 0, got {self.every_s!r}")
        _require(0 <= self.ratio <= 1, f"fault.ratio must be between 0 and 1, got {self.ratio!r}")


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is tested: exactly one of an embedded `system` by name, a `url`, or a `command` line to start.

    `args` are added to an embedded system's command line. A command is ready when `ready_pattern` (a regular expression; its first group
    is the URL) is seen in its output, or else when `url` accepts a connection.
    """

    system: str | None = None
    url: str | None = None
    command: str | None = None
    args: tuple[str, ...] = ()
    ready_pattern: str | None = None
    start_limit_s: float = 20.0

    def __post_init__(self) -> None:
        given = [name for name in ("system", "command") if getattr(self, name) is not None]
        _require(len(given) <= 1, "target: give either system or command, not both")
        _require(bool(given) or self.url is not None, "target: give one of system, url or command")
        _require(self.system is None or self.url is None, "target: an embedded system picks its own port; leave url out")
        _require(
            self.command is None or self.url is not None or self.ready_pattern is not None,
            "target: a command needs url (where it will listen) or ready_pattern (a line of its log whose first group is the URL)",
        )
        _require(0 < self.start_limit_s < math.inf, f"target.start_limit_s must be finite and > 0, got {self.start_limit_s!r}")


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stress test.

    `scale` multiplies the sizes named in `scaled` (see `suites`), and is printed with the result. `lag_limit_s` is how late the
    generator itself may be (99th percentile) before the run is UNKNOWN; None for closed-loop phases only.
    """

    id: str
    title: str = ""
    plan: str = ""
    target: Target = Target(system="hub")
    driver: str = "graphql-ws"
    driver_options: dict[str, str | int | float | bool] = {}
    population: Population
    phases: tuple[Phase, ...]
    faults: tuple[Fault, ...] = ()
    criteria: tuple[Criterion, ...]
    guarantee: Guarantee = Guarantee.EXACTLY_ONCE
    order: Order = Order.PER_PUBLISHER
    warmup: bool = True
    connect_limit_s: float = 30.0
    drain_limit_s: float = 10.0
    lag_limit_s: float = 0.25
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require(bool(self.id), "scenario.id must not be empty")
        _require(bool(self.phases), f"scenario {self.id!r} has no phases; add at least one")
        _require(bool(self.criteria), f"scenario {self.id!r} has no criteria, so it could never pass; add at least one")
        names = [phase.name for phase in self.phases]
        _require(len(set(names)) == len(names), f"scenario {self.id!r}: phase names must differ, got {names}")
        for name in ("connect_limit_s", "drain_limit_s", "lag_limit_s", "scale"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"scenario.{name} must be finite and > 0, got {value!r}")
