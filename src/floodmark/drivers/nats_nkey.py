"""NKeys: read the seed of a NATS user and sign a server's nonce with it (Ed25519, RFC 8032).

Once per connection, some ten milliseconds; that saves a dependency with compiled code that nothing else here needs.
Limits: not in constant time, so not for keys whose use somebody on the same machine may time; it only signs, it verifies nothing.
"""

from __future__ import annotations

import base64
import hashlib
from binascii import Error as Base64Error

import msgspec

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_SEED, _USER = 18 << 3, 20 << 3
Point = tuple[int, int, int, int]


def _base() -> Point:
    y = 4 * pow(5, _P - 2, _P) % _P
    squared = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(squared, (_P + 3) // 8, _P)
    if (x * x - squared) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if x % 2:
        x = _P - x
    return x, y, 1, x * y % _P


def _add(one: Point, two: Point) -> Point:
    a, b = (one[1] - one[0]) * (two[1] - two[0]) % _P, (one[1] + one[0]) * (two[1] + two[0]) % _P
    c, d = 2 * one[3] * two[3] * _D % _P, 2 * one[2] * two[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(number: int, point: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = _add(total, point)
        point = _add(point, point)
        number >>= 1
    return total


def _packed(point: Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


_BASE = _base()


def sign(secret: bytes, message: bytes) -> bytes:
    """Sign with a 32-byte secret key: 64 bytes."""
    scalar, prefix = _expanded(secret)
    public = _packed(_times(scalar, _BASE))
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % _ORDER
    commitment = _packed(_times(nonce, _BASE))
    challenge = int.from_bytes(hashlib.sha512(commitment + public + message).digest(), "little") % _ORDER
    return commitment + ((nonce + challenge * scalar) % _ORDER).to_bytes(32, "little")


def public_of(secret: bytes) -> bytes:
    """The 32-byte public key of a secret one."""
    return _packed(_times(_expanded(secret)[0], _BASE))


def _expanded(secret: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(secret).digest()
    scalar = int.from_bytes(digest[:32], "little")
    return scalar & ((1 << 254) - 8) | 1 << 254, digest[32:]


class Seed(msgspec.Struct, frozen=True, kw_only=True):
    """A user's secret key, and its public one as NATS writes it."""

    secret: bytes
    public: str

    def signature(self, nonce: str) -> str:
        """Sign a server's nonce, as CONNECT wants it."""
        return base64.urlsafe_b64encode(sign(self.secret, nonce.encode())).rstrip(b"=").decode()


def parse_seed(text: str) -> Seed:
    """Read a seed such as `SUAL...`.

    Raises: ValueError for one that is damaged, or is not a user's.
    """
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except Base64Error as exc:
        raise ValueError(f"not base 32 ({exc})") from exc
    if len(raw) != 36 or _crc16(raw[:-2]).to_bytes(2, "little") != raw[-2:]:
        raise ValueError("its checksum does not fit")
    kind, whose = raw[0] & 0xF8, (raw[0] & 7) << 5 | raw[1] >> 3
    if kind != _SEED or whose != _USER:
        raise ValueError("it is no seed of a user")
    secret = raw[2:-2]
    return Seed(secret=secret, public=_written(bytes([_USER]) + public_of(secret)))


def write_seed(secret: bytes) -> str:
    """Write a 32-byte secret key as the seed of a user."""
    return _written(bytes([_SEED | _USER >> 5, (_USER & 31) << 3]) + secret)


def _written(raw: bytes) -> str:
    return base64.b32encode(raw + _crc16(raw).to_bytes(2, "little")).rstrip(b"=").decode()


def _crc16(data: bytes) -> int:
    """CRC-16 with the polynomial 0x1021, as XMODEM has it."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc
