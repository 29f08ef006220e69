"""What can go wrong with a stream, split by what may be done about it.

`QueryError` may be tried again, `QueryRefusedError` never; `MissingOptionError`, `ReportError` and their like are the caller's
mistake and are told before anything has started. Every error pickles: it passes all its arguments on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from floodmark.core.errors import FloodmarkError, UsageError


class PipelineError(FloodmarkError):
    """Root of what the pipeline raises on purpose."""

    kind = "pipeline_error"  # the short word for it in telemetry and in reasons


class MissingOptionError(PipelineError, UsageError):
    """A required option was not given."""

    kind = "missing_required_option"

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the option {self.key!r} is required: a pipeline needs a source and a query"


class UnknownStreamError(PipelineError):
    """No stream has this id, or no longer."""

    kind = "not_found"

    def __init__(self, stream_id: str) -> None:
        super().__init__(stream_id)
        self.stream_id = stream_id

    def __str__(self) -> str:
        return f"there is no stream {self.stream_id!r}: it never was, or its record was removed after its time"


class RegistrationError(PipelineError):
    """A stream could not be entered into the registry."""

    kind = "registration_failed"


class SupervisorNotFoundError(PipelineError):
    """Nothing is there to run the stages: the pipeline is closed, or its supervisor has given up."""

    kind = "supervisor_not_found"


class ProducerStartError(PipelineError):
    """The source could not be opened; its error is the cause."""

    kind = "producer_start_failed"


class StageStartError(PipelineError):
    """The stage behind the producer could not be set up; the error is the cause."""

    kind = "producer_consumer_start_failed"


class NoStageError(PipelineError):
    """The stream has no stage that could hold aggregates."""

    kind = "no_producer_consumer"


class StageStoppedError(PipelineError):
    """The stage has ended; what it had counted is in the stream's snapshot."""

    kind = "producer_consumer_stopped"


class CallTimeoutError(PipelineError):
    """A stage did not answer in time."""

    kind = "timeout"

    def __init__(self, what: str, limit_s: float) -> None:
        super().__init__(what, limit_s)
        self.what, self.limit_s = what, limit_s

    def __str__(self) -> str:
        return f"{self.what} took longer than {self.limit_s:g} s"


class QueryError(PipelineError):
    """A query failed in a way that may pass: it is tried again."""

    kind = "query_failed"


class QueryTimeoutError(QueryError):
    """A query took longer than its limit; it is tried again."""

    kind = "query_timeout"

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.limit_s = limit_s

    def __str__(self) -> str:
        return f"the query gave no rows within {self.limit_s:g} s"


class QueryRefusedError(PipelineError):
    """A query that can never work: bad SQL, no such table or column."""

    kind = "query_refused"


class RetriesExhaustedError(PipelineError):
    """A query failed more often than it may be tried again; the last failure is the cause."""

    kind = "retries_exhausted"

    def __init__(self, attempts_count: int, reason: str) -> None:
        super().__init__(attempts_count, reason)
        self.attempts_count, self.reason = attempts_count, reason

    def __str__(self) -> str:
        return f"the query failed {self.attempts_count} times, last with: {self.reason}"


class RecoverableError(PipelineError):
    """A stage has broken in a way that a new start cures: the supervisor starts it again where it stood."""

    kind = "recoverable"


class TransformerError(PipelineError):
    """The transformer is wrong, not the data: it takes no record, or gives no mapping back."""

    kind = "transformer"


class MemoryRefusedError(PipelineError):
    """There is not the memory to start or to go on with a stream."""

    kind = "memory_limit_exceeded"


class StreamFailedError(PipelineError):
    """The stream one reads from has failed; its reason is in the registry too."""

    kind = "failed"

    def __init__(self, stream_id: str, reason: str) -> None:
        super().__init__(stream_id, reason)
        self.stream_id, self.reason = stream_id, reason

    def __str__(self) -> str:
        return f"the stream {self.stream_id} has failed: {self.reason}"


class StreamStoppedError(PipelineError):
    """The stream one reads from was stopped before its end: what was read is not everything."""

    kind = "stopped"

    def __init__(self, stream_id: str) -> None:
        super().__init__(stream_id)
        self.stream_id = stream_id

    def __str__(self) -> str:
        return f"the stream {self.stream_id} was stopped before its end"


class ReportError(PipelineError, UsageError):
    """A report that is declared wrongly; `near` is the valid thing that it probably meant, or empty."""

    kind = "invalid_report_definition"

    def __init__(self, message: str, near: str = "") -> None:
        super().__init__(message, near)
        self.message, self.near = message, near

    def __str__(self) -> str:
        return f"{self.message}; did you mean {self.near!r}?" if self.near else self.message


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like this one, or the empty text.

    >>> nearest("amuont", ["amount", "quantity"])
    'amount'
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return found[0] if found else ""


def end_of(what: str, error: BaseException) -> str:
    """Why a stream has ended, as one sentence: our own errors are sentences already; any other is the death of the part it broke.

    >>> end_of("the producer", QueryRefusedError("no such table: sales")), end_of("the producer", KeyError("id"))
    ('the source refused the query: no such table: sales', "the producer died: KeyError: 'id'")
    """
    lines = str(error).strip().splitlines()
    if isinstance(error, QueryRefusedError) and lines:
        return f"the source refused the query: {lines[0]}"
    return lines[0] if isinstance(error, PipelineError) and lines else f"{what} died: {reason_of(error)}"


def reason_of(error: BaseException) -> str:
    """An error as one line of text, for a status, a log or an event."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
