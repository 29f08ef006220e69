"""From a profiler's own output to a table of functions."""

from __future__ import annotations

import pytest

from floodmark.report import RunFolder, profiled
from floodmark.report.profiled import Profile, Spot
from tests.report import made


def flame_graph(*boxes: tuple[str, int, int, int]) -> str:
    """A flame graph in py-spy's form from (title, depth, first sample, samples)."""
    groups = "".join(
        f'<g><title>{title} ({width} samples, 1.00%)</title><rect x="0%" y="{52 + 16 * depth}" fg:x="{left}" fg:w="{width}"/></g>'
        for title, depth, left, width in boxes
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:fg="http://github.com/jonhoo/inferno"><text>Title</text>'
        f'<svg id="frames">{groups}</svg></svg>'
    )


def test_spots_of_flame_graph_take_from_a_box_what_stands_on_it() -> None:
    svg = flame_graph(
        ("all", 0, 0, 100),
        ("main (a.py:1)", 1, 0, 60),
        ("work (b.py:2)", 2, 0, 40),
        ("work (b.py:9)", 2, 45, 10),
        ("idle (c.py:3)", 1, 60, 40),
    )

    total, spots = profiled.spots_of_flame_graph(svg)

    assert total == 100
    assert spots == (
        Spot(function="work", file="b.py", line=2, own=50, below=50),
        Spot(function="idle", file="c.py", line=3, own=40, below=40),
        Spot(function="main", file="a.py", line=1, own=10, below=60),
    )


def test_spots_of_flame_graph_count_recursion_once() -> None:
    svg = flame_graph(("all", 0, 0, 10), ("f (a.py:1)", 1, 0, 10), ("g (a.py:5)", 2, 0, 10), ("f (a.py:1)", 3, 2, 8))

    _, spots = profiled.spots_of_flame_graph(svg)

    assert {(spot.function, spot.own, spot.below) for spot in spots} == {("f", 8, 10), ("g", 2, 10)}


def test_spots_of_flame_graph_without_samples_are_none() -> None:
    assert profiled.spots_of_flame_graph(flame_graph()) == (0, ())


@pytest.mark.parametrize("text", ["", "no picture", "<svg><g></svg>"])
def test_spots_of_flame_graph_refuse_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="no flame graph"):
        profiled.spots_of_flame_graph(text)


def test_spots_of_allocations_charge_the_place_that_allocated() -> None:
    table = (
        "allocator,num_allocations,size,tid,thread_name,stack_trace\n"
        "MALLOC,3,3000,1,0x1,hold;/srv/a.py;4|main;/srv/a.py;9\n"
        "CALLOC,1,500,1,0x1,hold;/srv/a.py;5|main;/srv/a.py;9\n"
        "MALLOC,1,200,1,0x1,main;/srv/a.py;2\n"
        "MMAP,1,100,1,0x1,\n"
    )

    total, spots = profiled.spots_of_allocations(table)

    assert total == 3800
    assert spots == (
        Spot(function="hold", file="/srv/a.py", line=4, own=3500, below=3500, count=4),
        Spot(function="main", file="/srv/a.py", line=2, own=200, below=3700, count=1),
        Spot(function="native code", file="", line=0, own=100, below=100, count=1),
    )


def test_spots_of_allocations_refuse_another_table() -> None:
    with pytest.raises(ValueError, match="no table of allocations"):
        profiled.spots_of_allocations("a,b\n1,2\n")


def test_profiles_of_a_folder_are_read_back_and_a_broken_one_is_left_out(written: object) -> None:
    assert callable(written)
    folder: RunFolder = written(made.passed(1))
    kept = Profile(scenario="a/b c", kind="cpu", tool="py-spy", total=3, spots=(Spot(function="f", file="a.py", own=3),))

    folder.add_profile(kept)
    (folder.path / "profiles" / "broken.cpu.json").write_text("{")

    assert folder.profiles() == {"a/b c": kept}
