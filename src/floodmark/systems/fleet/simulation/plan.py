"""What one seed plays: a fleet, a climate, and episodes of faults with a quiet time after each. Pure: the same seed gives the same plan.

An episode is a list of acts at times. Who an act is done to is said as "leader", "follower" or a number, and found when it is done, so
that every plan makes sense whatever the fleet has become by then.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.settings import Handover, Settings
from floodmark.systems.fleet.simulation.weather import CALM, CLIMATES, Weather

PROFILES: Final = ("fast", "fast", "emergency-fast", "baseline", "baseline", "test", "default")
STRATEGIES: Final = ("consistent-hash", "consistent-hash", "weighted", "round-robin")
LARGE_FROM: Final = 30  # one seed in so many has a fleet of up to 50
CLOCK_SKEW_RATIO: Final = 0.01


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is done to the fleet."""

    at_s: float  # since the episode began
    do: str  # a word of director.WORDS
    who: str | int = "follower"
    for_s: float = 0.0  # how long it lasts, where it lasts
    count: int = 1


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """Some acts, and the quiet after them."""

    name: str
    acts: tuple[Act, ...]

    @property
    def lasts_s(self) -> float:
        """Until the last act is over."""
        return max((act.at_s + act.for_s for act in self.acts), default=0.0)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run needs to know."""

    seed: int
    settings: Settings
    profile: str
    strategy: str
    weather: Weather
    workers_count: int
    partitions_count: int
    start_within_s: float
    clock_skew_ratio: float
    episodes: tuple[Episode, ...]


Template = Callable[[random.Random, Settings], list[Act]]


def _loss_s(s: Settings) -> float:
    """A little more than a loss takes from crash to new owner."""
    return s.heartbeat_ttl_s + s.emergency_grace_s + 1.0


def _crash(rng: random.Random, s: Settings) -> list[Act]:
    return [Act(at_s=rng.uniform(0, s.heartbeat_s), do="crash", who=rng.randrange(50))]


def _crash_leader(rng: random.Random, s: Settings) -> list[Act]:
    return [Act(at_s=rng.uniform(0, s.heartbeat_s), do="crash", who="leader")]


def _crash_and_join(rng: random.Random, s: Settings) -> list[Act]:
    at_s = rng.uniform(0, s.heartbeat_s)
    return [
        Act(at_s=at_s, do="crash"),
        Act(at_s=at_s + rng.uniform(0, s.heartbeat_ttl_s), do="start", count=rng.randint(1, 2)),
    ]


def _crash_in_window(rng: random.Random, s: Settings) -> list[Act]:
    """A crash whose loss is confirmed while a window runs that others opened."""
    joins_s = max(0.0, s.heartbeat_ttl_s + s.emergency_grace_s - rng.uniform(0.2, 0.9) * s.planned_scale_s)
    return [Act(at_s=0.1, do="crash"), Act(at_s=0.1 + joins_s, do="start")]


def _crash_in_cooldown(rng: random.Random, s: Settings) -> list[Act]:
    """A crash whose loss is confirmed soon after a round."""
    loss_s = s.heartbeat_ttl_s + s.emergency_grace_s
    crash_s = max(0.0, s.planned_scale_s - loss_s + rng.uniform(0.1, 0.5) * s.rebalance_interval_s) + s.heartbeat_s
    return [Act(at_s=0.0, do="start"), Act(at_s=crash_s, do="crash", who="follower")]


def _flap(rng: random.Random, s: Settings) -> list[Act]:
    """Absent for less than the grace, again and again."""
    who, at_s, acts = rng.randrange(50), 0.0, []
    for _ in range(rng.randint(2, 4)):
        for_s = s.heartbeat_ttl_s + rng.uniform(0.2, 0.8) * (s.emergency_grace_s - s.heartbeat_s)
        acts.append(Act(at_s=at_s, do="mute", who=who, for_s=for_s))
        at_s += for_s + rng.uniform(1.0, 3.0) * _loss_s(s)
    return acts


def _crash_join_then_flap(rng: random.Random, s: Settings) -> list[Act]:
    later_s = _loss_s(s) + s.planned_scale_s + s.rebalance_interval_s
    return _crash_and_join(rng, s) + [msgspec.structs.replace(act, at_s=act.at_s + later_s) for act in _flap(rng, s)]


def _leave(rng: random.Random, s: Settings) -> list[Act]:
    return [Act(at_s=0.0, do="leave", who=rng.choice(["leader", "follower"]))]


def _scale(rng: random.Random, s: Settings) -> list[Act]:
    return [Act(at_s=rng.uniform(0, s.planned_scale_s), do="start", count=rng.randint(1, 3)) for _ in range(rng.randint(1, 3))]


def _rolling(rng: random.Random, s: Settings) -> list[Act]:
    acts, at_s = [], 0.0
    for number in range(rng.randint(2, 4)):
        acts.append(Act(at_s=at_s, do="leave", who=number))
        at_s += rng.uniform(0.1, 2.0) * s.emergency_grace_s
        acts.append(Act(at_s=at_s, do="start"))
        at_s += rng.uniform(0.5, 2.0) * s.planned_scale_s
    return acts


def _cascade(rng: random.Random, s: Settings) -> list[Act]:
    return [Act(at_s=number * rng.uniform(0.1, 1.5) * s.heartbeat_ttl_s, do="crash", who=rng.randrange(50)) for number in range(3)]


def _refresh(rng: random.Random, s: Settings) -> list[Act]:
    return [
        Act(at_s=rng.uniform(0, s.rebalance_interval_s), do=rng.choice(["add", "remove"]), count=rng.randint(1, 20))
        for _ in range(rng.randint(1, 3))
    ]


def _freeze(rng: random.Random, s: Settings) -> list[Act]:
    who = rng.choice(["leader", "leader", "follower"])
    return [Act(at_s=0.0, do="freeze", who=who, for_s=rng.choice([0.3, 1.2, 2.5, 4.0]) * _loss_s(s))]


def _freeze_in_round(rng: random.Random, s: Settings) -> list[Act]:
    """The leader stops in the middle of writing a round, and goes on when there is another leader."""
    for_s = rng.uniform(1.0, 3.0) * (s.election_timeout_s + _loss_s(s))
    acts = [
        Act(
            at_s=0.0,
            do=rng.choice(["freeze-in-round", "crash-in-round", "cut-in-round"]),
            who="leader",
            count=rng.randint(1, 4),
            for_s=for_s,
        )
    ]
    return acts + rng.choice([_scale, _crash_and_join, _leave])(rng, s)


def _fail_puts(rng: random.Random, s: Settings) -> list[Act]:
    """Some writes of the next rounds fail."""
    acts = [Act(at_s=0.0, do="fail-in-round", count=rng.randint(1, 4))]
    return acts + rng.choice([_scale, _crash_and_join, _refresh])(rng, s)


def _zombie(rng: random.Random, s: Settings) -> list[Act]:
    """Out of reach, and working on."""
    do = rng.choice(["cut", "mute", "deafen", "gag"])
    return [Act(at_s=0.0, do=do, who=rng.choice(["leader", "follower", "follower"]), for_s=rng.uniform(1.5, 5.0) * _loss_s(s))]


def _split(rng: random.Random, s: Settings) -> list[Act]:
    for_s = rng.uniform(0.3, 4.0) * _loss_s(s)
    return [Act(at_s=rng.uniform(0, 0.5), do="cut", who=number, for_s=for_s) for number in range(rng.randint(1, 3))]


def _outage(rng: random.Random, s: Settings) -> list[Act]:
    acts = [Act(at_s=0.1, do="outage", for_s=rng.choice([0.2, 1.0, 3.0]) * s.heartbeat_ttl_s)]
    return acts + rng.choice([_scale, _crash, _freeze])(rng, s)


def _break_watches(rng: random.Random, s: Settings) -> list[Act]:
    return [Act(at_s=rng.uniform(0, 1), do="break-watches", who=number) for number in range(rng.randint(1, 5))] + _scale(rng, s)


def _churn(rng: random.Random, s: Settings) -> list[Act]:
    acts = []
    for _ in range(rng.randint(4, 10)):
        do = rng.choice(["crash", "leave", "start", "start", "freeze", "cut", "mute", "add", "break-watches"])
        acts.append(Act(at_s=rng.uniform(0, 3) * _loss_s(s), do=do, who=rng.randrange(50), for_s=rng.uniform(0.1, 2) * s.heartbeat_ttl_s))
    return acts


TEMPLATES: Final[Mapping[str, Template]] = {
    "crash": _crash,
    "crash of the leader": _crash_leader,
    "crash masked by a join": _crash_and_join,
    "crash in a window": _crash_in_window,
    "crash in the cooldown": _crash_in_cooldown,
    "flapping": _flap,
    "flapping after a masked crash": _crash_join_then_flap,
    "leave": _leave,
    "scale": _scale,
    "rolling restart": _rolling,
    "cascade": _cascade,
    "refresh": _refresh,
    "freeze": _freeze,
    "fault in a round": _freeze_in_round,
    "writes fail in a round": _fail_puts,
    "zombie": _zombie,
    "network split": _split,
    "outage": _outage,
    "broken watches": _break_watches,
    "churn": _churn,
}


def plan_for(seed: int, *, workers_count: int = 0, partitions_count: int = 0, episode: str = "") -> Plan:
    """Draw the plan of a seed; what is said instead of drawn leaves the rest as it was."""
    rng = random.Random(f"plan {seed}")
    name = rng.choice(PROFILES)
    large = rng.randrange(LARGE_FROM) == 0
    workers = rng.randint(10, 50) if large else rng.randint(3, 8)
    partitions = rng.randint(20, 200) if large else rng.randint(6, 60)
    strategy = rng.choice(STRATEGIES)
    weather = CALM if rng.random() < 0.5 else rng.choice(CLIMATES)
    handover = Handover.CONFIRMED if rng.random() < 0.25 else Handover.DIRECT
    skew_ratio = CLOCK_SKEW_RATIO if rng.random() < 0.25 else 0.0
    start_within_s = rng.choice([0.0, 0.05, 1.0])
    workers, partitions = workers_count or workers, partitions_count or partitions
    settings = profile(
        name,
        handover=handover,
        handover_limit_s=1.0,
        degraded=rng.choice(["balanced", "aggressive"]),
        recovery_grace_s=5.0,
        operation_limit_s=rng.choice([2.0, 10.0]),
        id_max=max(99, 3 * workers),
        startup_limit_s=60.0 if name == "default" else 20.0,
    )
    names = [episode] if episode else [rng.choice(list(TEMPLATES)) for _ in range(rng.choice([1, 1, 2]))]
    return Plan(
        seed=seed,
        settings=settings,
        profile=name,
        strategy=strategy,
        weather=weather,
        workers_count=workers,
        partitions_count=partitions,
        start_within_s=start_within_s,
        clock_skew_ratio=skew_ratio,
        episodes=tuple(Episode(name=each, acts=tuple(sorted(TEMPLATES[each](rng, settings), key=lambda act: act.at_s))) for each in names),
    )
