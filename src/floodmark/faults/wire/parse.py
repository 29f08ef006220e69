"""Read wire faults and relay addresses from what a person typed or a file holds.

    latency=50ms..500ms          bandwidth=1MB/s,direction=downstream,share=50%          partition          corrupt=4KiB
    127.0.0.1:6543=127.0.0.1:5432

Every mistake is a UsageError of one sentence that names what exists.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import msgspec

from floodmark.core.errors import UsageError
from floodmark.faults.wire import WIRE_FAULTS
from floodmark.faults.wire.spec import WireFault, quantity

Options = Mapping[str, float | int | str | bool]


def wire_fault(kind: str, options: Options) -> WireFault:
    """Turn a fault's name and options (base units, as in a scenario file) into its settings.

    >>> wire_fault("cut", {"after_s": 5}).ending().after_s
    5.0
    """
    spec = _spec(kind)
    fields = spec.__struct_fields__
    unknown = set(options) - set(fields)
    if unknown:
        raise UsageError(f"fault {kind!r} has no option {min(unknown)!r}; it has: {', '.join(fields)}")
    try:
        return msgspec.convert(dict(options), spec)
    except msgspec.ValidationError as exc:
        raise UsageError(f"fault {kind!r}: {exc}; it has: {', '.join(fields)}") from exc


def parse_fault(text: str) -> WireFault:
    """Read a fault as typed on the command line.

    >>> parse_fault("latency=50ms..500ms,share=50%").most_s
    0.5
    >>> parse_fault("latencies=1s")
    Traceback (most recent call last):
    floodmark.core.errors.UsageError: unknown wire fault 'latencies'; did you mean 'latency'?
    """
    head, *rest = (part.strip() for part in text.split(","))
    kind, has_value, value = head.partition("=")
    spec = _spec(kind)
    options: dict[str, float | int | str | bool] = {}
    try:
        if has_value:
            options.update(spec.short(value))
        for part in rest:
            name, equals, word = part.partition("=")
            field = _field(spec, name)
            if not equals or not word:
                raise UsageError(f"{part!r} has no value; write {name}=VALUE")
            if field in options:
                raise UsageError(f"{field} is given twice")
            options[field] = _value(spec, field, word)
    except UsageError as exc:
        raise UsageError(f"fault {kind!r}: {exc}") from exc
    return wire_fault(kind, options)


def parse_mapping(text: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """Read `LISTEN=UPSTREAM`, each HOST:PORT or [IPV6]:PORT.

    >>> parse_mapping("127.0.0.1:0=[::1]:5432")
    (('127.0.0.1', 0), ('::1', 5432))
    """
    listen, equals, upstream = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not a relay; write LISTEN=UPSTREAM, for example 127.0.0.1:6543=127.0.0.1:5432")
    target = _address(upstream)
    if target[1] == 0:
        raise UsageError(f"{upstream!r} is no target: port 0 stands for any free port, which only the listening side can take")
    return _address(listen), target


def is_mapping(text: str) -> bool:
    """Tell a relay from a fault among a command line's words: its left side is an address."""
    return ":" in text.partition("=")[0]


def _spec(kind: str) -> type[WireFault]:
    entry = WIRE_FAULTS.get(kind)
    if entry is None:
        near = difflib.get_close_matches(kind, WIRE_FAULTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(WIRE_FAULTS)}"
        raise UsageError(f"unknown wire fault {kind!r}; {hint}")
    return entry[0]


def _field(spec: type[WireFault], name: str) -> str:
    """Find an option by its name, with or without the unit at its end: `after` is `after_s`."""
    for field in (name, f"{name}_s", f"{name}_bytes", f"{name}_count"):
        if field in spec.__struct_fields__:
            return field
    raise UsageError(f"no option {name!r}; it has: {', '.join(spec.__struct_fields__)}")


def _value(spec: type[WireFault], field: str, text: str) -> float | int | str | bool:
    if next(one.type for one in msgspec.structs.fields(spec) if one.name == field) is not bool:
        return quantity(field, text)
    if text not in ("true", "false"):
        raise UsageError(f"{field} must be true or false, got {text!r}")
    return text == "true"


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f"{text!r} is not an address; write HOST:PORT with a port from 0 to 65535, for example 127.0.0.1:5432")
    return host, int(port)
