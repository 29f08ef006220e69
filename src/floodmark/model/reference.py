"""The reference tables of a scenario's keys, written from the structs themselves, so that they cannot fall behind.

Output: Markdown. `docs/scenarios.md` holds exactly this text below its marker, as `docs/criteria.md` does for the metrics, and a test
compares them. After a change: `python -m floodmark.model.reference docs`.
"""

from __future__ import annotations

import inspect as python
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from floodmark.core.errors import UsageError
from floodmark.core.units import UNITS, Dimension
from floodmark.model import metrics
from floodmark.model.arrival import Arrival
from floodmark.model.criterion import Criterion
from floodmark.model.record import written
from floodmark.model.scenario import Consumer, Fault, Phase, Population, Reconnect, Scenario, Target
from floodmark.model.walk import dimension_of

_STRUCTS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("The top level, or each `[[scenario]]`", Scenario),
    ("`[target]`", Target),
    ("`[population]`", Population),
    ("`[[phases]]`", Phase),
    ("`[[faults]]`", Fault),
    ("`[reconnect]`", Reconnect),
)
_UNIONS: tuple[tuple[str, Any], ...] = (("`phases.arrival`", Arrival), ("`population.consumer`", Consumer))
MARKER = "<!-- Below this line: written from the code by `python -m floodmark.model.reference docs`; edits are lost. -->\n\n"


def reference() -> str:
    """Write every key of every table of a scenario file: what it takes, its default, and what its table means."""
    parts = [_section(title, inspect.type_info(cls), "##") for title, cls in _STRUCTS]
    for title, union in _UNIONS:
        shape = inspect.type_info(union)
        assert isinstance(shape, inspect.UnionType)
        structs = [entry for entry in shape.types if isinstance(entry, inspect.StructType)]
        parts.append(f"## {title}\n\nOne of these, chosen by `{structs[0].tag_field}`.\n")
        parts += [_section(f'`{entry.tag_field} = "{entry.tag}"`', entry, "###") for entry in structs]
    return "\n".join(parts)


def renew(folder: Path) -> None:
    """Write the tables anew into `scenarios.md` and `criteria.md`, below the marker; what stands above it is kept.

    Raises: UsageError when a page has no marker; pages already written stay so.
    """
    for name, tables in (("scenarios.md", reference()), ("criteria.md", metrics.reference())):
        page = folder / name
        above, marker, _ = page.read_text(encoding="utf-8").partition(MARKER)
        if not marker:
            raise UsageError(f"{page}: the line {MARKER.strip()!r} is missing; put it where the tables belong")
        page.write_text(above + marker + tables, encoding="utf-8")


def _section(title: str, shape: inspect.Type, level: str) -> str:
    assert isinstance(shape, inspect.StructType)
    rows = [f"| `{field.name}` | {_takes(field.type, field.name)} | {_default(field)} |" for field in shape.fields]
    table = ["| key | takes | default |", "|---|---|---|", *rows, ""] if rows else ["No further keys.", ""]
    return "\n".join([f"{level} {title}", "", python.getdoc(shape.cls) or "", "", *table])


def _takes(shape: inspect.Type, name: str) -> str:
    match shape:
        case inspect.StructType(cls=cls) if cls is Criterion:
            return 'text such as `"latency_p99 < 100ms"`, see [criteria](criteria.md)'
        case inspect.StructType(cls=cls) if cls is Target:
            return "a table, or text: an embedded system's name, a URL, or a command line"
        case inspect.StructType():
            return "a table"
        case inspect.VarTupleType(item_type=item):
            return f"a list, each entry {_takes(item, name)}"
        case inspect.DictType():
            return "a table of text, numbers, `true` and `false`"
        case inspect.EnumType(cls=cls):
            return "one of " + ", ".join(f"`{member.value}`" for member in cls)
        case inspect.UnionType(types=types):
            types = tuple(entry for entry in types if not isinstance(entry, inspect.NoneType))
            if len(types) == 1:
                return _takes(types[0], name)
            tags = [str(entry.tag) for entry in types if isinstance(entry, inspect.StructType)]
            return "a table: one of " + ", ".join(f"`{tag}`" for tag in tags) if tags else _takes(types[0], name)
        case inspect.BoolType():
            return "`true` or `false`"
        case inspect.StrType():
            return "text"
        case inspect.IntType() | inspect.FloatType():
            return _quantity(isinstance(shape, inspect.IntType), name)
    raise NotImplementedError(f"no words for {shape}")


def _quantity(whole: bool, name: str) -> str:
    dimension = dimension_of(name)
    units = ", ".join(f"`{unit}`" for unit in UNITS[dimension] if unit)
    base = {Dimension.TIME: " in seconds", Dimension.BYTES: " in bytes", Dimension.RATE: " per second"}.get(dimension, "")
    per = " a second" if name.endswith("_per_s") else ""
    return f"a {'whole ' if whole else ''}number{base}{per}, or text with one of {units}"


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return "not set" if value is None else f"`{written(value)}`"


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
