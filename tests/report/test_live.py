"""`live.jsonl`: what is written while a run goes on, how often, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from floodmark.model.finding import Anomaly, Finding
from floodmark.model.verdict import Verdict
from floodmark.report.display import FOUND_COUNT, Display, Displays, Planned
from floodmark.report.folder import RESULT
from floodmark.report.live import EVERY_S, LIVE, SLOWEST_S, AnyLine, Began, Closed, Done, Figures, Found, LiveFile, Marked, Opened
from floodmark.report.terminal import Progress
from tests.report import made
from tests.report import test_mark as trials


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def lines(folder: Path) -> list[AnyLine]:
    """What is in the file."""
    return msgspec.json.Decoder(AnyLine).decode_lines((folder / LIVE).read_bytes())


def finding(number: int) -> Finding:
    return Finding(
        anomaly=Anomaly.LOST,
        subscription=number,
        channel=0,
        publisher=0,
        count=1,
        first_seq=1,
        last_seq=1,
        violation=True,
        detail="missing 1",
    )


def tell(display: Display, folder: Path, clock: Clock) -> None:
    """A small run, told to a display."""
    display.opened(folder, [Planned(id="a", title="A", load_s=5.0)], seed=7, command="floodmark run a")
    clock.now_s += 1.0
    display.scenario("a", "A")
    display.update(phase="steady", connections=3)
    clock.now_s += 1.0
    display.update(offered_hz=10.0, published_hz=9.0, rate_hz=90.0, p50_ns=1, p99_ns=2, rss_bytes=3, harness_rss_bytes=4)
    display.mark("process.kill")
    display.found([finding(number) for number in range(20)])
    display.done(made.passed(id="a", findings=tuple(finding(number) for number in range(20))))


def test_live_file_holds_the_run_in_lines_that_are_readable_at_once(tmp_path: Path) -> None:
    clock = Clock()

    with LiveFile(clock=clock) as live:
        tell(live, tmp_path, clock)
        found = lines(tmp_path)

    assert [type(line) for line in found] == [Opened, Began, Figures, Figures, Marked, Found, Done]
    assert [line.t_s for line in found] == [0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert found[3] == Figures(
        t_s=2.0,
        phase="steady",
        connections=3,
        offered_hz=10.0,
        published_hz=9.0,
        delivered_hz=90.0,
        p50_ns=1,
        p99_ns=2,
        target_rss_bytes=3,
        harness_rss_bytes=4,
    )
    assert isinstance(found[5], Found)
    assert isinstance(found[6], Done)
    assert len(found[5].findings) == len(found[6].result.findings) == FOUND_COUNT


def test_live_file_is_taken_away_when_there_is_a_result_and_kept_when_there_is_none(tmp_path: Path) -> None:
    for name, result in (("with", True), ("without", False)):
        folder = tmp_path / name
        folder.mkdir()
        if result:
            (folder / RESULT).write_text("{}")

        with LiveFile() as live:
            tell(live, folder, Clock())

        assert (folder / LIVE).exists() is not result
    assert lines(tmp_path / "without")[-1] == Closed(t_s=lines(tmp_path / "without")[-1].t_s)


@pytest.mark.parametrize("interrupted", [False, True])
def test_live_file_of_a_search_ends_with_the_mark(tmp_path: Path, interrupted: bool) -> None:
    results = trials.scenarios()
    mark = trials.mark_of(results, stopped="interrupted" if interrupted else "")
    result = made.run_of(*results, mark=mark, verdict=mark.verdict, interrupted=interrupted)

    with LiveFile() as live:
        tell(live, tmp_path, Clock())
        live.conclude(result)

    last = lines(tmp_path)[-1]
    assert isinstance(last, Closed)
    assert (last.verdict, last.trouble) == (Verdict.UNKNOWN if interrupted else Verdict.PASS, "")
    assert ("interrupted; so far it held up to 1,000 /s" in last.why) is interrupted
    assert "broke at 1,400 /s" in last.why


def test_live_file_of_a_run_that_breaks_off_says_why(tmp_path: Path) -> None:
    def break_off() -> None:
        with LiveFile() as live:
            tell(live, tmp_path, Clock())
            raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        break_off()

    last = lines(tmp_path)[-1]
    assert isinstance(last, Closed)
    assert last.trouble == "ValueError: no such thing"


@pytest.mark.parametrize(("begun_s", "pause_s"), [(0.0, EVERY_S), (1800.0, 0.5), (86_400.0, SLOWEST_S)])
def test_live_file_figures_come_as_often_as_the_length_of_the_scenario_allows(tmp_path: Path, begun_s: float, pause_s: float) -> None:
    clock = Clock()

    with LiveFile(clock=clock) as live:
        live.opened(tmp_path, [], seed=1, command="")
        live.scenario("a")
        clock.now_s += begun_s
        for _ in range(1000):  # ten seconds, with a hundred reports a second
            clock.now_s += 0.01
            live.update(published=1)
        count = sum(isinstance(line, Figures) for line in lines(tmp_path))

    assert 10 / pause_s * 0.9 <= count <= 10 / pause_s + 1


def test_live_file_the_last_figures_of_a_scenario_are_not_held_back(tmp_path: Path) -> None:
    with LiveFile(clock=Clock()) as live:
        live.opened(tmp_path, [], seed=1, command="")
        live.scenario("a")
        live.update(phase="steady", published=1)
        live.update(published=2)  # at the same moment
        live.done(made.passed(id="a"))
        figures = [line for line in lines(tmp_path) if isinstance(line, Figures)]

    assert [line.published for line in figures] == [1, 2]


def test_live_file_on_a_full_disk_is_given_up_and_the_run_is_not(tmp_path: Path) -> None:
    (tmp_path / LIVE).symlink_to("/dev/full")

    with LiveFile() as live:
        tell(live, tmp_path, Clock())

    assert (tmp_path / LIVE).is_symlink()


def test_live_file_in_a_folder_that_is_gone_is_given_up(tmp_path: Path) -> None:
    with LiveFile() as live:
        tell(live, tmp_path / "gone", Clock())

    assert not (tmp_path / "gone").exists()


def test_live_file_that_was_never_opened_writes_nothing(tmp_path: Path) -> None:
    with LiveFile():
        pass

    assert list(tmp_path.iterdir()) == []


def test_displays_tell_all_of_them_everything(tmp_path: Path) -> None:
    clocks = Clock(), Clock()
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()

    with LiveFile(clock=clocks[0]) as one, LiveFile(clock=clocks[1]) as two:
        tell(one, folders[0], clocks[0])
        tell(Displays(Progress(quiet=True), two), folders[1], clocks[1])
        first, second = lines(folders[0]), lines(folders[1])

    assert first[1:] == second[1:]


def test_displays_name_the_process_that_only_shows(tmp_path: Path) -> None:
    class Shows(LiveFile):
        """A display that is another process."""

        def apart(self) -> int:
            return 4711

    assert Displays(LiveFile(), Progress(quiet=True)).apart() is None
    assert Displays(LiveFile(), Shows()).apart() == 4711
