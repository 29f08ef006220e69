"""Corrupt: bits are flipped on the way, and the journal says which.

`every_bytes` flips exactly one bit in each run of so many bytes, at a place drawn by the seed: the same stream is damaged in the same
places however it is chunked. `probability` flips one bit in a chunk (what one read of the proxy gave) with that chance. A TCP checksum
does not help here: it is right, the bytes behind it are wrong, as with a faulty middle-box or memory.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from floodmark.core import units
from floodmark.core.units import Dimension
from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import Chunk, End, Shaper
from floodmark.faults.wire.spec import LaneFault, ShaperFactory
from floodmark.model import checks


class Corrupt(LaneFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give one of `every_bytes` and `probability`; 0 and 0 changes nothing."""

    every_bytes: int = 0
    probability: float = 0.0

    SHORT: ClassVar[str] = "every_bytes"
    DAMAGES: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every_bytes != 0:
            checks.whole("fault 'corrupt': every_bytes", self.every_bytes)
        checks.share("fault 'corrupt': probability", self.probability)
        checks.require(
            not (self.every_bytes and self.probability), "fault 'corrupt': give every_bytes or probability, not both; leave one at 0"
        )

    @property
    def inert(self) -> bool:
        return super().inert or not (self.every_bytes or self.probability)

    def shapers(self) -> ShaperFactory:
        if self.every_bytes:
            return lambda _direction, rng, tally: _PerBytes(self.every_bytes, rng, tally)
        return lambda _direction, rng, tally: _PerChunk(self.probability, rng, tally)

    @classmethod
    def short(cls, text: str) -> dict[str, float | int | str]:
        """A share (`1%`) is a probability per chunk, a size (`4KiB`) is one bit per so many bytes."""
        if text.strip().endswith("%"):
            return {"probability": units.parse(text, Dimension.RATIO, where="probability")}
        return super().short(text)


class _PerBytes(Shaper):
    """One flip in each block of `every_bytes`; its place in the block and the bit are drawn when the block begins."""

    def __init__(self, every_bytes: int, rng: np.random.Generator, tally: Tally) -> None:
        self._every_bytes = every_bytes
        self._rng = rng
        self._tally = tally
        self._passed_bytes = 0
        self._drawn_count = 0  # blocks whose flip is drawn
        self._pending: tuple[int, int] | None = None  # the last block's flip, when it lies beyond what has passed

    def touch(self, piece: Chunk) -> tuple[Chunk, End | None]:
        start, stop = self._passed_bytes, self._passed_bytes + len(piece)
        self._passed_bytes = stop
        offsets, bits = self._flips(stop)
        if len(offsets) == 0:
            return piece, None
        damaged = np.frombuffer(piece, dtype=np.uint8).copy()
        damaged[offsets - start] ^= np.left_shift(1, bits).astype(np.uint8)
        self._tally.flipped(offsets.tolist(), bits.tolist())
        return damaged.tobytes(), None

    def _flips(self, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the flips that lie before `stop` and have not been given, in order."""
        blocks = -(-stop // self._every_bytes) - self._drawn_count
        # Doubles take exactly one draw each, so the flips do not depend on how many blocks are drawn at a time.
        drawn = self._rng.random((blocks, 2))
        firsts = (np.arange(blocks) + self._drawn_count) * self._every_bytes
        offsets = firsts + (drawn[:, 0] * self._every_bytes).astype(np.int64)
        bits = (drawn[:, 1] * 8).astype(np.int64)
        self._drawn_count += blocks
        if self._pending is not None:
            offsets, bits = np.insert(offsets, 0, self._pending[0]), np.insert(bits, 0, self._pending[1])
        reached = int(np.searchsorted(offsets, stop))
        self._pending = (int(offsets[-1]), int(bits[-1])) if reached < len(offsets) else None
        return offsets[:reached], bits[:reached]


class _PerChunk(Shaper):
    """One flip in a chunk, with a chance; three draws per chunk whether or not it is hit."""

    def __init__(self, probability: float, rng: np.random.Generator, tally: Tally) -> None:
        self._probability = probability
        self._rng = rng
        self._tally = tally
        self._passed_bytes = 0

    def touch(self, piece: Chunk) -> tuple[Chunk, End | None]:
        chance, place, bit = self._rng.random(3).tolist()
        start = self._passed_bytes
        self._passed_bytes += len(piece)
        if chance >= self._probability:
            return piece, None
        damaged = bytearray(piece)
        index, flipped = int(place * len(piece)), int(bit * 8)
        damaged[index] ^= 1 << flipped
        self._tally.flipped([start + index], [flipped])
        return bytes(damaged), None
