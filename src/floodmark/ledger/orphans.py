"""Publications that were lost with whoever kept them: what can still be said of them.

When a publishing process is gone, so is its account of what it sent. Up to the highest sequence that any subscription received, everything
was sent: that much is known. Whether the system had taken responsibility for it is not, so all of it is indeterminate: what arrived counts
as delivered, what did not accuses nobody, and what nobody received is not known to have been sent at all. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from floodmark.core.errors import HarnessBugError
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.publications import Publications


def adopt(publications: Publications, accounts: Accounts, publishers: Iterable[int]) -> int:
    """Enter the publications of publishers whose own account is lost, from what was received of them.

    Returns: how many messages were entered. Raises: HarnessBugError for a publisher whose account is there.
    """
    rows = accounts.next_seq[: accounts.slots * accounts.ranks].reshape(accounts.slots, accounts.ranks)
    entered = 0
    for publisher in publishers:
        if publications.attempted_end[publisher]:
            raise HarnessBugError(f"publisher {publisher} has an account of its own, so it needs none from what was received")
        rank, channel = divmod(publisher, accounts.channels)
        listening = accounts.channel[: accounts.slots] == channel
        end = int(rows[listening, rank].max(initial=0))
        if end:
            publications.next_seqs(publisher, end)
            publications.failed_range(publisher, 0, end)
            entered += end
    return entered
