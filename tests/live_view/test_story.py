"""Lines of a run as events: each scenario is a task, each anomaly a notice, and the run ends with a verdict."""

from __future__ import annotations

import msgspec
import pytest

from floodmark.live import paint
from floodmark.live.board import Board
from floodmark.live.story import RUN_ID, Story
from floodmark.model.verdict import Verdict
from floodmark.report.live import AnyLine, Began, Closed, Done, Found, Marked
from floodmark.systems.conductor import vocabulary as say
from tests.live_view import made
from tests.report import made as results


def told(lines: list[AnyLine]) -> list[say.ConductorEvent]:
    story = Story()
    return [event for line in lines for event in story.events(line)]


def of(events: list[say.ConductorEvent], kind: type[say.Event]) -> list[say.ConductorEvent]:
    return [event for event in events if isinstance(event, kind)]


def test_story_first_line_creates_the_run_and_every_scenario() -> None:
    events = told([made.opened()])

    assert [event.task_id for event in of(events, say.TaskCreated) if isinstance(event, say.TaskCreated)] == [RUN_ID, "a.first", "a.second"]


def test_story_figures_become_an_update_with_progress() -> None:
    events = told([made.opened(), Began(t_s=1.0, id="a.first"), made.figures(2.0, "connecting"), made.figures(3.0), made.figures(8.0)])

    updates = [event for event in events if isinstance(event, say.TaskUpdated)]
    assert [update.progress_ratio for update in updates] == [0.0, 0.0, 0.0, 0.5]
    assert updates[-1].step == "steady"
    assert updates[-1].figures["published_hz"] == 499.0
    assert updates[-1].figures["t_s"] == 8.0


def test_story_figure_that_is_not_known_is_left_out() -> None:
    events = told([made.opened(), Began(id="a.first"), made.figures(2.0, offered_hz=None, p99_ns=None)])

    (update,) = [event for event in events if isinstance(event, say.TaskUpdated)][1:]
    assert {"offered_hz", "p99_ns"} & set(update.figures) == set()


def test_story_parts_of_a_trial_are_one_task() -> None:
    events = told(made.whole())

    focused = [event.task_id for event in events if isinstance(event, say.TaskFocus)]
    assert focused == ["a.first", "a.second", "a.second"]


def test_story_scenario_that_was_not_planned_is_created_when_it_begins() -> None:
    events = told([made.opened(), Began(id="a.third", title="The third")])

    assert say.TaskCreated(task_id="a.third", description="The third") in events


def test_story_anomaly_is_told_once_with_its_scenario() -> None:
    begin: list[AnyLine] = [made.opened(), Began(id="a.second")]
    found = Found(findings=(made.FINDING,))

    events = told([*begin, found, found, Done(result=results.failed(id="a.second", findings=(made.FINDING,)))])

    assert of(events, say.Notify) == [say.Notify(level=say.Level.WARNING, text="2 lost in a.second: missing 5, 6")]


def test_story_planted_lie_that_was_caught_is_no_anomaly_and_one_that_was_not_is() -> None:
    found = Found(findings=(made.FINDING,))
    for verdict, count in ((Verdict.PASS, 0), (Verdict.FAIL, 1)):
        events = told(
            [
                made.opened(),
                Began(id="liars.drop"),
                found,
                Done(result=results.failed(id="liars.drop", verdict=verdict, findings=found.findings)),
            ]
        )

        assert len(of(events, say.Notify)) == count


def test_story_words_of_a_target_cannot_move_the_cursor() -> None:
    events = told([made.opened(), Began(id="a.first"), Done(result=results.failed(id="a.first", note="red \x1b[31malert\nmore"))])

    (failed,) = [event for event in events if isinstance(event, say.TaskFailed)]
    assert "\x1b" not in failed.reason
    assert "\n" not in failed.reason


def test_story_whole_run_ends_with_its_worst_verdict() -> None:
    events = told(made.whole())

    ends = {event.task_id: event.result for event in events if isinstance(event, say.TaskCompleted | say.TaskFailed)}
    assert ends == {"a.first": "PASS", "a.second": "FAIL", RUN_ID: "FAIL"}


def test_story_run_that_passed_is_completed() -> None:
    events = told([made.opened(made.PLANNED[0]), Began(id="a.first"), Done(result=results.passed(id="a.first")), Closed()])

    assert isinstance(events[-1], say.TaskCompleted)
    assert events[-1].result == "PASS"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [([*made.running(), Closed()], "interrupted"), ([made.opened(), Closed(trouble="UsageError: no")], "UsageError: no")],
)
def test_story_run_that_ends_early_is_never_better_than_unknown(lines: list[AnyLine], reason: str) -> None:
    last = told(lines)[-1]

    assert isinstance(last, say.TaskFailed)
    assert (last.task_id, last.result, last.reason) == (RUN_ID, "UNKNOWN", reason)


def test_story_run_without_a_scenario_proves_nothing() -> None:
    last = told([made.opened(), Closed()])[-1]

    assert isinstance(last, say.TaskFailed)
    assert last.result == "UNKNOWN"


def test_story_lines_before_any_scenario_say_nothing() -> None:
    assert told([made.figures(1.0), Marked(text="steady")]) == []


SOUGHT: list[AnyLine] = [
    msgspec.structs.replace(made.opened(), planned=()),
    Began(id="a@rate_hz=1"),
    Done(result=results.passed(id="a@rate_hz=1")),
    Began(id="a@rate_hz=2"),
    Done(result=results.failed(id="a@rate_hz=2", findings=())),
]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_story_search_for_the_mark_ends_with_the_verdict_and_the_sentence_of_the_mark(verdict: Verdict) -> None:
    board = Board()

    board.apply(told([*SOUGHT, Closed(verdict=verdict, why="rate_hz: held up to 1,\nbroke at 2.")]))

    assert (board.run.state, board.run.reason) == (verdict.value, "rate_hz: held up to 1, broke at 2.")
    assert {task.id: task.state for task in board.tasks.values()} == {"a@rate_hz=1": "PASS", "a@rate_hz=2": "FAIL"}
    assert "rate_hz: held up to 1" in paint.title(board, 80).plain


@pytest.mark.parametrize("count", [1, 3, 5])
def test_story_search_that_ends_without_a_word_is_unknown_whatever_its_trials_were(count: int) -> None:
    last = told([*SOUGHT[:count], Closed(trouble="it was killed")])[-1]

    assert isinstance(last, say.TaskFailed)
    assert (last.result, last.reason) == ("UNKNOWN", "it was killed")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_title_sentence_that_is_too_long_is_cut_to_the_screen(columns: int) -> None:
    board = Board()

    board.apply(told([*SOUGHT, Closed(verdict=Verdict.PASS, why="held " * 100)]))

    assert len(paint.title(board, columns).plain) <= columns
    assert "held held" in paint.title(board, columns).plain
