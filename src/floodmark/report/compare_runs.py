"""Run folders as repetitions, and baselines as files.

A baseline is one JSON file in a folder of its own, which is meant to be checked in: no samples, no path, no name of a machine. It is
written beside its place and then moved there. Of a run's samples only what they tell is kept: how much each series moved under the load.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from floodmark.core.errors import UsageError
from floodmark.judge.noise import within_run
from floodmark.judge.repetitions import Run
from floodmark.model.baseline import Baseline, Host, Played, check_name, decode, encode
from floodmark.model.gauges import GAUGES
from floodmark.report.folder import RunFolder
from floodmark.report.series import Timeline

BASELINES = Path("baselines")
_ENDING = ".json"
_SERIES = sorted({gauge.series for gauge in GAUGES.values() if gauge.series})


def read_run(folder: RunFolder) -> Run:
    """Read a finished run. Raises: UsageError when there is none, one that cannot be read, or a search."""
    document = folder.result()
    if document.mark is not None:
        raise UsageError(
            f"{folder.id} is a search for the mark, and what it tries next hangs on what it has met, so no other repeats its trials; "
            "take runs of 'floodmark run'"
        )
    timelines = folder.timelines()
    host = {name: getattr(document.machine, name) for name in Host.__struct_fields__}
    return Run(
        played=Played(run=folder.id, started=document.started, version=document.version, seed=document.seed),
        machine=Host(**host),
        results=document.scenarios,
        configuration=document.configuration,
        spreads={
            result.id: _spreads(timelines[result.id], result.metrics.get("load_time"))
            for result in document.scenarios
            if result.id in timelines
        },
    )


def _spreads(timeline: Timeline, load_s: float | None) -> dict[str, float]:
    """How much each series moved from the first intended send to the last delivery."""
    found: dict[str, float] = {}
    for name in _SERIES if load_s is not None else ():
        curve = timeline.curves.get(name)
        if curve is None:
            continue
        spread = within_run([value for t_s, value in zip(curve.t_s, curve.values, strict=True) if 0 <= t_s <= (load_s or 0.0)])
        if spread is not None:
            found[name] = spread
    return found


def path_of(base: Path, name: str) -> Path:
    """Where a baseline is kept. Raises: UsageError for a name that makes no file name."""
    check_name(name)
    return base / f"{name}{_ENDING}"


def names(base: Path) -> list[str]:
    """The baselines of a folder, in order; none when it does not exist."""
    return sorted(path.stem for path in base.glob(f"*{_ENDING}") if path.is_file())


def load(base: Path, name: str) -> Baseline:
    """Read a baseline.

    Raises: UsageError that names the nearest when there is none of this name.
    """
    path = path_of(base, name)
    try:
        return decode(path.read_bytes(), str(path))
    except FileNotFoundError:
        known = names(base)
        near = difflib.get_close_matches(name, known, n=3) or known
        hint = f"there are: {', '.join(near)}" if near else "there is none yet"
        raise UsageError(f"no baseline {name!r} in {base}; {hint}; floodmark baseline save {name} makes one of runs/latest") from None
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}") from exc


def save(base: Path, baseline: Baseline) -> Path:
    """Write a baseline, in place of one of the same name. Raises: UsageError when that is not possible."""
    path = path_of(base, baseline.name)
    try:
        base.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}-", dir=base)
    except OSError as exc:
        raise UsageError(f"cannot write to {base}: {exc.strerror}; choose another place with --dir") from exc
    try:
        with os.fdopen(handle, "wb") as out:
            os.fchmod(out.fileno(), 0o644)  # mkstemp gives 0600, but it is there to be checked in
            out.write(encode(baseline))
        Path(beside).replace(path)
    except OSError as exc:
        Path(beside).unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {exc.strerror}; free some space, or choose another place with --dir") from exc
    return path


def runs_of(where: Sequence[str], *, base: Path) -> list[Run]:
    """Read several runs, oldest first. Raises: UsageError, also for a run that is named twice."""
    folders = [RunFolder.open(one, base=base) for one in where]
    doubled = [folder.id for place, folder in enumerate(folders) if folder.path in [other.path for other in folders[:place]]]
    if doubled:
        raise UsageError(f"{doubled[0]} is named twice; the same run twice is no repetition")
    return sorted((read_run(folder) for folder in folders), key=lambda run: run.played.started)
