"""Sharing partitions out: at the start, when workers come and go in good order, when the source changes; and when nothing happens."""

from __future__ import annotations

import random

from floodmark.suites.fleet_common import STILL, Case, chosen, script

ROLLING = chosen(heartbeat_s=0.5, heartbeat_ttl_s=5.0, emergency_grace_s=4.0)
"""A worker that is replaced within the grace keeps its partitions: whoever comes takes its identity."""
CHURN_SEED = 5


def replaced(workers: int, every_s: float) -> str:
    """Each worker is stopped, and half a second later another one is started."""
    moments = [(number, number * every_s) for number in range(1, workers + 1)]
    return script(f"0 start {workers}", (f"{at:g} stop {number}; {at + 0.5:g} start 1" for number, at in moments))


def churn(seconds: float, every_s: float = 5.0) -> str:
    """Between three and seven workers, one more or one less every so often, by the seed."""
    chance, workers, lines = random.Random(CHURN_SEED), 5, ["0 start 5"]
    for step in range(1, int(seconds / every_s)):
        joins = workers <= 3 or (workers < 7 and chance.random() < 0.5)
        workers += 1 if joins else -1
        lines.append(f"{step * every_s:g} start 1" if joins else f"{step * every_s:g} stop count=1")
    return script(lines)


