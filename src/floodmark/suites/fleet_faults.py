"""Workers, leaders, the network and the server fail: partitions find new owners in time, one leads, and no acknowledged message is lost.

How long it may take is the sum of what the settings say: a heartbeat's TTL until a worker is missed, the grace, and less than a second.
"""

from __future__ import annotations

from floodmark.suites.fleet_common import BACK, GIVEN, RATE_HZ, RATE_HZ_LEAST, STILL, Case, chosen, script

EXACT_GRACE = chosen(heartbeat_s=0.5, heartbeat_ttl_s=1.5, emergency_grace_s=1.0)
LONG_WINDOW = chosen(planned_scale_s=10, cold_start_s=10, rebalance_interval_s=10, startup_limit_s=30)
"""Windows that no crash may have to wait for."""
DEFAULT_LIMIT = "10s"  # TTL 6 s, grace 3 s, and a second
TRIALS = 20


def crashes(scale: float) -> str:
    """One worker after the other is killed and replaced, once the fleet has settled."""
    return script("0 start 3", (f"{3 + 30 * turn:g} kill follower; {15 + 30 * turn:g} start 1" for turn in range(turns(scale))))


def turns(scale: float) -> int:
    """How many trials there are at a scale."""
    return max(1, round(TRIALS * scale))


def leaders_killed(rounds: int) -> str:
    """The leader is killed again and again, and another worker started."""
    return script("0 start 4", (f"{3 + 8 * turn:g} kill leader; {4 + 8 * turn:g} start 1" for turn in range(rounds)))


def server_lost(scale: float) -> tuple[str, ...]:
    """What must hold where NATS itself goes away: the fleet sits it out.

    What was in flight at the break is never answered, and nobody's fault; but it is in flight for milliseconds. More than a second of load
    was sent to a server that did not listen, or to one that came back and does not answer.
    """
    second = int(max(RATE_HZ_LEAST, RATE_HZ * scale))
    fleet = ("target.workers == 3", "target.assigned == 12", "target.emergencies_load == 0")
    return ("disconnects >= 1", *fleet, f"unanswered <= {second}")


