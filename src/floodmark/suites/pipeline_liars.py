"""The harness on trial against the pipeline: hosts whose pipeline lies in one known way, and the honest twin beside each.

Losses and repetitions are caught by the ledger; what it cannot see by those who feed and drain outside (unasked records, wrong groups, what
was taken on too early, first records that are late) or, to the record, by the host's bookkeeping where the pipeline fetches. Each lie
is planted a number of times, and the trial passes only if exactly that number was found and the twin was cleared.
"""

from __future__ import annotations

from floodmark.model.arrival import Constant
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.suites.entry import Entry, criteria, trial

RECORDS, CHUNK, GROUPS = 2_000, 100, 20
HONEST = ("target.unasked == 0", "target.ahead_max == 0", "target.ahead_seen == 0", "target.groups_wrong == 0")
"""The demand is a multiple of the chunk, so that an honest pipeline has never fetched a record that nobody has asked for."""


def honest(name: str, *, streams: int = 1, own: tuple[str, ...] = ()) -> Scenario:
    """The load of every trial: two thousand records in twenty chunks, one stream or more, of which every fifth query fails once."""
    return Scenario(
        id=f"liars.{name}",
        target=Target(system="pipeline"),
        driver="pulled",
        driver_options={
            **{"records": str(RECORDS // streams), "groups": GROUPS, "demand": CHUNK, "chunk_size": CHUNK, "max_demand": CHUNK},
            **{"query_failures": 1, "query_failures_of": 5, "watch": True},
        },
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=10_000), messages=RECORDS, payload_bytes=100),),
        criteria=criteria("lost == 0", "duplicated == 0", f"target.groups_checked == {streams * GROUPS}", *HONEST, *own),
        warmup=False,
        drain_limit_s=2.0,
    )


def _trial(name: str, title: str, lie: str, caught: tuple[str, ...], *, streams: int = 1, own: tuple[str, ...] = ()) -> Entry:
    """`own`: what the honest twin has to keep in this trial beside what it has to in all of them."""
    return trial(name, title, lambda: honest(name, streams=streams, own=own), lie, caught)


ENTRIES: tuple[Entry, ...] = (
    _trial(
        "pipeline-skip",
        "a pipeline that leaves out 3 chunks",
        "skip=3",
        (f"lost == {3 * CHUNK}", "duplicated == 0"),
    ),
    _trial(
        "pipeline-repeat",
        "a pipeline that gives 2 chunks again after a retry",
        "repeat=2",
        (f"duplicated == {2 * CHUNK}", "lost == 0"),
    ),
    _trial(
        "pipeline-overemit",
        "a pipeline that gives 7 records beyond the demand",
        "overemit=7",
        ("target.unasked == 7", "lost == 0", "duplicated == 0"),
    ),
    _trial(
        "pipeline-miscount",
        "a pipeline that miscounts 5 groups",
        "miscount=5",
        ("target.groups_wrong == 5", f"target.groups_checked == {GROUPS}", "lost == 0"),
    ),
    _trial(
        "pipeline-ahead",
        "a pipeline that ignores demand and fetches 150 records ahead",
        "ahead=150",
        ("target.ahead_max == 150", "target.ahead_seen > 0", "target.ahead_seen <= 150", "target.unasked == 0", "lost == 0"),
    ),
    _trial(
        "pipeline-late",
        "a pipeline that holds the first records of 3 streams back for 100 ms and tells a time of its own",
        "late=3",
        ("target.first_seen_s > 100ms", "target.first_seen_median_s < 100ms", "target.first_record_s < 100ms", "lost == 0"),
        streams=10,
        own=("target.first_seen_s < 100ms", "target.first_seen_count == 9"),
    ),
)
