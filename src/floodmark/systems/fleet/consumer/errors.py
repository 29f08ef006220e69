"""What can go wrong with a durable consumer, and the classes of what the server answers.

A failure is classified once, from the status of a pull or from the error of a request, and the pull loop acts by the class alone.
"""

from __future__ import annotations

import enum

from floodmark.systems.fleet.errors import FleetError


class ConsumerError(FleetError):
    """Root of what the durable consumer raises."""


class TooManySubjectsError(ConsumerError):
    """More subjects than one durable may filter; nothing was changed."""

    def __init__(self, count: int, most_count: int) -> None:
        super().__init__(count, most_count)
        self.count, self.most_count = count, most_count

    def __str__(self) -> str:
        return f"{self.count} subjects are more than max_subjects_count = {self.most_count}; add workers, or raise the limit"


class WorkerIdChangedError(ConsumerError):
    """Another worker's id was given to a consumer that has one; nothing was changed."""

    def __init__(self, had: str, given: str) -> None:
        super().__init__(had, given)
        self.had, self.given = had, given

    def __str__(self) -> str:
        return f"this consumer belongs to {self.had} and was updated as {self.given}; set allow_worker_id_change if that is meant"


class ConsumerStoppedError(ConsumerError):
    """The consumer works no more: closed, or the server forbade it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"this consumer has stopped: {self.reason}"


class MessageGivenUpError(ConsumerError):
    """The handler failed at the last delivery that max_deliver_count allows: nobody is given the message until the durable is made anew."""

    def __init__(self, subject: str, sequence: int, deliveries: int, cause: str) -> None:
        super().__init__(subject, sequence, deliveries, cause)
        self.subject, self.sequence, self.deliveries, self.cause = subject, sequence, deliveries, cause

    def __str__(self) -> str:
        return (
            f"message {self.sequence} of {self.subject} is given up: delivery {self.deliveries} was its last and failed with {self.cause}; "
            "it stays in the stream"
        )


class UnsuitableStreamError(ConsumerError):
    """A stream on which no partition could go from one worker to another without loss."""

    def __init__(self, stream: str, retention: str) -> None:
        super().__init__(stream, retention)
        self.stream, self.retention = stream, retention

    def __str__(self) -> str:
        return (
            f"{self.stream} has the retention {self.retention}: it drops what no consumer wants at that moment, "
            "and so whatever comes while a partition changes hands; make it a work queue"
        )


class Failure(enum.Enum):
    """What a failure asks for."""

    MISSING = "missing"  # there is no such consumer: make it again
    FORBIDDEN = "forbidden"  # stop
    THROTTLED = "throttled"  # ask less often
    TRANSIENT = "transient"  # ask again
    UNAVAILABLE = "unavailable"  # nobody answered: the consumer, or the server, is not there; look which
    OTHER = "other"


class ServerError(ConsumerError):
    """The server refused a request, or did not answer it."""

    def __init__(self, request: str, code: int, error_code: int, description: str) -> None:
        super().__init__(request, code, error_code, description)
        self.request, self.code, self.error_code, self.description = request, code, error_code, description

    def __str__(self) -> str:
        return f"{self.request}: {self.description} ({self.code}, {self.error_code})"

    @property
    def failure(self) -> Failure:
        """What it asks for."""
        if self.error_code in (NOT_FOUND, NO_SUCH_CONSUMER):
            return Failure.MISSING
        return classify(self.code, self.description)


NO_ANSWER_CODE = 0  # as the code of a ServerError: not the server's word, there was none
NOT_FOUND = 10014
NO_SUCH_CONSUMER = 10149  # "consumer does not exist", to an update
EXISTS = 10148  # "consumer already exists", to a creation
NOT_UNIQUE = 10100  # "filtered consumer not unique on workqueue stream"


def classify(code: int, description: str) -> Failure:
    """Tell what the status of a pull asks for.

    >>> classify(409, "Consumer Deleted"), classify(409, "Exceeded MaxWaiting"), classify(403, "")
    (<Failure.MISSING: 'missing'>, <Failure.THROTTLED: 'throttled'>, <Failure.FORBIDDEN: 'forbidden'>)
    """
    said = description.strip().lower()
    if code == 404 or (code == 409 and said.startswith("consumer deleted")):
        return Failure.MISSING
    if code in (401, 403):
        return Failure.FORBIDDEN
    if code == 409 and said.startswith(("server shutdown", "leadership change")):
        return Failure.TRANSIENT
    if code in (409, 429):
        return Failure.THROTTLED
    if code == 503:
        return Failure.UNAVAILABLE
    if code == NO_ANSWER_CODE or 500 <= code < 600:
        return Failure.TRANSIENT
    return Failure.OTHER
