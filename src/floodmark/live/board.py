"""What a screen knows of a run, fed by the events of a conductor: its scenarios, their figures and curves, and what was found.

Time counts from the run's first line in figures, and from the scenario's own beginning in its curves. Memory: for each scenario a few
hundred points of a few curves; the last `NOTICES_COUNT` notices, and the first one whatever comes after it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from floodmark.live.story import RUN_ID
from floodmark.live.trace import Trace
from floodmark.systems.conductor import vocabulary as say

WAITING, RUNNING = "waiting", "running"
ENDED = ("PASS", "FAIL", "UNKNOWN")
CURVES = ("offered_hz", "published_hz", "delivered_hz", "p50_ns", "p99_ns", "target_rss_bytes", "harness_rss_bytes")
NOTICES_COUNT = 200
NOTES_COUNT = 50


class Task:
    """A scenario as the screen shows it; the one that is named RUN_ID is the whole run."""

    def __init__(self, task_id: str, title: str) -> None:
        self.id, self.title = task_id, title
        self.state = WAITING
        self.step = self.reason = ""
        self.progress_ratio = 0.0
        self.figures: dict[str, float] = {}
        self.traces: dict[str, Trace] = {}
        self.notes: deque[tuple[float, str]] = deque(maxlen=NOTES_COUNT)  # (seconds since it began, what happened)
        self.began_s: float | None = None  # in the run's own time
        self.until_s = 0.0  # how long its curves are

    @property
    def over(self) -> bool:
        """Whether it has a verdict."""
        return self.state in ENDED


class Board:
    """Everything that is shown."""

    def __init__(self) -> None:
        self.run = Task(RUN_ID, "")
        self.tasks: dict[str, Task] = {}
        self.running_id = ""
        self.chosen_id = ""  # "": the one that is running, or ran last
        self.first_notice = ""
        self.notices: deque[str] = deque(maxlen=NOTICES_COUNT)
        self.notices_count = 0
        self.quit_message: str | None = None
        self.dirty = True
        self.now_s = 0.0  # the run's own time, as of the newest line
        self._seen_s = time.monotonic()  # when that was

    @property
    def shown(self) -> Task | None:
        """The scenario whose figures and curves are on the screen."""
        if self.chosen_id in self.tasks:
            return self.tasks[self.chosen_id]
        if self.running_id in self.tasks:
            return self.tasks[self.running_id]
        return next(iter(self.tasks.values()), None)

    @property
    def elapsed_s(self) -> float:
        """The run's own time by now: between two lines the clock goes on."""
        return self.now_s if self.run.over else self.now_s + time.monotonic() - self._seen_s

    def choose(self, step: int) -> None:
        """Show the next or the previous scenario."""
        names, shown = list(self.tasks), self.shown
        if shown is not None:
            at = min(max(names.index(shown.id) + step, 0), len(names) - 1)
            self.chosen_id = names[at]
            self.dirty = True

    def follow(self) -> None:
        """Show whatever is running."""
        self.chosen_id = ""
        self.dirty = True

    def apply(self, events: Iterable[say.Event]) -> None:
        """Take what was said, in order."""
        for event in events:
            match event:
                case say.TaskUpdated():
                    self._updated(event)
                case say.TaskCreated(task_id=task_id, description=description):
                    if task_id == RUN_ID:
                        self.run.title = description
                        self.run.state = RUNNING
                    else:
                        self.tasks[task_id] = Task(task_id, description)
                case say.TaskFocus(task_id=task_id):
                    self.running_id = task_id
                case say.TaskCompleted():
                    self._ended(event.task_id, event.result, "", event.figures)
                case say.TaskFailed():
                    self._ended(event.task_id, event.result, event.reason, event.figures)
                case say.Notify(text=text):
                    self.first_notice = self.first_notice or text
                    self.notices.append(text)
                    self.notices_count += 1
                case say.Quit(message=message):
                    self.quit_message = message
                case _:
                    continue
            self.dirty = True

    def _updated(self, event: say.TaskUpdated) -> None:
        if event.task_id == RUN_ID:
            self.run.reason = event.note  # the sentence of a run that ends well; one that does not has its reason at the end
            return
        task = self.tasks.get(event.task_id)
        if task is None:
            return
        t_s = event.figures.get("t_s", self.now_s)
        self._time(t_s)
        if self.run.state == WAITING:
            self.run.state = RUNNING
        if task.state != RUNNING:
            task.state, task.reason = RUNNING, ""
        if task.began_s is None:
            task.began_s = t_s
        since_s = max(t_s - task.began_s, 0.0)
        task.until_s = max(task.until_s, since_s)
        if event.note:
            task.notes.append((since_s, event.note))
        if not event.step:
            return
        task.step, task.progress_ratio = event.step, event.progress_ratio
        for name, value in event.figures.items():
            task.figures[name] = value
            if name in CURVES:
                task.traces.setdefault(name, Trace()).add(since_s, value)

    def _ended(self, task_id: str, result: str, reason: str, figures: dict[str, float]) -> None:
        task = self.run if task_id == RUN_ID else self.tasks.setdefault(task_id, Task(task_id, ""))
        self._time(figures.get("t_s", self.now_s))
        task.state = result if result in ENDED else "UNKNOWN"
        task.reason = reason or (task.reason if task is self.run else "")
        task.progress_ratio = 1.0
        task.step = ""
        task.figures |= figures

    def _time(self, t_s: float) -> None:
        if t_s >= self.now_s:
            self.now_s, self._seen_s = t_s, time.monotonic()
