"""What an asker asks for, and the service level that answers are held to: the driver's options, read once. Pure."""

from __future__ import annotations

import math

import msgspec

from floodmark.core.errors import UsageError
from floodmark.drivers.asking import in_turn
from floodmark.drivers.base import Driver
from floodmark.ledger.numbered import base_of, check_size


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """`tokens` and `sizes_bytes` go to the channels in turn. Times are nanoseconds; a service level of 0 is none."""

    tokens: tuple[int, ...]
    sizes_bytes: tuple[int, ...]
    rate_hz: float
    numbered: bool
    prompt: str
    extra: str
    extra_every: int
    ttft_limit_ns: int
    gap_limit_ns: int
    stall_ns: int

    @property
    def period_ns(self) -> float:
        """Between two tokens of a paced answer; 0 without a pace."""
        return 1e9 / self.rate_hz if self.rate_hz else 0.0

    def count_of(self, channel: int) -> int:
        """How many tokens an answer on this channel has."""
        return self.tokens[channel % len(self.tokens)]

    def size_of(self, channel: int) -> int:
        """How many bytes each of them has."""
        return self.sizes_bytes[channel % len(self.sizes_bytes)]

    def prompt_for(self, channel: int, first: int, *, seed: int, number: int) -> str:
        """What is asked for the answer that begins with token `first`, as request `number` of its channel, counted from 0."""
        if not self.numbered:
            return self.prompt
        size = f"count={self.count_of(channel)} size={self.size_of(channel)}"
        line = f"numbered: stream={channel} first={base_of(channel) + first} {size} rate={self.rate_hz:.12g} seed={seed}"
        return f"{line} {self.extra}" if self.extra and (number + 1) % self.extra_every == 0 else line


def terms_of(driver: Driver) -> Terms:
    """Read the options of a driver that asks. Raises: UsageError."""
    options = getattr(driver, "options", {})

    def number(name: str, *, zero: bool = True) -> float:
        value = float(options[name])
        if not (0 <= value < math.inf and (zero or value > 0)):
            raise UsageError(f"option {name!r} must be finite and {'>= 0' if zero else '> 0'}, got {value!r}")
        return value

    if options["text"] not in ("numbered", "unknown"):
        raise UsageError(f"option 'text' is numbered or unknown, got {options['text']!r}")
    if int(options["extra_every"]) < 1:
        raise UsageError(f"option 'extra_every' must be at least 1, got {options['extra_every']!r}")
    if "\n" in str(options["extra"]):
        raise UsageError("option 'extra' goes on one line; it holds a line feed")
    sizes_bytes = in_turn("token_bytes", str(options["token_bytes"]))
    for size in set(sizes_bytes):
        check_size(size)
    return Terms(
        tokens=in_turn("tokens", str(options["tokens"])),
        sizes_bytes=sizes_bytes,
        rate_hz=number("rate_hz"),
        numbered=options["text"] == "numbered",
        prompt=str(options["prompt"]),
        extra=str(options["extra"]),
        extra_every=int(options["extra_every"]),
        ttft_limit_ns=int(number("service_ttft_s") * 1e9),
        gap_limit_ns=int(number("service_gap_s") * 1e9),
        stall_ns=int(number("stall_s", zero=False) * 1e9),
    )
