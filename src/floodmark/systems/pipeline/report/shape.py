"""Bring the chunks of a source to what a report's formulas read: its fields, its computed groups, its parameters, its derived values.

`shape.rows(chunk)` is what renderers, tallies and aggregates are fed with. Rows with a value that cannot be read as its declared kind are
left out, counted and told; shaping shaped rows again changes nothing. Memory: one chunk.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from floodmark.systems.pipeline.report.check import group_keys
from floodmark.systems.pipeline.report.expression import Call
from floodmark.systems.pipeline.report.kinds import DTYPES, Kind, conform, readable
from floodmark.systems.pipeline.report.model import Report

_log = logging.getLogger(__name__)


class Shape:
    """What is done to each chunk of a report's rows; `skipped_count` and `skipped_reason` (the first) tell what was left out so far.

    Args:
        parameters: the bound values, by name.
        derived: aggregates whose argument is wanted as a column, named by its text.
        at_source: whether the rows come straight from the source, with their relationships still to be loaded: then fields that are not
            there yet, and what is made of them, are left out, other columns stay, and parameters are no columns (nobody is to sum them).
    """

    def __init__(self, report: Report, parameters: Mapping[str, Any], derived: Iterable[Call] = (), *, at_source: bool = False) -> None:
        self._report_name, self._kinds, self._at_source = report.name, report.kinds, at_source
        self._related = {relation.name for relation in report.rows.relations}
        self._constants = {
            f":{parameter.name}": pl.lit(_plain(parameters.get(parameter.name)), dtype=DTYPES[Kind(parameter.type)])
            for parameter in report.parameters
        }
        self._groups: dict[str, tuple[tuple[str, ...], pl.Expr]] = {
            key.name: ((key.column,), pl.col(key.column)) if key.formula is None else (key.formula.fields, key.formula.residual)
            for key in group_keys(report)
            if key.name not in report.fields
        }
        self._derived: dict[str, tuple[tuple[str, ...], pl.Expr]] = {
            call.argument: (call.inputs, call.source) for call in derived if call.source is not None and call.field is None
        }
        made = repr((report.name, self._kinds, sorted(parameters.items(), key=str), sorted(self._groups), sorted(self._derived)))
        self.signature = f"{report.name}-{hashlib.sha256(made.encode()).hexdigest()[:16]}"  # equal for shapes that do the same
        self.skipped_count = 0
        self.skipped_reason = ""

    def rows(self, chunk: pl.DataFrame) -> pl.DataFrame:
        """Return the chunk's readable rows: fields, then parameters (":since"), groups by name, derived values by their text.

        What is not a field is dropped; at the source of related rows it is kept, for they are found by it.

        Raises: PlacedError when a declared field is not in the source at all.
        """
        fields = {path: kind for path, kind in self._kinds.items() if not self._comes_later(path, chunk)}
        conformed = conform(chunk, fields, keep_others=bool(self._at_source and self._related))
        if conformed.skipped_count and not self.skipped_count:
            self.skipped_reason = conformed.reason
            _log.warning("report %r: a row is left out: %s; further ones are counted", self._report_name, conformed.reason)
        self.skipped_count += conformed.skipped_count
        frame = conformed.frame
        if self._constants:
            frame = frame.with_columns(**self._constants)
        for made in (self._groups, self._derived):  # derived values may read what a group computes
            columns = [expression.alias(name) for name, (inputs, expression) in made.items() if set(inputs) <= set(frame.columns)]
            if columns:
                frame = frame.with_columns(columns)
        return frame.drop(self._constants) if self._at_source and self._constants else frame

    def _comes_later(self, path: str, chunk: pl.DataFrame) -> bool:
        """Whether a field belongs to a relationship that has not been loaded yet."""
        return self._at_source and path.split(".")[0] in self._related and not readable(path, chunk.schema)


def _plain(value: Any) -> Any:
    """Return a parameter's value as polars takes it: a UUID as text."""
    return str(value) if isinstance(value, uuid.UUID) else value
