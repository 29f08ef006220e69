"""What stands on stderr: one line in place on a terminal, plain lines elsewhere, and the table at the end."""

from __future__ import annotations

import io
import os
import select
from collections.abc import Iterator

import pytest
from rich.console import Console

from floodmark.report.terminal import Progress, show_result
from tests.report import made

ERASE_LINE = "\x1b[2K"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Screen:
    """A real pseudo-terminal: what is written to `console` can be read back."""

    def __init__(self) -> None:
        self._reader, writer = os.openpty()
        self._file = os.fdopen(writer, "w")
        self.console = Console(file=self._file, width=150, highlight=False, markup=False, _environ={"TERM": "xterm"})

    def read(self) -> str:
        self._file.flush()
        seen = b""
        while select.select([self._reader], [], [], 0.05)[0]:
            seen += os.read(self._reader, 65_536)
        return seen.decode()

    def close(self) -> None:
        self._file.close()
        os.close(self._reader)


@pytest.fixture
def screen() -> Iterator[Screen]:
    """A terminal, closed afterwards."""
    opened = Screen()
    yield opened
    opened.close()


def plain_console(width: int = 120) -> tuple[Console, io.StringIO]:
    """A console that is no terminal, and what was written to it."""
    out = io.StringIO()
    return Console(file=out, width=width, highlight=False, markup=False), out


def test_progress_on_a_terminal_updates_one_line_in_place(screen: Screen) -> None:
    clock = Clock()

    with Progress(screen.console, clock=clock) as progress:
        progress.scenario("subscriptions.churn", "Churn")
        clock.now_s += 2
        progress.update(phase="steady", connections=1_000, published=12_000, delivered=11_990, rate_hz=6_000.0, p99_ns=3_100_000)
        painted = screen.read()
    after = screen.read()

    assert "2 s · steady · 1,000 connections · 12,000 published · 11,990 delivered · 6,000 /s · p99 3.10 ms" in painted
    assert painted.count("\n") == 0
    assert ERASE_LINE in painted
    assert ERASE_LINE in after


def test_progress_on_a_terminal_paints_no_more_than_it_must(screen: Screen) -> None:
    clock = Clock()

    with Progress(screen.console, clock=clock) as progress:
        progress.scenario("subscriptions.churn")
        painted = ""
        for _ in range(5):
            for published in range(20):  # few enough that they fit into the terminal's buffer even if each were painted
                clock.now_s += 0.01
                progress.update(published=published)
            painted += screen.read()

    assert 5 <= painted.count("published") <= 11


def test_progress_elsewhere_writes_a_plain_line_every_five_seconds() -> None:
    console, out = plain_console()
    clock = Clock()

    with Progress(console, clock=clock) as progress:
        progress.scenario("subscriptions.churn", "Churn")
        for _ in range(24):
            clock.now_s += 0.5
            progress.update(phase="steady", rss_bytes=200 * 2**20)

    lines = out.getvalue().splitlines()
    assert lines[0] == "subscriptions.churn: Churn"
    assert [line.split("  ")[1] for line in lines[1:]] == ["5 s · steady · 200 MiB", "10 s · steady · 200 MiB"]
    assert "\x1b" not in out.getvalue()


def test_progress_next_scenario_forgets_the_figures_of_the_last() -> None:
    console, out = plain_console()
    clock = Clock()

    with Progress(console, clock=clock) as progress:
        progress.scenario("a.one")
        progress.update(delivered=77)
        progress.done(made.passed(id="a.one"))
        progress.scenario("a.two")
        clock.now_s += 6
        progress.update(phase="ramp")

    assert out.getvalue().splitlines()[-1] == "▸ a.two  6 s · ramp"


def test_progress_done_says_why_a_scenario_did_not_pass() -> None:
    console, out = plain_console()

    with Progress(console, clock=Clock()) as progress:
        progress.done(made.failed())
        progress.done(made.unknown())

    assert "✗ FAIL     subscriptions.case-2  22.4 s" in out.getvalue()
    assert "2 of 3 hold; lost == 0: 33" in out.getvalue()
    assert "took no connection within 20 s" in out.getvalue()


def test_progress_quiet_writes_nothing() -> None:
    console, out = plain_console()
    clock = Clock()

    with Progress(console, clock=clock, quiet=True) as progress:
        progress.scenario("a.one", "One")
        clock.now_s += 60
        progress.update(phase="steady")
        progress.done(made.failed())

    assert out.getvalue() == ""


@pytest.mark.parametrize("width", [80, 120])
def test_show_result_tells_verdict_anomaly_folder_and_command(width: int) -> None:
    console, out = plain_console(width)

    show_result(made.run_of(made.passed(1), made.failed(2), made.unknown(3)), command=made.COMMAND, console=console)

    lines = out.getvalue().splitlines()
    flat = " ".join(out.getvalue().split())
    assert "✗ FAIL Of 3 scenarios, 1 failed and 1 could not be judged." in flat
    assert "first anomaly 3 lost in subscriptions.case-2: publisher 0 had 3 acknowledged" in flat
    assert "2 of 3 hold; lost == 0: 33" in flat
    assert "run folder runs/20260131-142501-subscriptions" in flat
    assert f"run it again {made.COMMAND}" in flat
    assert max(map(len, lines)) <= width


def test_show_result_hostile_text_moves_no_cursor() -> None:
    console, out = plain_console()

    show_result(made.run_of(made.unknown(id="x.\x1b[2J[bold]y", note="\x1b]0;title\x07 gone")), command="a\x1b[1mb", console=console)

    assert "\x1b" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert "[bold]y" in out.getvalue()
