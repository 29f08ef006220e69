"""Turn running totals of many agents into samples over time: rates, latencies of each interval, connections.

Agents report every quarter of a second by their own clocks' beat; samples are gathered in bins of that width, on the machine's one
monotonic clock. What happened between two reports is spread evenly over the bins between them, or a report that comes a moment late would
leave one bin empty and the next one full twice over. Latencies belong to the bin in which they were reported.
Memory: a few numbers per bin, and its latencies as long as all of them together stay below `LATENCIES_BYTES`.
"""

from __future__ import annotations

import msgspec

from floodmark.judge.recovery import Bin
from floodmark.ledger.histogram import Histogram
from floodmark.monitor.watch import Row
from floodmark.runner.wire import PROGRESS_S, Progress

BIN_NS = int(PROGRESS_S * 1e9)
LATENCIES_BYTES = 64 * 1024 * 1024


class Totals(msgspec.Struct, kw_only=True):
    """Sums over the agents' newest reports."""

    connections: int = 0
    seen: int = 0
    published: int = 0
    received: int = 0
    pending: int = 0
    rate_hz: float = 0.0
    response_p50_ns: int = 0
    response_p99_ns: int = 0


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole bins of a stretch of time hold; `response` is None when the latencies of one of them were not kept."""

    duration_s: float
    published: float
    delivered: float
    response: Histogram | None


class Timeline:
    """Gathers reports into samples (t_s, series, value), t_s counted from an origin given at the end."""

    def __init__(self) -> None:
        self._bins: dict[int, _Rates] = {}
        self._last: dict[int, Progress] = {}
        self._marks: list[tuple[int, str]] = []
        self._latencies_bytes = 0

    def mark(self, text: str, at_ns: int) -> None:
        """Note an event: a phase, a fault."""
        self._marks.append((at_ns, text))

    def add(self, agent: int, progress: Progress) -> Totals:
        """Take one agent's report; returns the sums over all agents."""
        number = progress.at_ns // BIN_NS
        last = self._last.get(agent)
        self._last[agent] = progress
        rates = self._bin(number)
        since_ns = last.at_ns if last is not None else progress.at_ns - BIN_NS
        for its_number, share in _shares(since_ns, progress.at_ns):
            its_bin = self._bin(its_number)
            its_bin.published += share * (progress.published - (last.published if last else 0))
            its_bin.received += share * (progress.received - (last.received if last else 0))
        self._keep(rates, progress.response)
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
            response_p50_ns=rates.response[0],
            response_p99_ns=rates.response[1],
        )

    def marks_since(self, count: int) -> list[str]:
        """What was marked after the first `count` marks."""
        return [text for _, text in self._marks[count:]]

    def marked_ns(self, text: str, since_ns: int) -> int | None:
        """When a mark was first set, at `since_ns` or later."""
        return min((at_ns for at_ns, its_text in self._marks if its_text == text and at_ns >= since_ns), default=None)

    def _bin(self, number: int) -> _Rates:
        rates = self._bins.get(number)
        if rates is None:
            rates = self._bins[number] = _Rates()
            rates.connections = sum(each.connections for each in self._last.values())
        return rates

    def _keep(self, rates: _Rates, response: bytes) -> None:
        self._latencies_bytes += len(response)
        if self._latencies_bytes > LATENCIES_BYTES:
            rates.latencies = None
        elif rates.latencies is not None:
            rates.latencies.append(response)

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

    def stretch(self, from_ns: int, to_ns: int) -> Stretch:
        """Sum up the bins that lie wholly in [from_ns, to_ns)."""
        numbers = range(-(-from_ns // BIN_NS), to_ns // BIN_NS)
        bins = [self._bins[number] for number in numbers if number in self._bins]
        response = Histogram()
        for rates in bins:
            for data in rates.latencies or ():
                response.merge(Histogram.from_wire(data))
        return Stretch(
            duration_s=len(numbers) * PROGRESS_S,
            published=sum(rates.published for rates in bins),
            delivered=sum(rates.received for rates in bins),
            response=response if all(rates.latencies is not None for rates in bins) else None,
        )

    def progress(self) -> list[tuple[int, int]]:
        """Deliveries so far, at the end of every bin."""
        total = 0.0
        points: list[tuple[int, int]] = []
        for number, rates in sorted(self._bins.items()):
            total += rates.received
            points.append(((number + 1) * BIN_NS, round(total)))
        return points

    def marks(self, origin_ns: int) -> list[tuple[float, str]]:
        """All marks as (t_s, text)."""
        return [((at_ns - origin_ns) / 1e9, text) for at_ns, text in self._marks]


class _Rates:
    """One bin. Quantiles are (p50, p99, max) of the worst agent, nanoseconds; zeros when nothing was timed."""

    __slots__ = ("connections", "lag", "latencies", "published", "received", "response", "service")

    def __init__(self) -> None:
        self.published = 0.0
        self.received = 0.0
        self.latencies: list[bytes] | None = []
        self.connections = 0
        self.response = (0, 0, 0)
        self.service = (0, 0, 0)
        self.lag = (0, 0, 0)


def _shares(from_ns: int, to_ns: int) -> list[tuple[int, float]]:
    """Which bins lie between two reports, and how much of the time between them each covers."""
    if to_ns <= from_ns:
        return [(to_ns // BIN_NS, 1.0)]
    numbers = range(from_ns // BIN_NS, to_ns // BIN_NS + 1)
    covered = [min(to_ns, (number + 1) * BIN_NS) - max(from_ns, number * BIN_NS) for number in numbers]
    return [(number, ns / (to_ns - from_ns)) for number, ns in zip(numbers, covered, strict=True) if ns > 0]


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
