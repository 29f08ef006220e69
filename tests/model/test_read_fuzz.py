"""Scenario files broken at random: whatever stands in one, the reader gives scenarios or one line for its writer, nothing else."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.model.arrival import Arrival, Burst, Constant, Flood, Poisson, Ramp, Spike, Step, Wave
from floodmark.model.criterion import parse
from floodmark.model.read import read_text, to_toml
from floodmark.model.scenario import Bursty, Fault, Phase, Population, Scenario, Target
from floodmark.model.walk import build

CHAT = tomllib.loads((Path(__file__).parents[2] / "examples/chat.toml").read_text(encoding="utf-8"))
ARRIVALS: tuple[Arrival, ...] = (
    Constant(rate_hz=1.0),
    Ramp(from_hz=1.0, to_hz=2.0),
    Step(from_hz=1.0, step_hz=1.0, every_s=1.0),
    Spike(rate_hz=1.0, peak_hz=2.0, at_s=0.5, for_s=1.0),
    Wave(rate_hz=2.0, amplitude_hz=1.0, period_s=1.0),
    Burst(count=1, every_s=1.0),
    Poisson(rate_hz=1.0),
    Flood(),
)
ALL = Scenario(
    id="all",
    target=Target(command="serve", args=("a", "b"), ready_pattern="(.*)"),
    driver_options={"line\nend": "x", "b": 1, "c": 0.5, "d": True},
    population=Population(connections=3, consumer=Bursty(read_s=1.0, pause_s=1.0)),
    phases=tuple(Phase(name=f"p\n{at}", duration_s=1.0, arrival=arrival) for at, arrival in enumerate(ARRIVALS)),
    faults=(Fault(kind="churn", options={"e": 1}),),
    criteria=(parse("lost == 0"), parse("latency_p99 < 1s")),
)
WHOLE: list[dict[str, Any]] = [CHAT, tomllib.loads(to_toml(ALL))]
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), st.dates(), st.sampled_from(["10s", "5KB", "a\nb"])
)
junk = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_leaves=5
)


def places(raw: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in nested tables and lists, the root left out."""
    entries = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    return [found for key, value in entries for found in ((*way, key), *places(value, (*way, key)))]


def holder_of(raw: Any, way: tuple[Any, ...]) -> Any:
    """The table or list that the last step of a way leads into."""
    for step in way[:-1]:
        raw = raw[step]
    return raw


def refusal(raw: object) -> str:
    """What the walk says against it; empty when it takes it. Any other exception fails the test."""
    try:
        build(Scenario, raw)
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("raw", WHOLE, ids=["chat", "all"])
def test_build_the_unbroken_table_is_taken(raw: dict[str, Any]) -> None:
    assert refusal(raw) == ""


@given(st.sampled_from(WHOLE), st.data())
def test_build_one_value_replaced_by_junk_is_taken_or_told_in_one_line(raw: dict[str, Any], data: st.DataObject) -> None:
    broken = copy.deepcopy(raw)
    way = data.draw(st.sampled_from(places(raw)))
    holder_of(broken, way)[way[-1]] = data.draw(junk)

    assert "\n" not in refusal(broken)


@given(st.sampled_from(WHOLE), st.data(), st.text())
def test_build_a_key_too_many_is_told_in_one_line_with_the_key(raw: dict[str, Any], data: st.DataObject, key: str) -> None:
    broken = copy.deepcopy(raw)
    tables = [way for way in places(raw) if isinstance(holder_of(raw, way), dict) and not {"driver_options", "options"} & set(way[:-1])]
    holder = holder_of(broken, data.draw(st.sampled_from(tables)))
    known = key in holder
    holder.setdefault(key, 1)

    text = refusal(broken)

    assert "\n" not in text
    assert known or f"unknown key {key!r}" in text or key in Scenario.__struct_fields__ + Phase.__struct_fields__ + Target.__struct_fields__


@pytest.mark.parametrize("gone", ["id", "population", "phases", "criteria"])
def test_build_a_required_key_removed_is_told_by_its_name(gone: str) -> None:
    broken = {key: value for key, value in CHAT.items() if key != gone}

    assert refusal(broken) == f"the key '{gone}' is missing; a scenario needs it"


@given(st.dictionaries(st.one_of(st.sampled_from(Scenario.__struct_fields__), st.text(max_size=5)), junk, max_size=5))
def test_build_any_table_is_told_in_one_line(raw: dict[str, object]) -> None:
    text = refusal(raw)

    assert text
    assert "\n" not in text


@given(st.text(max_size=40))
def test_read_text_any_short_text_is_told_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_text(text, "x.toml")

    assert str(caught.value).startswith("x.toml:")
    assert "\n" not in str(caught.value)
