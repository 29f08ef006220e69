"""Write a scenario as TOML that reads back equal: the full configuration of a run, every default spelled out.

Limits: comments and the spelling of units are not kept; keys that are None are left out, since TOML has no such value.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

import msgspec

from floodmark.model.criterion import Criterion
from floodmark.model.scenario import Scenario

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_toml(scenario: Scenario) -> str:
    """Write one scenario as a TOML file; `read_text` gives back an equal one."""
    plain: list[str] = []
    tables: list[str] = []
    for name in scenario.__struct_fields__:
        value = getattr(scenario, name)
        if isinstance(value, msgspec.Struct):
            tables += [f"\n[{name}]", *_lines(value)]
        elif name in ("phases", "faults"):
            for entry in value:
                tables += [f"\n[[{name}]]", *_lines(entry)]
        elif value is not None:
            plain.append(f"{name} = {written(value)}")
    return "\n".join([*plain, *tables, ""])


def _lines(struct: msgspec.Struct) -> list[str]:
    return [f"{_key(name)} = {written(value)}" for name, value in _entries(struct).items()]


def _entries(struct: msgspec.Struct) -> dict[str, object]:
    config = struct.__struct_config__
    tag: dict[str, object] = {config.tag_field: config.tag} if config.tag_field is not None else {}
    given = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return tag | {name: value for name, value in given.items() if value is not None}


def written(value: object) -> str:
    """Write one value as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case enum.Enum():
            return _text(str(value.value))
        case Criterion():
            return _text(value.text)
        case msgspec.Struct():
            return _inline(_entries(value))
        case Mapping():
            return _inline(value)
        case list() | tuple():
            return f"[{', '.join(written(entry) for entry in value)}]"
    raise NotImplementedError(f"a scenario cannot hold {value!r}")


def _inline(entries: Mapping[str, object]) -> str:
    return f"{{ {', '.join(f'{_key(name)} = {written(value)}' for name, value in entries.items())} }}" if entries else "{}"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    return f'"{"".join(_character(character) for character in text)}"'


def _character(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    return f"\\u{ord(character):04x}" if ord(character) < 0x20 or ord(character) == 0x7F else character
