"""The ledger: stamp every message, account for what was sent and what arrived, and name every difference.

`Stamper` writes, `decode` reads, `Publications` and `Accounts` count, `reconcile` compares, `Histogram` holds latencies, and `wire` carries
all of it between processes. Pure code: no asyncio, no sockets, no clock; every time is handed in.
"""

from floodmark.ledger.accounts import Accounts
from floodmark.ledger.decode import decode
from floodmark.ledger.histogram import Histogram
from floodmark.ledger.inbox import NEVER_NS, Deliveries
from floodmark.ledger.publications import Publications
from floodmark.ledger.reconcile import Reckoning, reconcile
from floodmark.ledger.stamp import Encoding, Stamp, Stamper, read
from floodmark.ledger.wire import (
    accounts_from_wire,
    accounts_to_wire,
    merge_accounts,
    merge_publications,
    publications_from_wire,
    publications_to_wire,
)

__all__ = [
    "NEVER_NS",
    "Accounts",
    "Deliveries",
    "Encoding",
    "Histogram",
    "Publications",
    "Reckoning",
    "Stamp",
    "Stamper",
    "accounts_from_wire",
    "accounts_to_wire",
    "decode",
    "merge_accounts",
    "merge_publications",
    "publications_from_wire",
    "publications_to_wire",
    "read",
    "reconcile",
]
