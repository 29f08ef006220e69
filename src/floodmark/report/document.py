"""The content of run.json: the result of a run, and beside it all that is needed to run it again.

`RunDocument` is a `RunResult` with more fields, so whoever knows the shape of `--json` can read run.json as well.
"""

from __future__ import annotations

from typing import Any

from floodmark.model.result import RunResult
from floodmark.report.machine import Machine


class RunDocument(RunResult, frozen=True, kw_only=True):
    """`started` is ISO 8601 with its offset; `command` runs the same again; `configuration` holds the scenarios as plain data."""

    started: str
    command: str
    machine: Machine = Machine()
    configuration: tuple[dict[str, Any], ...] = ()
