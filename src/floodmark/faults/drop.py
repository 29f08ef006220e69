"""Drop: an exact share of the connections is dropped in the midst of an operation, and comes back or stays away.

The operation is the victim's own. To be dropped while it connects or subscribes, a victim first leaves in the clean way. What a victim
publishes at its end goes to a channel that nobody listens to, so that the ledger has nothing to expect of it. Pure: the agent acts.
"""

from __future__ import annotations

import math
from typing import Literal

from floodmark.core.errors import UsageError
from floodmark.faults.backoff import Backoff


class Drop(Backoff, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`during` says in which operation: after the request was sent, before its answer; `receive` is right after a delivery came in.

    `how`: `close` ends the connection as a process that dies does, `half-close` says that nothing more will be sent and waits for the
    target to end it, `reset` cuts it with a TCP reset. With `back` the victims return `back_after_s` later, resuming where they were if
    `resume`; without, they are gone for good, and no later fault chooses them. `limit_s` is how long a victim waits for its moment (a
    delivery, or the target's end of a half-closed connection) before it drops without it.
    """

    during: Literal["connect", "subscribe", "publish", "receive", "unsubscribe"] = "receive"
    how: Literal["close", "half-close", "reset"] = "close"
    back: bool = True
    resume: bool = False
    back_after_s: float = 0.0
    limit_s: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("back_after_s", "limit_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"fault 'drop': {name} must be finite and >= 0, got {value!r}")
        if self.resume and not self.back:
            raise UsageError("fault 'drop': resume without back; who stays away resumes nothing")
        if self.resume and self.during not in ("publish", "receive"):
            raise UsageError(f"fault 'drop': resume goes with publish or receive; during {self.during} no subscription is left to resume")
