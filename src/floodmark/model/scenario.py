"""A scenario: what is put on the target, for how long, what goes wrong meanwhile, and what must hold.

The same frozen structs come from Python and from TOML (`model/read.py`). Numbers are in base units and the unit ends the name.
"""

from __future__ import annotations

import enum
import math
import re

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model import checks
from floodmark.model.arrival import Arrival, Constant, Ramp, Spike
from floodmark.model.checks import require as _require
from floodmark.model.criterion import Criterion
from floodmark.model.finding import Guarantee, Order

URL_IN_OUTPUT = r"([A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+)"  # the first URL that a command prints
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
TURNS_COUNT_MAX = 1_000_000  # of a round in which every source has its share: 8 MB in each agent
AGAIN = "-again"  # ends the name of a phase when it is played in the second load
_SYSTEM = re.compile(r"[a-z][a-z0-9_-]*|python:[\w.]+:[\w.]+")


class Fast(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="profile", tag="fast"):
    """Reads whatever arrives at once."""


class Slow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="profile", tag="slow"):
    """Reads at most `rate_bytes_per_s` on each connection, by pausing its socket."""

    rate_bytes_per_s: float

    def __post_init__(self) -> None:
        checks.positive("slow.rate_bytes_per_s", self.rate_bytes_per_s)


class Bursty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="profile", tag="bursty"):
    """Reads for `read_s`, then not at all for `pause_s`, again and again."""

    read_s: float
    pause_s: float

    def __post_init__(self) -> None:
        checks.positive("bursty.read_s", self.read_s)
        checks.positive("bursty.pause_s", self.pause_s)


class Stuck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="profile", tag="stuck"):
    """Stops reading `after_s` into the first measured phase and never reads again until the drain."""

    after_s: float = 0.0

    def __post_init__(self) -> None:
        checks.not_negative("stuck.after_s", self.after_s)


Consumer = Fast | Slow | Bursty | Stuck


