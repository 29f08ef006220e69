"""Record latencies in the layout of HdrHistogram: 1 ns to 1 h at 3 significant digits, counts in one numpy array.

Contract: the same buckets, percentiles and V2 encoding as the hdrhistogram library, but `record` takes whole arrays. Values above the
range are clipped into the last bucket and counted in `clipped_count`; negative ones (a bug in somebody's clock or arithmetic) are kept out
of the distribution and counted in `negative_count`. Memory: about 270 KB each. Not here: what is measured.
"""

from __future__ import annotations

import base64
import struct
import zlib

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from floodmark.core.errors import UsageError
from floodmark.ledger.inbox import Ints
from floodmark.model.result import LatencySummary

HIGHEST_NS = 3_600_000_000_000
SIGNIFICANT_DIGITS = 3
_SUB_BITS = 11  # 2048 sub-buckets hold 3 digits: the least power of two not below 2 * 10**3
_SUB_COUNT = 1 << _SUB_BITS
_HALF_COUNT = _SUB_COUNT // 2
_BUCKETS = (HIGHEST_NS.bit_length() - _SUB_BITS) + 1
COUNTS_LEN = (_BUCKETS + 1) * _HALF_COUNT

_V2_COOKIE, _V2_COMPRESSED_COOKIE = 0x1C849313, 0x1C849314
_OUTER = struct.Struct(">II")
_INNER = struct.Struct(">IIIIQQd")  # cookie, payload bytes, index offset, digits, lowest, highest, conversion ratio


def _indices(values_ns: Ints) -> Ints:
    """Give each value's place in the counts: the exponent picks the bucket, the leading 11 bits the place in it."""
    # frexp is exact here: every value is below 2**53.
    bucket = np.maximum(np.frexp(values_ns.astype(np.float64))[1].astype(np.int64) - _SUB_BITS, 0)
    return (bucket << (_SUB_BITS - 1)) + (values_ns >> bucket)


def _bucket_edges() -> tuple[Ints, Ints]:
    index = np.arange(COUNTS_LEN, dtype=np.int64)
    bucket = np.maximum((index >> (_SUB_BITS - 1)) - 1, 0)
    low = (index - (bucket << (_SUB_BITS - 1))) << bucket
    return low, low + (np.int64(1) << bucket) - 1


_LOW_NS, _HIGH_NS = _bucket_edges()
_LAST = int(_indices(np.array([HIGHEST_NS]))[0])


class HistogramWire(msgspec.Struct, array_like=True):
    """A histogram between processes: only the places that hold something."""

    places: bytes
    counts: bytes
    clipped_count: int
    negative_count: int