FAULTS = (
    Case(
        name="blip",
        plan="B8",
        text="a worker is silent twice, each time for less than the grace: nothing is published, and nobody calls it an emergency",
        words="0 start 3; 2 pause 2; 3.1 resume 2; 8 pause 2; 9.1 resume 2",
        partitions=9,
        seconds=14.0,
        profile="emergency-fast",
        args=chosen(emergency_grace_s=0.7),
        rest=True,
        must=("target.workers == 3", "target.blips == 2", "target.silence_max_s > 0.9s", *STILL[:2]),
    ),
    Case(
        name="loss",
        plan="B9",
        text="one of three workers is killed; after TTL and grace the other two have its partitions",
        words="0 start 3; 3 kill follower",
        partitions=9,
        seconds=9.0,
        profile="emergency-fast",
        args=chosen(emergency_grace_s=0.5),
        must=("target.workers == 2", "target.assigned == 9", "target.reassign_max_s < 2.4s", "target.reassign_min_s > 1s", GIVEN),
    ),
    Case(
        name="two-lost",
        plan="B10",
        text="two of four workers are killed at once; the other two have all partitions",
        words="0 start 4; 3 kill follower; 3 kill follower",
        partitions=12,
        seconds=9.0,
        profile="emergency-fast",
        must=("target.workers == 2", "target.assigned == 12", "target.reassign_max_s < 2.5s", "target.reassigned == 2", GIVEN),
    ),
    Case(
        name="crash",
        plan="B11",
        text="one of three workers is killed under load; its partitions have new owners within TTL, grace and a second",
        words="0 start 3; 3 kill follower",
        partitions=12,
        seconds=13.0,
        profile="baseline",
        args=EXACT_GRACE,
        must=("target.workers == 2", "target.assigned == 12", "target.reassign_max_s < 3.5s", "target.emergencies >= 1", GIVEN),
    ),
    Case(
        name="crash-default-timing",
        plan="",
        text="twenty crashes with the default times: each has new owners within heartbeat TTL, grace and a second",
        words=crashes,
        partitions=12,
        seconds=lambda scale: 30.0 * turns(scale) + 2.0,
        profile="default",
        args=chosen(cold_start_s=10),
        settle_s=13.0,
        rate_hz=20.0,
        must=lambda scale: (
            f"target.reassign_max_s < {DEFAULT_LIMIT}",
            f"target.reassigned == {turns(scale)}",
            "target.workers == 3",
            GIVEN,
        ),
    ),
    Case(
        name="cascade",
        plan="B12",
        text="three of five workers leave two seconds apart; the other two have all twenty partitions",
        words="0 start 5; 3 stop 5; 5 stop 4; 7 stop 3",
        partitions=20,
        seconds=15.0,
        profile="baseline",
        must=("target.workers == 2", "target.assigned == 20", GIVEN),
    ),
    Case(
        name="slow-worker",
        plan="B14",
        text="a worker's heartbeats become too slow to count; its partitions have new owners within ten seconds",
        words="0 start 3; 3 slow 2 50",
        partitions=12,
        seconds=12.0,
        profile="baseline",
        settle_s=8.0,
        must=("target.reassigned == 1", "target.reassign_max_s < 4s", "target.assigned == 12", GIVEN),
    ),
    Case(
        name="network-partition",
        plan="B17",
        text="three of six workers are cut off from NATS: the others have all fifty partitions, and after it all six share them again",
        words="0 start 6; 4 isolate 4; 4 isolate 5; 4 isolate 6; 14 heal 4; 14 heal 5; 14 heal 6",
        partitions=50,
        seconds=26.0,
        profile="baseline",
        args=("--network",),
        settle_s=8.0,
        must=("target.workers == 6", "target.assigned == 50", "target.partitions_min >= 2", "target.partitions_max <= 14", GIVEN),
    ),
    Case(
        name="mass-failure",
        plan="B19",
        text="eight of ten workers leave at once; two have all fifty partitions, and after a staggered return ten share them",
        words="0 start 10; 5 stop count=8; 14 start 4; 15 start 4",
        partitions=50,
        seconds=25.0,
        profile="baseline",
        settle_s=8.0,
        must=("target.workers == 10", "target.assigned == 50", "target.settled_points >= 3", GIVEN),
    ),
    Case(
        name="mass-restart",
        plan="B24, restart",
        text="ten workers over a hundred partitions are killed and started anew; all partitions are held again, by one version",
        words=script("0 start 10", (f"5 kill {number}" for number in range(1, 11)), "6 start 10"),
        partitions=100,
        seconds=20.0,
        args=chosen(id_ttl_s=3),
        settle_s=9.0,
        must=("target.workers == 10", "target.assigned == 100"),
    ),
    Case(
        name="leader-fails-in-rebalance",
        plan="B20",
        text="the leader is killed while three workers join five: one new leader, and all fifty partitions are held",
        words="0 start 5; 4 start 3; 4.2 kill leader",
        partitions=50,
        seconds=14.0,
        settle_s=6.0,
        must=("target.leaders == 2", "target.workers == 7", "target.assigned == 50", "target.failover_max_s < 8s", GIVEN),
    ),
    Case(
        name="slow-but-valid",
        plan="B21",
        text="three workers beat at half their pace, which is still within the TTL: nothing is published",
        words="0 start 3; 1 slow 1 2; 1 slow 2 2; 1 slow 3 2",
        partitions=6,
        seconds=15.0,
        profile="baseline",
        args=chosen(heartbeat_s=1, heartbeat_ttl_s=3, emergency_grace_s=2),
        rest=True,
        must=("target.workers == 3", "target.silence_max_s > 1.5s", "target.silence_max_s < 3s", *STILL),
    ),
    Case(
        name="election-race",
        plan="B22",
        text="five workers start at the same moment: exactly one leads, and all are stable",
        words="0 start 5",
        partitions=20,
        seconds=8.0,
        must=("target.leaders == 1", "target.workers == 5", "target.assigned == 20", "target.stable_s < 8s"),
    ),
    Case(
        name="leader-failover",
        plan="B23",
        text="the real leader is killed: another one leads within eight seconds, and no version goes back",
        words="0 start 3; 8 kill leader",
        partitions=20,
        seconds=16.0,
        settle_s=6.0,
        rest=True,
        must=("target.leaders == 2", "target.failover_max_s < 8s", "target.workers == 2", "target.assigned == 20", GIVEN),
    ),
    Case(
        name="leader-churn",
        plan="B23, churn",
        text="three leaders in a row are killed and replaced; no orphan and no duplicate after any of them",
        words=leaders_killed(3),
        partitions=20,
        seconds=28.0,
        must=("target.failovers == 3", "target.no_new_leader == 0", "target.workers == 4", "target.assigned == 20", GIVEN),
    ),
    Case(
        name="split-brain",
        plan="B26",
        text="the leader and a follower of four are cut off: one new leader, and not one write of the old one arrives after it",
        words="0 start 1; 0 start 3; 4 isolate 1; 4 isolate 2; 14 heal 1; 14 heal 2",
        partitions=50,
        seconds=26.0,
        profile="baseline",
        args=("--network",),
        settle_s=8.0,
        must=("target.failovers >= 1", "target.leaders >= 2", "target.workers == 4", "target.assigned == 50", GIVEN),
    ),
    Case(
        name="gray-failure",
        plan="B27",
        text="one of five workers beats at half its pace for half a minute, within the TTL: nobody moves anything",
        words="0 start 5; 1 slow 2 2",
        partitions=50,
        seconds=lambda scale: max(10.0, 30.0 * scale),
        profile="baseline",
        rest=True,
        must=("target.workers == 5", "target.assigned == 50", "target.silence_max_s > 0.8s", *STILL),
    ),
    Case(
        name="publish-fails",
        plan="B28",
        text="the third write of the leader's second round fails: the round is completed or done again, and every record is of one version",
        words="0 start 3; 4 start 1",
        partitions=40,
        seconds=12.0,
        profile="test",
        args=("--fail-put", "round=2,k=2"),
        settle_s=6.0,
        must=("target.puts_failed >= 1", "target.workers == 4", "target.assigned == 40"),
    ),
    Case(
        name="crash-masked-by-join",
        plan="B28a",
        text="one worker is killed and one started within 100 ms: the partitions do not wait for the window of a planned change",
        words="0 start 5; 3 kill follower; 3.05 start 1",
        partitions=50,
        seconds=18.0,
        profile="baseline",
        args=(*EXACT_GRACE, *LONG_WINDOW),
        settle_s=14.0,
        must=("target.reassign_max_s < 3.5s", "target.reassigned == 1", "target.workers == 5", GIVEN),
    ),
    Case(
        name="flapping",
        plan="B28b",
        text="a worker is silent for less than the grace, and again much later: the first silence is not held against it",
        words="0 start 3; 2 pause 2; 3.1 resume 2; 24 pause 2; 25.1 resume 2",
        partitions=12,
        seconds=30.0,
        profile="emergency-fast",
        args=chosen(emergency_grace_s=0.7),
        rest=True,
        must=("target.workers == 3", "target.blips == 2", "target.silence_max_s > 0.9s", *STILL[:2]),
    ),
    Case(
        name="crash-in-cooldown",
        plan="B28c, cooldown",
        text="a worker is killed right after a round: the cooldown of ten seconds does not hold its partitions up",
        words="0 start 4; 0.5 refresh add=2; 1 kill follower",
        partitions=20,
        seconds=18.0,
        profile="baseline",
        args=(*EXACT_GRACE, *LONG_WINDOW),
        settle_s=14.0,
        must=("target.reassign_max_s < 3.5s", "target.reassigned == 1", "target.workers == 3", GIVEN),
    ),
    Case(
        name="crash-in-window",
        plan="B28c, window",
        text="a worker is killed while a newcomer waits in the window of ten seconds: that window does not hold its partitions up",
        words="0 start 4; 3 start 1; 4.5 kill 2",
        partitions=20,
        seconds=22.0,
        profile="baseline",
        args=(*EXACT_GRACE, *LONG_WINDOW),
        settle_s=16.0,
        must=("target.reassign_max_s < 3.5s", "target.reassigned == 1", "target.workers == 4", GIVEN),
    ),
    Case(
        name="zombie",
        plan="B28d",
        text="a worker's heartbeats stop while it could go on working: it stops by itself, and no partition has two owners",
        words="0 start 3; 3 mute 2; 12 unmute 2",
        partitions=12,
        seconds=20.0,
        profile="baseline",
        args=EXACT_GRACE,
        must=("target.reassign_max_s < 3.5s", "target.overlap_max_s < 1s", "target.workers == 3", GIVEN),
    ),
    Case(
        name="paused",
        plan="",
        text="a worker's process stands still for ten seconds and goes on: what it had in hand is not written over what came after",
        words="0 start 3; 3 pause 2; 13 resume 2",
        partitions=12,
        seconds=23.0,
        profile="baseline",
        args=EXACT_GRACE,
        must=("target.reassign_max_s < 3.5s", "target.overlap_max_s < 1s", "target.workers == 3", GIVEN),
    ),
    Case(
        name="degraded",
        plan="B30",
        text="NATS is killed and away for four seconds: assignments stay as they are, nobody declares an emergency, nothing is lost",
        words="0 start 3; 3 server_kill 4",
        partitions=12,
        seconds=18.0,
        profile="baseline",
        args=chosen(degraded_enter_s=2, degraded_exit_s=1, degraded_errors_count=3, degraded_window_s=5, recovery_grace_s=6),
        settle_s=9.0,
        rest=True,
        reconnect=BACK,
        must=server_lost,
    ),
    Case(
        name="server-restart",
        plan="",
        text="NATS is ended gently and started again: the fleet keeps its partitions, its leader and every acknowledged message",
        words="0 start 3; 3 server_restart",
        partitions=12,
        seconds=14.0,
        profile="baseline",
        settle_s=7.0,
        rest=True,
        reconnect=BACK,
        must=server_lost,
    ),
)
