"""Process trees against real processes that allocate, open, start, orphan and end."""

from __future__ import annotations

import os
import time

import pytest

from floodmark.monitor import procfs
from floodmark.monitor.process import CpuAccount, ProcessTree
from floodmark.monitor.sample import ProcessSample

from .children import child, until

MB = 1_000_000


def look(tree: ProcessTree, *, unique: bool = False) -> ProcessSample:
    found = tree.sample(time.monotonic_ns(), unique=unique)
    assert found is not None
    return found


def test_process_tree_allocation_shows_in_resident_and_unique_and_peak() -> None:
    with child() as process:
        tree = ProcessTree(process.pid)
        before = look(tree, unique=True)
        process.do("kept.append(b'x' * 50_000_000)")
        during = look(tree, unique=True)
        process.do("kept.clear()")
        after = look(tree, unique=True)

    assert before.unique_bytes is not None
    assert during.unique_bytes is not None
    assert after.unique_bytes is not None
    assert after.high_water_bytes is not None
    assert 45 * MB < during.resident_bytes - before.resident_bytes < 60 * MB
    assert 45 * MB < during.unique_bytes - before.unique_bytes < 60 * MB
    assert after.unique_bytes < before.unique_bytes + 5 * MB
    assert after.high_water_bytes > before.resident_bytes + 45 * MB


def test_process_tree_unique_is_none_unless_asked_for() -> None:
    with child() as process:
        assert look(ProcessTree(process.pid)).unique_bytes is None


def test_process_tree_counts_files_and_threads() -> None:
    with child() as process:
        tree = ProcessTree(process.pid)
        before = look(tree)
        process.do("kept.append([open('/dev/null') for _ in range(100)])")
        process.do("event = threading.Event(); [threading.Thread(target=event.wait, daemon=True).start() for _ in range(7)]")
        after = look(tree)

    assert before.descriptors is not None
    assert after.descriptors == before.descriptors + 100
    assert after.threads == before.threads + 7


def test_process_tree_counts_children_until_they_end() -> None:
    with child() as process:
        tree = ProcessTree(process.pid)
        alone = look(tree)
        process.do("start_child(), start_child()")
        three = until(lambda: look(tree), lambda found: found.processes == 3 and found.resident_bytes > 2 * alone.resident_bytes)
        process.do("kept[0].kill(), kept[0].wait()")
        two = look(tree)

    assert alone.processes == 1
    assert two.processes == 2
    assert two.resident_bytes < three.resident_bytes


def test_process_tree_zombie_is_not_a_process_and_has_no_memory() -> None:
    with child() as process:
        tree = ProcessTree(process.pid)
        process.do("start_child().kill()")  # never waited for

        found = until(lambda: look(tree), lambda found: found.processes == 1)

        assert found.descriptors is not None


def test_process_tree_cpu_never_falls_when_busy_children_end() -> None:
    burn = "import time; t = time.process_time() + 0.2\nwhile time.process_time() < t: pass"
    seen: list[float] = []

    def cpu_s(tree: ProcessTree) -> float:
        seen.append(look(tree).cpu_s)
        return seen[-1]

    with child() as process:
        tree = ProcessTree(process.pid)
        process.do(f"busy = subprocess.Popen([sys.executable, '-c', {burn!r}])")
        until(lambda: cpu_s(tree), lambda found: found > seen[0] + 0.1)
        process.do("busy.wait()")
        cpu_s(tree)

    assert seen == sorted(seen)
    assert seen[-1] >= seen[0] + 0.15


def test_process_tree_orphan_seen_before_is_kept() -> None:
    with child() as process:
        tree = ProcessTree(process.pid)
        process.do("start_child()")
        # A process between the root and the orphan: it ends, and the orphan gets a new parent outside the tree.
        process.do("middle = subprocess.Popen([sys.executable, '-c', middle_code], stdin=subprocess.PIPE)")
        until(lambda: look(tree), lambda found: found.processes == 4)
        process.do("middle.kill(), middle.wait()")

        found = look(tree)

        assert found.processes == 3


