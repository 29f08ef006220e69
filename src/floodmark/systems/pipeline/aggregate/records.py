"""Make frames of records, for aggregation: a value keeps its type, whatever its neighbours in the field are.

Polars wants one type per column. A field of several types becomes one column per type of number, and what is no number is left out;
records whose keys change type are split where they do. An integer beyond 128 bits and a decimal beyond 38 digits count as the nearest
float. Cost: about 60 ns per record and field, and about 0.3 ms per split; frames that were frames all along never come here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import polars as pl

INTEGER_END = 2**127
DECIMAL_DIGITS = 38


def runs(records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Split records where one of the key fields changes its type; None goes with anything."""
    if not records:
        return
    plain = all(len(_types([record.get(key) for record in records])) <= 1 for key in keys)
    if plain:
        yield records
        return
    start = 0
    kinds: dict[str, type] = {}
    for place, record in enumerate(records):
        now = {key: type(value) for key in keys if (value := record.get(key)) is not None}
        if any(kinds.get(key, kind) is not kind for key, kind in now.items()):
            yield records[start:place]
            start, kinds = place, {}
        kinds.update(now)
    yield records[start:]


def column(name: str, values: list[Any]) -> list[tuple[str, pl.Series]]:
    """Make the columns of one field: (column name, values); usually one.

    >>> [(name, series.to_list()) for name, series in column("a", [1, 2.5, "x", True, None])]
    [('a:int', [1, None, None, None, None]), ('a:float', [None, 2.5, None, None, None])]
    """
    types = _types(values)
    if types <= {int} or types <= {float} or (len(types) == 1 and types.isdisjoint((Decimal,))):
        try:
            return [(name, pl.Series(name, values, strict=True))]
        except (TypeError, OverflowError, pl.exceptions.PolarsError):  # integers beyond 128 bits, or records of differing shape
            if not types <= {int}:
                return [(name, pl.Series(name, values, strict=False))]
    found = []
    integers = [value if _is_integer(value) else None for value in values]
    decimals = [value if isinstance(value, Decimal) and value.is_finite() else None for value in values]
    scale = _common_scale(decimals)
    floats = [_as_float(value) if not _is_integer(value) and (scale is None or not _finite(value)) else None for value in values]
    if any(value is not None for value in integers):
        found.append((f"{name}:int", pl.Series(f"{name}:int", integers, dtype=pl.Int128)))
    if scale is not None:
        found.append((f"{name}:decimal", pl.Series(f"{name}:decimal", decimals, dtype=pl.Decimal(DECIMAL_DIGITS, scale))))
    if any(value is not None for value in floats):
        found.append((f"{name}:float", pl.Series(f"{name}:float", floats, dtype=pl.Float64)))
    return found


def frame_of(
    records: Sequence[Mapping[str, Any]], *, keys: Sequence[str], values: Sequence[str] | None
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Make a frame of what will be looked at, and tell which columns are parts of which field, where they are not named after it.

    Args:
        records: one run (see `runs`).
        keys: columns that keys start from; they keep one type.
        values: columns that numbers may stand in; None for every field there is.
    """
    names = values if values is not None else list(dict.fromkeys(name for record in records for name in record))
    made: dict[str, pl.Series] = {}
    aliases: dict[str, str] = {}
    for name in dict.fromkeys([*names, *keys]):
        taken = [record.get(name) for record in records]
        found = [(name, pl.Series(name, taken, strict=False))] if name in keys else column(name, taken)
        for column_name, series in found:
            while column_name in made:
                column_name += "'"
            made[column_name] = series.alias(column_name)
            if column_name != name:
                aliases[column_name] = name
    if not made:
        made[""] = pl.repeat(None, len(records), dtype=pl.Null, eager=True)
    return pl.DataFrame(list(made.values())), aliases


def _types(values: list[Any]) -> set[type]:
    return set(map(type, values)) - {type(None)}


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -INTEGER_END <= value < INTEGER_END


def _finite(value: Any) -> bool:
    return isinstance(value, Decimal) and value.is_finite()


def _common_scale(decimals: list[Decimal | None]) -> int | None:
    """The number of digits after the point that holds all of them; None when there are none, or no column is wide enough."""
    given = [value for value in decimals if value is not None]
    if not given:
        return None
    scale = max(0, *(-int(value.as_tuple().exponent) for value in given), 0)
    whole = max(value.adjusted() + 1 for value in given)
    return scale if scale + max(whole, 0) <= DECIMAL_DIGITS else None


def _as_float(value: Any) -> float | None:
    """The nearest float of a number; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except ValueError:  # a signalling NaN
        return math.nan
