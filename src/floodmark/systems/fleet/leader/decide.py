"""When the leader shares anew, and why. Pure: no I/O, times are handed in, so that every rule can be tested as a table.

`check` is called whenever something may have changed, and says either what to publish now or when to look again:

- nobody is known yet: a cold start, published as soon as nobody has come for one debounce, after GATHER_S at the latest: who starts
  together is in the first round, and does not wait for the end of the window. Then a window for those who come later; then a final round
- a loss is confirmed when a worker was missing for the whole grace. It is an emergency whatever else happened: sets are compared, never
  head counts. It waits for no cooldown and no window, and takes in whoever has joined meanwhile. Losses whose confirmations fall within
  COALESCE_S of the first are one round
- of `restart_from_count` workers or more fewer than `restart_below_count`, and less than `restart_ratio`, are left: the whole fleet
  restarts. As in a cold start there is a round at once, because partitions without a worker are worse than partitions that move twice,
  and then a window and a final round for those who come back
- somebody joined: a planned scale, when its window has passed and the cooldown is over; the two run at the same time
- a window that ends while somebody is missing waits for that to be settled, for one grace at most
- a window that ends with the same workers as before publishes only if the load is uneven (`only_if_uneven`)
- a refresh by hand publishes at once; so does a leader that asserts its term, unless another round is due anyway

Who is missing and not confirmed lost keeps what it has (`kept`), and gets nothing new. A worker that leaves in order deletes its heartbeat;
its absence begins at that moment and has the same grace, on purpose: a restart that is shorter moves nothing.
The workers that are known change only by a round that was published whole (`done`), so a failed one is decided again.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from floodmark.systems.fleet.leader.absence import Absences
from floodmark.systems.fleet.settings import Settings

GATHER_S: Final = 0.5  # how long the first round of a fleet waits for those who start together; half of the cold start at most
COALESCE_S: Final = 0.5  # how long a confirmed loss waits for one that is about to be confirmed; a quarter of the grace at most
SUSPENDED_LOOK_S: Final = 0.25  # how often to look while losses may not be judged
NOBODY: Final[frozenset[str]] = frozenset()


class Lifecycle(enum.StrEnum):
    """Why a round was published; the word stands in every record of it."""

    COLD_START = "cold_start"
    PLANNED_SCALE = "planned_scale"
    EMERGENCY = "emergency"
    RESTART = "restart"
    MANUAL_REFRESH = "manual-refresh"
    TAKEOVER = "takeover"  # a leader puts its epoch on what is published: at the start of its term, and when somebody else has written


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A time to wait for more workers."""

    reason: Lifecycle
    ends_s: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: publish for `reason` now, or, with no reason, look again at `wake_s` at the latest."""

    wake_s: float = math.inf
    reason: Lifecycle | None = None
    workers: frozenset[str] = NOBODY  # who takes part in the round
    kept: frozenset[str] = NOBODY  # missing, not confirmed lost: they keep what they have
    lost: frozenset[str] = NOBODY
    ends_window: bool = False
    only_if_uneven: bool = False  # the workers are the same as before
    refresh_number: int = 0  # how many refreshes, and how many assertions, this round answers
    assertion_number: int = 0


class Planner:
    """The decisions of one leader during one term. It starts with the workers that have a published record."""

    def __init__(self, settings: Settings, known: Iterable[str] = ()) -> None:
        self.settings = settings
        self.known = frozenset(known)
        self.window: Window | None = None
        self.refresh_asked_count = 0
        self.refresh_served_count = 0
        self._assertion_asked_count = 1 if self.known else 0
        self._assertion_served_count = 0
        self._absences = Absences(settings.emergency_grace_s)
        self._coalesce_s = min(COALESCE_S, settings.emergency_grace_s / 4)
        self._gather_s = min(GATHER_S, settings.cold_start_s / 2)
        self._gathered: AbstractSet[str] = NOBODY
        self._gathered_until_s = math.inf  # when the first round is due at the latest
        self._came_s = -math.inf  # when the last of the gathered came
        self._last_round_s = -math.inf

    def ask_refresh(self) -> int:
        """Publish at the next check, with a fresh list of partitions. Returns: the number that `refresh_served_count` will reach."""
        self.refresh_asked_count += 1
        return self.refresh_asked_count

    def drop_refreshes(self) -> None:
        """Nobody waits for a refresh any more."""
        self.refresh_served_count = self.refresh_asked_count

    def ask_assertion(self) -> None:
        """Publish at the next check: what is published is not one whole round of ours."""
        self._assertion_asked_count += 1

    def expect(self, workers: AbstractSet[str]) -> None:
        """These got a record by a round that stayed unfinished: if they are missing, they keep it for the grace like everybody."""
        self.known |= workers

    def restart_absences(self, now_s: float) -> None:
        """Begin all absences anew: for a while the leader itself saw nothing."""
        self._absences.restart(now_s)

    def check(self, now_s: float, present: AbstractSet[str], *, may_judge: bool = True) -> Step:
        """Decide. `present`: who has a heartbeat now; `may_judge`: False while losses may not be confirmed."""
        self._absences.note(now_s, self.known, present)
        if not present:
            return Step()
        if not self.known:
            return self._gather(now_s, present)
        if may_judge and (lost := self._absences.confirmed(now_s)):
            return self._loss(now_s, present, lost)
        if self.refresh_asked_count > self.refresh_served_count:
            return self._round(Lifecycle.MANUAL_REFRESH, present)
        step = self._scale(now_s, present, may_judge)
        if step.reason is None and self._must_assert:
            return self._round(Lifecycle.TAKEOVER, (present & self.known) or present)
        return step

    def _gather(self, now_s: float, present: AbstractSet[str]) -> Step:
        if not self._gathered:
            self._gathered_until_s = now_s + self._gather_s
        if not present <= self._gathered:
            self._came_s = now_s
        self._gathered = present
        due_s = min(self._came_s + self.settings.watch_debounce_s, self._gathered_until_s)
        return Step(wake_s=due_s) if now_s < due_s else self._round(Lifecycle.COLD_START, present)

    @property
    def _must_assert(self) -> bool:
        return self._assertion_asked_count > self._assertion_served_count

    def _loss(self, now_s: float, present: AbstractSet[str], lost: frozenset[str]) -> Step:
        next_s = self._absences.next_s(now_s)
        if next_s is not None and next_s <= self._absences.first_s() + self._coalesce_s:
            return Step(wake_s=next_s)
        reason = Lifecycle.RESTART if self._is_restart(present) else Lifecycle.EMERGENCY
        return self._round(reason, present, lost=lost)

    def _is_restart(self, present: AbstractSet[str]) -> bool:
        left_count = len(self.known & present)
        return (
            len(self.known) >= self.settings.restart_from_count
            and left_count < self.settings.restart_below_count
            and left_count < self.settings.restart_ratio * len(self.known)
        )

    def _scale(self, now_s: float, present: AbstractSet[str], may_judge: bool) -> Step:
        missing = self._absences.missing
        joined = present - self.known
        if joined and self.window is None:
            self.window = Window(reason=Lifecycle.PLANNED_SCALE, ends_s=now_s + self.settings.planned_scale_s)
        wake_s = math.inf
        if missing:
            next_s = self._absences.next_s(now_s)
            wake_s = next_s if may_judge and next_s is not None else now_s + SUSPENDED_LOOK_S
        if self.window is None:
            return Step(wake_s=wake_s)
        due_s = max(self.window.ends_s, self._last_round_s + self.settings.rebalance_interval_s)
        if missing:
            due_s += self.settings.emergency_grace_s
        if now_s < due_s:
            return Step(wake_s=min(wake_s, due_s))
        return self._round(self.window.reason, present, ends_window=True, only_if_uneven=not joined and not self._must_assert)

    def _round(
        self,
        reason: Lifecycle,
        workers: AbstractSet[str],
        *,
        lost: frozenset[str] = NOBODY,
        ends_window: bool = False,
        only_if_uneven: bool = False,
    ) -> Step:
        return Step(
            reason=reason,
            workers=frozenset(workers),
            kept=self._absences.missing - lost,
            lost=lost,
            ends_window=ends_window,
            only_if_uneven=only_if_uneven,
            refresh_number=self.refresh_asked_count,
            assertion_number=self._assertion_asked_count,
        )

    def done(self, now_s: float, step: Step) -> None:
        """The round was published whole."""
        self.known = step.workers | step.kept
        self._last_round_s = now_s
        self._assertion_served_count = step.assertion_number
        self.refresh_served_count = max(self.refresh_served_count, step.refresh_number)
        in_window = self.window is not None and self.window.reason is not Lifecycle.PLANNED_SCALE
        if step.ends_window:
            self.window = None
        elif step.reason in (Lifecycle.COLD_START, Lifecycle.RESTART) and not in_window:
            self.window = Window(reason=step.reason, ends_s=now_s + self.settings.cold_start_s)
        elif not in_window:
            self.window = None  # whoever had joined is in this round; who was left out opens a window of its own

    def skipped(self) -> None:
        """The round at the end of a window was not needed."""
        self.window = None
