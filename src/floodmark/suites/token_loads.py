"""What the token scenarios have in common: the two ways that streams are asked for, who asks for what, and what is held against whom.

A load is the same both ways. A conductor is spoken to as surfaces do, over its socket: a connection is a surface with a session of its own,
a channel one of its conversations. Over SSE a channel is a client with a connection of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from floodmark.model.arrival import Arrival, Flood
from floodmark.model.scenario import Consumer, Fast, Fault, Phase, Population, Reconnect, Scenario, Target
from floodmark.suites.entry import criteria

SUITE = "tokens"
CALM = (
    *("success_ratio == 100%", "odd_events == 0", "usage_wrong == 0", "duplicated == 0", "reordered == 0", "corrupted == 0"),
    *("unexpected == 0", "ended == 0", "target_exits == 0"),
)
"""What holds whatever goes wrong behind the target, or on the way to it."""
TAKEN = ("refused == 0", "unanswered == 0", "disconnects == 0", *CALM)
WHOLE = ("lost == 0", "streams_failed == 0", "stalls == 0", *TAKEN)


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How streams are asked for: which embedded system, which driver, and what the ids of its scenarios begin with."""

    prefix: str
    system: str
    driver: str
    through: str
    many: bool = False  # conversations on one connection


CONDUCTOR = Way(prefix="", system="conductor", driver="conductor", through="through the conductor", many=True)
SSE = Way(prefix="sse-", system="tokens", driver="sse", through="over SSE")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for what. `surfaces` times `conversations` channels, each with `requests` answers; `tokens` and `sizes` go to the channels
    in turn."""

    tokens: tuple[int, ...]
    sizes: tuple[int, ...]
    surfaces: int = 1
    conversations: int = 1
    requests: int = 1
    rate_hz: float = 0.0
    arrival: Arrival = Flood(in_flight=10_000)
    consumer: Consumer = Fast()
    options: dict[str, str | int | float | bool] = {}

    @property
    def channels(self) -> int:
        """Streams at once."""
        return self.surfaces * self.conversations

    @property
    def streams(self) -> int:
        """Answers in all."""
        return self.channels * self.requests

    @property
    def all_tokens(self) -> int:
        """Tokens in all of them."""
        return self.requests * sum(self.tokens[channel % len(self.tokens)] for channel in range(self.channels))


def scenario_of(
    way: Way,
    name: str,
    scale: float,
    load: Load,
    *,
    title: str,
    plan: str,
    wanted: tuple[str, ...],
    args: Mapping[str, tuple[str, ...]] | None = None,
    faults: tuple[Fault, ...] = (),
    reconnect: Reconnect | None = None,
    drain_limit_s: float = 10.0,
) -> Scenario:
    """Put a load on the system of a way; `args` are those of its command line, by the system's name."""
    connections, each = (load.surfaces, load.conversations) if way.many else (load.channels, 1)
    return Scenario(
        id=f"{SUITE}.{way.prefix}{name}",
        title=f"{title}, {way.through}",
        plan=plan if way is CONDUCTOR else "",
        target=Target(system=way.system, args=(args or {}).get(way.system, ())),
        driver=way.driver,
        driver_options={
            "tokens": " ".join(map(str, load.tokens)),
            "token_bytes": " ".join(map(str, load.sizes)),
            "rate_hz": load.rate_hz,
            **load.options,
        },
        population=Population(connections=connections, subscriptions_per_connection=each, channels=load.channels, consumer=load.consumer),
        phases=(Phase(arrival=load.arrival, messages=load.streams),),
        faults=faults,
        reconnect=reconnect,
        criteria=criteria(*wanted),
        warmup=False,
        drain_limit_s=drain_limit_s,
        lag_limit_s=5.0,  # requests are few, and how late each of them was shows in the pace of its answer
        scale=scale,
    )


def all_of(way: Way, load: Load) -> tuple[str, ...]:
    """Every token of every answer, by the ledger and by the target's own books, and nothing left behind."""
    tokens, streams = load.all_tokens, load.streams
    return (f"delivered == {tokens}", f"streams_completed == {streams}", *WHOLE, *books_of(way, tokens, streams))


def books_of(way: Way, tokens: int, streams: int) -> tuple[str, ...]:
    """What the target must say of itself after so many answers in full."""
    if way is CONDUCTOR:
        sent = (f"target.{name} == {tokens}" for name in ("tokens_sent", "tokens_polled", "tokens_emitted", "delivered"))
        return (*sent, f"target.streams_completed == {streams}", "stats_error == 0", *nothing_left(way))
    return (f"target.tokens_sent == {tokens}", f"target.completed == {streams}", *nothing_left(way))


def nothing_left(way: Way) -> tuple[str, ...]:
    """What the target must say of itself once all is over."""
    return ("target.streams_live == 0", "target.tasks_left == 0") if way is CONDUCTOR else ("target.live == 0",)


def speed(way: Way, scale: float, through: int, over_sse: int) -> str:
    """A bound of throughput, in tokens a second."""
    full = through if way is CONDUCTOR else over_sse
    return f"throughput > {full if scale >= 1 else full // 3}/s"
