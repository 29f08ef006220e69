"""Turn running totals of many agents into samples over time: rates, latencies of each interval, connections.

Agents report every quarter of a second by their own clocks' beat; samples are gathered in bins of that width, on the machine's one
monotonic clock. Memory: a few numbers per bin.
"""

from __future__ import annotations

import msgspec

from floodmark.judge.recovery import Bin
from floodmark.ledger.histogram import Histogram
from floodmark.monitor.watch import Row
from floodmark.runner.wire import PROGRESS_S, Progress

BIN_NS = int(PROGRESS_S * 1e9)


class Totals(msgspec.Struct, kw_only=True):
    """Sums over the agents' newest reports."""

    connections: int = 0
    seen: int = 0
    published: int = 0
    received: int = 0
    pending: int = 0
    rate_hz: float = 0.0
    response_p99_ns: int = 0


class Timeline:
    """Gathers reports into samples (t_s, series, value), t_s counted from an origin given at the end."""

    def __init__(self) -> None:
        self._bins: dict[int, _Rates] = {}
        self._last: dict[int, Progress] = {}
        self._marks: list[tuple[int, str]] = []

    def mark(self, text: str, at_ns: int) -> None:
        """Note an event: a phase, a fault."""
        self._marks.append((at_ns, text))

    def add(self, agent: int, progress: Progress) -> Totals:
        """Take one agent's report; returns the sums over all agents."""
        number = progress.at_ns // BIN_NS
        last = self._last.get(agent)
        self._last[agent] = progress
        rates = self._bins.get(number)
        if rates is None:
            rates = self._bins[number] = _Rates()
        rates.published += progress.published - (last.published if last else 0)
        rates.received += progress.received - (last.received if last else 0)
        rates.connections = sum(each.connections for each in self._last.values())
        response = Histogram.from_wire(progress.response)
        rates.response = _quantiles(response, rates.response)
        rates.service = _quantiles(Histogram.from_wire(progress.service), rates.service)
        rates.lag = _quantiles(Histogram.from_wire(progress.lag), rates.lag)
        newest = self._last.values()
        return Totals(
            connections=rates.connections,
            seen=sum(each.seen for each in newest),
            published=sum(each.published for each in newest),
            received=sum(each.received for each in newest),
            pending=sum(each.pending for each in newest),
            rate_hz=rates.received / PROGRESS_S,
            response_p99_ns=rates.response[1],
        )

    def samples(self, origin_ns: int, rows: list[Row]) -> list[tuple[float, str, float]]:
        """All samples, with those of the processes watched."""
        samples: list[tuple[float, str, float]] = []
        for number, rates in sorted(self._bins.items()):
            t_s = (number * BIN_NS - origin_ns) / 1e9
            samples.append((t_s, "published_hz", rates.published / PROGRESS_S))
            samples.append((t_s, "delivered_hz", rates.received / PROGRESS_S))
            samples.append((t_s, "connections", float(rates.connections)))
            for prefix, quantiles in (("response", rates.response), ("service", rates.service)):
                if any(quantiles):
                    for name, value in zip(("p50", "p99", "max"), quantiles, strict=True):
                        samples.append((t_s, f"{prefix}_{name}_ns", float(value)))
            if any(rates.lag):
                samples.append((t_s, "generator_lag_ns", float(rates.lag[1])))
        samples.extend(_process_samples(origin_ns, rows))
        return samples

    def bins(self, origin_ns: int) -> list[Bin]:
        """The rates as the recovery clocks read them: every bin from the first report to the last, empty ones too."""
        if not self._bins:
            return []
        numbers = range(min(self._bins), max(self._bins) + 1)
        nothing = _Rates()
        rates = [(number, self._bins.get(number, nothing)) for number in numbers]
        return [Bin((number * BIN_NS - origin_ns) / 1e9, each.published, each.received) for number, each in rates]

    def progress(self) -> list[tuple[int, int]]:
        """Deliveries so far, at the end of every bin."""
        total = 0
        points: list[tuple[int, int]] = []
        for number, rates in sorted(self._bins.items()):
            total += rates.received
            points.append(((number + 1) * BIN_NS, total))
        return points

    def marks(self, origin_ns: int) -> list[tuple[float, str]]:
        """All marks as (t_s, text)."""
        return [((at_ns - origin_ns) / 1e9, text) for at_ns, text in self._marks]


class _Rates:
    """One bin. Quantiles are (p50, p99, max) of the worst agent, nanoseconds; zeros when nothing was timed."""

    __slots__ = ("connections", "lag", "published", "received", "response", "service")

    def __init__(self) -> None:
        self.published = 0
        self.received = 0
        self.connections = 0
        self.response = (0, 0, 0)
        self.service = (0, 0, 0)
        self.lag = (0, 0, 0)


def _quantiles(histogram: Histogram, so_far: tuple[int, int, int]) -> tuple[int, int, int]:
    if not histogram.count:
        return so_far
    p50, p99, largest = histogram.percentiles([50.0, 99.0, 100.0])
    return max(so_far[0], p50), max(so_far[1], p99), max(so_far[2], largest)


def _process_samples(origin_ns: int, rows: list[Row]) -> list[tuple[float, str, float]]:
    samples: list[tuple[float, str, float]] = []
    before: dict[str, Row] = {}
    for row in rows:
        t_s = (row.t_ns - origin_ns) / 1e9
        samples.append((t_s, f"{row.tree}_rss_bytes", float(row.resident_bytes)))
        if row.unique_bytes is not None:
            samples.append((t_s, f"{row.tree}_uss_bytes", float(row.unique_bytes)))
        if row.descriptors is not None:
            samples.append((t_s, f"{row.tree}_fds", float(row.descriptors)))
        samples.append((t_s, f"{row.tree}_threads", float(row.threads)))
        last = before.get(row.tree)
        if last is not None and row.t_ns > last.t_ns:
            samples.append((t_s, f"{row.tree}_cpu_ratio", (row.cpu_s - last.cpu_s) / ((row.t_ns - last.t_ns) / 1e9)))
        before[row.tree] = row
    return samples
