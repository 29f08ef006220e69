"""Every setting of a fleet, its default and its unit, how they depend on one another, and the profiles.

Frozen and validated: settings that cannot work together are an InvalidSettingsError that says what to do; those that work badly are
`warnings()`. All workers of one fleet must run with the same settings, ids and names of buckets above all.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from floodmark.systems.fleet.errors import InvalidSettingsError

GRACE_HEARTBEATS: Final = 1.5  # the grace, unless it is said
LEAST_ID_HEARTBEATS: Final = 3
LEAST_TTL_HEARTBEATS: Final = 2
CLAMP_HEARTBEATS: Final = 0.25  # how far a profile's grace stays away from the heartbeat and from its TTL
_COUNTS: Final = ("id_max", "id_min", "restart_below_count", "restart_from_count", "assignment_history_count", "degraded_errors_count")
_MAY_BE_ZERO: Final = (
    *("id_min", "id_max", "restart_below_count", "restart_from_count"),
    *("assignment_ttl_s", "watch_debounce_s", "recovery_grace_s"),
)
_RATIOS: Final = ("restart_ratio", "rebalance_threshold_ratio")


class Handover(enum.StrEnum):
    """How a partition goes from one worker to another."""

    DIRECT = "direct"  # both records change in one round: for a moment both may work on it
    CONFIRMED = "confirmed"  # the old worker says that it has let go before the new one is told; bounded by handover_limit_s


class CutOff(enum.StrEnum):
    """What a worker does that could not renew its heartbeat in time."""

    STOP = "stop"  # it stops: by then its partitions may belong to another worker
    GO_ON = "go_on"  # while the store does not answer it works on as it did: no pause, and maybe two workers on one partition


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one worker; the defaults are those of production with up to 100 workers."""

    # identity
    worker_prefix: str = "worker"
    id_min: int = 0
    id_max: int = 99
    id_ttl_s: float = 30.0  # an id that is not renewed is free after this
    # heartbeat
    heartbeat_s: float = 2.0
    heartbeat_ttl_s: float = 6.0  # a worker that is not heard for this long is missed, and has stopped working by itself
    when_cut_off: CutOff = CutOff.STOP
    # election
    election_timeout_s: float = 5.0  # a leader that does not renew its lease for this long is none
    # when the leader acts
    cold_start_s: float = 30.0  # window when there was no worker before
    planned_scale_s: float = 10.0  # window when workers come
    emergency_grace_s: float = 0.0  # how long a missed worker may come back; 0: 1.5 heartbeats
    restart_ratio: float = 0.5  # a fleet that shrank below this part of itself has restarted: cold start
    restart_from_count: int = 10  # only a fleet of so many can restart
    restart_below_count: int = 5  # and only when fewer than these are left
    rebalance_threshold_ratio: float = 0.15  # imbalance below which a set of workers that is unchanged is left as it is
    rebalance_interval_s: float = 10.0  # cooldown between two planned rounds
    watch_debounce_s: float = 0.1  # changes within this are one
    # how partitions go over
    handover: Handover = Handover.DIRECT
    handover_limit_s: float = 5.0  # how long the old worker's word is waited for
    # limits
    operation_limit_s: float = 10.0
    startup_limit_s: float = 30.0
    shutdown_limit_s: float = 10.0
    # degraded mode
    degraded_enter_s: float = 10.0  # without an answer
    degraded_exit_s: float = 5.0  # of health
    degraded_errors_count: int = 5
    degraded_window_s: float = 30.0  # so many errors within this are as bad
    recovery_grace_s: float = 15.0  # after it a leader declares no worker lost
    alert_info_s: float = 30.0
    alert_warn_s: float = 120.0
    alert_error_s: float = 300.0
    alert_critical_s: float = 600.0
    alert_repeat_s: float = 60.0
    connection_check_s: float = 1.0
    # buckets
    id_bucket: str = "parti-stableid"
    election_bucket: str = "parti-election"
    heartbeat_bucket: str = "parti-heartbeat"
    assignment_bucket: str = "parti-assignment"
    assignment_ttl_s: float = 0.0  # 0: records stay until they are replaced or removed
    assignment_history_count: int = 1

    def __post_init__(self) -> None:
        if self.emergency_grace_s == 0.0:
            force_setattr(self, "emergency_grace_s", GRACE_HEARTBEATS * self.heartbeat_s)
        _check_ranges(self)
        for bad, sentence in _contradictions(self):
            if bad:
                raise InvalidSettingsError(sentence)

    def warnings(self) -> tuple[str, ...]:
        """Tell what works, and not well."""
        return tuple(sentence for bad, sentence in _doubts(self) if bad)

    def worker_id(self, number: int) -> str:
        """Name the worker that holds a number."""
        return f"{self.worker_prefix}-{number}"


