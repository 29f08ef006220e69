"""What a client may say when it opens a channel, and what it is told when that makes no sense."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.host.options import Options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(({name: 0}, f"{name} must be at least 1, got 0") for name in ("records", "groups", "chunk_size", "max_demand", "buffer_size")),
        ({"query_failures": 5, "query_failures_of": 5}, r"query_failures must be below query_failures_of \(5\), got 5"),
        ({"query_failures": -1}, "query_failures must be below"),
        ({"pause_s": 60.0}, "pause_s must be from 0 to 60 s"),
        ({"pause_s": float("nan")}, "pause_s must be from 0 to 60 s"),
        ({"measure_records": -1}, "measure_records not negative"),
        ({"aggregations": ("sum", "median")}, "no aggregation 'median'; there are: "),
        ({"store": "sqlite", "network": "latency=10ms"}, "network is for the store 'http'"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Options(**given)


@pytest.mark.parametrize("written", [b'{"recrods": 1}', b'{"store": "redis"}', b'{"records": "many"}'])
def test_options_that_are_none_of_ours_are_refused(written: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(written, type=Options)


def test_options_left_out_have_the_values_of_the_plan() -> None:
    options = msgspec.json.decode(b"{}", type=Options)

    assert (options.records, options.chunk_size, options.max_demand, options.buffer_size) == (1000, 1000, 500, 1000)
    assert options.aggregations == ("sum", "count")
