"""Bring the chunks of a source to what a report's formulas read: its fields, its computed groups, its parameters, its derived values.

One `Shape` serves a whole run: `shape.rows(chunk)` is what renderers, tallies and aggregates are fed with. Rows with a value that cannot be
read as its declared kind are left out, counted and told. Memory: one chunk.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from floodmark.systems.pipeline.report.check import group_keys
from floodmark.systems.pipeline.report.expression import Call
from floodmark.systems.pipeline.report.kinds import DTYPES, Conformed, Kind, conform
from floodmark.systems.pipeline.report.model import Report


class Shape:
    """What is done to each chunk. `skipped_count` and `skipped_reason` (the first) tell what was left out so far."""

    def __init__(self, report: Report, parameters: Mapping[str, Any], derived: Iterable[Call] = ()) -> None:
        self._kinds = report.kinds
        self._constants = [
            pl.lit(_plain(parameters.get(parameter.name)), dtype=DTYPES[Kind(parameter.type)]).alias(f":{parameter.name}")
            for parameter in report.parameters
        ]
        self._groups = [key.formula.residual.alias(key.name) for key in group_keys(report) if key.formula is not None]
        self._aliases = [pl.col(key.column).alias(key.name) for key in group_keys(report) if key.formula is None and key.column != key.name]
        wanted = {call.argument: call for call in derived if call.source is not None and call.field is None}
        self._derived = [call.source.alias(call.argument) for call in wanted.values() if call.source is not None]
        self.skipped_count = 0
        self.skipped_reason = ""

    def rows(self, chunk: pl.DataFrame) -> pl.DataFrame:
        """Return the chunk's readable rows: fields, then parameters (":since"), groups by name, derived values by their text.

        Raises: PlacedError when a declared field is not in the source at all.
        """
        conformed: Conformed = conform(chunk, self._kinds)
        self.skipped_count += conformed.skipped_count
        self.skipped_reason = self.skipped_reason or conformed.reason
        frame = conformed.frame
        for columns in (self._constants, self._groups + self._aliases, self._derived):  # each may read what the one before has added
            if columns:
                frame = frame.with_columns(columns)
        return frame


def _plain(value: Any) -> Any:
    """Return a parameter's value as polars takes it: a UUID as text."""
    return str(value) if isinstance(value, uuid.UUID) else value
