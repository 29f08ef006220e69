"""What a fleet costs: memory and tasks of its workers, apart from the server and with it, per further worker and per further partition.

Memory is measured from outside. The process tree of the target is the host and the workers (`rss_peak`); what the workers alone have comes
from looks at their processes, the proportional share of each (`target.memory_peak_bytes`). The plan's own figures of a few megabytes are
those of another language and are not what is asked here: a Python process begins at some thirty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from floodmark.suites.fleet_common import RATE_HZ, RATE_HZ_LEAST, Case, chosen, script

APART = ("--server", "apart")
LEVEL_S = 6.0
WORKER_LEVELS = (1, 5, 10, 20, 30)
PARTITION_LEVELS = (50, 100, 200, 500, 1000)
CONFIGURATIONS = ((1, 100), (5, 100), (10, 100), (10, 500), (25, 500), (50, 500))
CHURNING, AWAY, LEAVING, TURNS = 16, 8, 4, 12  # workers, how many stay away for a while, how many leave at once, and how often in a round
ROUNDS, ROUNDS_LEAST, ROUND_S, TURN_S = 40, 8, 12.0, 0.4
FOUND_BYTES = 10_000  # of each worker that has gone, at scale 1
IDS_TTL = chosen(heartbeat_s=0.1, heartbeat_ttl_s=0.25, emergency_grace_s=0.15)


def looks(from_s: float, to_s: float, every_s: float) -> list[str]:
    """Looks at the memory of all workers, again and again."""
    return [f"{from_s + every_s * number:g} measure" for number in range(int((to_s - from_s) / every_s) + 1)]


def worker_levels() -> str:
    """A fleet of its own for each number of workers, all of them in one process; three looks at each when it has come to rest."""
    lines = [f"0 start {WORKER_LEVELS[0]}"]
    for number, workers in enumerate(WORKER_LEVELS):
        begin_s = number * LEVEL_S + 0.01
        if number:
            lines += [f"{begin_s:g} stop count={WORKER_LEVELS[number - 1]}", f"{begin_s + 0.5:g} start {workers}"]
        lines += looks(begin_s + 3.9, begin_s + 4.9, 0.5)
    return script(lines)


def partition_levels() -> str:
    """Ten workers in one process, and more and more partitions."""
    lines, has = ["0 start 10"], PARTITION_LEVELS[0]
    for number, partitions in enumerate(PARTITION_LEVELS):
        begin_s = number * LEVEL_S + 0.01
        if number:
            lines.append(f"{begin_s:g} refresh add={partitions - has}")
            has = partitions
        lines += looks(begin_s + 3.9, begin_s + 4.9, 0.5)
    return script(lines)


def isolated(workers: int, partitions: int) -> Case:
    """One of the six fleets whose memory is measured with the server apart."""
    largest = (workers, partitions) == CONFIGURATIONS[-1]
    return Case(
        name="memory-isolated" if largest else f"memory-isolated-{workers}w-{partitions}p",
        plan="A1" if largest else f"A1, {workers}w-{partitions}p",
        text=f"memory of {workers} workers over {partitions} partitions in one process, the server apart",
        words=lambda scale: script(f"0 start {workers}", looks(1.0, minutes(60.0)(scale) - 1.0, 2.0)),
        partitions=partitions,
        seconds=minutes(60.0),
        profile="test",
        args=APART,
        per_process=workers,
        must=("target.memory_peak_bytes < 200MB", "target.tasks_max < 1000", f"target.workers == {workers}", "target.looks >= 3"),
    )


def minutes(full_s: float) -> Callable[[float], float]:
    """A length that the scale shortens, never below ten seconds."""
    return lambda scale: max(10.0, full_s * scale)


class Churn(NamedTuple):
    """Workers that come and go in one process, in rounds, and a look at the end of each, when all is quiet.

    At first the youngest stay away until the others have their partitions. Then the oldest leave, some at a time, with them whoever leads,
    and others are there at once: each works for as long as it takes to replace all. What is asked of the leak verdict is to find
    `FOUND_BYTES` kept of each worker that has gone, by a load that goes on all the while; a run that is shorter, by the scale, has fewer of
    them and finds as much more of each.
    """

    rounds: int

    @property
    def comings(self) -> int:
        """How many workers come under load; as many go."""
        return self.rounds * (AWAY + TURNS * LEAVING)

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.rounds * ROUND_S + 1.0

    @property
    def words(self) -> str:
        """Its script. Workers are numbered in the order of their start."""
        here, lines = deque(range(1, CHURNING + 1)), [f"0 start {CHURNING}"]
        for number in range(self.rounds):
            at_s = number * ROUND_S + 0.1
            lines.append(f"{at_s:g} stop count={AWAY}; {at_s + 1.4:g} start {AWAY}")
            here = deque([*list(here)[:-AWAY], *range(here[-1] + 1, here[-1] + 1 + AWAY)])
            for turn in range(TURNS):
                turn_s = at_s + 2.0 + TURN_S * turn
                lines += [f"{turn_s + 0.04 * place:g} stop {here.popleft()}" for place in range(LEAVING)]
                lines.append(f"{turn_s + 0.04 * LEAVING:g} start {LEAVING}")
                here.extend(range(here[-1] + 1, here[-1] + 1 + LEAVING))
            lines.append(f"{at_s + ROUND_S - 0.3:g} measure")
        return script(lines)

    def limit_bytes_per_message(self, rate_hz: float) -> float:
        """The slope that is half of what is to be found, so that it and none are both out of doubt."""
        found_bytes = FOUND_BYTES * ROUNDS / self.rounds
        return found_bytes / 2 * self.comings / (rate_hz * self.seconds)


def churn(scale: float) -> Churn:
    """So many rounds as the scale has, and never less than the looks need."""
    return Churn(max(ROUNDS_LEAST, round(ROUNDS * scale)))


def churn_must(scale: float) -> tuple[str, ...]:
    """What comes of it: nothing is kept, by the leak verdict and by the looks at the same number of workers."""
    course = churn(scale)
    return (
        f"leak_bytes_per_message < {course.limit_bytes_per_message(max(RATE_HZ_LEAST, RATE_HZ * scale)):.0f}B",
        *("target.memory_rise_bytes < 5MB", "target.tasks_rise < 10", f"target.looks == {course.rounds}"),
        *(f"target.claims >= {round(0.9 * course.comings)}", f"target.workers == {CHURNING}", "target.assigned == 50"),
        "target.settled_points >= 2",
    )


COSTS = (
    *(isolated(workers, partitions) for workers, partitions in CONFIGURATIONS),
    Case(
        name="memory-embedded",
        plan="A2",
        text="memory of ten workers over a hundred partitions, the server in the process tree: the whole, and the workers' part of it",
        words=lambda scale: script("0 start 10", looks(1.0, minutes(30.0)(scale) - 1.0, 2.0)),
        partitions=100,
        seconds=minutes(30.0),
        profile="test",
        per_process=10,
        must=("rss_peak < 300MB", "target.memory_peak_bytes < 200MB", "target.tasks_max < 1000", "target.looks >= 3"),
    ),
    Case(
        name="memory-per-worker",
        plan="A3",
        text="memory of one further worker in a process: the slope over 1, 5, 10, 20 and 30 workers, with its 95 % interval",
        words=worker_levels(),
        partitions=100,
        seconds=len(WORKER_LEVELS) * LEVEL_S,
        args=APART,
        per_process=max(WORKER_LEVELS),
        must=("target.memory_per_worker_bytes < 300KB", "target.memory_per_worker_upper_bytes < 500KB"),
    ),
    Case(
        name="memory-per-partition",
        plan="A4",
        text="memory of one further partition for ten workers: the slope over 50, 100, 200, 500 and 1,000, with its 95 % interval",
        words=partition_levels(),
        partitions=PARTITION_LEVELS[0],
        seconds=len(PARTITION_LEVELS) * LEVEL_S,
        args=APART,
        per_process=10,
        must=("target.memory_per_partition_bytes < 20KB", "target.memory_per_partition_upper_bytes < 40KB", "target.assigned == 1000"),
    ),
    Case(
        name="scale-small",
        plan="A5",
        text="one, three, five and ten workers over a hundred partitions: no errors, less than 500 MB and 500 tasks",
        words=script("0 start 1; 5 start 2; 12 start 2; 19 start 5", looks(4.0, 24.0, 5.0)),
        partitions=100,
        seconds=26.0,
        per_process=5,
        must=("rss_peak < 500MB", "target.tasks_max < 500", "target.workers == 10", "target.assigned == 100"),
    ),
    Case(
        name="scale-large",
        plan="A6",
        text="ten, 25 and fifty workers over five hundred partitions: no errors, less than 1,000 MB and 1,000 tasks",
        words=script("0 start 10; 8 start 15; 18 start 25", looks(6.0, 28.0, 2.0)),
        partitions=500,
        seconds=30.0,
        per_process=25,
        settle_s=6.0,
        must=("rss_peak < 1000MB", "target.tasks_max < 1000", "target.workers == 50", "target.assigned == 500"),
    ),
    Case(
        name="rapid-scaling",
        plan="A7",
        text="from one worker to five to ten in quick succession: in at most three rounds all partitions are shared out",
        words="0 start 1; 3 start 4; 3.8 start 5",
        partitions=100,
        seconds=16.0,
        profile="baseline",
        per_process=5,
        rest=True,
        must=("target.versions_load <= 3", "target.versions_load >= 1", "target.workers == 10", "target.assigned == 100"),
    ),
    Case(
        name="stability",
        plan="A8",
        text="twenty workers for five minutes: the last quarter has not 50 MB and 50 tasks more than the first",
        words=lambda scale: script("0 start 20", looks(1.0, minutes(300.0)(scale) - 1.0, max(0.25, 5.0 * min(1.0, scale)))),
        partitions=200,
        seconds=minutes(300.0),
        per_process=20,
        rest=True,
        must=("target.looks > 30", "target.memory_rise_bytes < 50MB", "target.tasks_rise < 50", "target.versions_load == 0"),
    ),
    Case(
        name="smoke",
        plan="A9",
        text="two workers over twenty partitions for three seconds: everything is wired up",
        words="0 start 2",
        partitions=20,
        seconds=lambda scale: max(1.0, 3.0 * scale),
        args=chosen(heartbeat_ttl_s=3.0, election_timeout_s=3.0),  # a disk that takes two seconds to write is no failure of the wiring
        settle_s=2.0,
        must=("target.workers == 2", "target.assigned == 20", "target.leaders == 1", "duplicated == 0"),
        quick_scale=0.35,
    ),
    Case(
        name="id-churn",
        plan="A10",
        text="twenty workers come and are killed one after the other: each finds the identity of the last one expired, and takes it",
        words=script("0 start 1", (f"{1 + 4 * turn:g} kill {turn + 1}; {1.4 + 4 * turn:g} start 1" for turn in range(20))),
        partitions=4,
        seconds=85.0,
        args=(*IDS_TTL, *chosen(id_ttl_s=0.3, id_max=3)),
        settle_s=2.5,
        must=("target.ids == 1", "target.claims == 21", "target.workers == 1", "target.assigned == 4"),
    ),
    Case(
        name="ids-reclaimed",
        plan="A12",
        text="three workers are killed and eight claim ten identities: each has one of its own, and partitions within three seconds",
        words="0 start 3; 2 kill 1; 2 kill 2; 2 kill 3; 2.5 start 8",
        partitions=16,
        seconds=12.0,
        args=(*IDS_TTL, *chosen(id_ttl_s=0.35, id_max=9)),
        settle_s=5.0,
        must=("target.workers == 8", "target.assigned == 16", "target.not_joined == 0", "target.joined_max_s < 3s"),
    ),
    Case(
        name="churn-memory",
        plan="",
        text=f"an hour's comings and goings in eight minutes, {Churn(ROUNDS).comings:,} workers in one process, the server apart: "
        f"nothing is kept of those who have gone ({FOUND_BYTES // 1_000} KB of each would be found; of fewer, at a smaller scale, as much "
        "more), and those who stay do not grow",
        words=lambda scale: churn(scale).words,
        partitions=50,
        seconds=lambda scale: churn(scale).seconds,
        profile="test",
        args=APART,
        per_process=CHURNING,
        must=churn_must,
    ),
)
