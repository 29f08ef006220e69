"""What a profiler saw of a target: how it is kept in the run folder, and how a profiler's own output becomes a table.

    profiles/<scenario>.<kind>.json    one `Profile`, which reports read
    profiles/<scenario>.cpu.svg        the flame graph of py-spy; profiles/<scenario>.memory.html that of memray

Pure: texts in, structs out. Not here: running a profiler (runner/profile.py).
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable
from xml.etree import ElementTree

import msgspec

SPOTS = 20
_FRAME = re.compile(r"(?P<function>.*) \((?P<file>.*?)(?::(?P<line>\d+))?\) \([\d,]+ samples?, [\d.]+%\)", re.DOTALL)
_COUNTED = "{http://github.com/jonhoo/inferno}"
_Place = tuple[str, str]  # function and file


class Spot(msgspec.Struct, frozen=True, kw_only=True):
    """One function; `own` is what it took itself, `below` what it and all that it called took: samples, or bytes at the peak."""

    function: str
    file: str
    line: int = 0
    own: int = 0
    below: int = 0
    count: int = 0


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario's profile.

    `kind` is cpu or memory; `total` all samples, or the bytes at the peak, of which the `spots` are parts. `files` are in the run folder.
    `cost` says what the profiler itself took, and `trouble` why there is no profile.
    """

    scenario: str
    kind: str
    tool: str
    total: int = 0
    seconds: float = 0.0
    spots: tuple[Spot, ...] = ()
    files: tuple[str, ...] = ()
    cost: str = ""
    trouble: str = ""


class _Tally:
    """Sums by function, and the line of each that took most."""

    def __init__(self) -> None:
        self.own: Counter[_Place] = Counter()
        self.below: Counter[_Place] = Counter()
        self._counts: Counter[_Place] = Counter()
        self._lines: dict[_Place, Counter[int]] = {}

    def add(self, place: _Place, line: int, amount: int, count: int = 0) -> None:
        self.own[place] += amount
        self._counts[place] += count
        self._lines.setdefault(place, Counter())[line] += amount

    def spots(self) -> tuple[Spot, ...]:
        return tuple(
            Spot(
                function=place[0],
                file=place[1],
                line=self._lines[place].most_common(1)[0][0],
                own=amount,
                below=self.below[place],
                count=self._counts[place],
            )
            for place, amount in self.own.most_common(SPOTS)
            if amount > 0
        )


def spots_of_flame_graph(svg: str) -> tuple[int, tuple[Spot, ...]]:
    """Read py-spy's flame graph back: each of its boxes carries its exact number of samples.

    A function's own samples are those of its box less those of the boxes that stand on it; recursion counts once in `below`.
    Returns: all samples, and the functions with most of their own.
    Raises: ValueError when this is no flame graph.
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as exc:
        raise ValueError(f"no flame graph: {exc}") from exc
    tally = _Tally()
    total = 0
    path: list[tuple[float, _Place | None]] = []
    for _, height, samples, title in sorted(_boxes(root)):  # from left to right, each box after the one it stands on
        while path and path[-1][0] >= height:
            path.pop()
        parent = path[-1][1] if path else None
        found = _FRAME.fullmatch(title)
        place = (found["function"], found["file"]) if found is not None else None
        if not path:
            total += samples
        if parent is not None:
            tally.own[parent] -= samples
        if found is not None and place is not None:
            tally.add(place, int(found["line"] or 0), samples)
            if all(place != above for _, above in path):
                tally.below[place] += samples
        path.append((height, place))
    return total, tally.spots()


def _boxes(root: ElementTree.Element) -> Iterable[tuple[int, float, int, str]]:
    """(first sample, height, samples, title) of each box; py-spy hangs its stacks from the top of the picture."""
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        title, box = group.find("{http://www.w3.org/2000/svg}title"), group.find("{http://www.w3.org/2000/svg}rect")
        if title is not None and box is not None and f"{_COUNTED}w" in box.attrib:
            yield int(box.attrib[f"{_COUNTED}x"]), float(box.attrib["y"]), int(box.attrib[f"{_COUNTED}w"]), title.text or ""


def spots_of_allocations(table: str) -> tuple[int, tuple[Spot, ...]]:
    """Read memray's table of what was held at the peak (`memray transform csv`); a stack begins with the place that allocated.

    Returns: all bytes at the peak, and the functions that held most of them.
    Raises: ValueError when this is no such table.
    """
    tally = _Tally()
    total = 0
    csv.field_size_limit(1 << 24)  # a stack is one field, and deep ones are longer than the default
    for row in csv.DictReader(io.StringIO(table)):
        try:
            size, count, stack = int(row["size"]), int(row["num_allocations"]), row["stack_trace"]
        except (KeyError, TypeError, ValueError) as exc:
            raise ValueError(f"no table of allocations: {exc!r}") from exc
        total += size
        frames = [_frame(part) for part in stack.split("|")] if stack else [(("native code", ""), 0)]
        place, line = frames[0]
        tally.add(place, line, size, count)
        for each in {each for each, _ in frames}:
            tally.below[each] += size
    return total, tally.spots()


def _frame(text: str) -> tuple[_Place, int]:
    function, _, rest = text.partition(";")
    file, _, line = rest.rpartition(";")
    return (function, file), int(line) if line.isdigit() else 0


def short(file: str) -> str:
    """The end of a path that says where the code is: from the package on.

    >>> short("/srv/app/.venv/lib/python3.11/site-packages/picows/__init__.py"), short("/srv/app/src/hub/server.py")
    ('picows/__init__.py', 'hub/server.py')
    """
    for root in ("site-packages/", "dist-packages/"):
        if root in file:
            return file.rpartition(root)[2]
    return "/".join(file.rsplit("/", 2)[-2:])
