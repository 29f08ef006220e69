"""Write and read the stamp that every message carries: who sent it, as which of its sequence, when, and a checksum over all of it.

One layout, two encodings. Binary: 44 bytes at the head of the payload, little-endian, then the body. Text: the marker, the checksum as
8 hex digits, the other 36 bytes of the head as 72, then a body of ASCII letters and digits, so that it survives any JSON string untouched.
The CRC-32 covers everything behind itself, head and body: a flipped bit in a sequence number is corruption and not a false gap.
`Stamper` writes; `read` is the slow, obvious reader of one frame (`decode` is the fast one and must agree with it).
Not here: what the sequence numbers mean (accounts). Limits: CRC-32 finds accidents, not forgery; one stamp per frame, the first one.
"""

from __future__ import annotations

import random
import re
import string
import struct
from typing import Literal
from zlib import crc32

import msgspec

from floodmark.core.errors import UsageError

Encoding = Literal["binary", "text"]

MAGIC = b"\xf1\x00dM"  # not ASCII first, so that no text holds it by chance
MARKER = b"fm1:"
HEAD = struct.Struct("<4sIIIQQQI")
BEHIND_CRC = struct.Struct("<IIQQQI")  # run, publisher, seq, intended_ns, sent_ns, length
HEAD_BYTES = HEAD.size  # 44
COVERED_OFFSET = 8  # binary: where the checksum's cover begins, behind magic and checksum
TEXT_COVERED_OFFSET = 12  # text: the same behind marker and 8 hex digits
TEXT_HEAD_BYTES = TEXT_COVERED_OFFSET + 2 * BEHIND_CRC.size  # 84
LEAST_BYTES: dict[Encoding, int] = {"binary": HEAD_BYTES, "text": TEXT_HEAD_BYTES}

_LETTERS = (string.ascii_letters + string.digits).encode()
_HEX_RUN = re.compile(rb"[0-9a-f]{80,}")
_LOWER_HEX = re.compile(rb"[0-9a-f]{80}")


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """One stamp as read; `intact` is whether the checksum holds. A head that could not be decoded at all has -1 in every number."""

    run: int
    publisher: int
    seq: int
    intended_ns: int
    sent_ns: int
    length_bytes: int
    intact: bool


UNDECODABLE = Stamp(run=-1, publisher=-1, seq=-1, intended_ns=-1, sent_ns=-1, length_bytes=-1, intact=False)


class Stamper:
    """Make stamped payloads of one run, all of one size.

    Args:
        run: 0 .. 2**32-1, told apart from every other run that may still be in flight.
        encoding: `binary`, or `text` for systems that carry JSON.
        payload_bytes: the whole payload, head included; at least 44 (binary) or 84 (text).
        seed: of the filler body, which is the same for every message of a stamper (the checksum still differs).
    Raises: UsageError for a payload smaller than its head.
    """

    def __init__(self, run: int, encoding: Encoding, payload_bytes: int, seed: int = 0) -> None:
        if encoding not in LEAST_BYTES:
            raise UsageError(f"encoding must be 'binary' or 'text', got {encoding!r}")
        least_bytes = LEAST_BYTES[encoding]
        if payload_bytes < least_bytes:
            raise UsageError(f"payload_bytes must be at least {least_bytes} for {encoding} stamps (the head alone), got {payload_bytes}")
        if not 0 <= run < 2**32:
            raise UsageError(f"run must be 0 .. 4294967295, got {run}")
        rng = random.Random(seed)
        self.run, self.encoding, self.payload_bytes = run, encoding, payload_bytes
        self._length_bytes = payload_bytes - least_bytes
        if encoding == "binary":
            # Without the first byte of MAGIC no body can hold a marker that a reader would take for the head of the stamp.
            self._body = rng.randbytes(self._length_bytes).replace(MAGIC[:1], b"\xf0")
        else:
            self._body = bytes(rng.choices(_LETTERS, k=self._length_bytes))  # no colon, so never the marker

    def payload(self, publisher: int, seq: int, intended_ns: int, sent_ns: int) -> bytes:
        """Stamp one message; about 0.5 us plus 1 us for each 1-2 KiB of body (checksum and copy)."""
        # HOT: once per message sent.
        behind = BEHIND_CRC.pack(self.run, publisher, seq, intended_ns, sent_ns, self._length_bytes)
        if self.encoding == "binary":
            checksum = crc32(self._body, crc32(behind))
            return b"".join((MAGIC, checksum.to_bytes(4, "little"), behind, self._body))
        digits = behind.hex().encode()
        return b"fm1:%08x%b%b" % (crc32(self._body, crc32(digits)), digits, self._body)


def read(frame: bytes, encoding: Encoding, *, likely_offset: int = 0) -> Stamp | None:
    """Read the first stamp of one frame, the slow and obvious way.

    Args:
        frame: what arrived, with any bytes of the system's own around the payload.
        likely_offset: where a binary stamp is looked for when its marker is damaged.
    Returns: None when there is no stamp in it. A stamp whose marker alone was damaged is still found by its checksum, and is not intact.
    """
    return _read_binary(frame, likely_offset) if encoding == "binary" else _read_text(frame)


def _read_binary(frame: bytes, likely_offset: int) -> Stamp | None:
    at = frame.find(MAGIC)
    if at < 0:
        stamp = _binary_at(frame, likely_offset)  # the marker may be what was hit: a head whose checksum holds is no chance
        return msgspec.structs.replace(stamp, intact=False) if stamp.intact else None
    return _binary_at(frame, at)


def _binary_at(frame: bytes, at: int) -> Stamp:
    if len(frame) - at < HEAD_BYTES:
        return UNDECODABLE
    _, checksum, run, publisher, seq, intended_ns, sent_ns, length_bytes = HEAD.unpack_from(frame, at)
    end = at + HEAD_BYTES + length_bytes
    intact = end <= len(frame) and crc32(memoryview(frame)[at + COVERED_OFFSET : end]) == checksum
    return _stamp(run, publisher, seq, intended_ns, sent_ns, length_bytes, intact)


def _read_text(frame: bytes) -> Stamp | None:
    at = frame.find(MARKER)
    if at >= 0:
        return _text_at(frame, at)
    for match in _HEX_RUN.finditer(frame):
        for start in range(match.start(), match.start() + len(MARKER)):  # a damaged marker may read as hex digits before the head
            stamp = _text_at(frame, start - len(MARKER))
            if stamp.intact:
                return msgspec.structs.replace(stamp, intact=False)
    return None


def _text_at(frame: bytes, at: int) -> Stamp:
    digits = frame[at + len(MARKER) : at + TEXT_HEAD_BYTES] if at >= 0 else frame[: at + TEXT_HEAD_BYTES]
    if _LOWER_HEX.fullmatch(digits) is None:  # upper case too is damage: one flipped bit turns "a" into "A"
        return UNDECODABLE
    run, publisher, seq, intended_ns, sent_ns, length_bytes = BEHIND_CRC.unpack(bytes.fromhex(digits[8:].decode()))
    end = at + TEXT_HEAD_BYTES + length_bytes
    intact = end <= len(frame) and crc32(memoryview(frame)[at + TEXT_COVERED_OFFSET : end]) == int(digits[:8], 16)
    return _stamp(run, publisher, seq, intended_ns, sent_ns, length_bytes, intact)


def _stamp(run: int, publisher: int, seq: int, intended_ns: int, sent_ns: int, length_bytes: int, intact: bool) -> Stamp:
    return Stamp(run=run, publisher=publisher, seq=seq, intended_ns=intended_ns, sent_ns=sent_ns, length_bytes=length_bytes, intact=intact)