class Population(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is on the target.

    `connections` subscriber connections with `subscriptions_per_connection` each, spread round-robin over `channels`: subscription i
    listens to channel i % channels. `publishers` further connections publish; publisher and channel are matched round-robin as well.
    `consumer_ratio` of the connections read in the way of `consumer`, the others fast. `waves` connects in that many equal parts.

    The sources (one per channel, or per publisher if there are more of them) share the load equally, or in proportion to `shares`, whole
    numbers given to them in turn: with `channels = 3` and `shares = [100, 100, 1000]`, 1,200 messages are 100, 100 and 1,000.
    """

    connections: int
    subscriptions_per_connection: int = 1
    channels: int = 1
    publishers: int = 1
    consumer: Consumer = Fast()
    consumer_ratio: float = 1.0
    waves: int = 1
    shares: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("connections", "subscriptions_per_connection", "channels", "publishers", "waves"):
            checks.whole(f"population.{name}", getattr(self, name))
        checks.share("population.consumer_ratio", self.consumer_ratio, zero=False)
        _require(
            self.channels <= self.subscriptions,
            f"population.channels is {self.channels}, but only {self.subscriptions} subscriptions would listen; "
            "raise connections or lower channels",
        )
        self._require_shares_for_sources()

    def _require_shares_for_sources(self) -> None:
        if not self.shares:
            return
        for number, share in enumerate(self.shares):
            checks.whole(f"population.shares[{number}]", share)
        given, sources = len(self.shares), self.sources
        _require(given <= sources, f"population.shares has {given} entries for {sources} sources (channels or publishers); leave some out")
        rounds, rest = divmod(sources, given)
        turns_count = (rounds * sum(self.shares) + sum(self.shares[:rest])) // math.gcd(*self.shares)
        _require(
            turns_count <= TURNS_COUNT_MAX,
            f"population.shares make a round of {turns_count:,} messages, above {TURNS_COUNT_MAX:,}; use coarser numbers, such as 1 and 10",
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
        checks.filled("phase.name", self.name)
        checks.not_a_window("phase.name", self.name)
        checks.whole("phase.payload_bytes", self.payload_bytes)
        _require(
            self.duration_s is not None or self.messages is not None,
            f"phase {self.name!r} has neither duration_s nor messages, so it would never end; give one of them",
        )
        if self.duration_s is not None:
            checks.positive("phase.duration_s", self.duration_s)
        if self.messages is not None:
            checks.whole("phase.messages", self.messages)
        self._require_room_for_arrival()

    def _require_room_for_arrival(self) -> None:
        if isinstance(self.arrival, Ramp):
            _require(self.duration_s is not None, f"phase {self.name!r} is a ramp, which needs duration_s to know how steep it is")
        if isinstance(self.arrival, Spike) and self.duration_s is not None:
            _require(
                self.arrival.at_s < self.duration_s,
                f"phase {self.name!r} lasts {self.duration_s:g} s, so its spike at {self.arrival.at_s:g} s would never come; lower at_s",
            )


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault slot: what goes wrong, when, how often, and for which share of the connections.

    `kind` is one of the faults that `floodmark list faults` shows. `at_s` counts from the start of the first measured phase;
    `repeat` times, `every_s` apart, each for `for_s`. With `from_connect` (on the wire only) it holds from before the first connection
    to the end. `options` are the fault's own settings.
    """

    kind: str
    at_s: float = 0.0
    for_s: float = 0.0
    repeat: int = 1
    every_s: float = 1.0
    ratio: float = 1.0
    from_connect: bool = False
    options: dict[str, float | int | str | bool] = {}

    def __post_init__(self) -> None:
        checks.filled("fault.kind", self.kind)
        for name in ("at_s", "for_s", "every_s"):
            checks.not_negative(f"fault.{name}", getattr(self, name))
        checks.whole("fault.repeat", self.repeat)
        checks.share("fault.ratio", self.ratio)


class Reconnect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Clients that come back by themselves when a connection is lost that they did not leave: subscribers and publishers alike.

    Before try n a client waits backoff_s * backoff_factor ** (n - 1), at most `backoff_max_s`, less up to the share `jitter` of it by
    chance (by the seed). Counting begins anew once a connection has held for `backoff_max_s`. `limit_s` after the loss it gives up.
    With `resume` a subscription asks for what it missed, and all that was acknowledged meanwhile is required of the target; without, what
    was sent between its last delivery and its return is indeterminate. What waits to be published waits on; nothing is sent twice.
    """

    resume: bool = False
    backoff_s: float = 0.05
    backoff_factor: float = 2.0
    backoff_max_s: float = 1.0
    jitter: float = 0.5
    limit_s: float = 30.0

    def __post_init__(self) -> None:
        checks.positive("reconnect.backoff_s", self.backoff_s)
        checks.positive("reconnect.backoff_max_s", self.backoff_max_s)
        checks.positive("reconnect.limit_s", self.limit_s)
        checks.share("reconnect.jitter", self.jitter)
        checks.positive("reconnect.backoff_factor", self.backoff_factor)
        _require(self.backoff_factor >= 1, f"reconnect.backoff_factor must be at least 1, got {self.backoff_factor!r}: waits never shrink")


def _has_group(pattern: str) -> bool:
    try:
        return re.compile(pattern).groups >= 1
    except re.error:
        return False


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is tested: exactly one of an embedded `system` by name, a `url`, or a `command` line to start.

    `args` are added to an embedded system's command line. A command is ready when `ready_pattern` (a regular expression; its first group
    is the URL) is seen in its output, or else when `url` accepts a connection. It is looked for anywhere in a line, so begin it with `^` or
    `\\b`: `ready (\\S+)` is also found in "address already in use". `{folder}` in either stands for a folder of the target's own: empty at
    its first start, kept over restarts, removed when the scenario is over.
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
        for name in ("system", "url", "command", "ready_pattern"):
            if getattr(self, name) is not None:
                checks.filled(f"target.{name}", getattr(self, name))
        if self.ready_pattern is not None:
            _require(
                _has_group(self.ready_pattern),
                f"target.ready_pattern must be a regular expression with a group, got {self.ready_pattern!r}",
            )
        checks.positive("target.start_limit_s", self.start_limit_s)


def target_from(text: str) -> Target:
    """Read a target from one line of text: a URL, the name of an embedded system, or else a command line to start.

    A command line given this way must print the URL it listens on: the first URL in its output makes it ready.
    `python:MODULE:FUNCTION` counts as a system: the callable is run in a host process of ours.

    >>> target_from("ws://127.0.0.1:8080/chat").url, target_from("hub").system, target_from("node server.js").command
    ('ws://127.0.0.1:8080/chat', 'hub', 'node server.js')
    """
    text = text.strip()
    if not text:
        raise UsageError("target must not be empty; give an embedded system's name, a URL or a command line")
    if _URL.fullmatch(text):
        return Target(url=text)
    if _SYSTEM.fullmatch(text):
        return Target(system=text)
    return Target(command=text, ready_pattern=URL_IN_OUTPUT)


class AgentLoss(enum.Enum):
    """What becomes of a run when one of its agents on other machines is lost."""

    UNKNOWN = "unknown"
    TAKE_OVER = "take-over"


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stress test.

    `scale` multiplies the sizes named in `scaled` (see `suites`), and is printed with the result. `lag_limit_s` is how late the
    generator itself may be (99th percentile) before the run is UNKNOWN; closed-loop phases have no intended times and ignore it.
    With `second_load` the phases are played twice, a drain between them, the second time as `NAME-again` and without the timed faults:
    what a leak does again and a cache does not. `agent_loss` is what becomes of a run over several machines when an agent is lost: it ends
    as unknown at once, or another agent with room takes over its part of the population, in the phase being played.
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
    reconnect: Reconnect | None = None
    criteria: tuple[Criterion, ...]
    guarantee: Guarantee = Guarantee.EXACTLY_ONCE
    order: Order = Order.PER_PUBLISHER
    warmup: bool = True
    connect_limit_s: float = 30.0
    drain_limit_s: float = 10.0
    lag_limit_s: float = 0.25
    second_load: bool = False
    agent_loss: AgentLoss = AgentLoss.UNKNOWN
    scale: float = 1.0

    def __post_init__(self) -> None:
        checks.filled("scenario.id", self.id)
        _require(bool(self.phases), f"scenario {self.id!r} has no phases; add at least one")
        _require(bool(self.criteria), f"scenario {self.id!r} has no criteria, so it could never pass; add at least one")
        for phase in self.phases:
            _require(isinstance(phase, Phase), f"scenario.phases must hold Phase structs, got {phase!r}")
        for one in self.criteria:
            _require(isinstance(one, Criterion), f"scenario.criteria must hold parsed criteria, got {one!r}; use criterion.parse")
        names = [phase.name for phase in self.played]
        _require(len(set(names)) == len(names), f"scenario {self.id!r}: phase names must differ, got {names}")
        for criterion in self.criteria:
            for name in (criterion.phase, criterion.reference):
                checks.window(f"criterion {criterion.text!r}", name, phases=names, has_faults=bool(self.faults))
        for name in ("connect_limit_s", "drain_limit_s", "lag_limit_s", "scale"):
            checks.positive(f"scenario.{name}", getattr(self, name))
        _require(
            not self.second_load or isinstance(self.population.consumer, Fast),
            f"scenario {self.id!r}: a second load must be the first one again, but slow consumers are let go in the drain between them; "
            'use consumer profile "fast", or no second_load',
        )

    @property
    def played(self) -> tuple[Phase, ...]:
        """The phases in the order in which they are played, those of a second load included."""
        again = tuple(msgspec.structs.replace(phase, name=phase.name + AGAIN) for phase in self.phases)
        return (*self.phases, *again) if self.second_load else tuple(self.phases)
