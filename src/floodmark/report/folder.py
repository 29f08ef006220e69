"""A run is a folder: where a run's files are written while it lasts and read back afterwards.

    runs/20260131-142501-subscriptions/
        run.json  samples.parquet  findings.jsonl  faults.jsonl  report.md  report.html  junit.xml  logs/<scenario>.log
    runs/latest -> the newest

Contract: every file is written beside its place and then moved there, so an interrupt leaves the old file or the new one, never half a
file. A place that cannot be written is a UsageError of one sentence; when the disk fills up it says what was kept.
Limits: samples and findings are added once or a few times per scenario, not per sample: each addition rewrites its file.
"""

from __future__ import annotations

import difflib
import errno
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.model.finding import Finding
from floodmark.model.result import RunResult
from floodmark.report import json
from floodmark.report.document import RunDocument
from floodmark.report.machine import Machine
from floodmark.report.profiled import Profile
from floodmark.report.series import Timeline, mark_rows, timeline

RESULT = "run.json"
SAMPLES = "samples.parquet"
FINDINGS = "findings.jsonl"
FAULTS = "faults.jsonl"
LOGS = "logs"
PROFILES = "profiles"
LATEST = "latest"
RUNS = Path("runs")

_SAMPLE_SCHEMA = {"scenario": pl.String, "t_s": pl.Float64, "series": pl.String, "value": pl.Float64}
_NAMESAKES_LIMIT = 1000
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of findings.jsonl."""

    scenario: str
    finding: Finding


class RunFolder:
    """The folder of one run. It keeps no state but its path: two objects on one folder see the same files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, base: Path, suite: str, started: datetime) -> RunFolder:
        """Make `base`/<YYYYmmdd-HHMMSS>-<suite>, with a number after it when the second is taken, and point `base`/latest at it.

        Raises: UsageError when `base` cannot be written.
        """
        stem = f"{started:%Y%m%d-%H%M%S}-{_slug(suite)}"
        with _told(base, base / stem):
            base.mkdir(parents=True, exist_ok=True)
            path = _fresh(base, stem)
            _point(base / LATEST, path.name)
        return cls(path)

    @classmethod
    def open(cls, where: Path | str, *, base: Path = RUNS) -> RunFolder:
        """Find a run that exists: a folder, its run.json, or the name of one in `base` (`latest` too).

        Raises: UsageError that names the nearest runs when there is none.
        """
        for path in (Path(where), base / where):
            if path.name == RESULT and path.is_file():
                return cls(path.parent)
            if path.is_dir():
                return cls(path.resolve())
        known = sorted((entry.name for entry in base.iterdir() if entry.is_dir()), reverse=True) if base.is_dir() else []
        near = difflib.get_close_matches(str(where), known, n=3) or known[:3]
        hint = f"runs in {base}: {', '.join(near)}" if near else f"there are no runs in {base} yet; floodmark run makes one"
        raise UsageError(f"{str(where)!r} is no run folder; {hint}")

    @property
    def id(self) -> str:
        """The folder's name, by which `open` finds it again."""
        return self.path.name

    def log_path(self, scenario_id: str) -> Path:
        """Where the target's log of a scenario belongs; the folder of the logs exists afterwards."""
        with _told(self.path, self.path / LOGS):
            (self.path / LOGS).mkdir(exist_ok=True)
        return self.path / LOGS / f"{_slug(scenario_id)}.log"

    def profile_path(self, scenario_id: str, ending: str) -> Path:
        """Where a file about a profile of the target belongs; the folder of the profiles exists afterwards."""
        with _told(self.path, self.path / PROFILES):
            (self.path / PROFILES).mkdir(exist_ok=True)
        return self.path / PROFILES / f"{_slug(scenario_id)}.{ending}"

    def add_profile(self, profile: Profile) -> None:
        """Keep what a profiler saw of a scenario's target. Raises: UsageError."""
        file = self.profile_path(profile.scenario, f"{profile.kind}.json")
        self._write(f"{PROFILES}/{file.name}", msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")

    def profiles(self) -> dict[str, Profile]:
        """Every profile of the run, by scenario id; one that cannot be read is left out."""
        found: dict[str, Profile] = {}
        for file in sorted((self.path / PROFILES).glob("*.json")):
            with suppress(OSError, msgspec.DecodeError):
                profile = msgspec.json.decode(file.read_bytes(), type=Profile)
                found[profile.scenario] = profile
        return found

    def add_samples(self, scenario_id: str, rows: Iterable[tuple[float, str, float]], marks: Iterable[tuple[float, str]] = ()) -> None:
        """Add what was sampled: `rows` of (t_s, series, value), and `marks` of (t_s, text). Raises: UsageError."""
        added = [(scenario_id, *row) for row in (*rows, *mark_rows(marks))]
        frame = pl.DataFrame(added, schema=_SAMPLE_SCHEMA, orient="row")
        if (self.path / SAMPLES).exists():
            frame = pl.concat([self._samples(), frame])
        content = io.BytesIO()
        frame.write_parquet(content, compression="zstd")
        self._write(SAMPLES, content.getvalue())

    def add_findings(self, scenario_id: str, findings: Iterable[Finding]) -> None:
        """Add a scenario's findings to findings.jsonl, one JSON object a line. Raises: UsageError."""
        file = self.path / FINDINGS
        before = file.read_bytes() if file.exists() else b""
        lines = [_Line(scenario=scenario_id, finding=finding) for finding in findings]
        self._write(FINDINGS, before + msgspec.json.Encoder().encode_lines(lines))

    def add_faults(self, scenario_id: str, entries: Iterable[dict[str, Any]]) -> None:
        """Add what was done to a scenario's clients, wire and processes to faults.jsonl, one JSON object a line; no file without faults."""
        lines = [{"scenario": scenario_id, **entry} for entry in entries]
        if lines:
            file = self.path / FAULTS
            before = file.read_bytes() if file.exists() else b""
            self._write(FAULTS, before + msgspec.json.Encoder().encode_lines(lines))

    def write_result(
        self, result: RunResult, configuration: Sequence[object], machine: Machine, *, command: str, started: datetime
    ) -> RunDocument:
        """Write run.json: the result and what it takes to run the same again.

        Args:
            configuration: the scenarios as they were run, structs or plain data.
            command: what a person types to run it again, with its seed.
        Raises: UsageError.
        """
        fields = {name: getattr(result, name) for name in RunResult.__struct_fields__}
        document = RunDocument(
            **fields,
            started=started.isoformat(timespec="seconds"),
            command=command,
            machine=machine,
            configuration=tuple(msgspec.to_builtins(scenario) for scenario in configuration),
        )
        self._write(RESULT, json.encode(document))
        return document

    def write_text(self, name: str, text: str) -> Path:
        """Write a further file, such as a report, and return where it is. Raises: UsageError."""
        self._write(name, text.encode())
        return self.path / name

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write a further file that is not text, such as a PDF, and return where it is. Raises: UsageError."""
        self._write(name, content)
        return self.path / name

    def result(self) -> RunDocument:
        """Read run.json. Raises: UsageError when it is missing (the run ended before its first result) or is none of ours."""
        try:
            return json.decode((self.path / RESULT).read_bytes())
        except FileNotFoundError:
            raise UsageError(f"{self.path} has no {RESULT}: the run ended before its first result, so there is nothing to report") from None
        except OSError as exc:
            raise UsageError(f"{self.path / RESULT} cannot be read: {exc.strerror}") from exc
        except msgspec.DecodeError as exc:
            raise UsageError(f"{self.path / RESULT} is not a result that this version can read: {exc}") from exc

    def timelines(self) -> dict[str, Timeline]:
        """Everything sampled, by scenario; empty when nothing was."""
        if not (self.path / SAMPLES).exists():
            return {}
        return {
            str(scenario): timeline(rows.select("t_s", "series", "value").iter_rows())
            for (scenario,), rows in self._samples().group_by("scenario", maintain_order=True)
        }

    def findings(self) -> dict[str, list[Finding]]:
        """Everything the ledger found, by scenario, in the order it was added."""
        found: dict[str, list[Finding]] = {}
        file = self.path / FINDINGS
        if file.exists():
            for line in msgspec.json.Decoder(_Line).decode_lines(file.read_bytes()):
                found.setdefault(line.scenario, []).append(line.finding)
        return found

    def _samples(self) -> pl.DataFrame:
        try:
            return pl.read_parquet(io.BytesIO((self.path / SAMPLES).read_bytes()))
        except (OSError, pl.exceptions.PolarsError) as exc:
            raise UsageError(f"{self.path / SAMPLES} cannot be read: {exc}") from exc

    def _write(self, name: str, content: bytes) -> None:
        with _told(self.path, self.path / name):
            _replace(self.path / name, content)


def _slug(name: str) -> str:
    """A name that is safe as a file name everywhere; never empty, never hidden."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "run"


def _fresh(base: Path, stem: str) -> Path:
    """Make a folder that did not exist: two runs may start within one second."""
    for number in range(1, _NAMESAKES_LIMIT):
        path = base / (stem if number == 1 else f"{stem}-{number}")
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise UsageError(f"{base} has {_NAMESAKES_LIMIT} runs named {stem}; wait a second or choose another place with --out")


def _point(link: Path, name: str) -> None:
    """Move a link in one step: who follows it meanwhile finds the old run or the new one."""
    fresh = link.with_name(f".{link.name}-{name}")
    fresh.symlink_to(name, target_is_directory=True)
    try:
        fresh.replace(link)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _replace(file: Path, content: bytes) -> None:
    """Write beside the place, bring it to the disk, then move it there; nothing is left behind on failure."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            os.fchmod(out.fileno(), 0o644)  # mkstemp gives 0600, but a report is there to be passed on
            out.write(content)
            out.flush()
            os.fsync(out.fileno())  # a full disk may only say so here
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _told(folder: Path, file: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence: what, why, what was kept, what to do."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc)
        if exc.errno not in _FULL:
            raise UsageError(f"cannot write {file}: {reason}; choose another place with --out") from exc
        kept = ", ".join(sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))) if folder.is_dir() else ""
        raise UsageError(
            f"no room to write {file} ({reason}); kept in {folder}: {kept or 'nothing'}; free some space or use --out"
        ) from exc
