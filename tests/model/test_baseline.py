"""A baseline as a file: it reads back equal, its bytes do not depend on the order of anything, and a file that is none is refused."""

from __future__ import annotations

import json

import pytest

from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.model.baseline import Baseline, Figure, Host, Played, Subject, check_name, decode, encode
from floodmark.model.gauges import GAUGES, Better, figure
from floodmark.model.metrics import METRICS


def baseline(*names: str) -> Baseline:
    """Two figures of each scenario, in the order of the names."""
    figures = {name: Figure(better=Better.LOWER, dimension=Dimension.TIME, values=(0.25, 0.5), spreads=(None, 0.01)) for name in ("b", "a")}
    subject = Subject(scale=1.0, configuration="c0ffee", target="hub", runs=("one", "two"), figures=figures)
    return Baseline(
        name="main",
        machine=Host(cpu="x", cores=2),
        runs=(Played(run="one", started="2026", version="1", seed=1),),
        scenarios=dict.fromkeys(names, subject),
    )


def test_encode_reads_back_equal() -> None:
    assert decode(encode(baseline("s")), "f.json") == baseline("s")


def test_encode_gives_the_same_bytes_in_whatever_order_it_was_gathered() -> None:
    assert encode(baseline("s", "r")) == encode(baseline("r", "s"))
    assert list(json.loads(encode(baseline("s")))["scenarios"]["s"]["figures"]) == ["a", "b"]


def test_encode_writes_six_digits_and_a_line_for_each_figure_whatever_a_text_holds() -> None:
    one = Figure(better=Better.HIGHER, dimension=Dimension.RATE, values=(1234.56789, 2.0), spreads=(0.0123456, None))
    subject = Subject(scale=1.0, configuration="c", target="a [\n1,   2\n] b", runs=("one",), figures={"throughput": one})

    held = Baseline(name="n", machine=Host(), runs=(), scenarios={"s": subject})

    text = encode(held).decode()

    assert '"values": [1234.57, 2.0],\n' in text
    assert '"spreads": [0.0123, null]\n' in text
    assert text.endswith("}\n")
    assert decode(text.encode(), "f.json").scenarios["s"].target == subject.target


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no baseline"),
        (b"[]", "is no baseline"),
        (b'{"schema": 9}', "has the schema 9, and this version reads 1"),
        (b"{}", "has the schema 0"),
        (b'{"schema": 1, "name": "x"}', "is no baseline: .*machine"),
        (encode(baseline("s")).replace(b"0.25,", b""), "needs at least one value, and a spread or null for each"),
    ],
)
def test_decode_of_what_is_no_baseline_is_refused_with_its_place(content: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=rf"f\.json {words}" if "schema" in words or "is no" in words else words):
        decode(content, "f.json")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../x", "two words", "-x", "a\n"])
def test_check_name_refuses_what_makes_no_file_name(name: str) -> None:
    with pytest.raises(UsageError, match="a baseline's name is"):
        check_name(name)


def test_gauges_are_metrics_of_the_registry_with_their_dimensions() -> None:
    worked_out = set(GAUGES) - set(METRICS)

    assert worked_out == {"cpu_per_delivery"}
    assert all(GAUGES[name].dimension is METRICS[name].dimension for name in set(GAUGES) - worked_out)
    assert {name for name, gauge in GAUGES.items() if gauge.better is Better.HIGHER} == {
        "throughput",
        "goodput",
        "publish_rate",
        "delivery_ratio",
    }
    assert all(gauge.tolerance_ratio > 0 for gauge in GAUGES.values())


@pytest.mark.parametrize(
    "metrics", [{}, {"cpu": 1.0}, {"delivered": 5.0}, {"cpu": 1.0, "delivered": 0.0}, {"cpu": float("nan"), "delivered": 1.0}]
)
def test_figure_that_cannot_be_worked_out_is_none_and_never_zero(metrics: dict[str, float]) -> None:
    assert figure(GAUGES["cpu_per_delivery"], metrics) is None
