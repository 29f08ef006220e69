"""Faults on the wire: a TCP proxy between clients and target, and one file per thing that goes wrong on the way.

`Proxy` carries them out; the table below names them. What each does, and what TCP lets one see of it, is in docs/proxy.md.
"""

from __future__ import annotations

from floodmark.faults.wire.bandwidth import Bandwidth
from floodmark.faults.wire.corrupt import Corrupt
from floodmark.faults.wire.cut import Cut
from floodmark.faults.wire.latency import Latency
from floodmark.faults.wire.limit import Limit
from floodmark.faults.wire.partition import Partition
from floodmark.faults.wire.refuse import Refuse
from floodmark.faults.wire.reset import Reset
from floodmark.faults.wire.slice import Slice
from floodmark.faults.wire.slow_close import SlowClose
from floodmark.faults.wire.spec import WireFault
from floodmark.faults.wire.timeout import Timeout

WIRE_FAULTS: dict[str, tuple[type[WireFault], str]] = {
    "latency": (Latency, "every chunk arrives later: fixed, or drawn per chunk from a range"),
    "bandwidth": (Bandwidth, "so many bytes a second and no more"),
    "slice": (Slice, "what was one write arrives as many small pieces"),
    "slow_close": (SlowClose, "the end of a stream arrives late"),
    "timeout": (Timeout, "a black hole: bytes are taken and thrown away, then the connection closes, or never"),
    "reset": (Reset, "both ends get a TCP reset, at once or after a while"),
    "limit": (Limit, "the connection closes after so many bytes"),
    "corrupt": (Corrupt, "bits are flipped; the journal says which"),
    "partition": (Partition, "nothing passes until the fault is removed, and nothing is lost"),
    "cut": (Cut, "a live connection is closed after a while, however busy it is"),
    "refuse": (Refuse, "new connections are turned away"),
}
