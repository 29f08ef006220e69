"""Lines of a growing file: whole ones, once each, in order; what cannot be read is counted."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as some

from floodmark.live import tail as tail_room
from floodmark.live.tail import Tail
from floodmark.report.live import AnyLine, Began, Marked
from tests.live_view import made


def test_tail_file_that_is_not_there_yet_gives_nothing_and_then_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"

    with Tail(path) as tail:
        assert tail.read() == []
        assert not tail.find()
        path.write_bytes(made.encoded([Began(id="a")]))

        assert tail.read() == [Began(id="a")]
        assert tail.read() == []


def test_tail_line_in_two_writes_comes_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    content = made.encoded([Began(id="a"), Marked(text="b")])

    with Tail(path) as tail, path.open("ab", buffering=0) as file:
        file.write(content[:-9])
        first = tail.read()
        file.write(content[-9:])

        assert first == [Began(id="a")]
        assert tail.read() == [Marked(text="b")]
        assert tail.broken_count == 0


def test_tail_broken_lines_are_counted_and_the_others_come(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    good = made.encoded([Began(id="a")])
    path.write_bytes(b'{"kind": "beg\n' + good + b'\xff\xfe\n{"kind":"future"}\n\n' + good)

    with Tail(path) as tail:
        assert tail.read() == [Began(id="a")] * 2
        assert tail.broken_count == 4


def test_tail_line_that_never_ends_is_left_out_within_a_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    good = made.encoded([Began(id="a")])
    path.write_bytes(b"x" * (tail_room.LINE_BYTES + 2 * tail_room.BLOCK_BYTES) + b"\n" + good)

    with Tail(path) as tail:
        found = [line for _ in range(30) for line in tail.read()]

        assert found == [Began(id="a")]
        assert tail.broken_count == 1


def test_tail_file_that_was_taken_away_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    path.write_bytes(made.encoded([Began(id="a")]))

    with Tail(path) as tail:
        assert tail.find()
        path.unlink()

        assert tail.read() == [Began(id="a")]


@given(cuts=some.lists(some.integers(0, 400), max_size=8))
def test_tail_wherever_writes_are_cut_the_lines_are_the_same(cuts: list[int]) -> None:
    lines: list[AnyLine] = [Began(t_s=1.0, id="a"), Marked(t_s=2.0, text="one\ntwo"), Began(t_s=3.0, id="ä" * 20)]
    content = made.encoded(lines)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "live.jsonl"
        places = sorted({0, *(min(cut, len(content)) for cut in cuts), len(content)})
        found: list[AnyLine] = []

        with Tail(path) as tail, path.open("ab", buffering=0) as file:
            for start, stop in itertools.pairwise(places):
                file.write(content[start:stop])
                found += tail.read()

        assert found == lines
