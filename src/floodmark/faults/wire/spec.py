"""What every wire fault has in common: the settings a person writes, and what they make of a connection.

A fault acts at up to three places: in a connection's lanes (it shapes what passes), on the connection as a whole (it ends it after a
while), and at the door (it turns new connections away). Each place is one method below; a fault overrides those it needs.
Plain data and pure decisions: no sockets, no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import ClassVar, Literal

import msgspec
import numpy as np

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import Shaper
from floodmark.model import checks


class Direction(enum.StrEnum):
    """Which way bytes travel: upstream is from the client to the target."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


class How(enum.Enum):
    """How a connection is ended: an ordinary close (FIN) or a reset (RST)."""

    CLOSE = "closed"
    RESET = "reset"


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A connection ends `after_s` seconds after the fault reached it, whatever travels on it."""

    after_s: float
    how: How


ShaperFactory = Callable[[Direction, np.random.Generator, Tally], Shaper]

Door = Literal["reset", "close", "refused"]


class WireFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a fault; `share` of the connections are hit, an exact count, chosen by the seed."""

    share: float = 1.0

    #: the option that a bare value on the command line fills: `cut=5s` is `cut,after_s=5s`; empty when there is none
    SHORT: ClassVar[str] = ""

    #: whether connections that live on may lack or hold wrong bytes for good: what that leads to may come long after the fault
    DAMAGES: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.share(f"fault {self.kind!r}: share", self.share)

    @property
    def kind(self) -> str:
        """The fault's name in the table."""
        words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in type(self).__name__)
        return words.lstrip("_")

    @property
    def inert(self) -> bool:
        """Tell if the fault can change nothing; it is then attached to nothing."""
        return self.share == 0

    @property
    def lanes(self) -> tuple[Direction, ...]:
        """The directions that are shaped."""
        return ()

    def shapers(self) -> ShaperFactory | None:
        """Begin to act: give what makes a shaper for each lane. Called once per activation, so shapers may share what it made."""
        return None

    def ending(self) -> Ending | None:
        """Give when and how a connection ends, if the fault ends it."""
        return None

    def door(self) -> Door | None:
        """Give how new connections are turned away, if they are."""
        return None

    def spent(self, hits: int) -> bool:
        """Tell if the fault has done all that it was to do, so that later connections are not hit."""
        return False

    @classmethod
    def short(cls, text: str) -> dict[str, float | int | str]:
        """Read the bare value of a command line, such as `5s` in `cut=5s`, into options."""
        if not cls.SHORT:
            name = text.split(",")[0]
            raise UsageError(f"takes no value of its own ({name!r}); write its options by name: {', '.join(cls.__struct_fields__)}")
        return {cls.SHORT: quantity(cls.SHORT, text)}


class LaneFault(WireFault, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault with a direction: it shapes what travels `upstream`, `downstream` or both ways."""

    direction: Literal["upstream", "downstream", "both"] = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("upstream", "downstream", "both")
        checks.require(self.direction in known, f"fault {self.kind!r}: direction must be one of {', '.join(known)}, got {self.direction!r}")

    @property
    def lanes(self) -> tuple[Direction, ...]:
        return tuple(Direction) if self.direction == "both" else (Direction(self.direction),)


_RATIOS = ("share", "probability")


def quantity(field: str, text: str) -> float | int | str:
    """Read an option's text by the unit its name ends with; a text option stays text.

    >>> quantity("after_s", "50ms"), quantity("bytes_per_s", "1MB/s"), quantity("share", "50%"), quantity("distribution", "normal")
    (0.05, 1000000, 0.5, 'normal')
    """
    if field == "bytes_per_s":
        value = units.parse(text.removesuffix("/s"), Dimension.BYTES, where=field)
    elif field.endswith("_s"):
        value = units.parse(text, Dimension.TIME, where=field)
    elif field.endswith("_bytes"):
        value = units.parse(text, Dimension.BYTES, where=field)
    elif field.endswith("_count") and text.isascii() and text.isdigit():
        return int(text)
    elif field in _RATIOS:
        value = units.parse(text, Dimension.RATIO, where=field)
    else:
        return text
    return int(value) if value.is_integer() else value