def _check_ranges(settings: Settings) -> None:
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, (int, float)):
            least_is_zero = name in _MAY_BE_ZERO
            if not (0 <= value < math.inf if least_is_zero else 0 < value < math.inf):  # phrased so that NaN is refused too
                bound = "0 or more" if least_is_zero else "more than 0"
                raise InvalidSettingsError(f"{name} must be finite and {bound}, got {value!r}")
            if name in _COUNTS and value != int(value):
                raise InvalidSettingsError(f"{name} must be a whole number, got {value!r}")
            if name in _RATIOS and value > 1:
                raise InvalidSettingsError(f"{name} must be at most 1, got {value!r}")
        elif not value:
            raise InvalidSettingsError(f"{name} must not be empty")


def _below(value: float, least: float) -> bool:
    """Tell if it is less by more than the rounding of a product: three times 0.1 is not 0.3.

    >>> _below(0.3, 3 * 0.1), _below(0.299, 3 * 0.1)
    (False, True)
    """
    return value < least and not math.isclose(value, least)


def _contradictions(s: Settings) -> list[tuple[bool, str]]:
    """What cannot work together: what is wrong, and what to do."""
    alerts = (s.alert_info_s, s.alert_warn_s, s.alert_error_s, s.alert_critical_s)
    windows = f"cold_start_s = {s.cold_start_s:g} and planned_scale_s = {s.planned_scale_s:g}"
    buckets = (s.id_bucket, s.election_bucket, s.heartbeat_bucket, s.assignment_bucket)
    return [
        (s.id_max < s.id_min, f"id_max = {s.id_max} is below id_min = {s.id_min}: there would be no id; raise id_max"),
        (
            not all(letter.isalnum() or letter in "-_" for letter in s.worker_prefix),
            f"worker_prefix = {s.worker_prefix!r} becomes part of keys and subjects: use letters, digits, - and _ only",
        ),
        *(
            (
                not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in bucket),
                f"the bucket {bucket!r} becomes the name of a stream and part of subjects: use letters, digits, - and _ only",
            )
            for bucket in buckets
        ),
        (len(set(buckets)) < len(buckets), f"the four buckets must be four, got {', '.join(buckets)}: keys and TTLs would mix"),
        (
            _below(s.heartbeat_ttl_s, LEAST_TTL_HEARTBEATS * s.heartbeat_s),
            f"heartbeat_ttl_s = {s.heartbeat_ttl_s:g} is less than 2 heartbeats of {s.heartbeat_s:g} s: one that is late would look like a "
            f"crash; raise it to {LEAST_TTL_HEARTBEATS * s.heartbeat_s:g} s or more, better to 3 heartbeats",
        ),
        (
            _below(s.id_ttl_s, LEAST_ID_HEARTBEATS * s.heartbeat_s),
            f"id_ttl_s = {s.id_ttl_s:g} is less than 3 heartbeats of {s.heartbeat_s:g} s: an id would be free while its worker lives; "
            f"raise it to {LEAST_ID_HEARTBEATS * s.heartbeat_s:g} s or more",
        ),
        (
            s.id_ttl_s < s.heartbeat_ttl_s,
            f"id_ttl_s = {s.id_ttl_s:g} is less than heartbeat_ttl_s = {s.heartbeat_ttl_s:g}: an id would go to another worker before "
            f"its holder is missed; raise it to {s.heartbeat_ttl_s:g} s or more, better to twice that",
        ),
        (
            s.rebalance_interval_s > min(s.planned_scale_s, s.cold_start_s),
            f"rebalance_interval_s = {s.rebalance_interval_s:g} is longer than a window ({windows}): windows would end in the cooldown; "
            f"lower it to {min(s.planned_scale_s, s.cold_start_s):g} s or less",
        ),
        (
            s.cold_start_s < s.planned_scale_s,
            f"cold_start_s = {s.cold_start_s:g} is less than planned_scale_s = {s.planned_scale_s:g}: a fleet that starts needs the longer "
            "window; raise it",
        ),
        (
            s.emergency_grace_s > s.heartbeat_ttl_s,
            f"emergency_grace_s = {s.emergency_grace_s:g} is more than heartbeat_ttl_s = {s.heartbeat_ttl_s:g}: a crash would be left "
            f"alone for longer than it took to notice; lower it to {s.heartbeat_ttl_s:g} s or less",
        ),
        (
            s.emergency_grace_s <= s.heartbeat_s,
            f"emergency_grace_s = {s.emergency_grace_s:g} is not more than one heartbeat of {s.heartbeat_s:g} s: a worker that comes back "
            f"could not be heard in time; raise it above {s.heartbeat_s:g} s, or leave it 0 for 1.5 heartbeats",
        ),
        (
            any(later <= earlier for earlier, later in itertools.pairwise(alerts)),
            f"the alerts must come later the graver they are, got {', '.join(f'{at:g}' for at in alerts)} s for "
            "info, warn, error, critical",
        ),
    ]


