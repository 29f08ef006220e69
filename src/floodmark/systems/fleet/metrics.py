"""What a fleet counts about itself: one table of names, and three ways to say a number.

`Metrics` is the protocol that an exporter implements; `NullMetrics` is the default and does nothing; `Counters` keeps everything in memory,
for tests and for the status of the host. Each metric has at most one label, whose values are few and known.
Called on the event loop, never awaited, must not raise.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol


class Kind(enum.Enum):
    """What the numbers of a metric mean."""

    COUNT = "count"  # only rises
    GAUGE = "gauge"  # the value now
    DURATION_S = "duration_s"  # one observation each


class Metric(enum.Enum):
    """Every number that a fleet can tell; `TABLE` says what each one means."""

    # the worker
    STATE_TRANSITIONS = "state_transitions"
    STATE_CHANGES_DROPPED = "state_changes_dropped"
    LEADERSHIP_CHANGES = "leadership_changes"
    HEARTBEATS = "heartbeats"
    STORE_OPERATION_S = "store_operation_s"
    PARTITIONS = "partitions"
    ASSIGNMENT_VERSION = "assignment_version"
    ASSIGNMENT_ADDED = "assignment_added"
    ASSIGNMENT_REMOVED = "assignment_removed"
    ASSIGNMENTS_REFUSED = "assignments_refused"
    # degraded mode
    DEGRADED = "degraded"
    DEGRADED_S = "degraded_s"
    CACHE_AGE_S = "cache_age_s"
    CACHE_USED = "cache_used"
    CACHE_MISSED = "cache_missed"
    ALERT_LEVEL = "alert_level"
    ALERTS = "alerts"
    # the leader
    REBALANCE_S = "rebalance_s"
    REBALANCE_ATTEMPTS = "rebalance_attempts"
    EMERGENCY_WORKERS = "emergency_workers"
    WORKERS_ADDED = "workers_added"
    WORKERS_REMOVED = "workers_removed"
    WORKERS_ACTIVE = "workers_active"
    # the durable consumer
    CONSUMER_CONTROL_RETRIES = "consumer_control_retries"
    CONSUMER_BACKOFF_S = "consumer_backoff_s"
    CONSUMER_SUBJECTS = "consumer_subjects"
    CONSUMER_SUBJECTS_ADDED = "consumer_subjects_added"
    CONSUMER_SUBJECTS_REMOVED = "consumer_subjects_removed"
    CONSUMER_GUARDRAIL = "consumer_guardrail"
    CONSUMER_THRESHOLD_WARNINGS = "consumer_threshold_warnings"
    CONSUMER_UPDATES = "consumer_updates"
    CONSUMER_UPDATE_S = "consumer_update_s"
    CONSUMER_ITERATOR_RESTARTS = "consumer_iterator_restarts"
    CONSUMER_ESCALATIONS = "consumer_escalations"
    CONSUMER_FAILURES_IN_A_ROW = "consumer_failures_in_a_row"
    CONSUMER_HEALTHY = "consumer_healthy"
    CONSUMER_RECREATIONS = "consumer_recreations"
    CONSUMER_RECREATION_S = "consumer_recreation_s"
    CONSUMER_GIVEN_UP = "consumer_given_up"


class Meaning(NamedTuple):
    """One row of the table."""

    kind: Kind
    label: str  # what the label tells; empty: none
    text: str


M = Metric

TABLE: Final[Mapping[Metric, Meaning]] = {
    M.STATE_TRANSITIONS: Meaning(Kind.COUNT, "new state", "steps of the worker's state"),
    M.STATE_CHANGES_DROPPED: Meaning(Kind.COUNT, "", "state changes that a slow hook was not told of"),
    M.LEADERSHIP_CHANGES: Meaning(Kind.COUNT, "won, lost", "leases won and lost by this worker"),
    M.HEARTBEATS: Meaning(Kind.COUNT, "ok, failed", "heartbeats"),
    M.STORE_OPERATION_S: Meaning(Kind.DURATION_S, "heartbeat, renew, list, get, update, delete", "how long the store took"),
    M.PARTITIONS: Meaning(Kind.GAUGE, "", "partitions that this worker works on"),
    M.ASSIGNMENT_VERSION: Meaning(Kind.GAUGE, "", "version of the assignment in use"),
    M.ASSIGNMENT_ADDED: Meaning(Kind.COUNT, "", "partitions taken on"),
    M.ASSIGNMENT_REMOVED: Meaning(Kind.COUNT, "", "partitions given up"),
    M.ASSIGNMENTS_REFUSED: Meaning(Kind.COUNT, "older epoch, older version", "records that were not taken"),
    M.DEGRADED: Meaning(Kind.GAUGE, "", "1 while degraded"),
    M.DEGRADED_S: Meaning(Kind.DURATION_S, "", "how long a degraded time was, at its end"),
    M.CACHE_AGE_S: Meaning(Kind.GAUGE, "", "age of the frozen assignment"),
    M.CACHE_USED: Meaning(Kind.COUNT, "", "degraded times that began with an assignment at hand"),
    M.CACHE_MISSED: Meaning(Kind.COUNT, "", "degraded times that began with none"),
    M.ALERT_LEVEL: Meaning(Kind.GAUGE, "", "0 none, 1 info, 2 warn, 3 error, 4 critical"),
    M.ALERTS: Meaning(Kind.COUNT, "info, warn, error, critical", "alerts given"),
    M.REBALANCE_S: Meaning(Kind.DURATION_S, "lifecycle", "how long a round took to publish"),
    M.REBALANCE_ATTEMPTS: Meaning(Kind.COUNT, "lifecycle", "rounds begun, repetitions among them"),
    M.EMERGENCY_WORKERS: Meaning(Kind.COUNT, "", "workers lost in emergencies"),
    M.WORKERS_ADDED: Meaning(Kind.COUNT, "", "workers that a round took in"),
    M.WORKERS_REMOVED: Meaning(Kind.COUNT, "", "workers that a round left out"),
    M.WORKERS_ACTIVE: Meaning(Kind.GAUGE, "", "workers with a heartbeat, as the leader sees it"),
    M.CONSUMER_CONTROL_RETRIES: Meaning(Kind.COUNT, "", "requests to the server that were repeated"),
    M.CONSUMER_BACKOFF_S: Meaning(Kind.DURATION_S, "", "pauses before a repetition"),
    M.CONSUMER_SUBJECTS: Meaning(Kind.GAUGE, "", "subjects in the filter"),
    M.CONSUMER_SUBJECTS_ADDED: Meaning(Kind.COUNT, "", "subjects added"),
    M.CONSUMER_SUBJECTS_REMOVED: Meaning(Kind.COUNT, "", "subjects removed"),
    M.CONSUMER_GUARDRAIL: Meaning(Kind.COUNT, "max_subjects, workerid_mutation", "updates refused by a limit"),
    M.CONSUMER_THRESHOLD_WARNINGS: Meaning(Kind.COUNT, "", "updates that came near to the limit of subjects"),
    M.CONSUMER_UPDATES: Meaning(Kind.COUNT, "noop, success, failure", "updates of the filter"),
    M.CONSUMER_UPDATE_S: Meaning(Kind.DURATION_S, "", "how long an update took"),
    M.CONSUMER_ITERATOR_RESTARTS: Meaning(Kind.COUNT, "heartbeat, transient", "pulls that were begun anew"),
    M.CONSUMER_ESCALATIONS: Meaning(Kind.COUNT, "", "times that failing pulls made it refresh the consumer"),
    M.CONSUMER_FAILURES_IN_A_ROW: Meaning(Kind.GAUGE, "", "pulls that failed since the last good one"),
    M.CONSUMER_HEALTHY: Meaning(Kind.GAUGE, "", "1 while failures and recreations stay below the threshold"),
    M.CONSUMER_RECREATIONS: Meaning(Kind.COUNT, "attempt, success, failure", "a consumer that was missing and made again"),
    M.CONSUMER_RECREATION_S: Meaning(Kind.DURATION_S, "", "how long that took"),
    M.CONSUMER_GIVEN_UP: Meaning(Kind.COUNT, "", "messages whose last delivery failed, which stay in the stream"),
}


class Metrics(Protocol):
    """Where the numbers go; one method per kind."""

    def count(self, metric: Metric, amount: int = 1, label: str = "") -> None:
        """Something happened `amount` times."""

    def gauge(self, metric: Metric, value: float, label: str = "") -> None:
        """Something has this value now."""

    def duration(self, metric: Metric, seconds: float, label: str = "") -> None:
        """Something took so long."""


class NullMetrics:
    """Nobody listens."""

    def count(self, metric: Metric, amount: int = 1, label: str = "") -> None:
        pass

    def gauge(self, metric: Metric, value: float, label: str = "") -> None:
        pass

    def duration(self, metric: Metric, seconds: float, label: str = "") -> None:
        pass


class Durations(NamedTuple):
    """What is kept of many durations."""

    observed_count: int
    total_s: float
    max_s: float


class Counters:
    """Everything in memory; size is bounded by the table and the few values of its labels.

    >>> counters = Counters()
    >>> counters.count(Metric.HEARTBEATS, label="ok")
    >>> counters.counted(Metric.HEARTBEATS), counters.counted(Metric.HEARTBEATS, "failed")
    (1, 0)
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[Metric, str], int] = {}
        self.gauges: dict[tuple[Metric, str], float] = {}
        self.durations: dict[tuple[Metric, str], Durations] = {}

    def count(self, metric: Metric, amount: int = 1, label: str = "") -> None:
        self.counts[metric, label] = self.counts.get((metric, label), 0) + amount

    def gauge(self, metric: Metric, value: float, label: str = "") -> None:
        self.gauges[metric, label] = value

    def duration(self, metric: Metric, seconds: float, label: str = "") -> None:
        before = self.durations.get((metric, label), Durations(0, 0.0, 0.0))
        self.durations[metric, label] = Durations(before.observed_count + 1, before.total_s + seconds, max(before.max_s, seconds))

    def counted(self, metric: Metric, label: str | None = None) -> int:
        """Give a count: of one label, or of all together."""
        return sum(amount for (which, of), amount in self.counts.items() if which is metric and label in (None, of))
