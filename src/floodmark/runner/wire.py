"""What runner and agents say to each other: msgpack frames with a 4-byte length, over pipes here and over a broker elsewhere.

The runner sends one `Setup`, then `Do` steps; an agent answers each step with `Did` (same number), and sends `Progress` by itself every
`PROGRESS_S`. Steps may overlap: a fault runs beside a phase. `collect` is answered with `Outcome`. An agent whose pipe closes ends itself.
"""

from __future__ import annotations

import struct

import msgspec

from floodmark.model.scenario import Scenario

PROGRESS_S = 0.25
FRAME_LIMIT_BYTES = 1 << 30
_LENGTH = struct.Struct("<I")


class Setup(msgspec.Struct, frozen=True, kw_only=True, tag="setup"):
    """Which slice of which scenario an agent plays. `run` and `warmup_run` mark the stamps.

    `clock_shift_ns` makes the agent's monotonic clock the runner's; a latency that is less than nothing by up to `clock_error_ns` is none.
    `lives` is how many agents may play a slice one after the other, and
    `life` says which of them this one is: each publishes under numbers of its own (`plan.source_offset`).
    """

    scenario: Scenario
    url: str
    agent: int
    agents: int
    seed: int
    run: int
    warmup_run: int
    clock_shift_ns: int = 0
    clock_error_ns: int = 0
    life: int = 0
    lives: int = 1


class Do(msgspec.Struct, frozen=True, kw_only=True, tag="do"):
    """One step: `connect` (wave `index`), `probe`, `phase` and `fault` (by `index`; a phase starts at `at_ns`), `settle`, `give-up`,
    `collect`, `leave` (in the clean way), `quit`; `gone`: the target is gone for good; `anew`: tries to come back that began before `at_ns`
    are given up for new ones; `window` (before, during, after, by `index`) begins at `at_ns`. A phase that is taken over half-way is played
    from `resume_ns` on: what was due before then is nobody's."""

    step: str
    number: int
    index: int = 0
    at_ns: int = 0
    resume_ns: int = 0


class Did(msgspec.Struct, frozen=True, kw_only=True, tag="did"):
    """The answer to a step: figures to be summed over the agents, and reasons of failures with their counts.

    `victims` are the numbers of the connections that a fault was about.
    """

    number: int
    figures: dict[str, float] = {}
    reasons: dict[str, int] = {}
    worst_s: float = 0.0
    victims: tuple[int, ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """Running totals of an agent, and the response latencies since the last one (an encoded histogram).

    `held_up`: its load is due to the last message, and the target has taken nothing of what waits for a while.
    """

    at_ns: int
    connections: int
    seen: int
    published: int
    acknowledged: int
    pending: int
    received: int
    disconnects: int
    last_received_ns: int
    response: bytes
    service: bytes
    lag: bytes
    held_up: bool = False


class Loss(msgspec.Struct, kw_only=True):
    """The connection of a client, by its number, that was lost though the client did not leave it, and when it was back (0: it is not).

    `since_ns`: when it had come back from its last loss, 0 where this is the first. `unanswered`: messages that a publisher had sent and
    that nobody answered any more. `ours`: a fault in this client brought it about.
    """

    at_ns: int
    number: int
    since_ns: int = 0
    back_ns: int = 0
    publisher: bool = False
    unanswered: int = 0
    reason: str = ""
    ours: bool = False


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent that asks knows of its answers: histograms, figures that are summed over the agents, and the largest of others."""

    ttft: bytes
    token_gap: bytes
    stream_time: bytes
    figures: dict[str, float]
    worst: dict[str, float]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag="outcome"):
    """Everything an agent knows: its accounts, its publications, its histograms. `ended_ns`: when the target ended a subscription."""

    number: int
    accounts: bytes
    publications: bytes
    response: dict[str, bytes]
    window_response: dict[str, bytes]
    service: dict[str, bytes]
    ack: bytes
    lag: bytes
    figures: dict[str, float]
    reasons: dict[str, int]
    losses: list[Loss] = []
    answered: Answered | None = None
    ended_ns: list[int] = []
    first_intended_ns: int
    last_received_ns: int


class Trouble(msgspec.Struct, frozen=True, kw_only=True, tag="trouble"):
    """An agent cannot go on: `kind` is `usage`, `target` or `bug`."""

    kind: str
    text: str


Message = Setup | Do | Did | Progress | Outcome | Trouble
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def pack(message: Message) -> bytes:
    """Encode one message with its length in front."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Message:
    """Decode one message without its length."""
    message: Message = _decode(body)
    return message


def length(head: bytes) -> int:
    """Read the length in front of a message; raises ValueError beyond the limit."""
    (size,) = _LENGTH.unpack(head)
    if size > FRAME_LIMIT_BYTES:
        raise ValueError(f"a message of {size} bytes is beyond the limit of {FRAME_LIMIT_BYTES}")
    return int(size)


HEAD_BYTES = _LENGTH.size
