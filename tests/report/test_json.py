"""The JSON document: what goes in comes out, in the shape that users rely on."""

from __future__ import annotations

import math

import msgspec
import pytest

from floodmark.model.result import CriterionResult, RunResult
from floodmark.model.verdict import Verdict
from floodmark.report import json
from tests.report import made


def test_render_reads_back_into_the_same_result() -> None:
    result = made.run_of(made.passed(1), made.failed(2), made.unknown(3))

    assert msgspec.json.decode(json.render(result), type=RunResult, strict=True) == result


def test_render_of_a_document_leaves_out_what_is_not_the_result() -> None:
    document = made.document_of(made.passed())

    plain = msgspec.json.decode(json.render(document))

    assert set(plain) == {"schema", "version", "seed", "scale", "verdict", "run", "scenarios", "interrupted", "duration_s", "mark"}
    assert plain["scenarios"][0]["latency_ns"]["response"]["p99"] == document.scenarios[0].latency_ns.response.p99
    assert plain["verdict"] == "PASS"


def test_encode_of_what_is_not_finite_still_reads_back() -> None:
    criterion = CriterionResult(text="recovery < 5s", observed=math.inf, verdict=Verdict.UNKNOWN)
    scenario = made.passed(metrics={"recovery": math.inf, "cpu": math.nan, "lost": 0.0}, criteria=(criterion,))

    read = json.decode(json.encode(made.document_of(scenario))).scenarios[0]

    assert read.metrics == {"lost": 0.0}
    assert read.criteria[0].observed is None


def test_decode_reads_a_document_of_a_later_version_with_more_fields() -> None:
    plain = msgspec.json.decode(json.encode(made.document_of(made.passed())))
    plain["weather"] = "wet"

    assert json.decode(msgspec.json.encode(plain)).seed == 7


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b'{"schema": 99, "verdict": {}}', "it has the schema 99, and this version reads 1", id="schema"),
        pytest.param(b'{"schema": 1, "version": "\xff"}', "it is no UTF-8", id="bytes"),
        pytest.param(b'{"schema": 1', "truncated", id="half"),
    ],
)
def test_decode_of_what_it_cannot_read_is_refused_with_the_reason(content: bytes, words: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=words):
        json.decode(content)
