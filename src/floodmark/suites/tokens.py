"""The token suite: token streams through the embedded conductor, and the same loads over SSE from the embedded token server.

Every answer is numbered text, so that the ledger knows each token of it: what arrived, in which order, undamaged. What it cannot see comes
from the target's statistics as `target.NAME`, and must tally with it to the token. Sizes are the plan's own at scale 1.0; every count is
exact where the plan was content with less. Bounds of speed hold at scale 1.0 and are a third below it, where the start weighs more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from floodmark.model.arrival import Burst, Constant, Flood
from floodmark.model.scenario import Fault, Reconnect, Scenario, Slow
from floodmark.suites.entry import Entry, scaled
from floodmark.suites.token_loads import CALM, CONDUCTOR, SSE, SUITE, TAKEN, WHOLE, Load, Way, all_of, nothing_left, scenario_of, speed

# -- the plan's five


def short_1m(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """T1: a million tokens of 10 characters in one answer, as fast as they are taken; every one arrives, in memory that hardly grows."""
    load = Load(tokens=(scaled(1_000_000, scale, least=10_000),), sizes=(10,))
    wanted = (speed(way, scale, 300_000, 100_000), "rss_rise < 20MB", *all_of(way, load))
    return scenario_of(way, "short-1m", scale, load, title=f"{load.all_tokens:,} tokens of 10 characters", plan="T1", wanted=wanted)


def medium_1m(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """T2: a million tokens of 100 characters in one answer of 100 MB; every one arrives, in memory that hardly grows."""
    load = Load(tokens=(scaled(1_000_000, scale, least=10_000),), sizes=(100,))
    wanted = (speed(way, scale, 200_000, 100_000), "rss_rise < 40MB", *all_of(way, load))
    return scenario_of(way, "medium-1m", scale, load, title=f"{load.all_tokens:,} tokens of 100 characters", plan="T2", wanted=wanted)


def long_1k(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """T3: a thousand tokens of 10,000 characters; every one arrives whole."""
    load = Load(tokens=(scaled(1_000, scale, least=100),), sizes=(10_000,))
    wanted = (speed(way, scale, 20_000, 5_000), "rss_rise < 30MB", *all_of(way, load))
    return scenario_of(way, "long-1k", scale, load, title=f"{load.all_tokens:,} tokens of 10,000 characters", plan="T3", wanted=wanted)


def rapid(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """T4: a million tokens at 100,000 a second keep their pace to 2 %; the next answer is left in mid-stream, and that takes no 100 ms."""
    tokens, rate_hz = scaled(1_000_000, scale, least=100_000), 100_000.0
    load = Load(tokens=(tokens,), sizes=(5,), requests=2, rate_hz=rate_hz)
    # Back half a second later, when a server over SSE, to whom nobody says goodbye, has noticed.
    left = Fault(kind="disconnect", at_s=1.5 * tokens / rate_hz, options={"resume": False, "abrupt": False, "back_after_s": 0.5})
    wanted = (
        *("pace_error < 2%", "close_time_max < 100ms", f"delivered >= {tokens}", "streams == 2", "streams_completed == 1"),
        *("fault_hits == 1", "recovered_ratio == 100%", *WHOLE, *nothing_left(way)),
        *(
            # A poll's own time; by the wall clock it has in it what other processes took of its core meanwhile.
            ("target.poll_cpu_max_s < 5ms", "target.poll_max_s < 100ms", "target.quit_max_s < 100ms", "target.streams_cancelled == 1")
            if way is CONDUCTOR
            else ("target.abandoned == 1",)
        ),
    )
    title = f"{tokens:,} tokens at 100,000/s, then a quit in mid-stream"
    return scenario_of(way, "rapid", scale, load, title=title, plan="T4", wanted=wanted, faults=(left,))


CHANNEL = 100


def backpressure(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """T5: a channel of a hundred events and a reader who takes 100 µs over each token; all 100,000 arrive, and memory is flat."""
    tokens, read_hz = scaled(100_000, scale, least=30_000), 10_000
    load = Load(tokens=(tokens,), sizes=(10,), consumer=Slow(rate_bytes_per_s=10 * read_hz), options={"stall_s": 5.0})
    held = (f"target.buffered_max <= {CHANNEL}",) if way is CONDUCTOR else ()
    # That it took so long shows that the reader was slow; a read that he has begun may bring some thousands at once.
    wanted = (f"load_time >= {(tokens - read_hz) / read_hz:g}s", "rss_growth < 1.1x", *held, *all_of(way, load))
    title = f"{tokens:,} tokens to a reader of {read_hz:,} a second"
    args = {"conductor": ("--channel", str(CHANNEL), "--socket-send-bytes", "65536")}  # the kernel holds megabytes of its own accord
    return scenario_of(way, "backpressure", scale, load, title=title, plan="T5", wanted=wanted, args=args, drain_limit_s=30.0)


# -- what the plan wished for


def conversations(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """C1: ten conversations on each of eight surfaces, answered all at once, again and again; none gets a token of another."""
    load = Load(tokens=(1_000,), sizes=(10,), surfaces=8, conversations=10, requests=scaled(10, scale, least=2))
    wanted = (
        *(("target.subscriptions == 72",) if way is CONDUCTOR else ()),
        f"connections == {8 if way.many else 80}",
        *all_of(way, load),
    )
    title = f"80 conversations at once, {load.requests} answers of 1,000 tokens each"
    return scenario_of(
        way, "conversations", scale, load, title=title, plan="C1", wanted=wanted, args={"conductor": ("--conversations", "10")}
    )


def mixed(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """C2: tokens of 5 to 10,000 characters side by side, in ten conversations of one surface."""
    sizes = (5, 10, 100, 1_000, 10_000)
    counts = tuple(scaled(count, scale, least=20) for count in (100_000, 100_000, 50_000, 5_000, 500))
    load = Load(tokens=counts, sizes=sizes, conversations=10)
    title = f"{load.all_tokens:,} tokens of 5 to 10,000 characters side by side"
    return scenario_of(way, "mixed", scale, load, title=title, plan="C2", wanted=all_of(way, load))


def error_injection(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """C3: every fourth answer of ten conversations breaks off in its midst; what came before is whole, and the next one is answered."""
    every, tokens, rounds = 4, 1_000, scaled(5, scale)
    load = Load(
        tokens=(tokens,),
        sizes=(10,),
        conversations=10,
        requests=every * rounds + 1,  # the last one of each is answered again
        options={"extra": f"fail_after={tokens // 2}", "extra_every": every},
    )
    failed = 10 * rounds
    lost = failed * tokens // 2
    books = (
        (f"target.streams_failed == {failed}", f"target.errors == {failed}", "stats_error == 0")
        if way is CONDUCTOR
        else (f"target.broken == {failed}",)
    )
    wanted = (
        *(f"streams == {load.streams}", f"streams_failed == {failed}", f"streams_completed == {load.streams - failed}"),
        *(f"lost == {lost}", f"delivered == {load.all_tokens - lost}", f"target.tokens_sent == {load.all_tokens - lost}"),
        *("stalls == 0", *books, *TAKEN, *nothing_left(way)),
    )
    title = f"{failed} of {load.streams} answers break off in their midst"
    return scenario_of(way, "error-injection", scale, load, title=title, plan="C3", wanted=wanted)


def network(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """C4: a network with 20 to 80 ms of latency each way; answers come later by that, and otherwise as they were sent."""
    load = Load(tokens=(2_000,), sizes=(10,), surfaces=10, requests=scaled(10, scale, least=3), rate_hz=10_000.0)
    slow = Fault(kind="wire.latency", from_connect=True, options={"least_s": 0.02, "most_s": 0.08})
    wanted = ("fault_hits > 0", "ttft_p50 >= 40ms", "ttft_p50 < 400ms", "token_gap_max < 500ms", *all_of(way, load))
    title = f"{load.streams} answers of 2,000 tokens through a network of 20 to 80 ms each way"
    return scenario_of(way, "network", scale, load, title=title, plan="C4", wanted=wanted, faults=(slow,))


# -- beyond the plan


def latency(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """The baseline: at half the highest rate, 99 % of the tokens are delivered within 10 ms of the time when they were due.

    The highest rate is that of many conversations at once on two idle cores, about 850,000 a second, and 650,000 over SSE.
    """
    conversations, all_hz = 10, 400_000.0 if way is CONDUCTOR else 300_000.0
    rate_hz = all_hz / conversations
    # Answers of a quarter of a second: the end of each repeats its text, and ten that end together are in each other's way.
    load = Load(tokens=(int(rate_hz / 4),), sizes=(10,), conversations=conversations, requests=scaled(20, scale, least=4), rate_hz=rate_hz)
    wanted = ("latency_p99 < 10ms", "ttft_p50 < 10ms", "pace_error < 10%", *all_of(way, load))
    title = f"{load.all_tokens:,} tokens at {all_hz:,.0f}/s in {conversations} conversations"
    return scenario_of(way, "latency", scale, load, title=title, plan="baseline", wanted=wanted)


HANG_S = 1.5


def hang(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """A backend that hangs: its answers stop in their midst and never end; each is noticed, counted as a stall, and the rest is answered.

    A conductor gives such an answer up by itself, and the next question in that conversation is answered. A server over SSE hangs for good,
    so that there the last answer of each client is the one that hangs, and it is the client who must notice.
    """
    tokens, conversations, before = 1_000, scaled(10, scale, least=4), 3
    load = Load(
        tokens=(tokens,),
        sizes=(10,),
        conversations=conversations,
        requests=before + (2 if way is CONDUCTOR else 1),
        options={"extra": f"hang_after={3 * tokens // 10}", "extra_every": before + 1},
    )
    lost = conversations * (tokens - 3 * tokens // 10)
    books = (f"target.streams_failed == {conversations}", *nothing_left(way)) if way is CONDUCTOR else (f"target.live == {conversations}",)
    wanted = (
        *(f"streams == {load.streams}", f"streams_failed == {conversations}", f"stalls == {conversations}"),
        *(f"streams_completed == {load.streams - conversations}", f"lost == {lost}", f"delivered == {load.all_tokens - lost}"),
        *(*books, *TAKEN),
    )
    title = f"{conversations} of {load.streams} answers hang"
    args = {"conductor": ("--idle-limit", str(HANG_S))}
    return scenario_of(way, "hang", scale, load, title=title, plan="hang", wanted=wanted, args=args, drain_limit_s=2.0)


def cut(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """A cut: sockets close in the midst of a frame, first of an answer's, then of a question's; whoever was hit comes back and asks on.

    What was cut off is indeterminate by rule, and a question that did not get through has no answer; everything else is there, once.
    """
    surfaces = 10
    # Over SSE a client tries the next question at once: without a schedule it would have asked all of them before the cut is over.
    arrival = Flood(in_flight=10_000) if way is CONDUCTOR else Constant(rate_hz=8.0 * surfaces)
    load = Load(tokens=(1_000,), sizes=(10,), surfaces=surfaces, requests=scaled(60, scale, least=30), rate_hz=10_000.0, arrival=arrival)
    cuts = (
        Fault(kind="wire.limit", at_s=0.5, for_s=0.3, options={"pass_bytes": 50_003, "direction": "downstream"}),
        Fault(kind="wire.limit", at_s=1.2, for_s=0.2, options={"pass_bytes": 101, "direction": "upstream"}),
    )
    unheard = "unanswered > 0" if way is CONDUCTOR else "refused > 0"  # over SSE the client tries at once on another connection
    wanted = (
        *(f"fault_hits >= {2 * surfaces}", f"streams == {load.streams}", "lost == 0", "streams_failed > 0", unheard),
        *("delivered @ after > 0", "lost @ after == 0", "stalls == 0", *CALM, *nothing_left(way)),
        *(("recovered_ratio == 100%", "disconnects == 0") if way is CONDUCTOR else ()),
    )
    title = f"{surfaces} sockets cut in the midst of frames"
    return scenario_of(way, "cut", scale, load, title=title, plan="cut", wanted=wanted, faults=cuts, reconnect=Reconnect())


STREAMS = 16


def limits(scale: float, way: Way = CONDUCTOR) -> Scenario:
    """More than may be: of twenty questions at once sixteen are answered and four refused, and again once these are through."""
    asked, rate_hz = 20, 2_000.0
    load = Load(tokens=(1_000,), sizes=(10,), conversations=asked, requests=2, rate_hz=rate_hz, arrival=Burst(count=asked, every_s=1.5))
    refused = load.requests * (asked - STREAMS)
    answered = load.streams - refused
    wanted = (
        f"refused == {refused}",
        f"streams_completed == {answered}",
        f"delivered == {answered * 1_000}",
        f"target.refused == {refused}",
    )
    args = {"conductor": ("--conversations", str(asked), "--streams", str(STREAMS)), "tokens": ("--max-streams", str(STREAMS))}
    title = f"{asked} questions at once where {STREAMS} may be answered"
    return scenario_of(way, "limits", scale, load, title=title, plan="limits", wanted=wanted, args=args)


KEPT_MESSAGES, KEPT_BYTES = 1_000, 10 * 1024 * 1024


def pruning(scale: float) -> Scenario:
    """Long sessions: ten conversations of each write side by side, past 1,000 messages or 10 MiB; the oldest go, the answers are whole."""
    surfaces, conversations = 2, 10
    load = Load(
        tokens=(*[10] * conversations, *[300] * conversations),  # small ones on the first surface, long ones on the second
        sizes=(100,),
        surfaces=surfaces,
        conversations=conversations,
        requests=scaled(200, scale, least=60),
    )
    written = 2 * conversations * load.requests  # on each surface, questions and answers
    kept_of_long = 2 * (KEPT_BYTES // 30_000 + 1)
    wanted = (
        *(f"target.messages <= {KEPT_MESSAGES + kept_of_long}", f"target.kept_bytes <= {surfaces * KEPT_BYTES}B"),
        *(f"target.pruned >= {2 * written - KEPT_MESSAGES - kept_of_long}", "rss_rise < 60MB", *all_of(CONDUCTOR, load)),
    )
    title = f"{written:,} messages in each of {surfaces} sessions, {conversations} writers at once"
    return scenario_of(CONDUCTOR, "pruning", scale, load, title=title, plan="pruning", wanted=wanted)


def sessions(scale: float) -> Scenario:
    """Comings and goings: fifty surfaces quit in mid-stream and come back, again and again; at no time are there twice as many sessions."""
    surfaces, rounds = scaled(50, scale, least=20), scaled(10, scale, least=4)
    # Answers of half a second, so that every round finds one under way on each surface.
    load = Load(tokens=(1_000,), sizes=(10,), surfaces=surfaces, requests=rounds + 2, rate_hz=2_000.0)
    leaves = Fault(kind="disconnect", at_s=0.3, repeat=rounds, every_s=0.5, options={"resume": False, "abrupt": False})
    wanted = (
        *(f"fault_hits == {rounds * surfaces}", "recovered_ratio == 100%", f"target.streams_cancelled >= {rounds * surfaces // 2}"),
        *(f"target.connections == {surfaces}", f"target.connections_max < {2 * surfaces}", "close_time_max < 1s"),
        *(f"streams == {load.streams}", *WHOLE, *nothing_left(CONDUCTOR)),
    )
    title = f"{surfaces} surfaces quit in mid-stream and come back, {rounds} times"
    return scenario_of(CONDUCTOR, "sessions", scale, load, title=title, plan="sessions", wanted=wanted, faults=(leaves,))


def entry(build: Callable[..., Scenario], name: str, plan: str, quick_scale: float | None = None, *, way: Way = CONDUCTOR) -> Entry:
    """Make an entry; its text is the first line of the docstring behind the colon."""
    text = (build.__doc__ or "").split(": ", 1)[1].splitlines()[0]
    if way is CONDUCTOR:
        return Entry(id=f"{SUITE}.{name}", text=text, build=build, plan=plan, quick_scale=quick_scale)
    return Entry(id=f"{SUITE}.{way.prefix}{name}", text=text, build=partial(build, way=way), quick_scale=quick_scale)


_BOTH: tuple[tuple[Callable[..., Scenario], str, str], ...] = (
    (short_1m, "short-1m", "T1"),
    (medium_1m, "medium-1m", "T2"),
    (long_1k, "long-1k", "T3"),
    (rapid, "rapid", "T4"),
    (backpressure, "backpressure", "T5"),
    (conversations, "conversations", "C1"),
    (mixed, "mixed", "C2"),
    (error_injection, "error-injection", "C3"),
    (network, "network", "C4"),
    (latency, "latency", "baseline"),
    (hang, "hang", "hang"),
    (cut, "cut", "cut"),
    (limits, "limits", "limits"),
)

_QUICK = {"short-1m": 0.1, "sse-short-1m": 0.1}

SCENARIOS: tuple[Entry, ...] = (
    *(entry(build, name, plan, _QUICK.get(name)) for build, name, plan in _BOTH),
    entry(pruning, "pruning", "pruning"),
    entry(sessions, "sessions", "sessions"),
    *(entry(build, name, plan, _QUICK.get(f"sse-{name}"), way=SSE) for build, name, plan in _BOTH),
)
