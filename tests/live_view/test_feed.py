"""A run folder read to its end: growing, complete, broken, without a last word."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.live import feed
from floodmark.live.board import Board
from floodmark.live.feed import GONE
from floodmark.live.source import Nobody
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.live import LIVE, AnyLine, Began, Closed, Done, Figures, Marked, Opened
from floodmark.systems.conductor.backend.base import Request
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.errors import BackendError
from floodmark.systems.conductor.settings import ConductorSettings
from floodmark.systems.conductor.vocabulary import Quit
from tests.live_view import made
from tests.report import made as results
from tests.report import test_mark as trials

LIMIT_S = 20.0


def all_lines(folder: RunFolder, *, alive: bool = True) -> list[AnyLine | int]:
    """Everything that the folder tells."""

    async def read() -> list[AnyLine | int]:
        found: list[AnyLine | int] = []
        async with asyncio.timeout(LIMIT_S), aclosing(feed.lines(folder, alive=lambda pid: alive)) as told:
            async for batch in told:
                found += [batch] if isinstance(batch, int) else batch
        return found

    return asyncio.run(read())


def fed(folder: RunFolder, *, channel_count: int = 64) -> Board:
    """What a board knows once a conductor has been fed with the folder."""

    async def main() -> Board:
        board = Board()
        conductor = Conductor(Nobody(), ConductorSettings(greet=False, channel_count=channel_count))

        async def show() -> None:
            while await conductor.output.wait():
                board.apply(conductor.output.take_many(7))

        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
            await conductor.start(announce=False)
            tasks.create_task(show())
            await feed.follow(folder, conductor)
            await conductor.quit()
        return board

    return asyncio.run(main())


def test_lines_of_a_growing_file_come_as_they_are_written(tmp_path: Path) -> None:
    lines = made.whole()
    folder = RunFolder(made.write(tmp_path, lines[:1]))

    async def main() -> list[AnyLine]:
        found: list[AnyLine] = []
        async with asyncio.timeout(LIMIT_S), aclosing(feed.lines(folder)) as told:
            async for batch in told:
                assert not isinstance(batch, int)
                found += batch
                if len(found) < len(lines):
                    with (tmp_path / LIVE).open("ab") as file:
                        file.write(made.encoded(lines[len(found) : len(found) + 5]))
        return found

    assert asyncio.run(main()) == lines


def test_lines_without_a_last_one_wait_as_long_as_the_run_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "QUIET_S", 0.0)
    folder = RunFolder(made.write(tmp_path, made.running()))
    looks = 0

    def alive(pid: int) -> bool:
        nonlocal looks
        looks += 1
        return looks < 4

    async def read() -> list[AnyLine | int]:
        async with asyncio.timeout(LIMIT_S), aclosing(feed.lines(folder, alive=alive)) as told:
            return [line async for batch in told for line in ([batch] if isinstance(batch, int) else batch)]

    found = asyncio.run(read())

    assert looks == 4
    assert found == [*made.running(), Closed(t_s=made.running()[-1].t_s, trouble=GONE)]


def test_lines_of_a_run_that_is_gone_end_with_what_became_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "QUIET_S", 0.0)
    dead = 2**22 + 1  # beyond any process number
    folder = RunFolder(made.write(tmp_path, [made.opened(pid=dead), Began(id="a.first")]))

    board = fed(folder)

    assert board.run.state == "UNKNOWN"
    assert board.run.reason == GONE


def test_lines_of_a_run_that_did_not_name_itself_are_waited_for_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "QUIET_S", 0.0)
    monkeypatch.setattr(feed, "NAMELESS_S", 0.5)
    folder = RunFolder(made.write(tmp_path, made.running()[1:]))
    began_s = time.monotonic()

    board = fed(folder)

    assert time.monotonic() - began_s > 0.4
    assert board.tasks["a.first"].state == "running"
    assert (board.run.state, board.run.reason) == ("UNKNOWN", GONE)


def test_lines_that_are_broken_are_counted_and_the_others_told(tmp_path: Path) -> None:
    lines = made.whole()
    folder = RunFolder(made.write(tmp_path, lines[:-1], end=b'{"kind": "figu\n' + made.encoded(lines[-1:])))

    found = all_lines(folder)

    assert [line for line in found if not isinstance(line, int)] == lines
    assert [line for line in found if isinstance(line, int)] == [1]
    assert any("1 line of live.jsonl could not be read" in notice for notice in fed(folder).notices)


def test_lines_of_a_recorded_run_are_those_of_a_run(recorded_run: RunFolder) -> None:
    found = [line for line in all_lines(recorded_run) if not isinstance(line, int)]

    assert isinstance(found[0], Opened)
    assert isinstance(found[-1], Closed)
    assert [line.id for line in found if isinstance(line, Began)] == ["good", "losing"]
    assert [line.result.verdict.value for line in found if isinstance(line, Done)] == ["PASS", "FAIL"]
    assert {"steady", "drain"} <= {line.text for line in found if isinstance(line, Marked)}
    assert all(earlier.t_s <= later.t_s for earlier, later in itertools.pairwise(found) if type(earlier) is type(later) is Figures)
    msgspec.json.Decoder(AnyLine).decode_lines(made.encoded(found))


def test_board_of_a_recorded_run_agrees_with_its_result(recorded_run: RunFolder) -> None:
    document = recorded_run.result()

    board = fed(recorded_run)

    assert board.run.state == document.verdict.value == "FAIL"
    for result in document.scenarios:
        task = board.tasks[result.id]
        assert task.state == result.verdict.value
        assert task.figures["delivered"] == result.delivery.delivered
        assert task.figures["lost"] == result.delivery.lost
        assert task.figures["p99_ns"] == result.latency_ns.response.p99
        assert math.isclose(task.traces["target_rss_bytes"].highest, result.target.rss_bytes_peak, rel_tol=0.2)
        assert task.traces["offered_hz"].highest == 500.0
    (finding, *_) = document.scenarios[1].findings
    assert finding.detail.split(";")[0] in board.first_notice


def test_follow_conductor_with_a_small_channel_loses_nothing(tmp_path: Path) -> None:
    folder = RunFolder(made.write(tmp_path, made.whole()))

    wide, narrow = fed(folder, channel_count=1024), fed(folder, channel_count=16)

    assert {task.id: task.figures for task in wide.tasks.values()} == {task.id: task.figures for task in narrow.tasks.values()}
    assert [len(task.traces["p99_ns"]) for task in wide.tasks.values()] == [len(task.traces["p99_ns"]) for task in narrow.tasks.values()]


def test_follow_conductor_that_has_quit_is_told_nothing_and_waits_for_nobody(tmp_path: Path) -> None:
    folder = RunFolder(made.write(tmp_path, made.whole()))

    async def main() -> list[object]:
        conductor = Conductor(Nobody(), ConductorSettings(greet=False, channel_count=16))
        async with asyncio.timeout(LIMIT_S):
            await conductor.start(announce=False)
            await conductor.quit()
            await feed.follow(folder, conductor)
        return list(conductor.output.take_many())

    assert isinstance(asyncio.run(main())[-1], Quit)


def test_require_watchable_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to watch"):
        feed.require_watchable(RunFolder(tmp_path))


def test_nobody_answers_nothing() -> None:
    nobody = Nobody()

    async def main() -> None:
        stream = nobody.send_streaming(Request(prompt="hello"))
        assert stream.terminal is not None
        with pytest.raises(BackendError, match="only watched"):
            await nobody.send(Request(prompt="hello"))
        assert await nobody.list_models() == []
        assert not await nobody.has_model("any")
        await nobody.health_check()
        await nobody.aclose()

    asyncio.run(main())


def test_board_of_an_interrupted_run_shows_what_was_kept(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs", "a", results.STARTED)
    kept = results.passed(id="a.first", verdict=Verdict.UNKNOWN, note="interrupted in the phase 'steady'")
    folder.add_samples(kept.id, *results.sampled())
    result = results.run_of(kept, interrupted=True)
    folder.write_result(result, results.configuration_of(), results.MACHINE, command=results.COMMAND, started=results.STARTED)

    board = fed(folder)

    assert (board.run.state, board.run.reason) == ("UNKNOWN", "interrupted")
    assert board.tasks["a.first"].state == "UNKNOWN"
    assert board.tasks["a.first"].reason == "interrupted in the phase 'steady'"
    assert len(board.tasks["a.first"].traces["delivered_hz"]) > 10


def test_board_of_a_run_without_samples_has_its_verdicts(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs", "a", results.STARTED)
    result = results.run_of(results.passed(id="a.first"))
    folder.write_result(result, results.configuration_of(), results.MACHINE, command=results.COMMAND, started=results.STARTED)

    board = fed(folder)

    assert (board.run.state, board.tasks["a.first"].state) == ("PASS", "PASS")
    assert board.tasks["a.first"].traces == {}


def test_board_of_a_recorded_search_has_the_mark_and_its_sentence(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs", "a", results.STARTED)
    result = results.run_of(*trials.scenarios(), mark=trials.mark_of(trials.scenarios()), verdict=Verdict.PASS)
    folder.write_result(result, results.configuration_of(), results.MACHINE, command=results.COMMAND, started=results.STARTED)

    board = fed(folder)

    assert {one.verdict for one in result.scenarios} >= {Verdict.FAIL}
    assert board.run.state == result.verdict.value == "PASS"
    assert result.mark is not None
    assert board.run.reason == f"{result.mark.vary}: {result.mark.why}."
