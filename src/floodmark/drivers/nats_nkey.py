"""NKeys: read the seed of a NATS user and sign a server's nonce with it (Ed25519, RFC 8032).

The signing is the package cryptography's, which comes with the extra `nkeys`: only who has a credentials file needs it.
"""

from __future__ import annotations

import base64
from binascii import Error as Base64Error

import msgspec

from floodmark.core.errors import UsageError

_SEED, _USER = 18 << 3, 20 << 3


def sign(secret: bytes, message: bytes) -> bytes:
    """Sign with a 32-byte secret key: 64 bytes. Raises: UsageError without the package cryptography."""
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(secret).sign(message)


def public_of(secret: bytes) -> bytes:
    """The 32-byte public key of a secret one. Raises: UsageError without the package cryptography."""
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def _require_cryptography() -> None:
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError:
        raise UsageError("a credentials file with an NKey needs the package cryptography; install floodmark[nkeys]") from None


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
