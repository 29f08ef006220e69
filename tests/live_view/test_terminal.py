"""The screen of a run at every size: what is on it, what the keys do, and what it does not cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len

from floodmark.live import feed, paint
from floodmark.live.board import Board
from floodmark.live.plot import BLANK
from floodmark.live.terminal import INTERRUPT, LEAVE, RunApp
from floodmark.report.display import Planned
from floodmark.report.folder import RunFolder
from floodmark.report.live import LIVE, AnyLine, Began, Done, Marked
from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.terminal.app import DARK, LIGHT
from tests.live_view import made
from tests.live_view.screens import played, screen
from tests.report import made as results

SIZES = [pytest.param((columns, rows), id=f"{columns}x{rows}") for columns, rows in ((60, 20), (80, 24), (100, 30), (140, 40))]
DOT = re.compile("[\u2801-\u28ff]")  # a character of a curve with at least one dot


def lines_of(folder: Path, lines: list[AnyLine]) -> RunFolder:
    return RunFolder(made.write(folder, lines))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("light", [False, True], ids=["dark", "light"])
def test_screen_of_a_finished_run_names_scenarios_verdicts_and_the_first_anomaly(
    recorded_run: RunFolder, size: tuple[int, int], light: bool
) -> None:
    async def play() -> None:
        async with screen(recorded_run, size=size, light=light) as shown:
            await shown.until(lambda: "first anomaly" in shown.text and "✗ FAIL" in shown.lines[0] and "✗ losing" in shown.text)

            text = shown.text
            assert re.search(r"✓ good .*PASS", text)
            assert re.search(r"✗ losing .*FAIL", text)
            assert "lost in losing" in text
            assert "rate" in text
            assert len(DOT.findall(text)) > 20
            assert ("memory" in text) == (size[0] >= paint.TWO_COLUMNS)
            assert ("latency" in text) == (size[0] >= paint.THREE_COLUMNS or size[1] >= 30)
            assert all(cell_len(line) <= size[0] for line in shown.lines)
            assert shown.lines[-1].startswith(" q leave")

    played(play)


def test_screen_of_a_running_run_shows_its_figures_and_follows_what_is_added(tmp_path: Path) -> None:
    folder = lines_of(tmp_path, made.running())

    async def play() -> None:
        async with screen(folder, size=(100, 30)) as shown:
            await shown.until(lambda: "▸ running" in shown.text and "499 /s" in shown.text and "waiting" in shown.text)
            before = shown.text
            with (tmp_path / LIVE).open("ab") as file:
                file.write(made.encoded([made.figures(7.0, published_hz=450.0), Marked(t_s=7.1, text="process.kill")]))
            await shown.until(lambda: "450 /s" in shown.text)

            assert re.search(r"▸ a\.first +steady 4[78]%", before)
            assert re.search(r"· a\.second +waiting", before)
            assert "offered 500 /s" in before
            assert "p50 1.50 ms" in before
            assert "p99 9.00 ms" in before
            assert "target 60.0 MiB" in before
            assert "floodmark 120 MiB" in before
            assert "no anomaly so far" in before
            assert "process.kill" in shown.text

    played(play)


def test_screen_of_an_empty_folder_that_fills_up_waits(tmp_path: Path) -> None:
    folder = lines_of(tmp_path, [])

    async def play() -> None:
        async with screen(folder) as shown:
            await shown.pilot.pause(0.3)
            assert "waiting for the run" in shown.text
            assert "nothing has been told yet" in shown.text
            with (tmp_path / LIVE).open("ab") as file:
                file.write(made.encoded(made.whole()))
            await shown.until(lambda: "✗ FAIL" in shown.lines[0])

    played(play)


def test_screen_of_an_interrupted_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "QUIET_S", 0.0)
    folder = lines_of(tmp_path, [made.opened(pid=2**22 + 1), *made.running()[1:]])

    async def play() -> None:
        async with screen(folder, size=(140, 40)) as shown:
            await shown.until(lambda: "? UNKNOWN" in shown.lines[0])

            assert "killed, most likely" in shown.lines[0]

    played(play)


def test_screen_keys_choose_a_scenario_and_follow_the_run_again(tmp_path: Path) -> None:
    folder = lines_of(tmp_path, made.running())

    async def play() -> None:
        async with screen(folder) as shown:
            await shown.until(lambda: "── a.first: The first" in shown.text)
            await shown.pilot.press("down")
            await shown.until(lambda: "── a.second" in shown.text)
            assert "f follow the run" in shown.lines[-1]
            await shown.pilot.press("down", "down", "k")
            await shown.until(lambda: "── a.first" in shown.text)
            await shown.pilot.press("j", "f")
            await shown.until(lambda: "f follow" not in shown.lines[-1])

            assert "── a.first" in shown.text

    played(play)


def test_screen_many_scenarios_keeps_the_one_that_runs_in_sight(tmp_path: Path) -> None:
    planned = [Planned(id=f"many.number-{number}") for number in range(60)]
    folder = lines_of(tmp_path, [made.opened(*planned), Began(t_s=1.0, id="many.number-40"), made.figures(2.0)])

    async def play() -> None:
        async with screen(folder) as shown:
            await shown.until(lambda: "▸ many.number-40" in shown.text)
            await shown.pilot.press(*["up"] * 41)
            await shown.until(lambda: "· many.number-0 " in shown.text)

    played(play)


@pytest.mark.parametrize(("key", "code"), [("q", LEAVE), ("ctrl+q", LEAVE), ("ctrl+c", INTERRUPT)])
def test_screen_leaves_at_once_in_the_middle_of_a_run(tmp_path: Path, key: str, code: int) -> None:
    folder = lines_of(tmp_path, made.running())

    async def play() -> None:
        async with screen(folder, beside=True) as shown:
            await shown.until(lambda: "Ctrl-C interrupt the run" in shown.lines[-1])
            await shown.pilot.press(key)
            await shown.pilot.pause()

            assert shown.app.return_value == code

    played(play)


def test_screen_conductor_that_quits_ends_it(tmp_path: Path) -> None:
    folder = lines_of(tmp_path, made.running())

    async def play() -> None:
        async with screen(folder) as shown:
            await shown.conductor.quit()
            await shown.until(lambda: shown.app.return_value is not None)

            assert shown.app.return_value == LEAVE

    played(play)


def test_screen_theme_changes_and_size_too(tmp_path: Path) -> None:
    folder = lines_of(tmp_path, made.running())

    async def play() -> None:
        async with screen(folder) as shown:
            await shown.until(lambda: "499 /s" in shown.text)
            await shown.pilot.press("f2")
            assert shown.app.theme == LIGHT
            await shown.pilot.press("f2")
            assert shown.app.theme == DARK
            await shown.pilot.resize_terminal(140, 40)
            await shown.until(lambda: "latency" in shown.text and all(cell_len(line) <= 140 for line in shown.lines))
            await shown.pilot.resize_terminal(60, 20)
            await shown.until(lambda: "latency" not in shown.text and len(shown.lines) == 20)

            assert shown.lines[-1].startswith(" q leave")

    played(play)


def test_screen_of_a_run_that_stands_still_is_not_painted_again(tmp_path: Path) -> None:
    folder = lines_of(tmp_path, made.whole())

    async def play() -> None:
        async with screen(folder) as shown:
            await shown.until(lambda: "✗ FAIL" in shown.lines[0])
            await shown.pilot.pause(0.3)
            before = shown.app.frames_count
            await shown.pilot.pause(1.2)  # several beats of its timer

            assert shown.app.frames_count == before

    played(play)


def test_screen_words_of_a_target_are_shown_as_text(tmp_path: Path) -> None:
    result = results.failed(id="a.first", note="[bold red]not markup[/] \x1b[31mnor colour")
    folder = lines_of(tmp_path, [*made.running(), Done(t_s=8.0, result=result)])

    async def play() -> None:
        async with screen(folder, size=(140, 40)) as shown:
            await shown.until(lambda: "not markup" in shown.text)

            assert "[bold red]not markup[/]" in shown.text
            assert "\x1b" not in shown.text

    played(play)


def test_board_figure_of_a_phase_that_nobody_measured_is_a_dash() -> None:
    board = Board()
    board.apply([say.TaskCreated(task_id="a", description=""), say.TaskUpdated(task_id="a", progress_ratio=0.0, step="starting")])

    assert "p99 –" in paint.facts(board, 80).plain
    assert "not known yet" in paint.plots(board, 80, 10).plain


def test_paint_rate_of_nothing_is_zero_and_not_a_dash() -> None:
    board = Board()
    figures = {"delivered_hz": 0.0, "t_s": 1.0}
    board.apply(
        [say.TaskCreated(task_id="a", description=""), say.TaskUpdated(task_id="a", progress_ratio=0.0, step="steady", figures=figures)]
    )

    assert "delivered 0 /s" in paint.facts(board, 80).plain


@pytest.mark.parametrize(("fan_out", "shown"), [(1.0, True), (10.0, False)])
def test_paint_rates_share_an_axis_only_where_they_are_alike(fan_out: float, shown: bool) -> None:
    board = Board()
    figures = {"delivered_hz": 100.0 * fan_out, "published_hz": 100.0, "offered_hz": 100.0, "t_s": 1.0}
    board.apply(
        [say.TaskCreated(task_id="a", description=""), say.TaskUpdated(task_id="a", progress_ratio=0.0, step="steady", figures=figures)]
    )

    assert ("offered" in paint.plots(board, 80, 10).plain) is shown


@pytest.mark.parametrize("rows", range(4, 40, 3))
@pytest.mark.parametrize("columns", [30, 56, 80, 119, 200])
def test_paint_plots_fill_their_place_exactly(columns: int, rows: int) -> None:
    board = Board()
    board.apply([say.TaskCreated(task_id="a", description="")])
    for step in range(50):
        figures = {"t_s": float(step), "delivered_hz": step * 10.0, "p99_ns": 1e6, "target_rss_bytes": 2.0**26}
        board.apply([say.TaskUpdated(task_id="a", progress_ratio=0.0, step="steady", note="x" if step == 9 else "", figures=figures)])

    lines = paint.plots(board, columns, rows).plain.split("\n")

    assert len(lines) == rows
    assert {cell_len(line) for line in lines} == {columns}
    assert BLANK not in "".join(lines)


def test_notices_more_than_fit_keep_the_first_and_count_the_rest() -> None:
    board = Board()
    board.apply([say.Notify(level=say.Level.WARNING, text=f"anomaly {number}") for number in range(300)])

    lines = paint.notices(board, 80, 3).plain.split("\n")

    assert [line.split("anomaly ")[-1].strip() for line in lines] == ["0", "298", "299"]
    assert "297 more" in lines[-1]
    assert "first anomaly" in lines[0]


class FullLink:
    """A conductor whose channel is full already: it takes nothing in before somebody has listened."""

    def __init__(self) -> None:
        self.listened = asyncio.Event()
        self.greeted = asyncio.Event()

    async def send(self, event: say.Input) -> None:
        await self.listened.wait()
        self.greeted.set()

    async def wait(self) -> bool:
        if not self.listened.is_set():
            return True
        await self.greeted.wait()
        return False

    def take(self, max_count: int) -> Sequence[say.Event]:
        self.listened.set()
        return []


def test_screen_listens_while_it_introduces_itself() -> None:
    async def play() -> None:
        link = FullLink()
        async with RunApp(link).run_test(), asyncio.timeout(10):
            await link.greeted.wait()

        assert link.greeted.is_set()

    played(play)
