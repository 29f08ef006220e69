"""What a driver is whose streams are answers to requests: language models above all.

Nobody publishes to such a system. Somebody asks, and the stream that comes back is what is accounted for: token by token where the answer
is known beforehand (numbered text, see `ledger/numbered.py`), otherwise as one message that came properly or not. Such a driver says
`asks = True`, its connections are `AskingConnection`s, and what they see of an answer goes to an `AskingSink`, which the agent provides.

The order of one answer, under the token of its request:

    accepted?  (text | chunks)*  (finished | failed)  odd*

`accepted` is what an acknowledgement is elsewhere: from then on every token that was asked for is owed. `failed` without `accepted` is a
refusal. Exactly one of `finished` and `failed` ends an answer; anything that the target sends for it afterwards is `odd`.

Who ended an answer matters. What the target cuts off is `failed` ("cut off: ..."), or, where the whole connection went, `Sink.closed`
alone: that ends every answer still under way on it. What ends because we said `close`, `abort` or `unsubscribe` is never `failed`.

Text means the bytes of the answer, unescaped, in order, and nothing else: a driver never takes a chunk for a token.
Not here: when to ask, what the text should be (runner/agent/asking.py), what was lost (ledger/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

from floodmark.core.errors import UsageError
from floodmark.drivers.base import BaseDriver, Connection, Driver, Options, Sink

REFUSED = "refused: "
ERROR_EVENT = "error event: "
NO_TERMINAL = "ended without its terminal event"
CUT_OFF = "cut off: "
UNREADABLE = "unreadable: "

IN_TURN_COUNT_MAX = 1_000_000
REASON_BYTES_MAX = 200
"""What a target says of itself is cut to this in reasons, so that a target that talks does not fill our memory."""

ASKING_DEFAULTS: Mapping[str, str | int | float | bool] = {
    "tokens": "1000",
    "token_bytes": "10",
    "rate_hz": 0.0,
    "text": "numbered",
    "extra": "",
    "extra_every": 1,
    "prompt": "Tell me in one paragraph what a flood mark is.",
    "service_ttft_s": 0.0,
    "service_gap_s": 0.0,
    "stall_s": 1.0,
}
"""Options that every driver of this kind has; it merges them with its own: `DEFAULTS = {**ASKING_DEFAULTS, "path": ...}`."""

ASKING_MEANINGS: dict[str, str] = {
    "tokens": "tokens of each answer; `2x100 5x1000` gives channels in turn answers of differing lengths",
    "token_bytes": "bytes of each token of numbered text, 5 to 65,536; `2x10 1x1000` as above",
    "rate_hz": "tokens a second of each answer that the target is asked to keep to; 0: as fast as they are taken",
    "text": "`numbered`: the answer is known beforehand and every token is accounted for; `unknown`: each answer is one message",
    "extra": "what else the line that asks for numbered text says, such as `hang_after=100`",
    "extra_every": "every so many requests of a channel say that, the first one not among them unless it is 1",
    "prompt": "what is asked where the text is `unknown`",
    "service_ttft_s": "stated service level: seconds to the first token that an answer may take; 0: none is stated",
    "service_gap_s": "stated service level: the longest gap between two chunks that an answer may have; 0: none is stated",
    "stall_s": "a gap longer than this is counted as a stall",
}


class Ask(NamedTuple):
    """One request."""

    slot: int
    """Slot of the ledger that the answer belongs to."""
    channel: str
    """Name of the channel, one of those subscribed to on this connection."""
    prompt: str
    """What is asked: the (last) message of a user."""
    token: int
    """Under which the sink hears of the answer; greater than 0."""


class AskingSink(Sink, Protocol):
    """What an asking connection reports of its answers, from the event loop's thread, in the order seen."""

    def accepted(self, token: int) -> None:
        """The target took the request: the head of HTTP 200, a conductor's acknowledgement."""

    def text(self, token: int, data: bytes, chunk_tokens: int, received_ns: int) -> None:
        """HOT: once per chunk, text of the answer in order.

        `chunk_tokens` is how many tokens the chunk declares to hold; 0: it does not say. Chunks without text are not reported.
        """

    def chunks(self, token: int, texts: list[bytes], received_ns: int) -> None:
        """HOT: the same for many chunks of one answer that one read brought; none of them declares its tokens. The list is the sink's."""

    def finished(self, token: int, tokens_told: int) -> None:
        """The answer ended with exactly one proper terminal event; `tokens_told` is the usage that was told for it, -1 when none was."""

    def failed(self, token: int, reason: str) -> None:
        """The answer ended otherwise; `reason` begins with one of this module's: REFUSED (before it was accepted), ERROR_EVENT,
        NO_TERMINAL, CUT_OFF, UNREADABLE."""

    def odd(self, token: int, what: str) -> None:
        """Something came for the answer after its end, a second terminal event among them; or an event that cannot be read came for it."""


class AskingConnection(Connection, Protocol):
    """A connection that asks. Its `publish` is never called; `subscribe` only says which channels will ask here, and returns once the
    target would take a request."""

    def ask(self, ask: Ask) -> None:
        """Send one request; plain `def`. Called only while `writable` and `free(ask.slot)`; nothing happens on a lost connection."""

    def free(self, slot: int) -> bool:
        """Whether another request may be put on this slot now. Whoever asks keeps what is due waiting until then.

        It is true again by the time that the end of the answer before is told: the next request goes out from there.
        """


class AskingDriver(BaseDriver):
    """Defaults for such a driver; derive from it and write `connect`."""

    DEFAULTS: ClassVar[Options] = ASKING_DEFAULTS
    asks: ClassVar[bool] = True
    acknowledges = True


def in_turn(option: str, text: str) -> tuple[int, ...]:
    """Read an option that gives channels in turn whole numbers of at least 1. Raises: UsageError.

    >>> in_turn("tokens", "2x100 1000")
    (100, 100, 1000)
    """
    numbers: list[int] = []
    for part in text.split():
        times, cross, number = part.rpartition("x")
        times = times if cross else "1"
        if not number.isdecimal() or not times.isdecimal() or not int(number) or not int(times):
            raise UsageError(f"option {option!r} is a whole number, or a list such as '2x100 5x1000'; got {text!r}")
        numbers += [int(number)] * min(int(times), IN_TURN_COUNT_MAX + 1 - len(numbers))
        if len(numbers) > IN_TURN_COUNT_MAX:
            raise UsageError(f"option {option!r} gives more than {IN_TURN_COUNT_MAX:,} channels their number; shorten the list")
    if not numbers:
        raise UsageError(f"option {option!r} must not be empty")
    return tuple(numbers)


def asks_of(driver: Driver) -> bool:
    """Whether the driver's connections are `AskingConnection`s: its attribute `asks`, which a driver need not have."""
    return bool(getattr(driver, "asks", False))


def reason_of(kind: str, said: str) -> str:
    """One line of reason: a kind of this module and what the target said, cut to what is worth keeping.

    >>> reason_of(ERROR_EVENT, "overloaded\\n try later")
    'error event: overloaded try later'
    """
    words = " ".join(said[: 4 * REASON_BYTES_MAX].split())
    return (kind + words[:REASON_BYTES_MAX]).rstrip()
