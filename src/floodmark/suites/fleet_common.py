"""What the fleet's scenarios have in common: the embedded fleet in processes of its own, a load over all partitions, what always must hold.

Every scenario is a case: a script, whose words at 0 bring the fleet up and whose others happen under load, and what must come of it. Times
are those of the profile, so `settle_s` is a little more than the longest way to a settled fleet: a heartbeat's TTL, the grace, the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from floodmark.model.arrival import Constant
from floodmark.model.finding import Guarantee
from floodmark.model.scenario import Phase, Population, Reconnect, Scenario, Target
from floodmark.suites.entry import Entry, criteria

RATE_HZ = 100.0
RATE_HZ_LEAST = 10.0
SOUND = (
    *("target.coverage_gaps == 0", "target.orphans == 0", "target.owners_twice == 0", "target.strangers == 0", "target.unapplied == 0"),
    *("target.leaders_twice == 0", "target.version_back == 0", "target.stale_writes == 0", "target.ids_twice == 0"),
    *("target.words_failed == 0", "target.words_unsaid == 0"),
)
"""At every settled point, and of every entry of the record."""
KEPT = ("success_ratio == 100%", "lost == 0", "reordered == 0")
"""Of every message, whatever is done to the workers; what a worker had in hand when it died may come twice."""
STILL = ("target.versions_load == 0", "target.emergencies_load == 0", "duplicated == 0")
"""Where nothing may happen."""
GIVEN = "target.not_reassigned == 0"
BACK = Reconnect(resume=True, backoff_max_s=0.5)


class Times(msgspec.Struct, frozen=True):
    """Of a profile: how long it may take until a fleet is settled, and until the rounds of its start are over."""

    settle_s: float
    rest_s: float


PROFILES = {
    "fast": Times(4.0, 1.5),
    "emergency-fast": Times(4.0, 2.2),
    "test": Times(4.0, 2.0),
    "baseline": Times(7.0, 4.0),
    "default": Times(22.0, 31.0),
}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario. `words`, `seconds` and `must` may depend on the scale; `channels` partitions are under load, all of them if 0.

    With `rest` nothing may be going on when the load begins; `always` is what it must keep beside `must`.
    """

    name: str
    plan: str
    text: str
    words: str | Callable[[float], str]
    partitions: int
    seconds: float | Callable[[float], float]
    must: tuple[str, ...] | Callable[[float], tuple[str, ...]]
    profile: str = "fast"
    args: tuple[str, ...] = ()
    per_process: int = 1
    settle_s: float = 0.0
    rest: bool = False
    rate_hz: float = RATE_HZ
    channels: int = 0
    always: tuple[str, ...] = (*SOUND, *KEPT)
    reconnect: Reconnect | None = None
    quick_scale: float | None = None

    def build(self, scale: float) -> Scenario:
        """The scenario at a scale."""
        times, listened = PROFILES[self.profile], self.channels or self.partitions
        spread = ("--profile", self.profile, "--per-process", str(self.per_process))
        counted = () if "--weights" in self.args else ("--partitions", str(self.partitions))
        seconds = self.seconds if isinstance(self.seconds, int | float) else self.seconds(scale)
        return Scenario(
            id=f"fleet.{self.name}",
            title=self.text,
            plan=self.plan,
            target=Target(system="fleet", args=(*spread, *counted, *self.args)),
            driver="fleet",
            driver_options={
                "script": self.words if isinstance(self.words, str) else self.words(scale),
                "partitions": self.partitions,
                "settle_s": self.settle_s or times.settle_s,
                "rest_s": times.rest_s if self.rest else 0.0,
            },
            population=Population(connections=1, subscriptions_per_connection=listened, channels=listened),
            phases=(Phase(arrival=Constant(rate_hz=max(RATE_HZ_LEAST, self.rate_hz * scale)), duration_s=seconds, payload_bytes=200),),
            criteria=criteria(*(self.must(scale) if callable(self.must) else self.must), *self.always),
            guarantee=Guarantee.AT_LEAST_ONCE,
            reconnect=self.reconnect,
            scale=scale,
            connect_limit_s=60.0,
            drain_limit_s=15.0,
            lag_limit_s=2.0,  # times are judged by the server's clock here
        )

    def entry(self) -> Entry:
        """Its entry in the suite."""
        return Entry(id=f"fleet.{self.name}", text=self.text, build=self.build, plan=self.plan, quick_scale=self.quick_scale)


def chosen(**settings: float | str) -> tuple[str, ...]:
    """Settings over the profile, as words of the host."""
    return tuple(word for name, value in settings.items() for word in ("--set", f"{name}={value}"))


def script(*parts: str | Iterable[str]) -> str:
    """One script of words and rows of words, in the order of their times; those at one time keep their order."""
    rows = [row for part in parts for row in ((part,) if isinstance(part, str) else part)]
    flat = [line.strip() for row in rows for line in row.split(";")]
    return "; ".join(sorted(flat, key=lambda line: float(line.split()[0])))
