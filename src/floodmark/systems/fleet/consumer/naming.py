"""Names on the server: of a worker's durable, and of its partitions' subjects."""

from __future__ import annotations

import re
from collections.abc import Iterable

from floodmark.systems.fleet.partition import Partition

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


def durable_name(prefix: str, worker_id: str) -> str:
    """Name a worker's durable; what no name may have becomes "_".

    >>> durable_name("fleet", "worker 3/b")
    'fleet-worker_3_b'
    """
    return _NOT_A_NAME.sub("_", f"{prefix}-{worker_id}")


def subjects_of(template: str, partitions: Iterable[Partition]) -> tuple[str, ...]:
    """Make the subjects, each once, sorted.

    >>> subjects_of("in.{subject}", [Partition(keys=("b",)), Partition(keys=("a", "1")), Partition(keys=("b",))])
    ('in.a.1', 'in.b')
    """
    return tuple(sorted({template.replace("{subject}", partition.subject_key) for partition in partitions}))


class Subjects:
    """A set of subjects that may have wildcards.

    >>> owned = Subjects(["in.a", "work.b.>", "work.*.c"])
    >>> "in.a" in owned, "in.b" in owned, "work.b.x.y" in owned, "work.z.c" in owned, "work.b" in owned
    (True, False, True, True, False)
    """

    __slots__ = ("_exact", "_patterns", "names")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = tuple(sorted(names))
        self._exact = frozenset(name for name in self.names if not _is_pattern(name))
        self._patterns = tuple(tuple(name.split(".")) for name in self.names if _is_pattern(name))

    def __contains__(self, subject: str) -> bool:  # HOT: once per message
        return subject in self._exact or (bool(self._patterns) and self._matches(subject))

    def _matches(self, subject: str) -> bool:
        words = subject.split(".")
        return any(_fits(pattern, words) for pattern in self._patterns)


def _is_pattern(name: str) -> bool:
    return any(word in ("*", ">") for word in name.split("."))


def _fits(pattern: tuple[str, ...], words: list[str]) -> bool:
    if pattern[-1] == ">":
        if len(words) < len(pattern):
            return False
        pattern = pattern[:-1]
    elif len(words) != len(pattern):
        return False
    return all(part in ("*", word) for part, word in zip(pattern, words, strict=False))
