"""What a driver is: how floodmark speaks to one kind of system.

A driver opens connections. A connection subscribes, publishes and tells its `Sink` what it sees; it never judges. What runs once per
message (`put`, `turn`, `publish`) is plain `def`: no await, no task, no log line. Everything else may await.

Not here: when to send (load/), what was lost (ledger/). To write one of your own, see `docs/drivers.md` and `examples/echo_driver.py`;
`drivers/streams.py` has the rare parts ready for a protocol over plain TCP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

import msgspec

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.ledger.block import Block
from floodmark.model.shortfall import Shortfall

Encoding = Literal["text", "binary"]
Options = Mapping[str, str | int | float | bool]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription to open: its slot in the ledger, its channel's name, and the position to resume after (None: from now on)."""

    slot: int
    channel: str
    after: int | None = None


class Sink(Protocol):
    """What a connection reports, from the event loop's thread, in the order seen."""

    put: Callable[[tuple[int, bytes, int]], None]
    """HOT: (slot, frame that holds a stamp, time.monotonic_ns() of arrival)."""

    def turn(self) -> None:
        """HOT: call once at the end of each read, so that batches stay bounded."""

    @property
    def takes_blocks(self) -> bool:
        """Whether `put_block` may be used now; false while somebody needs to see every single frame."""

    def put_block(self, block: Block) -> None:
        """HOT: many frames of one subscription at once."""

    def acknowledged(self, token: int) -> None:
        """HOT: the target confirmed the publish that carried this token."""

    def refused(self, token: int, reason: str) -> None:
        """The target refused that publish."""

    def ended(self, slot: int, reason: str) -> None:
        """The target ended a subscription without being asked."""

    def closed(self, connection: Connection, reason: str) -> None:
        """The connection is gone. Called once, also after `close` and `abort`, never for one that `connect` refused; one line of reason."""


class Connection(Protocol):
    """One connection to the target. A connection that is lost reports `Sink.closed` and ignores everything after that."""

    @property
    def writable(self) -> bool:
        """False while the target does not take what we send (its back-pressure)."""

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        """Open subscriptions; returns once the target has taken all of them. Raises SystemUnderTestError when it refuses one."""

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        """End subscriptions in the protocol's clean way; returns once the target has taken that."""

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        """HOT: send one message; the answer reaches the sink under `token` when the driver acknowledges.

        Token 0 marks a probe of the warm-up: several may be under way at once, and nobody waits for their answers.
        """

    def resume_point(self, frame: bytes) -> int | None:
        """The position to resume after, read from the last frame of a subscription; None where the protocol has none."""

    def pause_reading(self) -> None:
        """Stop reading the socket, as a slow consumer does."""

    def resume_reading(self) -> None:
        """Read again."""

    async def close(self) -> None:
        """Leave in the protocol's clean way; bounded in time."""

    def abort(self) -> None:
        """Drop the connection at once, as a client that crashed does."""


class BatchConnection(Connection, Protocol):
    """A connection whose driver batches: many messages under one token, for targets that take them in one piece."""

    def publish_batch(self, items: Sequence[tuple[str, bytes]], token: int) -> None:
        """HOT: send (channel, payload) pairs in this order. The answer under `token` is that of all of them, for better or worse."""


class Driver(Protocol):
    """One kind of system. Built once per agent from the scenario's `driver_options`; raises UsageError for a wrong one."""

    encoding: Encoding
    acknowledges: bool
    """Whether the target confirms each publish; if not, what was handed to an open connection counts as acknowledged."""
    resumes: bool
    """Whether a subscription can be resumed after a position."""
    # Optional: `batches`, see `batches_of`; `tidy`, see `Tidying`; `shortfall`, see `Doing`.

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        """Open a connection ready to subscribe and publish. `channel` is the first one it will serve, for URLs that name it.

        Raises: SystemUnderTestError with the reason, in words, when the target refuses, speaks something else or takes too long.
        """

    async def statistics(self, url: str) -> dict[str, float] | None:
        """The target's own counters, as `delivered`, `published`, `connections`, `subscriptions`; None if it has none."""


def batches_of(driver: Driver) -> bool:
    """Whether the driver's connections are `BatchConnection`s: its attribute `batches`, which a driver need not have."""
    return bool(getattr(driver, "batches", False))


@runtime_checkable
class Tidying(Protocol):
    """A driver that makes things on the target which outlast its connections."""

    async def tidy(self, url: str, channels: Sequence[str]) -> None:
        """Remove what the run with these channels has made; called once, when all agents have ended. Raises: SystemUnderTestError."""


@runtime_checkable
class Doing(Protocol):
    """A driver that does more to the target than to put load on it, and knows whether it did."""

    shortfall: Shortfall | None
    """What was not done; known once `statistics` was asked, until then None."""


class BaseDriver:
    """Defaults for what most drivers of one's own need not care about; derive from it and write `connect`.

    `DEFAULTS` lists the options with their defaults; what the scenario chose over them is in `options`.
    """

    DEFAULTS: ClassVar[Options] = {}
    encoding: Encoding = "text"
    acknowledges: bool = False
    resumes: bool = False
    batches: bool = False

    def __init__(self, options: Options) -> None:
        self.options = take_options(type(self).__name__, options, self.DEFAULTS)

    async def statistics(self, url: str) -> dict[str, float] | None:
        """No counters of its own."""
        return None


class RefusedError(SystemUnderTestError):
    """The target refused a connection or a subscription, or speaks another protocol."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"{self.url} {self.reason}"


def take_options(driver: str, options: Options, defaults: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    """Merge options over defaults; an unknown one or one of another type is a usage error that names those that exist."""
    merged = dict(defaults)
    for name, value in options.items():
        if name not in defaults:
            raise UsageError(f"driver {driver!r} has no option {name!r}; it has: {', '.join(sorted(defaults))}")
        wanted = type(defaults[name])
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise UsageError(f"option {name!r} of driver {driver!r} must be {wanted.__name__}, got {value!r}")
        merged[name] = value
    return merged


def json_object(driver: str, option: str, text: str) -> dict[str, object]:
    """Read an option that holds a JSON object as text; empty text is an empty object. Raises: UsageError."""
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError as exc:
        raise UsageError(f"option {option!r} of driver {driver!r} must be a JSON object as text, got {text!r} ({exc})") from exc


def json_headers(driver: str, text: str) -> dict[str, str]:
    """Read the option `headers`: a JSON object of text, sent with the WebSocket handshake. Raises: UsageError."""
    headers = json_object(driver, "headers", text)
    for name, value in headers.items():
        if not isinstance(value, str) or not name.isascii() or any(character in "\r\n" for character in name + value):
            raise UsageError(f"option 'headers' of driver {driver!r}: the header {name!r} must be one line of text, got {value!r}")
    return {name: str(value) for name, value in headers.items()}
