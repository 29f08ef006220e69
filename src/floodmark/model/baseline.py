"""A baseline: what the repetitions of some scenarios measured, kept to hold later runs against.

One JSON file each, in an order that does not change from one save to the next, so that a diff shows what moved. Small: a number per
repetition and figure, a line per figure, no samples. The figures stand beside their direction and dimension, so that the file explains
itself.
The measurements of runs that are compared with a baseline have the same shape: both are made by `judge/repetitions.py`.
Limits: `SCHEMA` is written into each file, and another one is not read; fields may be added, never renamed.
"""

from __future__ import annotations

import re
from pathlib import PurePath

import msgspec

from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.model import checks
from floodmark.model.gauges import Better

SCHEMA = 1
_NUMBERS = re.compile(rb"\[\n((?:[-+.,\deE\s]|null)*)\n\s*\]")  # no text has a line end that is not escaped, so no text is hit
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that the runs were played on, as run.json tells it; names nobody."""

    cpu: str = ""
    cores: int = 0
    memory_bytes: int = 0
    kernel: str = ""
    python: str = ""

    @property
    def text(self) -> str:
        """The part that decides whether times may be compared."""
        return f"{self.cores} x {self.cpu or 'unknown processor'}"


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """One run: `run` is the name of its folder, `started` ISO 8601, `version` that of floodmark."""

    run: str
    started: str
    version: str
    seed: int


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a scenario over its repetitions, in base units.

    `spreads` belong to the values: the relative standard error of each within its own run, None where the run does not tell.
    """

    better: Better
    dimension: Dimension
    values: tuple[float, ...]
    spreads: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if not self.values or len(self.values) != len(self.spreads):
            raise ValueError(
                f"a figure needs at least one value, and a spread or null for each; got {len(self.values)}, {len(self.spreads)}"
            )


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario: the runs that it passed in, and what they measured.

    `configuration` is the digest of the load as it was asked for: what is measured under another load is another thing. What was under load
    (`target`) is not part of it, since that is what changes from one comparison to the next.
    """

    scale: float
    configuration: str
    target: str
    runs: tuple[str, ...]
    figures: dict[str, Figure]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of repetitions on one machine; scenarios by id."""

    schema: int = SCHEMA
    name: str
    machine: Host
    runs: tuple[Played, ...]
    scenarios: dict[str, Subject]


class _Any(msgspec.Struct):
    schema: int = 0


def check_name(name: str) -> None:
    """Refuse a name that makes no file name everywhere. Raises: UsageError."""
    checks.require(
        _NAME.fullmatch(name) is not None and PurePath(name).name == name,
        f"a baseline's name is letters, digits, dots, dashes and underscores, and begins with a letter or digit; got {name!r}",
    )


def encode(baseline: Baseline) -> bytes:
    """Write a baseline: keys in order, six digits of every figure, a line end at the end."""
    ordered = {
        name: msgspec.structs.replace(subject, figures={one: _short(subject.figures[one]) for one in sorted(subject.figures)})
        for name, subject in sorted(baseline.scenarios.items())
    }
    text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(baseline, scenarios=ordered)), indent=2)
    return _NUMBERS.sub(lambda found: b"[" + b" ".join(found[1].split()) + b"]", text) + b"\n"


def decode(content: bytes, where: str) -> Baseline:
    """Read a baseline.

    Raises: UsageError when it is none, or one of another schema.
    """
    try:
        schema = msgspec.json.decode(content, type=_Any).schema
        if schema == SCHEMA:
            return msgspec.json.decode(content, type=Baseline)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{where} is no baseline: {exc}; save it again with: floodmark baseline save NAME --force") from exc
    raise UsageError(
        f"{where} has the schema {schema}, and this version reads {SCHEMA}; save it again with --force, or use another version"
    )


def _short(figure: Figure) -> Figure:
    """Six significant digits say more than any run repeats."""
    return msgspec.structs.replace(
        figure,
        values=tuple(float(f"{value:.6g}") for value in figure.values),
        spreads=tuple(None if spread is None else float(f"{spread:.3g}") for spread in figure.spreads),
    )
