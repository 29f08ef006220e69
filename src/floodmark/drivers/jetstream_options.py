"""The options of the driver `jetstream`: their defaults, what they mean, and what makes no sense among them."""

from __future__ import annotations

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Options, take_options
from floodmark.drivers.nats_address import ADDRESS_DEFAULTS, ADDRESS_MEANINGS

DEFAULTS: Options = {
    "subject": "$channel",
    "encoding": "binary",
    "stream": "",
    "storage": "file",
    "retention": "limits",
    "replicas": 1,
    "message_ids": True,
    "duplicate_window_s": 120.0,
    "retry_s": 0.0,
    "consumer": "pull",
    "ack": "each",
    "batch": 500,
    "ack_wait_s": 5.0,
    "max_ack_pending": 10_000,
    "keep": False,
    **ADDRESS_DEFAULTS,
}
MEANINGS = {
    "subject": "The subject of a channel, such as `stress.$channel`.",
    "encoding": "`binary` or `text`: how payloads and their stamps are written.",
    "stream": "A stream that is there and takes these subjects; it is neither made nor removed. Empty: one of the run's own.",
    "storage": "`file` or `memory`: where the stream is kept.",
    "retention": "`limits`, `interest` or `workqueue`: when the stream lets a message go; a work queue takes one subscription per channel.",
    "replicas": "How many servers of a cluster hold the stream.",
    "message_ids": "Whether each publish carries a `Nats-Msg-Id`, by which the stream knows one that is sent again.",
    "duplicate_window_s": "How long it remembers them.",
    "retry_s": "So long a publisher whose connection was cut tries to come back by itself, and sends again what was not answered; 0: no.",
    "consumer": "`pull` or `push`: durable and acknowledged; `ordered`: pushed in order without acknowledgement, resumed by its reader.",
    "ack": "`each` message; `all` up to the last one of a read; `twice`: each, and confirmed by the server, so that what was handled is "
    "not handled again; `none`. An ordered consumer has none.",
    "batch": "Messages that a pulled consumer asks for at once.",
    "ack_wait_s": "How long the server waits for an acknowledgement before a message comes again; below the scenario's `drain_limit_s`.",
    "max_ack_pending": "How many messages of a consumer may wait for it; then the server holds back.",
    "keep": "Whether the stream is left on the server at the end.",
    **ADDRESS_MEANINGS,
}
_CHOICES = {
    "storage": ("file", "memory"),
    "retention": ("limits", "interest", "workqueue"),
    "consumer": ("pull", "push", "ordered"),
    "ack": ("each", "all", "twice", "none"),
}


def chosen_of(driver: str, options: Options) -> dict[str, str | int | float | bool]:
    """Read the options over their defaults. Raises: UsageError."""
    chosen = take_options(driver, options, DEFAULTS)
    for option, choices in _CHOICES.items():
        if chosen[option] not in choices:
            raise UsageError(f"option {option!r} of driver {driver!r} must be {' or '.join(choices)}, got {chosen[option]!r}")
    for option in ("batch", "ack_wait_s", "max_ack_pending", "replicas", "duplicate_window_s"):
        if not float(chosen[option]) > 0:
            raise UsageError(f"option {option!r} of driver {driver!r} must be above 0, got {chosen[option]!r}")
    if not 0 <= float(chosen["retry_s"]) < float("inf"):
        raise UsageError(f"option 'retry_s' of driver {driver!r} must be 0 or more, got {chosen['retry_s']!r}")
    return chosen
