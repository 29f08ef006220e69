"""Runs a transformer over records, one by one, and sorts what goes wrong into bad data and bad programs.

An error that data can cause (a value, key, type, arithmetic or runtime error) skips its record: it is logged and counted. Everything
else is a mistake in the transformer (it takes no record, gives no mapping back, names something that is not there): TransformerError.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from floodmark.systems.pipeline.errors import RecoverableError, TransformerError, reason_of
from floodmark.systems.pipeline.settings import Transformer

log = logging.getLogger(__name__)

DATA_ERRORS = (ValueError, LookupError, TypeError, ArithmeticError, RuntimeError)
LOGGED_COUNT = 5  # failures told in full per batch; the rest only as a number
SHOWN_CHARS = 200  # of a record in the log


def check_signature(transformer: Transformer) -> None:
    """Raise TransformerError unless it can be called with one record."""
    try:
        signature = inspect.signature(transformer)
    except (TypeError, ValueError):  # a builtin without a signature: its first call will tell
        return
    try:
        signature.bind({})
    except TypeError as exc:
        raise TransformerError(f"the transformer {_name(transformer)}{signature} does not take one record: {exc}") from exc
    if inspect.iscoroutinefunction(transformer):
        raise TransformerError(
            f"the transformer {_name(transformer)} is a coroutine function; it must give a mapping, not something to await"
        )


def transformed(records: list[dict[str, Any]], transformer: Transformer, *, stream_id: str) -> tuple[list[Mapping[str, Any]], int]:
    """Put every record through the transformer.

    Returns: the results, in order, and how many records were skipped.
    Raises: TransformerError for a mistake in the transformer.
    """
    results: list[Mapping[str, Any]] = []
    keep = results.append
    failed_count = 0
    for record in records:  # HOT: once per record; the budget is 3 us with the transformer's own work
        try:
            result = transformer(record)
        except DATA_ERRORS as exc:
            failed_count += 1
            if failed_count <= LOGGED_COUNT:
                log.warning("stream %s: a record is skipped, %s: %.*s", stream_id, reason_of(exc), SHOWN_CHARS, repr(record))
            continue
        except RecoverableError:
            raise
        except Exception as exc:
            raise TransformerError(f"the transformer {_name(transformer)} is broken: {reason_of(exc)}") from exc
        if type(result) is not dict and not isinstance(result, Mapping):
            if inspect.iscoroutine(result):
                result.close()
            raise TransformerError(f"the transformer {_name(transformer)} must give a mapping back, got {type(result).__name__}")
        keep(result)
    if failed_count > LOGGED_COUNT:
        log.warning("stream %s: %d records of one batch are skipped in all", stream_id, failed_count)
    return results, failed_count


def _name(transformer: Callable[..., object]) -> str:
    return getattr(transformer, "__qualname__", None) or repr(transformer)
