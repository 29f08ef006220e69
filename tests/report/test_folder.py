"""The run folder: what is written is read back, nothing is ever half there, and a refusing disk is told in one sentence."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from floodmark.core.errors import UsageError
from floodmark.report import RunFolder
from floodmark.report.series import Curve, Mark
from tests.report import made

Write = Callable[..., RunFolder]


def refuse(code: int) -> Callable[..., None]:
    """A system call that always fails in one way."""

    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def test_create_twice_within_a_second_makes_two_folders(tmp_path: Path) -> None:
    first = RunFolder.create(tmp_path, "tokens", made.STARTED)
    second = RunFolder.create(tmp_path, "tokens", made.STARTED)

    assert first.id == "20260131-142501-tokens"
    assert second.id == "20260131-142501-tokens-2"
    assert (tmp_path / "latest").readlink() == Path(second.id)


def test_create_with_a_hostile_suite_name_stays_inside_the_base(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs", "../../etc/passwd <x>", made.STARTED)

    assert folder.path.parent == tmp_path / "runs"
    assert folder.id == "20260131-142501-etc-passwd-x"


def test_create_where_a_file_stands_says_so_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")

    with pytest.raises(UsageError, match=r"cannot write .*runs.*--out$"):
        RunFolder.create(tmp_path / "runs", "tokens", made.STARTED)


def test_create_on_a_read_only_base_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", refuse(errno.EROFS))

    with pytest.raises(UsageError, match=r"Read-only file system; choose another place with --out"):
        RunFolder.create(tmp_path / "runs", "tokens", made.STARTED)


def test_create_where_latest_is_a_folder_leaves_nothing_hidden(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()

    with pytest.raises(UsageError, match="cannot write"):
        RunFolder.create(tmp_path, "tokens", made.STARTED)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_open_by_path_id_latest_or_file_finds_the_same_run(written: Write) -> None:
    folder = written(made.passed())
    base = folder.path.parent

    found = [
        RunFolder.open(where, base=base).path for where in (folder.path, folder.id, "latest", base / "latest", folder.path / "run.json")
    ]

    assert {path.resolve() for path in found} == {folder.path.resolve()}


def test_open_unknown_run_names_the_nearest(written: Write) -> None:
    folder = written(made.passed())

    with pytest.raises(UsageError, match=folder.id):
        RunFolder.open("20260131-142501-subscription", base=folder.path.parent)


def test_open_without_any_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there are no runs .*floodmark run makes one"):
        RunFolder.open("latest", base=tmp_path / "runs")


def test_result_written_is_read_back_with_its_set_up(written: Write) -> None:
    scenarios = (made.passed(1), made.failed(2), made.unknown(3))

    document = written(*scenarios).result()

    assert document.scenarios == scenarios
    assert (document.command, document.machine, document.seed) == (made.COMMAND, made.MACHINE, 7)
    assert document.started == "2026-01-31T14:25:01+00:00"
    assert [each["population"]["connections"] for each in document.configuration] == [1_000, 10]


def test_result_missing_says_that_the_run_ended_early(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "tokens", made.STARTED)

    with pytest.raises(UsageError, match="ended before its first result"):
        folder.result()


def test_result_damaged_is_a_usage_error(written: Write) -> None:
    folder = written(made.passed())
    content = (folder.path / "run.json").read_bytes()
    (folder.path / "run.json").write_bytes(content[: len(content) // 2])

    with pytest.raises(UsageError, match="not a result that this version can read"):
        folder.result()


def test_samples_of_several_scenarios_land_in_one_long_table(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "tokens", made.STARTED)

    folder.add_samples("tokens.rapid", [(0.0, "published_hz", 5.0)], [(0.0, "phase steady")])
    folder.add_samples("tokens.mixed", [(1.0, "target_fds", 9.0)])
    folder.add_samples("tokens.rapid", [(-1.0, "published_hz", 0.0)])

    table = pl.read_parquet(folder.path / "samples.parquet")
    assert table.schema == {"scenario": pl.String, "t_s": pl.Float64, "series": pl.String, "value": pl.Float64}
    assert table.height == 4
    rapid = folder.timelines()["tokens.rapid"]
    assert rapid.curves == {"published_hz": Curve([-1.0, 0.0], [0.0, 5.0])}
    assert rapid.marks == [Mark(0.0, "phase steady")]


def test_samples_none_added_gives_no_timeline(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "tokens", made.STARTED)

    folder.add_samples("tokens.rapid", [])

    assert folder.timelines() == {}


def test_findings_added_twice_are_all_kept_in_order(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "tokens", made.STARTED)
    findings = list(made.failed().findings)

    folder.add_findings("tokens.rapid", findings[:2])
    folder.add_findings("tokens.rapid", findings[2:])

    assert folder.findings() == {"tokens.rapid": findings}
    assert len((folder.path / "findings.jsonl").read_text().splitlines()) == len(findings)


def test_write_interrupted_before_the_move_keeps_the_old_file(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(made.passed())
    before = (folder.path / "run.json").read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write_text("run.json", "half of something else")

    assert (folder.path / "run.json").read_bytes() == before
    assert sorted(entry.name for entry in folder.path.iterdir()) == ["findings.jsonl", "run.json", "samples.parquet"]


def test_write_on_a_full_disk_says_what_was_kept(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(made.passed())
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))

    with pytest.raises(UsageError, match=r"no room to write .*report\.md .*kept in .*: findings\.jsonl, run\.json, samples\.parquet; free"):
        folder.write_text("report.md", "too much")

    assert not (folder.path / "report.md").exists()


def test_write_leaves_files_that_others_may_read(written: Write) -> None:
    folder = written(made.passed())

    mode = stat.S_IMODE((folder.path / "run.json").stat().st_mode)

    assert mode == 0o644


def test_log_path_of_a_hostile_id_stays_in_the_folder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "tokens", made.STARTED)

    path = folder.log_path("../../x/y")

    assert path.parent == folder.path / "logs"
    assert path.parent.is_dir()