def _doubts(s: Settings) -> list[tuple[bool, str]]:
    """What works badly: what may happen, and what would be better."""
    least_startup_s = s.cold_start_s + s.emergency_grace_s
    return [
        (
            _below(s.id_ttl_s, 2 * s.heartbeat_ttl_s),
            f"id_ttl_s = {s.id_ttl_s:g} is less than twice heartbeat_ttl_s = {s.heartbeat_ttl_s:g}: after a pause a worker may find its id "
            f"taken; {2 * s.heartbeat_ttl_s:g} s or more is better",
        ),
        (
            s.rebalance_interval_s < 5.0,
            f"rebalance_interval_s = {s.rebalance_interval_s:g} is less than 5 s: workers that come one by one cause a round each",
        ),
        (
            s.degraded_exit_s > s.degraded_enter_s,
            f"degraded_exit_s = {s.degraded_exit_s:g} is more than degraded_enter_s = {s.degraded_enter_s:g}: it stays degraded for longer "
            "than it took to notice",
        ),
        (
            s.recovery_grace_s < 5.0,
            f"recovery_grace_s = {s.recovery_grace_s:g} is less than 5 s: after an outage workers that come back later are given up",
        ),
        (
            s.startup_limit_s < least_startup_s or math.isclose(s.startup_limit_s, least_startup_s),
            f"startup_limit_s = {s.startup_limit_s:g} is not more than cold_start_s + emergency_grace_s = {least_startup_s:g}: a worker "
            f"that comes late in a cold start may give up before the window ends; more than {least_startup_s:g} s is better",
        ),
    ]


DEGRADED_PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "conservative": {
        "degraded_enter_s": 30.0,
        "degraded_exit_s": 10.0,
        "degraded_errors_count": 10,
        "degraded_window_s": 30.0,
        "recovery_grace_s": 20.0,
    },
    "balanced": {},
    "aggressive": {
        "degraded_enter_s": 5.0,
        "degraded_exit_s": 3.0,
        "degraded_errors_count": 3,
        "degraded_window_s": 15.0,
        "recovery_grace_s": 10.0,
    },
}
