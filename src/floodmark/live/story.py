"""Turn the lines of a run into the words of a conductor: the run and each of its scenarios is a task, an anomaly is a notice.

Pure: lines in, events out. A trial is one task, whichever of its parts is played. An anomaly is told once. The run's verdict is the worst
of what was planned, unless its last line says it: what was not planned beforehand is a trial of a search, which may break to show where.
Memory: one entry per scenario, and the anomalies told, which are a few per scenario.
"""

from __future__ import annotations

from msgspec.structs import asdict

from floodmark.model.finding import Finding
from floodmark.model.result import ScenarioResult
from floodmark.model.verdict import Verdict, worst
from floodmark.report import figures
from floodmark.report.display import Planned
from floodmark.report.live import AnyLine, Began, Closed, Done, Figures, Found, Marked, Opened
from floodmark.systems.conductor.vocabulary import (
    ConductorEvent,
    Level,
    Notify,
    TaskCompleted,
    TaskCreated,
    TaskFailed,
    TaskFocus,
    TaskUpdated,
)

RUN_ID = ""  # the task that is the whole run; a scenario has a name
INTERRUPTED = "interrupted"
BEFORE_LOAD = ("", "connecting", "warming up")


class Story:
    """One run, told from its first line to its last."""

    def __init__(self) -> None:
        self._tasks: dict[str, str] = {}  # id of a scenario or of a part: its task
        self._loads_s: dict[str, float | None] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._planned: set[str] = set()
        self._task_id = ""
        self._load_began_s: float | None = None
        self._told: set[tuple[str, Finding]] = set()
        self.over = False

    def events(self, line: AnyLine) -> list[ConductorEvent]:
        """Say one line in events."""
        match line:
            case Opened():
                return self._opened(line)
            case Began():
                return self._began(line)
            case Figures():
                return self._figures(line)
            case Marked():
                return (
                    [TaskUpdated(task_id=self._task_id, progress_ratio=0.0, note=line.text, figures={"t_s": line.t_s})]
                    if self._task_id
                    else []
                )
            case Found():
                return [] if _planted(self._task_id) else self._found(self._task_id, line.findings)
            case Done():
                return self._done(line)
            case Closed():
                return self._closed(line)

    def _opened(self, line: Opened) -> list[ConductorEvent]:
        about = f"seed {line.seed} · {line.run}"
        self._planned = {planned.id for planned in line.planned}
        return [TaskCreated(task_id=RUN_ID, description=about), *(self._created(planned) for planned in line.planned)]

    def _created(self, planned: Planned) -> ConductorEvent:
        for name in (planned.id, *planned.parts):
            self._tasks[name] = planned.id
        self._loads_s[planned.id] = planned.load_s
        return TaskCreated(task_id=planned.id, description=planned.title)

    def _began(self, line: Began) -> list[ConductorEvent]:
        unknown = line.id not in self._tasks
        created = [self._created(Planned(id=line.id, title=line.title))] if unknown else []
        self._task_id = self._tasks[line.id]
        self._load_began_s = None
        note = f"{line.id} begins" if line.id != self._task_id else ""
        began = TaskUpdated(task_id=self._task_id, progress_ratio=0.0, step="starting", note=note, figures={"t_s": line.t_s})
        return [*created, TaskFocus(task_id=self._task_id), began]

    def _figures(self, line: Figures) -> list[ConductorEvent]:
        if not self._task_id:
            return []
        known = {name: float(value) for name, value in asdict(line).items() if isinstance(value, int | float)}
        ratio = self._progress_ratio(line)
        return [TaskUpdated(task_id=self._task_id, progress_ratio=ratio, step=line.phase or "starting", figures=known)]

    def _progress_ratio(self, line: Figures) -> float:
        if line.phase in BEFORE_LOAD:
            return 0.0
        if self._load_began_s is None:
            self._load_began_s = line.t_s
        load_s = self._loads_s.get(self._task_id)
        if line.phase == "drain":
            return 1.0
        return min((line.t_s - self._load_began_s) / load_s, 1.0) if load_s else 0.0

    def _done(self, line: Done) -> list[ConductorEvent]:
        result = line.result
        task_id = self._tasks.get(result.id, result.id)
        self._verdicts[task_id] = result.verdict
        caught = _planted(task_id) and result.verdict is Verdict.PASS
        told = [] if caught else self._found(task_id, result.findings)
        known = {**_result_figures(result), "t_s": line.t_s}
        if result.verdict is Verdict.PASS:
            return [*told, TaskCompleted(task_id=task_id, result=result.verdict.value, figures=known)]
        reason = " ".join(figures.clean(result.note or figures.criteria_summary(result)).split())
        return [*told, TaskFailed(task_id=task_id, reason=reason, result=result.verdict.value, figures=known)]

    def _found(self, task_id: str, findings: tuple[Finding, ...]) -> list[ConductorEvent]:
        said: list[ConductorEvent] = []
        for finding in findings:
            if finding.violation and (task_id, finding) not in self._told:
                self._told.add((task_id, finding))
                text = f"{finding.count:,} {finding.anomaly.value} in {task_id}: {finding.detail}"
                said.append(Notify(level=Level.WARNING, text=figures.clean(" ".join(text.split()))))
        return said

    def _closed(self, line: Closed) -> list[ConductorEvent]:
        if self.over:
            return []
        self.over = True
        known = {"t_s": line.t_s}
        open_tasks = set(self._tasks.values()) - set(self._verdicts)
        judged = [verdict for task_id, verdict in self._verdicts.items() if task_id in self._planned]
        verdict = line.verdict or worst([*judged, *([Verdict.UNKNOWN] if open_tasks or line.trouble else [])])
        why = " ".join(figures.clean(line.why).split())
        if verdict is Verdict.PASS:
            said = [TaskUpdated(task_id=RUN_ID, progress_ratio=1.0, note=why)] if why else []
            return [*said, TaskCompleted(task_id=RUN_ID, result=verdict.value, figures=known)]
        trouble = why or line.trouble or (INTERRUPTED if open_tasks else "")
        return [TaskFailed(task_id=RUN_ID, reason=trouble, result=verdict.value, figures=known)]


def _planted(task_id: str) -> bool:
    """Whether its target lies on request: what is found there is meant to be found, and is told only if the trial fails."""
    return task_id.startswith(figures.LIARS)


def _result_figures(result: ScenarioResult) -> dict[str, float]:
    """The figures of a judged scenario, under the names of a line where they are the same; what was not measured is left out."""
    response, delivery = result.latency_ns.response, result.delivery
    known = {
        "published": result.metrics.get("published", 0.0),
        "published_hz": result.metrics.get("publish_rate", 0.0),
        "delivered": float(delivery.delivered),
        "lost": float(delivery.lost),
        "delivered_hz": result.throughput_hz,
        "p50_ns": float(response.p50),
        "p99_ns": float(response.p99),
        "target_rss_bytes": float(result.target.rss_bytes_peak),
        "harness_rss_bytes": float(result.generator.rss_bytes_peak),
    }
    measured = {name: value for name, value in known.items() if value or (name in ("delivered", "lost") and delivery.attempted)}
    return {**measured, "duration_s": result.duration_s}
