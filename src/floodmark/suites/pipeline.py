"""The pipeline suite: the nine scenarios of the plan and what it left for later, against the embedded pipeline in its host process.

Records are made outside and offered to a stream's source; the ledger knows what was taken on and checks what the stream gives. Sizes are
the plan's own at scale 1.0 unless a docstring says otherwise, and every count is exact where the plan was content with less. What the
ledger cannot see comes from the host's statistics as `target.NAME`: figures of its bookkeeping at both edges of the pipeline, and what
the drains outside have found (unasked records, wrong groups).
"""

from __future__ import annotations

from collections.abc import Callable

from floodmark.model.arrival import Constant
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.suites.entry import Entry, criteria, scaled

PIPELINE = Target(system="pipeline")
EXACT = ("success_ratio == 100%", "lost == 0", "duplicated == 0", "disconnects == 0", "ended == 0", "stats_error == 0", "target_exits == 0")
ASKED = ("target.unasked == 0",)
NOTHING_LEFT = ("target.streams_live == 0", "target.entries_left == 0", "target.tasks_left == 0")


def groups(scale: float) -> Scenario:
    """P000-6: ten thousand records in a thousand groups; every group has its ten records and their sum, to the last one."""
    records = scaled(10_000, scale, least=1_000)
    number = min(1_000, records)
    return Scenario(
        id="pipeline.groups",
        title=f"{records:,} records grouped into {number:,} sums and counts",
        plan="P000-6",
        target=PIPELINE,
        driver="pulled",
        driver_options={"records": str(records), "groups": number},
        population=Population(connections=1),
        phases=(Phase(arrival=Constant(rate_hz=50_000), messages=records, payload_bytes=100),),
        criteria=criteria(
            *(f"delivered == {records}", f"target.groups_checked == {number}", "target.groups_wrong == 0", "target.completed == 1"),
            *(*EXACT, *ASKED, *NOTHING_LEFT),
        ),
        warmup=False,
        scale=scale,
    )


def entry(build: Callable[[float], Scenario], name: str, plan: str, quick_scale: float | None = None) -> Entry:
    """Make an entry; its text is the first line of the docstring behind the colon."""
    text = (build.__doc__ or "").split(": ", 1)[1].splitlines()[0]
    return Entry(id=f"pipeline.{name}", text=text, build=build, plan=plan, quick_scale=quick_scale)


SCENARIOS: tuple[Entry, ...] = (entry(groups, "groups", "P000-6", 0.1),)