def test_process_tree_whole_tree_gone_is_none() -> None:
    with child() as process:
        tree = ProcessTree(process.pid)
        assert tree.sample(0) is not None
        process.process.kill()
        until(lambda: tree.sample(0), lambda found: found is None)  # a zombie by now
        process.end()

        assert tree.sample(0) is None


def test_process_tree_reused_pid_is_a_stranger() -> None:
    with child() as process:
        tree = ProcessTree(process.pid)
        tree._known[process.pid] -= 1  # as if the tree's root had started earlier under the same PID

        assert tree.sample(0) is None


def test_process_tree_process_that_vanishes_mid_sample_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with child() as process:
        process.do("start_child()")
        tree = ProcessTree(process.pid)
        victim = until(lambda: tree._parents.children().get(process.pid, []), lambda found: len(found) == 1)[0]
        read = procfs.high_water_bytes

        def killing(pid: int) -> int | None:
            if pid == victim and procfs.stat(pid) is not None:
                process.do("kept[0].kill(), kept[0].wait()")
            return read(pid)

        monkeypatch.setattr(procfs, "high_water_bytes", killing)
        found = tree.sample(0, unique=True)

    assert found is not None
    assert found.descriptors is not None
    assert found.descriptors > 0


def test_process_tree_unreadable_figure_is_none_and_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    with child() as process:
        tree = ProcessTree(process.pid)
        monkeypatch.setattr(procfs, "descriptors", lambda pid: None)
        monkeypatch.setattr(procfs, "high_water_bytes", lambda pid: None)

        found = look(tree)

    assert found.descriptors is None
    assert found.high_water_bytes is None


def test_process_tree_tree_kept_apart_counts_for_itself_only() -> None:
    with child() as process:
        process.do("start_child(), start_child()")
        outer = ProcessTree(process.pid)
        until(lambda: look(outer), lambda found: found.processes == 3)
        inner = outer._parents.children()[process.pid][0]

        found = outer.sample(0, apart=frozenset({inner, process.pid, os.getpid()}))
        within = ProcessTree(inner).sample(0, apart=frozenset({process.pid}))

    assert found is not None
    assert found.processes == 2
    assert within is not None
    assert within.processes == 1


def _stat(pid: int, *, own: int, waited: int = 0) -> procfs.Stat:
    return procfs.Stat(
        pid=pid, parent=1, started_ticks=pid, ended=False, own_ticks=own, waited_ticks=waited, threads=1, resident_bytes=4096
    )


def test_cpu_account_child_waited_for_is_counted_once() -> None:
    account = CpuAccount()
    account.update([_stat(1, own=10), _stat(2, own=50)], inherit=True)

    assert account.update([_stat(1, own=10, waited=55)], inherit=True) == 65
    assert account.update([_stat(1, own=20, waited=55)], inherit=True) == 75


def test_cpu_account_child_reaped_between_two_reads_is_never_counted_twice() -> None:
    account = CpuAccount()
    account.update([_stat(1, own=10), _stat(2, own=50)], inherit=True)

    assert account.update([_stat(1, own=10)], inherit=True) == 60  # the parent was read before it waited, the child after it was gone
    assert account.update([_stat(1, own=10, waited=50)], inherit=True) == 60


def test_cpu_account_child_nobody_waits_for_keeps_its_time() -> None:
    account = CpuAccount()
    account.update([_stat(1, own=10), _stat(2, own=50)], inherit=True)

    assert account.update([_stat(1, own=11)], inherit=True) == 61


def test_cpu_account_without_inheritance_leaves_waited_time_out() -> None:
    assert CpuAccount().update([_stat(1, own=10, waited=500)], inherit=False) == 10


def test_parse_stat_name_with_brackets_and_spaces_is_no_trouble() -> None:
    fields = "S 7 1 1 0 -1 0 0 0 0 0 3 4 5 6 20 0 9 0 123 1000 11"

    found = procfs.parse_stat(f"42 (a) b (c)) {fields}".encode())

    assert (found.pid, found.parent, found.own_ticks, found.waited_ticks) == (42, 7, 7, 11)
    assert (found.threads, found.started_ticks, found.resident_bytes) == (9, 123, 11 * procfs.PAGE_BYTES)
