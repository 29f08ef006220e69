"""JSON in and out: the document of `--json`, and run.json which adds the set-up of the run.

Limit: JSON has no NaN and no infinity. A metric that is neither finite nor a number is left out, and such an observation of a criterion is
null: no figure is no evidence, and the judge has said UNKNOWN already.
"""

from __future__ import annotations

import math

import msgspec

from floodmark.model.result import SCHEMA, RunResult, ScenarioResult
from floodmark.report.document import RunDocument

_RESULT_FIELDS = RunResult.__struct_fields__


class _Any(msgspec.Struct):
    schema: int = SCHEMA


def encode(result: RunResult) -> bytes:
    """Encode a result or a whole run document, indented by two, with a line end."""
    finite = msgspec.structs.replace(result, scenarios=tuple(map(_finite, result.scenarios)))
    return msgspec.json.format(msgspec.json.encode(finite), indent=2) + b"\n"


def decode(content: bytes) -> RunDocument:
    """Decode run.json. Raises: msgspec.DecodeError (or its ValidationError) for anything else, and for another schema."""
    try:
        schema = msgspec.json.decode(content, type=_Any).schema
        if schema == SCHEMA:
            return msgspec.json.decode(content, type=RunDocument)
    except UnicodeDecodeError as exc:
        raise msgspec.DecodeError(f"it is no UTF-8: {exc}") from exc
    raise msgspec.ValidationError(f"it has the schema {schema}, and this version reads {SCHEMA}; use the version that wrote it")


def render(result: RunResult) -> str:
    """The one document that `--json` prints: the result alone, whatever else the run folder keeps."""
    plain = RunResult(**{name: getattr(result, name) for name in _RESULT_FIELDS})
    return encode(plain).decode()


def _finite(scenario: ScenarioResult) -> ScenarioResult:
    criteria = tuple(
        msgspec.structs.replace(criterion, observed=None)
        if criterion.observed is not None and not math.isfinite(criterion.observed)
        else criterion
        for criterion in scenario.criteria
    )
    metrics = {name: value for name, value in scenario.metrics.items() if math.isfinite(value)}
    return msgspec.structs.replace(scenario, criteria=criteria, metrics=metrics)
