"""Faults and addresses as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.faults.wire import WIRE_FAULTS
from floodmark.faults.wire.bandwidth import Bandwidth
from floodmark.faults.wire.corrupt import Corrupt
from floodmark.faults.wire.cut import Cut
from floodmark.faults.wire.latency import Latency
from floodmark.faults.wire.limit import Limit
from floodmark.faults.wire.parse import is_mapping, parse_fault, parse_mapping, wire_fault
from floodmark.faults.wire.partition import Partition
from floodmark.faults.wire.refuse import Refuse
from floodmark.faults.wire.reset import Reset
from floodmark.faults.wire.slice import Slice
from floodmark.faults.wire.slow_close import SlowClose
from floodmark.faults.wire.spec import WireFault
from floodmark.faults.wire.timeout import Timeout


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("latency=50ms", Latency(least_s=0.05)),
        ("latency=50ms..500ms", Latency(least_s=0.05, most_s=0.5)),
        ("latency=1ms..1s,distribution=pareto", Latency(least_s=0.001, most_s=1, distribution="pareto")),
        ("bandwidth=1MB/s,direction=downstream,share=0.5", Bandwidth(bytes_per_s=1_000_000, direction="downstream", share=0.5)),
        ("bandwidth=64KiB,shared=true", Bandwidth(bytes_per_s=65536, shared=True)),
        ("slice=10B, gap=5ms, spread_bytes=3B", Slice(piece_bytes=10, gap_s=0.005, spread_bytes=3)),
        ("slow_close=2s", SlowClose(delay_s=2)),
        ("timeout", Timeout()),
        ("timeout=5s", Timeout(after_s=5)),
        ("reset", Reset()),
        ("reset,after=100ms", Reset(after_s=0.1)),
        ("limit=1KiB", Limit(pass_bytes=1024)),
        ("corrupt=4KiB", Corrupt(every_bytes=4096)),
        ("corrupt=1%", Corrupt(probability=0.01)),
        ("corrupt,probability=0.5", Corrupt(probability=0.5)),
        ("partition,direction=upstream", Partition(direction="upstream")),
        ("cut=3s,share=25%", Cut(after_s=3, share=0.25)),
        ("refuse=close", Refuse(how="close")),
    ],
)
def test_parse_fault_reads_every_kind(text: str, fault: WireFault) -> None:
    assert parse_fault(text) == fault
    assert WIRE_FAULTS[fault.kind][0] is type(fault)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "unknown wire fault ''; known: latency"),
        ("latenzy=1s", "did you mean 'latency'"),
        ("latency", "least_s"),
        ("latency=fast", "is not a duration"),
        ("latency=1MB", "takes one of: ns"),
        ("latency=50ms..", "write it as 50ms..500ms"),
        ("latency=500ms..50ms", "most_s must be at least least_s"),
        ("latency=0ms..1s,distribution=pareto", "least_s above 0"),
        ("latency=1s,distribution=cauchy", "cauchy"),
        ("latency=1s,direction=sideways", "sideways"),
        ("latency=1s,speed=3", "it has: share, direction, least_s"),
        ("latency=1s,least=2s", "given twice"),
        ("latency=1s,share", "write share=VALUE"),
        ("latency=1s,share=150%", "share"),
        ("bandwidth=0B/s", "greater than 0"),
        ("bandwidth=1MB/s,shared=maybe", "true or false"),
        ("slice=0B", "piece_bytes"),
        ("slice=10B,spread=10B", "spread_bytes must be below"),
        ("limit=1.5B", "int"),
        ("corrupt=1KB,probability=1%", "not both"),
        ("partition=now", "takes no value"),
        ("cut", "after_s"),
        ("cut=-1s", "at least 0"),
        ("refuse=politely", "politely"),
    ],
)
def test_parse_fault_mistake_is_one_sentence_that_names_what_exists(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_fault(text)

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40) | st.builds("{}={}".format, st.sampled_from(list(WIRE_FAULTS)), st.text(max_size=20)))
def test_parse_fault_any_text_is_a_fault_or_a_usage_error(text: str) -> None:
    try:
        fault = parse_fault(text)
    except UsageError:
        return
    assert fault.kind in WIRE_FAULTS


@pytest.mark.parametrize(
    ("kind", "options"), [("cut", {"after_s": "soon"}), ("limit", {"pass_bytes": True}), ("cut", {"after_s": float("nan")})]
)
def test_wire_fault_wrong_type_is_a_usage_error(kind: str, options: dict[str, float | int | str | bool]) -> None:
    with pytest.raises(UsageError, match=f"fault '{kind}'"):
        wire_fault(kind, options)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "a=b", "127.0.0.1:1=127.0.0.1:0", "127.0.0.1:99999=127.0.0.1:1", ":1=:2", "h:x=h:1"])
def test_parse_mapping_mistake_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_mapping(text)


def test_is_mapping_tells_relays_from_faults() -> None:
    assert is_mapping("127.0.0.1:6543=127.0.0.1:5432")
    assert not is_mapping("latency=50ms..500ms")
