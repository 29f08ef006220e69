"""Which probes of the warm-up go in: a work queue keeps each of them until a worker has handed it on, so one for each partition is enough.

Whoever warms up asks for a probe of every channel once a second, as if those before were lost. In a queue they are not: with a thousand
partitions they would pile up before the load, and the load would wait behind them until its time was over. So a probe is sent again only
when nothing has come out for SILENT_S: then it is not under way any more.
"""

from __future__ import annotations

SILENT_S = 1.5
_NANOSECONDS = 1_000_000_000


class Probes:
    """The probes of all connections of one agent, by channel; `heard_ns` is when something came out last.

    >>> probes = Probes()
    >>> probes.due("fm1.0", 0), probes.due("fm1.0", 1_000_000_000)
    (True, False)
    >>> probes.heard_ns = 800_000_000
    >>> probes.due("fm1.0", 2_000_000_000), probes.due("fm1.0", 2_500_000_000)
    (False, True)
    """

    def __init__(self) -> None:
        self.heard_ns = 0
        self._sent_ns: dict[str, int] = {}

    def due(self, channel: str, now_ns: int) -> bool:
        """Tell if a probe shall go to this channel now, and remember that it did."""
        sent_ns = self._sent_ns.get(channel)
        if sent_ns is not None and now_ns - max(sent_ns, self.heard_ns) < SILENT_S * _NANOSECONDS:
            return False
        self._sent_ns[channel] = now_ns
        return True
