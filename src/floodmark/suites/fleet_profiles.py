"""Long runs with random mishaps, by the seed: the plan's simulation profiles, with the hours of the long ones shortened.

Mishaps come at random times between two bounds, and each kind as often as the others: a worker crashes, one is restarted, up to ten join,
up to five leave, the real leader fails, one stands still for up to five seconds or is cut off for up to nine. After each the fleet has its
time, so the bounds are never shorter than that.
Where workers share processes, what strikes a process strikes all of them: there a whole process fails and is replaced.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from floodmark.suites.fleet_common import GIVEN, Case, chosen, script

SETTLE_S = 8.0
SETTLE_LARGE_S = 20.0
SHARED_COUNT = 20  # workers in one process, of profiles that are too large for one each


LARGE = chosen(id_max=499, cold_start_s=8, planned_scale_s=5, rebalance_interval_s=5, startup_limit_s=60)
"""The usual times with shorter windows, and room for all identities: a leader of a hundred workers needs more than test times give it."""


UNSYNCED = ("--sync", "2m")
"""The server's own usual way. Nobody kills it here, and 500 messages a second, each synced twice, would be a trial of the disk."""


class Profile(NamedTuple):
    """One of the plan's: the load, and how long it takes here instead of the plan's own length."""

    name: str
    partitions: int
    rate_hz: float
    workers: int
    seconds: float
    least_s: float
    most_s: float
    length: str


PROFILES = (
    Profile("quick", 10, 10.0, 3, 120.0, 30.0, 45.0, "two minutes"),
    Profile("chaos-test", 50, 250.0, 10, 120.0, 10.0, 20.0, "two minutes"),
    Profile("verification", 100, 200.0, 10, 120.0, 20.0, 40.0, "two minutes"),
    Profile("dev", 100, 10.0, 10, 180.0, 20.0, 40.0, "three minutes, for the plan's hour"),
    Profile("realistic", 1_500, 15.0, 100, 240.0, 25.0, 60.0, "four minutes, for the plan's eight hours"),
    Profile("stress", 1_500, 500.0, 100, 240.0, 22.0, 30.0, "four minutes, for the plan's three days"),
    Profile("extreme", 1_500, 500.0, 200, 240.0, 22.0, 25.0, "four minutes, for the plan's day"),
)


def per_process(profile: Profile) -> int:
    """How many workers share a process."""
    return 1 if profile.workers <= 10 else SHARED_COUNT


def settle_s(profile: Profile) -> float:
    """How long the fleet may take until it is settled."""
    return SETTLE_S if profile.workers <= 10 else SETTLE_LARGE_S


def mishaps(profile: Profile, seconds: float) -> str:
    """Draw them: what happens and when, so that at least three workers stay. The first one strikes the leader."""
    chance = random.Random(f"fleet {profile.name}")
    workers, lines = profile.workers, [f"0 start {profile.workers}"]
    shared = per_process(profile)
    at_s = chance.uniform(profile.least_s, profile.most_s)
    while at_s < seconds - settle_s(profile):
        kinds = ["worker_restart", "leader_failure", "scale_up", "pause", *(["disconnect"] if shared == 1 else [])]
        kinds += ["worker_crash"] if workers > 3 * shared else []
        kinds += ["scale_down"] if workers > 4 * shared else []
        match chance.choice(kinds) if len(lines) > 1 else "leader_failure":
            case "worker_crash":
                lines.append(f"{at_s:.2f} kill follower")
                workers -= shared
            case "worker_restart":
                lines.append(f"{at_s:.2f} kill follower; {at_s + 1:.2f} start {shared}")
            case "leader_failure":
                lines.append(f"{at_s:.2f} kill leader; {at_s + 1:.2f} start {shared}")
            case "scale_up":
                count = min(chance.randint(1, 10), max(1, profile.workers + 5 - workers))
                lines.append(f"{at_s:.2f} start {count}")
                workers += count
            case "scale_down":
                count = min(chance.randint(1, 5), workers - 3)
                lines.append(f"{at_s:.2f} stop count={count}")
                workers -= count
            case "pause":
                lines.append(f"{at_s:.2f} pause follower; {at_s + chance.uniform(0.5, 5):.2f} resume same")
            case "disconnect":
                lines.append(f"{at_s:.2f} isolate follower; {at_s + chance.uniform(5, 9):.2f} heal same")
        at_s += chance.uniform(profile.least_s, profile.most_s)
    return script(lines)


def _case(profile: Profile) -> Case:
    def length(scale: float) -> float:
        return max(profile.most_s + 3 * settle_s(profile), profile.seconds * scale)

    return Case(
        name=f"profile-{profile.name}",
        plan=f"4.10 {profile.name}",
        text=f"{profile.workers} workers over {profile.partitions:,} partitions with random mishaps, for {profile.length}",
        words=lambda scale: mishaps(profile, length(scale)),
        partitions=profile.partitions,
        seconds=length,
        profile="baseline" if profile.workers <= 10 else "default",
        args=("--network",) if profile.workers <= 10 else (*LARGE, *UNSYNCED),
        per_process=per_process(profile),
        settle_s=settle_s(profile),
        rate_hz=profile.rate_hz,
        must=(f"target.assigned == {profile.partitions}", "target.settled_points >= 1", GIVEN),
    )


PROFILED = tuple(_case(profile) for profile in PROFILES)
