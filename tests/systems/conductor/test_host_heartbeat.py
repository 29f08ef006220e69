"""Heartbeats: when a surface is dead, and how quickly one answers that is not."""

from __future__ import annotations

import pytest

from floodmark.systems.conductor.host.heartbeat import MISSED_MAX, Heartbeat
from floodmark.systems.conductor.vocabulary import Pong


def test_surface_that_answers_nothing_is_dead_after_three_and_one_that_answers_once_is_not() -> None:
    silent, sparing = Heartbeat(), Heartbeat()

    seen = []
    for number in range(1, MISSED_MAX + 1):
        silent.ping(float(number))
        sparing.ping(float(number))
        if number == MISSED_MAX - 1:
            sparing.pong(Pong(seq=1), float(number))
        seen.append((silent.dead, sparing.dead))

    assert seen == [(False, False), (False, False), (True, False)]


def test_round_trips_are_smoothed_so_that_a_late_one_counts_for_a_fifth() -> None:
    beat = Heartbeat()

    for seq, taken_s in enumerate((0.1, 0.1, 1.1, 0.1), start=1):
        beat.ping(10.0 * seq)
        beat.pong(Pong(seq=seq), 10.0 * seq + taken_s)

    assert beat.rtt_s == pytest.approx(0.1 + 0.8 * 0.2 * 1.0)


def test_answer_to_an_earlier_ping_or_a_second_one_tells_no_time() -> None:
    beat = Heartbeat()
    beat.ping(1.0)
    beat.pong(Pong(seq=1), 1.5)
    beat.pong(Pong(seq=1), 9.0)
    beat.ping(10.0)
    beat.pong(Pong(seq=1), 19.0)
    beat.pong(Pong(seq=99), 19.0)

    assert beat.rtt_s == pytest.approx(0.5)