class Histogram:
    """A mergeable distribution of latencies.

    >>> histogram = Histogram()
    >>> histogram.record([1_000, 2_000, 3_000])
    >>> histogram.percentile(50), histogram.count
    (2000, 3)
    """

    __slots__ = ("clipped_count", "counts", "negative_count")

    def __init__(self) -> None:
        self.counts: Ints = np.zeros(COUNTS_LEN, np.int64)
        self.clipped_count = self.negative_count = 0

    @property
    def count(self) -> int:
        """How many values are in the distribution: all but the negative ones."""
        return int(self.counts.sum())

    def record(self, values_ns: ArrayLike) -> None:
        """Add values: (n,) integer nanoseconds, any order, n may be 0."""
        # HOT: once per batch.
        values = np.asarray(values_ns, np.int64)
        if not values.size:
            return
        if values.min() < 0:
            self.negative_count += int((values < 0).sum())
            values = values[values >= 0]
        if values.size and values.max() > HIGHEST_NS:
            self.clipped_count += int((values > HIGHEST_NS).sum())
            values = np.minimum(values, HIGHEST_NS)
        np.add.at(self.counts, _indices(values), 1)

    def percentile(self, percent: float) -> int:
        """Give the highest value of the bucket that holds the percentile, as HdrHistogram does (its lowest for 0); 0 when empty."""
        return self.percentiles([percent])[0]

    def percentiles(self, percents: list[float]) -> list[int]:
        """Give several percentiles, 0 .. 100, for one pass over the counts."""
        running = np.cumsum(self.counts)
        total = int(running[-1])
        if not total:
            return [0] * len(percents)
        ranks = [max(int(min(percent, 100.0) * total / 100 + 0.5), 1) for percent in percents]
        places = np.searchsorted(running, ranks).tolist()
        return [int((_HIGH_NS if percent > 0 else _LOW_NS)[place]) for percent, place in zip(percents, places, strict=True)]

    def summary(self) -> LatencySummary:
        """Sum up for the result."""
        p50, p90, p99, p999, highest = self.percentiles([50, 90, 99, 99.9, 100])
        return LatencySummary(p50=p50, p90=p90, p99=p99, p999=p999, max=highest, count=self.count)

    def merge(self, other: Histogram) -> None:
        """Add all of another histogram."""
        self.counts += other.counts
        self.clipped_count += other.clipped_count
        self.negative_count += other.negative_count

    def diff(self, earlier: Histogram) -> Histogram:
        """Give what was recorded since `earlier`, a copy of this one then.

        Raises: UsageError when `earlier` holds something that this one does not.
        """
        new = Histogram()
        new.counts = self.counts - earlier.counts
        new.clipped_count, new.negative_count = self.clipped_count - earlier.clipped_count, self.negative_count - earlier.negative_count
        if new.counts.min() < 0 or new.clipped_count < 0 or new.negative_count < 0:
            raise UsageError("the earlier histogram holds values that the later one does not; they are not two states of one recording")
        return new

    def copy(self) -> Histogram:
        """Give an independent copy."""
        new = Histogram()
        new.merge(self)
        return new

    def take(self) -> Histogram:
        """Give everything recorded since the last `take` and start again from nothing."""
        new = Histogram()
        new.counts, self.counts = self.counts, new.counts
        new.clipped_count, new.negative_count = self.clipped_count, self.negative_count
        self.clipped_count = self.negative_count = 0
        return new

    def wire(self) -> HistogramWire:
        """Give the sparse form."""
        places = np.flatnonzero(self.counts)
        counts = self.counts[places]
        return HistogramWire(places.astype("<u2").tobytes(), counts.astype("<i8").tobytes(), self.clipped_count, self.negative_count)

    def to_wire(self) -> bytes:
        """Encode for another process of the same version: 10 bytes for each bucket that holds something."""
        return msgspec.msgpack.encode(self.wire())

    @classmethod
    def from_wire(cls, data: bytes | HistogramWire) -> Histogram:
        """Decode what `to_wire` or `wire` gave."""
        wire = msgspec.msgpack.decode(data, type=HistogramWire) if isinstance(data, bytes) else data
        new = cls()
        new.counts[np.frombuffer(wire.places, "<u2")] = np.frombuffer(wire.counts, "<i8")
        new.clipped_count, new.negative_count = wire.clipped_count, wire.negative_count
        return new

    def encode(self) -> bytes:
        """Encode as compressed V2 base64, which every HdrHistogram reads. What was negative is not part of that format."""
        held = np.flatnonzero(self.counts)
        payload = bytearray()
        at = 0
        for place in held.tolist():
            if place > at:
                payload += _varint(at - place)  # a negative number is a run of zeros
            payload += _varint(int(self.counts[place]))
            at = place + 1
        inner = _INNER.pack(_V2_COOKIE, len(payload), 0, SIGNIFICANT_DIGITS, 1, HIGHEST_NS, 1.0) + payload
        compressed = zlib.compress(inner)
        return base64.b64encode(_OUTER.pack(_V2_COMPRESSED_COOKIE, len(compressed)) + compressed)

    @classmethod
    def decode(cls, encoded: bytes) -> Histogram:
        """Decode a V2 histogram of the same range and digits.

        Raises: UsageError for anything else.
        """
        raw = base64.b64decode(encoded)
        cookie, length = _OUTER.unpack_from(raw)
        if cookie != _V2_COMPRESSED_COOKIE:
            raise UsageError(f"not a compressed V2 histogram: it begins with {cookie:#x}, not {_V2_COMPRESSED_COOKIE:#x}")
        inner = zlib.decompress(raw[_OUTER.size : _OUTER.size + length])
        cookie, length, offset, digits, lowest, highest, _ = _INNER.unpack_from(inner)
        if (cookie, offset, digits, lowest, highest) != (_V2_COOKIE, 0, SIGNIFICANT_DIGITS, 1, HIGHEST_NS):
            raise UsageError(f"a histogram of {lowest} .. {highest} with {digits} digits; only 1 .. {HIGHEST_NS} with {SIGNIFICANT_DIGITS}")
        new, place = cls(), 0
        for number in _varints(inner[_INNER.size : _INNER.size + length]):
            if number < 0:
                place -= number
            else:
                new.counts[place] = number
                place += 1
        return new


def _varint(number: int) -> bytes:
    """Encode as ZigZag LEB128; the ninth byte, if it comes to that, carries eight bits."""
    zigzag = (number << 1) ^ (number >> 63)
    out = bytearray()
    while zigzag > 0x7F and len(out) < 8:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _varints(data: bytes) -> list[int]:
    numbers: list[int] = []
    value = shift = 0
    for byte in data:
        if shift == 56:
            value |= byte << shift
        else:
            value |= (byte & 0x7F) << shift
            if byte & 0x80:
                shift += 7
                continue
        numbers.append((value >> 1) ^ -(value & 1))
        value = shift = 0
    return numbers
