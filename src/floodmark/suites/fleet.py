"""The fleet suite: plan 004 against the embedded fleet, workers in processes of their own, a nats-server of the wheel between them.

The load goes through the workers, so that the ledger tells what was lost, doubled or out of order on a partition; who held what when is
told by a record that the server writes (`target.NAME`). What concerns the library alone (B7, B29, B33 and the fine points of B23) its tests
try.
"""

from __future__ import annotations

from floodmark.suites.entry import Entry
from floodmark.suites.fleet_costs import COSTS
from floodmark.suites.fleet_faults import FAULTS
from floodmark.suites.fleet_profiles import PROFILED
from floodmark.suites.fleet_sharing import SHARING

SCENARIOS: tuple[Entry, ...] = tuple(case.entry() for case in (*COSTS, *SHARING, *FAULTS, *PROFILED))
