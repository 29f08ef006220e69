"""The defects that the fleet was built against, each put back by a patch of the real classes, to see that the simulation finds it.

A defect is a context manager: inside of it every fleet of this process has the defect, after it none has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Final

DEFECTS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {}


def put_back(name: str) -> AbstractContextManager[None]:
    """Have the fleet make this mistake again, inside of the block."""
    return DEFECTS[name]()
