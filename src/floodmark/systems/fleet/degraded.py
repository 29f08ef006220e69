"""When the store is too ill to be believed: the rules of degraded mode. Pure: times are handed in.

It begins when nothing was answered for `degraded_enter_s`, or when so many operations failed within a window, where those within one
heartbeat count as one: trying again soon is no new evidence. It ends after `degraded_exit_s` of health. The longer it lasts, the graver
the alert; the last one is repeated. Not here: what a worker does about it.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import NamedTuple

from floodmark.systems.fleet.settings import Settings


class AlertLevel(enum.IntEnum):
    """How grave it is by now."""

    NONE = 0
    INFO = 1
    WARN = 2
    ERROR = 3
    CRITICAL = 4


class Change(enum.Enum):
    """What a check found."""

    ENTERED = "entered"
    LEFT = "left"
    ALERT = "alert"


class Finding(NamedTuple):
    """One change; `degraded_s` is how long the degraded time has lasted."""

    change: Change
    level: AlertLevel
    degraded_s: float


class Health:
    """What the answers of a store say about it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._failures_s: deque[float] = deque(maxlen=settings.degraded_errors_count)
        self._silent_since_s: float | None = None  # of the first failure since the last answer
        self._healthy_since_s: float | None = None  # of the first answer since the last failure
        self._degraded_since_s: float | None = None
        self._level = AlertLevel.NONE
        self._alert_s = 0.0  # of the last alert

    @property
    def degraded(self) -> bool:
        """Whether it is degraded now."""
        return self._degraded_since_s is not None

    @property
    def answering(self) -> bool:
        """Whether the last that was asked was answered."""
        return self._silent_since_s is None

    def answered(self, now_s: float) -> None:
        """An operation was answered; a refusal is an answer."""
        self._silent_since_s = None
        if self._healthy_since_s is None:
            self._healthy_since_s = now_s

    def failed(self, now_s: float) -> None:
        """An operation was not answered."""
        if not self._failures_s or now_s - self._failures_s[-1] >= self._settings.heartbeat_s:
            self._failures_s.append(now_s)
        self.disconnected(now_s)

    def disconnected(self, now_s: float) -> None:
        """The connection is known to be gone."""
        self._healthy_since_s = None
        if self._silent_since_s is None:
            self._silent_since_s = now_s

    def check(self, now_s: float) -> list[Finding]:
        """Look at what time has done; to be called about once a second."""
        if self._degraded_since_s is None:
            if not self._is_ill(now_s):
                return []
            self._degraded_since_s = now_s
            self._level = AlertLevel.NONE
            return [Finding(Change.ENTERED, AlertLevel.NONE, 0.0)]
        degraded_s = now_s - self._degraded_since_s
        if self._healthy_since_s is not None and now_s - self._healthy_since_s >= self._settings.degraded_exit_s:
            self._degraded_since_s = None
            self._failures_s.clear()
            return [Finding(Change.LEFT, AlertLevel.NONE, degraded_s)]
        level = self._level_at(degraded_s)
        if level > self._level or (level and now_s - self._alert_s >= self._settings.alert_repeat_s):
            self._level = level
            self._alert_s = now_s
            return [Finding(Change.ALERT, level, degraded_s)]
        return []

    def _is_ill(self, now_s: float) -> bool:
        settings = self._settings
        if self._silent_since_s is not None and now_s - self._silent_since_s >= settings.degraded_enter_s:
            return True
        many = len(self._failures_s) == settings.degraded_errors_count
        return many and now_s - self._failures_s[0] <= settings.degraded_window_s

    def _level_at(self, degraded_s: float) -> AlertLevel:
        settings = self._settings
        limits_s = (settings.alert_info_s, settings.alert_warn_s, settings.alert_error_s, settings.alert_critical_s)
        return AlertLevel(sum(degraded_s >= limit_s for limit_s in limits_s))
