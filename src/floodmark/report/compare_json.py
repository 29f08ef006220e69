"""A comparison as one JSON document: fields may be added, never renamed.

Limit: JSON has no infinity. An end of an interval that is none is null.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from floodmark import __version__
from floodmark.judge.comparison import Compared

SCHEMA = 1


def render(compared: Compared) -> str:
    """Render the document; `run` is the newest of the `runs`."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "version": __version__,
        "baseline": compared.baseline,
        "run": compared.runs[-1] if compared.runs else None,
        "runs": list(compared.runs),
        "verdict": compared.verdict.value,
        "comparisons": [_finite(msgspec.to_builtins(row)) for row in compared.comparisons],
        "remarks": list(compared.remarks),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [end if math.isfinite(end) else None for end in value]
        if name.endswith("_interval") and value is not None
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in row.items()
    }
