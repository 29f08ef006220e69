"""What can go wrong with a worker, each told in one sentence with what to do.

The store's own errors are in store.base: they tell of one operation, these tell of the worker.
"""

from __future__ import annotations

from floodmark.core.errors import FloodmarkError, UsageError


class FleetError(FloodmarkError):
    """Root of what a worker raises or hands to its error hook."""


class InvalidSettingsError(UsageError):
    """Settings that cannot work together."""


class AlreadyStartedError(FleetError):
    """Started twice; a worker is started once in its life."""

    def __str__(self) -> str:
        return "this worker has been started already; make a new Worker for a new start"


class NotStartedError(FleetError):
    """Asked for something that only a running worker can do."""

    def __init__(self, wanted: str) -> None:
        super().__init__(wanted)
        self.wanted = wanted

    def __str__(self) -> str:
        return f"cannot {self.wanted}: this worker is not running"


class NotLeaderError(FleetError):
    """Asked a follower for what only the leader may do."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(worker_id)
        self.worker_id = worker_id

    def __str__(self) -> str:
        return f"{self.worker_id} does not lead; only the leader calculates assignments"


class IdClaimError(FleetError):
    """No stable id could be had."""

    def __init__(self, first: str, last: str, count: int) -> None:
        super().__init__(first, last, count)
        self.first, self.last, self.count = first, last, count

    def __str__(self) -> str:
        return f"no id is free: all {self.count} of {self.first} to {self.last} are held; raise id_max, or stop a worker"


class IdLostError(FleetError):
    """The id belongs to another worker by now: this one stood still for longer than id_ttl_s."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(worker_id)
        self.worker_id = worker_id

    def __str__(self) -> str:
        return f"{self.worker_id} is held by another worker; this one was not heard for longer than id_ttl_s and takes a new id"


class RenewalError(FleetError):
    """A renewal that runs already was started again."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"the renewal of {self.what} runs already"


class ElectionError(FleetError):
    """Leading failed, and was given up so that another worker can try."""

    def __init__(self, worker_id: str, reason: str) -> None:
        super().__init__(worker_id, reason)
        self.worker_id, self.reason = worker_id, reason

    def __str__(self) -> str:
        return f"{self.worker_id} gave up leading: {self.reason}"


class ConnectivityError(FleetError):
    """The store does not answer."""

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(operation, reason)
        self.operation, self.reason = operation, reason

    def __str__(self) -> str:
        return f"the store did not answer when asked to {self.operation}: {self.reason}"


class DegradedError(FleetError):
    """Degraded for so long, and what that means; `level` is one of info, warn, error, critical."""

    def __init__(self, level: str, degraded_s: float, cached: bool) -> None:
        super().__init__(level, degraded_s, cached)
        self.level, self.degraded_s, self.cached = level, degraded_s, cached

    def __str__(self) -> str:
        kept = "the last assignment is kept" if self.cached else "there is no assignment to keep"
        return f"{self.level}: degraded for {self.degraded_s:g} s, {kept}; see that the store can be reached"


class AssignmentTimeoutError(FleetError):
    """Nobody gave this worker an assignment while it started."""

    def __init__(self, worker_id: str, limit_s: float) -> None:
        super().__init__(worker_id, limit_s)
        self.worker_id, self.limit_s = worker_id, limit_s

    def __str__(self) -> str:
        who = self.worker_id or "the worker"
        return f"{who} got no assignment within startup_limit_s = {self.limit_s:g} s; see the leader's errors, or raise the limit"


class StateTimeoutError(FleetError):
    """A state that was waited for did not come."""

    def __init__(self, wanted: str, found: str, limit_s: float) -> None:
        super().__init__(wanted, found, limit_s)
        self.wanted, self.found, self.limit_s = wanted, found, limit_s

    def __str__(self) -> str:
        return f"the worker did not become {self.wanted} within {self.limit_s:g} s; it is {self.found}"


class PublishError(FleetError):
    """A round of assignments could not be published whole; it is tried again while the lease holds."""

    def __init__(self, version: int, reason: str) -> None:
        super().__init__(version, reason)
        self.version, self.reason = version, reason

    def __str__(self) -> str:
        return f"version {self.version} could not be published: {self.reason}; it is tried again"


class DeleteError(FleetError):
    """A key could not be deleted; it goes when its time is over, where it has one."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"{self.key} could not be deleted: {self.reason}"


class WatcherError(FleetError):
    """A watch broke off and is opened again."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what, self.reason = what, reason

    def __str__(self) -> str:
        return f"the watch on {self.what} broke off: {self.reason}; it is opened again"


class ConsumerUpdateError(FleetError):
    """The consumer did not take its new partitions; it is tried again, with the newest."""

    def __init__(self, version: int, reason: str) -> None:
        super().__init__(version, reason)
        self.version, self.reason = version, reason

    def __str__(self) -> str:
        return f"the consumer did not take version {self.version}: {self.reason}; it is tried again"


class HookError(FleetError):
    """A hook of the user raised; the worker goes on."""

    def __init__(self, hook: str, reason: str) -> None:
        super().__init__(hook, reason)
        self.hook, self.reason = hook, reason

    def __str__(self) -> str:
        return f"the hook {self.hook} raised {self.reason}"


class StopTimeoutError(FleetError):
    """Stopping took too long; what was left in the store expires by itself."""

    def __init__(self, worker_id: str, limit_s: float) -> None:
        super().__init__(worker_id, limit_s)
        self.worker_id, self.limit_s = worker_id, limit_s

    def __str__(self) -> str:
        return f"{self.worker_id} did not stop in order within shutdown_limit_s = {self.limit_s:g} s; its keys expire by themselves"