SHARING = (
    Case(
        name="all-assigned",
        plan="B1",
        text="five workers start at once and share a hundred partitions, each exactly once, none with less than 10 or more than 40",
        words="0 start 5",
        partitions=100,
        seconds=6.0,
        profile="test",
        must=("target.workers == 5", "target.assigned == 100", "target.partitions_min >= 10", "target.partitions_max <= 40"),
    ),
    Case(
        name="unchanged",
        plan="B2",
        text="nothing is done to three workers for seven seconds, and nothing is published",
        words="0 start 3",
        partitions=50,
        seconds=7.0,
        profile="test",
        rest=True,
        must=("target.workers == 3", "target.assigned == 50", *STILL),
    ),
    Case(
        name="affinity",
        plan="B3",
        text="a fourth worker joins three, and at least 65 of a hundred partitions stay where they were",
        words="0 start 3; 5 start 1",
        partitions=100,
        seconds=11.0,
        profile="test",
        must=("target.workers == 4", "target.assigned == 100", "target.affinity_ratio >= 65%", "target.idle_workers == 0"),
    ),
    Case(
        name="round-robin",
        plan="B4",
        text="seven workers share a hundred partitions in turn; each has 14 or 15",
        words="0 start 7",
        partitions=100,
        seconds=6.0,
        profile="test",
        args=("--strategy", "round-robin"),
        must=("target.workers == 7", "target.assigned == 100", "target.partitions_min >= 14", "target.partitions_max <= 15"),
    ),
    Case(
        name="weighted",
        plan="B5",
        text="four workers share 17 partitions of weights 1, 2 and 5; nobody is further than 65 % from the mean, and the sum is exact",
        words="0 start 4",
        partitions=17,
        seconds=6.0,
        profile="test",
        args=("--strategy", "weighted", "--weights", "10x1 5x2 2x5"),
        must=("target.workers == 4", "target.assigned == 17", "target.weight_sum == 30", "target.weight_deviation_ratio <= 65%"),
    ),
    Case(
        name="refresh-add",
        plan="B6, add",
        text="the source grows from 50 to 70 partitions; all 70 are held, each once",
        words="0 start 3; 5 refresh add=20",
        partitions=50,
        seconds=11.0,
        profile="test",
        must=("target.assigned == 70", "target.workers == 3"),
    ),
    Case(
        name="refresh-remove",
        plan="B6, remove",
        text="the source shrinks from 100 to 70 partitions; what it has no more nobody holds",
        words="0 start 3; 5 refresh remove=30",
        partitions=100,
        channels=70,
        seconds=11.0,
        profile="test",
        must=("target.assigned == 70", "target.workers == 3"),
    ),
    Case(
        name="refresh-weights",
        plan="B6, weights",
        text="half of sixty partitions double their weight; all are held, each once, and the sum is exact",
        words="0 start 3; 5 refresh double=30",
        partitions=60,
        seconds=11.0,
        profile="test",
        args=("--strategy", "weighted"),
        must=("target.assigned == 60", "target.weight_sum == 9000", "target.weight_deviation_ratio <= 65%"),
    ),
    Case(
        name="refresh-twice",
        plan="B6, cooldown",
        text="two refreshes within 100 ms: no cooldown holds the second one up, and both are done",
        words="0 start 3; 5 refresh add=5; 5.1 refresh add=5",
        partitions=40,
        seconds=11.0,
        profile="test",
        args=chosen(rebalance_interval_s=0.5),
        must=("target.assigned == 50", "target.versions_load >= 1", "target.versions_load <= 3"),
    ),
    Case(
        name="rolling-update",
        plan="B13",
        text="three workers are replaced one after the other, each within the grace; their partitions stay with their identities",
        words=replaced(3, 5.0),
        partitions=15,
        seconds=24.0,
        profile="baseline",
        args=ROLLING,
        settle_s=8.0,
        must=(
            "target.workers == 3",
            "target.assigned == 15",
            "target.emergencies_load == 0",
            "target.affinity_ratio >= 95%",
            "target.not_joined == 0",
        ),
    ),
    Case(
        name="rolling-update-large",
        plan="B15",
        text="ten workers are replaced one by one, as Kubernetes does it; at least 95 of a hundred partitions stay where they are",
        words=replaced(10, 4.0),
        partitions=100,
        seconds=54.0,
        args=ROLLING,
        settle_s=8.0,
        must=(
            "target.workers == 10",
            "target.assigned == 100",
            "target.affinity_ratio >= 95%",
            "target.not_joined == 0",
        ),
    ),
    Case(
        name="rapid-scale",
        plan="B16",
        text="seven workers join three at once; in at most three rounds all ten have their share",
        words="0 start 3; 4 start 7",
        partitions=20,
        seconds=16.0,
        profile="baseline",
        args=chosen(planned_scale_s=3, cold_start_s=3),
        settle_s=8.0,
        rest=True,
        must=("target.workers == 10", "target.assigned == 20", "target.versions_load <= 3", "target.versions_load >= 1"),
    ),
    Case(
        name="churn",
        plan="B18",
        text="for a minute a worker comes or goes every five seconds; fifty partitions are held whenever the fleet is settled",
        words=lambda scale: churn(max(20.0, 60.0 * scale)),
        partitions=50,
        seconds=lambda scale: max(20.0, 60.0 * scale) + 5.0,
        profile="test",
        settle_s=4.0,
        must=("target.assigned == 50", "target.settled_points >= 3"),
    ),
    Case(
        name="cold-start",
        plan="B24, cold start",
        text="three workers come to a fleet that has none; one leads, and ten partitions are held",
        words="0 start 3",
        partitions=10,
        seconds=6.0,
        must=("target.leaders == 1", "target.workers == 3", "target.assigned == 10", "target.first_assignment_s < 1s"),
    ),
    Case(
        name="planned-scale",
        plan="B24, planned scale",
        text="two workers join three; one leads all the while, and twenty partitions are held",
        words="0 start 3; 4 start 2",
        partitions=20,
        seconds=10.0,
        must=("target.leaders == 1", "target.workers == 5", "target.assigned == 20", "target.emergencies == 0"),
    ),
    Case(
        name="thundering-herd",
        plan="B25",
        text="ten workers leave within two seconds and come back at once; at least 40 of fifty partitions are where they were",
        words="0 start 10; 5 stop count=10; 7.5 start 10",
        partitions=50,
        seconds=20.0,
        profile="baseline",
        settle_s=8.0,
        must=("target.workers == 10", "target.assigned == 50", "target.affinity_ratio >= 80%", "target.stop_max_s < 2s"),
    ),
    Case(
        name="newcomer",
        plan="B31",
        text="a fourth worker has its partitions less than three seconds after it has its identity, in at most two rounds",
        words="0 start 3; 4 start 1",
        partitions=20,
        seconds=10.0,
        profile="test",
        rest=True,
        must=("target.workers == 4", "target.joined_max_s < 3s", "target.versions_load >= 1", "target.versions_load <= 2"),
    ),
    Case(
        name="same-ids",
        plan="B32",
        text="five workers come at once, leave, and come again: five identities, none of them twice",
        words="0 start 5; 4 stop count=5; 6 start 5",
        partitions=20,
        seconds=14.0,
        settle_s=6.0,
        must=("target.ids == 5", "target.claims == 10", "target.workers == 5", "target.assigned == 20"),
    ),
    Case(
        name="many-workers",
        plan="",
        text="fifty workers start at once over five hundred partitions; all of them are stable in less than ten seconds",
        words="0 start 50",
        partitions=500,
        seconds=8.0,
        per_process=25,
        must=("target.stable_s < 10s", "target.workers == 50", "target.assigned == 500", "target.leaders == 1"),
    ),
)
