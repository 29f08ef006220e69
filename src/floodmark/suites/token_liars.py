"""The harness on trial against token streams: conductors and token servers that lie in one known way, and the honest twin beside each.

Every answer is known beforehand, so that what was changed in it is counted by the token: left out, doubled, out of order, damaged, put
into another answer. What was done to its end is counted by the answer: none, two, something after it, a wrong count, a long silence. Each
lie is planted a number of times, and the trial passes only if exactly that number was found, in its class alone, and the twin was cleared.
"""

from __future__ import annotations

from floodmark.model.arrival import Flood
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.suites.entry import Entry, criteria, trial

SURFACES, CONVERSATIONS, TOKENS = 4, 10, 100
STREAMS = SURFACES * CONVERSATIONS  # one answer each: behind one that never ends nothing could be asked
ALL = STREAMS * TOKENS
CLASSES = {
    **dict.fromkeys(("lost", "duplicated", "reordered", "corrupted", "unexpected"), 0),
    **dict.fromkeys(("streams_failed", "stalls", "usage_wrong", "odd_events", "refused", "unanswered", "indeterminate"), 0),
    **{"delivered": ALL, "streams": STREAMS, "streams_completed": STREAMS},
}
"""What an honest system has of each; a lie changes some of them, and the rest must stay."""
STALL_S = 2.0  # a server that stalls does so for 3 s


def counted(*, told_wrong: bool = False, **changes: int) -> tuple[str, ...]:
    """The whole account, with these changes.

    `told_wrong`: answers told another number of tokens than arrived; in how many answers the tokens are that do not fit is chance.
    """
    account = CLASSES | changes
    if told_wrong:
        del account["usage_wrong"]
    return (*(f"{name} == {count}" for name, count in account.items()), *(("usage_wrong > 0",) if told_wrong else ()))


def honest(name: str, system: str, *more: str, apart: bool = False) -> Scenario:
    """The load of every trial: forty answers of a hundred tokens at once. `apart`: each on a connection of its own."""
    connections, each = (SURFACES, CONVERSATIONS) if system == "conductor" and not apart else (STREAMS, 1)
    return Scenario(
        id=f"liars.{name}",
        target=Target(system=system),
        driver="conductor" if system == "conductor" else "sse",
        driver_options={"tokens": str(TOKENS), "token_bytes": "10", "stall_s": STALL_S},
        population=Population(connections=connections, subscriptions_per_connection=each, channels=STREAMS),
        phases=(Phase(arrival=Flood(in_flight=STREAMS), messages=STREAMS),),
        criteria=criteria(*counted(), *more),
        warmup=False,
        drain_limit_s=2.0,
        lag_limit_s=5.0,
    )


def _trial(system: str, name: str, count: int, title: str, caught: tuple[str, ...], *more: str, apart: bool = False) -> Entry:
    """`more`: what the honest twin has to keep in this trial beside its account."""
    own = f"{'conductor' if system == 'conductor' else 'sse'}-{name}"
    return trial(own, title, lambda: honest(own, system, *more, apart=apart), f"{name}={count}", caught)


HALF = TOKENS // 2
LEAK_BYTES = 20_000
TOLD = 50  # by which a conductor's statistics are too high

ENTRIES: tuple[Entry, ...] = (
    _trial("conductor", "skip", 9, "a conductor that leaves out 9 tokens", counted(told_wrong=True, lost=9, delivered=ALL - 9)),
    _trial("conductor", "repeat", 8, "a conductor that sends 8 tokens twice", counted(told_wrong=True, duplicated=8)),
    _trial("conductor", "swap", 7, "a conductor that sends 7 tokens after the next one", counted(reordered=7)),
    _trial("conductor", "flip", 6, "a conductor that changes a character of 6 tokens", counted(corrupted=6, delivered=ALL - 6)),
    _trial(
        "conductor",
        "cross",
        5,
        "a conductor that puts 5 tokens into another answer",
        counted(told_wrong=True, corrupted=5, lost=5, delivered=ALL - 5),
    ),
    _trial(
        "conductor",
        "no-end",
        4,
        "a conductor that leaves out the end of 4 answers",
        counted(streams_failed=4, stalls=4, streams_completed=STREAMS - 4),
    ),
    _trial("conductor", "end-twice", 5, "a conductor that ends 5 answers twice", counted(odd_events=5)),
    _trial("conductor", "late", 6, "a conductor that sends a token after the end of 6 answers", counted(odd_events=6)),
    _trial(
        "conductor", "error", 3, "a conductor that calls 3 whole answers failed", counted(streams_failed=3, streams_completed=STREAMS - 3)
    ),
    _trial("conductor", "miscount", 7, "a conductor that tells a wrong number of tokens for 7 answers", counted(usage_wrong=7)),
    _trial("conductor", "stall", 2, "a conductor that writes nothing for 3 s in the midst of 2 answers", counted(stalls=2), apart=True),
    _trial(
        "conductor",
        "linger",
        1,
        "a conductor that lets one surface wait for 2 s that wants to quit",
        (*counted(), "close_time_max >= 1.9s"),
        "close_time_max < 1s",
    ),
    _trial(
        "conductor",
        "leak",
        LEAK_BYTES,
        f"a conductor that keeps {LEAK_BYTES:,} bytes of every token",
        (*counted(), f"rss_kept >= {ALL * LEAK_BYTES}B"),
        f"rss_kept < {ALL * LEAK_BYTES // 2}B",
    ),
    _trial(
        "conductor",
        "stats",
        TOLD,
        f"a conductor whose statistics are {TOLD} tokens too high",
        (*counted(), f"stats_error == {100 * TOLD / ALL:g}%"),
        "stats_error == 0",
    ),
    _trial(
        "tokens",
        "truncate",
        5,
        "a server that cuts 5 answers in half and ends them properly",
        counted(lost=5 * HALF, delivered=ALL - 5 * HALF, usage_wrong=5),
    ),
    _trial(
        "tokens",
        "error",
        4,
        "a server that breaks 4 answers off with an error",
        counted(lost=4 * HALF, delivered=ALL - 4 * HALF, streams_failed=4, streams_completed=STREAMS - 4),
    ),
    _trial(
        "tokens", "no-end", 3, "a server that gives 3 answers no terminal event", counted(streams_failed=3, streams_completed=STREAMS - 3)
    ),
    _trial("tokens", "stall", 2, "a server that falls silent for 3 s in the midst of 2 answers", counted(stalls=2)),
    _trial("tokens", "usage", 6, "a server that tells a wrong usage for 6 answers", counted(usage_wrong=6)),
    _trial("tokens", "after", 5, "a server that goes on after the end of 5 answers", counted(odd_events=5)),
    _trial("tokens", "repeat", 7, "a server that sends 7 chunks twice", counted(told_wrong=True, duplicated=7)),
    _trial("tokens", "drop", 8, "a server that leaves out 8 chunks", counted(told_wrong=True, lost=8, delivered=ALL - 8)),
)
