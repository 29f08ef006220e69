"""The bench of the chat's screen: a figure that is missed is named, one that was never seen is missed, a lost token is found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import pytest

from bench.chat_screen import Measured, main, measure
from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.terminal.board import Board

GOOD = Measured(frames_hz=[30, 29], echoes_s=[0.01, 0.02], tokens_count=2_000, quit_s=0.01)


def test_measured_good_run_misses_nothing() -> None:
    assert GOOD.missed() == []


def test_measured_empty_run_misses_everything() -> None:
    assert len(Measured().missed()) == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"frames_hz": [30, 19]}, "worst second: 19"),
        ({"echoes_s": [0.01, 0.2]}, "slowest key: 200 ms"),
        ({"wrong_texts": 1}, "1 texts"),
        ({"wrong_screens": 2}, "2 screens"),
        ({"quit_s": 1.5}, "leaving took 1.500 s"),
    ],
)
def test_measured_planted_fault_is_named(change: dict[str, object], named: str) -> None:
    missed = msgspec.structs.replace(GOOD, **change).missed()

    assert len(missed) == 1
    assert named in missed[0]


def test_measure_small_run_sees_all_of_it() -> None:
    measured = asyncio.run(measure(streams=3, rate_hz=200.0, seconds=1.0, size=(80, 24)))

    assert (measured.wrong_texts, measured.wrong_screens, measured.tokens_count) == (0, 0, 600)
    assert sum(measured.frames_hz) > 0
    assert measured.echoes_s
    assert 0 < measured.quit_s < 10
    assert measured.written_bytes > 0


def test_measure_screen_that_loses_a_token_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Board.apply
    lost: list[say.Event] = []

    def losing(self: Board, events: Iterable[say.Event], now_s: float) -> None:
        kept = list(events)
        for event in kept:
            if isinstance(event, say.StreamToken) and not lost:
                lost.append(event)
                kept.remove(event)
                break
        apply(self, kept, now_s)

    monkeypatch.setattr(Board, "apply", losing)

    measured = asyncio.run(measure(streams=3, rate_hz=200.0, seconds=1.0, size=(80, 24)))

    assert len(lost) == 1
    assert (measured.wrong_texts, measured.wrong_screens) == (1, 1)


@pytest.mark.parametrize("arguments", [["--streams", "0"], ["--size", "wide"], ["--rate", "0"], ["--seconds", "0"], ["--rate", "100000"]])
def test_main_option_that_cannot_be_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
