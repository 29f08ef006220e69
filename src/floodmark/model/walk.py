"""Turn plain dicts, as a TOML file gives them, into the model's structs, and say exactly where one is wrong.

Input: dicts, lists, text, numbers and booleans; also structs, for what was built from Python. Output: structs that passed their own checks.
A number may be text with a unit ("100KB"): its dimension follows from the last word of the field's name. Every error is one sentence that
opens with the place, such as `phases[1].payload_bytes`; the file's name is put before it by `model/read.py`.
"""

from __future__ import annotations

import difflib
import enum
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.model.criterion import Criterion, parse
from floodmark.model.scenario import Target, target_from

S = TypeVar("S", bound=msgspec.Struct)

# The first ending that fits decides; a name with none of them counts things.
_DIMENSIONS: tuple[tuple[str, Dimension], ...] = (
    ("bytes_per_s", Dimension.BYTES),
    ("_bytes", Dimension.BYTES),
    ("_hz", Dimension.RATE),
    ("_s", Dimension.TIME),
    ("ratio", Dimension.RATIO),
    ("jitter", Dimension.RATIO),
    ("scale", Dimension.FACTOR),
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST = 60  # characters of a wrong value that are shown


def build(cls: type[S], raw: object, place: str = "") -> S:
    """Make one struct, and all that it holds, from plain data.

    Args:
        raw: a table, or a struct to check again.
        place: where it stands in the file; empty for the file's top level.
    Raises: UsageError in one sentence, at the first thing that is wrong.
    """
    built = _convert(raw, _shape(cls), place, cls.__name__.lower())
    assert isinstance(built, cls)
    return built


def dimension_of(field: str) -> Dimension:
    """What a number of this name measures.

    >>> dimension_of("payload_bytes"), dimension_of("messages")
    (<Dimension.BYTES: 'a size'>, <Dimension.COUNT: 'a count'>)
    """
    return next((dimension for ending, dimension in _DIMENSIONS if field.endswith(ending)), Dimension.COUNT)


def nearest(name: str, known: Iterable[str]) -> str:
    """Half a sentence that leads from a wrong name to a right one."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"


@functools.cache
def _shape(cls: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(cls)


def _convert(raw: object, shape: inspect.Type, place: str, name: str) -> object:
    match shape:
        case inspect.StructType():
            return _struct(raw, shape, place)
        case inspect.UnionType(types=types):
            return _union(raw, types, place, name)
        case inspect.VarTupleType(item_type=item):
            return _tuple(raw, item, place, name)
        case inspect.DictType(value_type=value):
            return _options(raw, value, place)
        case inspect.EnumType(cls=cls):
            return _member(raw, cls, place)
        case inspect.FloatType():
            number = _number(raw, place, name)
            try:
                return float(number)
            except OverflowError:
                raise _wrong(place, "a finite number", raw) from None
        case inspect.IntType():
            return _whole(raw, place, name)
        case inspect.BoolType():
            return _typed(raw, bool, place, "true or false")
        case inspect.StrType():
            return _typed(raw, str, place, "text in quotes")
    raise NotImplementedError(f"{place}: the model has a type that files cannot hold: {shape}")


def _struct(raw: object, shape: inspect.StructType, place: str) -> msgspec.Struct:
    cls: type[msgspec.Struct] = shape.cls
    if cls is Criterion:
        return _criterion(raw, place)
    if cls is Target and isinstance(raw, str):
        return _placed(place, cls, lambda: target_from(raw))
    table = _table(raw, shape, place)
    fields = {field.encode_name: field for field in shape.fields}
    for key in table:
        if key not in fields:
            raise UsageError(f"{_at(place)}unknown key {key!r}; {nearest(str(key), fields)}")
    for key, field in fields.items():
        if field.required and key not in table:
            raise UsageError(f"{_at(place)}the key {key!r} is missing; a {cls.__name__.lower()} needs it")
    values = {key: _convert(value, fields[key].type, _join(place, key), key) for key, value in table.items()}
    return _placed(place, cls, lambda: cls(**values))


def _table(raw: object, shape: inspect.StructType, place: str) -> dict[str, Any]:
    """The fields of a table, or of a struct that stands where one is expected; without the tag that chose the struct."""
    if isinstance(raw, msgspec.Struct):
        if type(raw) is not shape.cls:
            raise _wrong(place, f"a {shape.cls.__name__}", raw)
        return {field: getattr(raw, field) for field in raw.__struct_fields__}
    if not isinstance(raw, Mapping):
        raise _wrong(place or "the file", "a table", raw)
    return {key: value for key, value in raw.items() if key != shape.tag_field}


def _placed(place: str, cls: type[msgspec.Struct], make: Any) -> msgspec.Struct:
    """Make a struct; when it refuses its own fields, put the place in the file instead of the struct's name."""
    try:
        made: msgspec.Struct = make()
    except UsageError as error:
        text, own = str(error), f"{cls.__name__.lower()}."
        if text.startswith(own):
            raise UsageError(f"{place}.{text.removeprefix(own)}" if place else text.removeprefix(own)) from None
        raise UsageError(f"{_at(place)}{text}") from None
    return made


def _criterion(raw: object, place: str) -> Criterion:
    text = raw.text if isinstance(raw, Criterion) else _typed(raw, str, place, 'text in quotes such as "latency_p99 < 100ms"')
    try:
        parsed = parse(text)
    except UsageError as error:
        raise UsageError(f"{_at(place)}{error}") from None
    if isinstance(raw, Criterion) and raw != parsed:
        raise UsageError(f"{_at(place)}criterion {raw.text!r} does not say what its fields hold; make it with criterion.parse")
    return parsed


def _union(raw: object, types: tuple[inspect.Type, ...], place: str, name: str) -> object:
    structs = [shape for shape in types if isinstance(shape, inspect.StructType)]
    if len(structs) > 1:
        return _struct(raw, _chosen(raw, structs, place), place)
    if any(isinstance(shape, inspect.NoneType) for shape in types):
        real = next(shape for shape in types if not isinstance(shape, inspect.NoneType))
        return None if raw is None else _convert(raw, real, place, name)
    if isinstance(raw, bool | str):
        return raw
    if isinstance(raw, int | float):
        return _finite(raw, place, "text, true, false or a finite number")
    raise _wrong(place, "text, true, false or a number", raw)


def _chosen(raw: object, structs: list[inspect.StructType], place: str) -> inspect.StructType:
    for shape in structs:
        if type(raw) is shape.cls:
            return shape
    key, tags = structs[0].tag_field, {str(shape.tag): shape for shape in structs}
    if not isinstance(raw, Mapping):
        raise _wrong(place, f'a table such as {{ {key} = "{next(iter(tags))}" }} with {key} one of {", ".join(tags)}', raw)
    if key not in raw:
        raise UsageError(f"{_at(place)}the key {key!r} is missing; it is one of {', '.join(tags)}")
    tag = raw[key]
    if not isinstance(tag, str) or tag not in tags:
        raise UsageError(f"{_join(place, str(key))} is {_told(tag)}; {nearest(str(tag), tags)} (one of {', '.join(tags)})")
    return tags[tag]


def _tuple(raw: object, item: inspect.Type, place: str, name: str) -> tuple[object, ...]:
    if not isinstance(raw, list | tuple):
        hint = f"a list of tables ([[{place}]])" if isinstance(item, inspect.StructType) and item.cls is not Criterion else "a list"
        raise _wrong(place, hint, raw)
    return tuple(_convert(value, item, f"{place}[{index}]", name) for index, value in enumerate(raw))


def _options(raw: object, value: inspect.Type, place: str) -> dict[str, object]:
    if not isinstance(raw, Mapping):
        raise _wrong(place, "a table", raw)
    for key in raw:
        _typed(key, str, place, "a table whose keys are text")
    return {key: _convert(entry, value, _join(place, key), key) for key, entry in raw.items()}


def _member(raw: object, cls: type[enum.Enum], place: str) -> enum.Enum:
    if isinstance(raw, cls):
        return raw
    values = {str(member.value): member for member in cls}
    if isinstance(raw, str) and raw in values:
        return values[raw]
    raise UsageError(f"{place} must be one of {', '.join(values)}, got {_told(raw)}")


def _number(raw: object, place: str, name: str) -> int | float:
    dimension = dimension_of(name)
    if isinstance(raw, str):
        text = raw.strip().removesuffix("/s") if name.endswith("bytes_per_s") else raw
        return units.parse(text, dimension, where=place)
    return _finite(raw, place, f"{dimension.value} (a finite number, or text with a unit)")


def _whole(raw: object, place: str, name: str) -> int:
    number = _number(raw, place, name)
    if isinstance(raw, str) and number == int(number):
        return int(number)
    if not isinstance(number, int):
        raise _wrong(place, "a whole number", raw)
    return number


def _finite(raw: object, place: str, wanted: str) -> int | float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or raw != raw or raw in (float("inf"), float("-inf")):
        raise _wrong(place, wanted, raw)
    return raw


T = TypeVar("T")


def _typed(raw: object, kind: type[T], place: str, wanted: str) -> T:
    if not isinstance(raw, kind):
        raise _wrong(place, wanted, raw)
    return raw


def _join(place: str, key: str) -> str:
    shown = key if _BARE_KEY.fullmatch(key) else repr(key)  # a quoted key of TOML may hold anything, line ends too
    return f"{place}.{shown}" if place else shown


def _at(place: str) -> str:
    return f"{place}: " if place else ""


def _told(raw: object) -> str:
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, Mapping):
        return "a table"
    if isinstance(raw, list | tuple):
        return "a list"
    text = repr(raw)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _wrong(place: str, wanted: str, raw: object) -> UsageError:
    return UsageError(f"{place} must be {wanted}, got {_told(raw)}")
