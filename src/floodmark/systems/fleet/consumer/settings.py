"""Every setting of the durable consumer, its default and its unit.

Frozen and validated: a setting that makes no sense is an error that names it, not a surprise at the first message.
"""

from __future__ import annotations

import math

import msgspec

from floodmark.systems.fleet.errors import InvalidSettingsError

_PLACE = "{subject}"
_POSITIVE_S = (
    "ack_wait_s",
    "inactive_s",
    "fetch_s",
    "backoff_s",
    "jitter_s",
    "jitter_cap_s",
    "escalation_window_s",
    "operation_s",
    "removal_s",
)
_AT_LEAST_ONE = (
    *("batch_count", "max_waiting_count", "max_subjects_count", "control_retries_count", "escalation_count", "health_count"),
    *("max_ack_pending_count", "remembered_count"),
)


class ConsumerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one worker's consumer; all workers of a fleet must have the same stream, prefix and template."""

    stream: str
    prefix: str = "fleet"  # the durable is called prefix-worker
    subject_template: str = "in.{subject}"  # {subject}: the partition's keys joined with "."
    # of the consumer on the server
    ack_wait_s: float = 30.0  # what is not acknowledged by then is delivered again
    max_deliver_count: int = 3  # so often at most; -1: no limit
    inactive_s: float = 24 * 3600.0  # the server forgets a durable that nobody pulls from for so long
    max_waiting_count: int = 512
    max_ack_pending_count: int = 1000  # delivered and not acknowledged, at most: in manual mode, the bound of what the handler holds
    # of the pull loop
    batch_count: int = 1  # messages asked for at once
    fetch_s: float = 5.0  # how long a pull waits; the server says that it is there twice in that time
    manual_ack: bool = False  # the handler settles each message itself, whenever it likes
    remembered_count: int = 4096  # sequences of finished messages, so that one that comes again is not handled twice
    # of updates
    max_subjects_count: int = 500
    warn_subjects_ratio: float = 0.9
    allow_worker_id_change: bool = False
    removal_s: float = 5.0  # how long a message in the handler may hold up the removal of its subject
    old_durable_s: float = 2.0  # how long the durable of a former worker id may take to go
    operation_s: float = 5.0  # one request to the server
    retries_count: int = 3  # of an update
    backoff_s: float = 0.1  # between them
    # of failures
    control_retries_count: int = 6  # to make a missing consumer again before that counts as a failure
    jitter_s: float = 0.2  # pause before the first repetition of a pull or a re-creation; its jitter is half to one and a half times that
    jitter_factor: float = 1.6  # each pause is so many times the one before
    jitter_cap_s: float = 5.0
    escalation_count: int = 3  # failed pulls
    escalation_window_s: float = 60.0  # within this: the consumer is made anew, once in the window
    health_count: int = 3  # more failures in a row than this are not healthy

    def __post_init__(self) -> None:
        for name in ("stream", "prefix"):
            word: str = getattr(self, name)
            if not word or any(letter in word for letter in " .*>/\\\t\r\n"):
                raise InvalidSettingsError(f'{name} must be one word without blank, ".", "*", ">" or slash, got {word!r}')
        if self.subject_template.count(_PLACE) != 1:
            raise InvalidSettingsError(f"subject_template must have {_PLACE} in it once, got {self.subject_template!r}")
        for name in _POSITIVE_S:
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidSettingsError(f"{name} must be finite and above 0, got {getattr(self, name)!r}")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise InvalidSettingsError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if self.retries_count < 0:
            raise InvalidSettingsError(f"retries_count must be 0 or more, got {self.retries_count}")
        if not 0 <= self.old_durable_s < math.inf:
            raise InvalidSettingsError(f"old_durable_s must be finite and 0 or more, got {self.old_durable_s!r}")
        if self.max_deliver_count != -1 and self.max_deliver_count < 1:
            raise InvalidSettingsError(f"max_deliver_count must be at least 1, or -1 for no limit, got {self.max_deliver_count}")
        if not 1 <= self.jitter_factor < math.inf:
            raise InvalidSettingsError(f"jitter_factor must be at least 1, got {self.jitter_factor!r}")
        if self.jitter_cap_s < self.jitter_s:
            raise InvalidSettingsError(f"jitter_cap_s ({self.jitter_cap_s:g}) must not be below jitter_s ({self.jitter_s:g})")
        if not 0 < self.warn_subjects_ratio <= 1:
            raise InvalidSettingsError(f"warn_subjects_ratio must be above 0 and at most 1, got {self.warn_subjects_ratio!r}")
        if self.batch_count > self.max_ack_pending_count:
            raise InvalidSettingsError(
                f"batch_count ({self.batch_count}) must not be above max_ack_pending_count ({self.max_ack_pending_count}): "
                "the server would never fill such a pull"
            )
