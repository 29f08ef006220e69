"""Child processes of the benches: spoken to, watched, and gone afterwards, whatever they do."""

from __future__ import annotations

import sys

import psutil
import pytest

from bench.processes import BenchError, Child

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
STUBBORN = "import signal, subprocess, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def python(source: str) -> Child:
    return Child([sys.executable, "-c", source], what="the child")


def test_child_told_answers() -> None:
    with python(ECHO) as child:
        child.tell(b'noise\n{"a": 1}\n')

        assert child.read_json(limit_s=10.0) == {"a": 1}


def test_child_that_ends_is_an_error_with_its_last_words() -> None:
    with python("import sys; sys.exit('no luck')") as child, pytest.raises(BenchError, match="the child ended by itself: no luck"):
        child.read_line(limit_s=10.0)


def test_child_that_says_nothing_is_an_error_after_the_limit() -> None:
    with python("input()") as child, pytest.raises(BenchError, match="said nothing"):
        child.read_line(limit_s=0.05)


def test_child_exit_ends_the_whole_tree_even_a_deaf_one() -> None:
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with python(grandchild) as child:
        child.read_line(limit_s=10.0)
        tree = [child._tree, *child._tree.children(recursive=True)]

    assert len(tree) == 2
    assert psutil.wait_procs(tree, timeout=10.0)[1] == []


def test_cpu_of_a_busy_child_is_counted_and_of_its_children_too() -> None:
    work = "sum(i * i for i in range(5_000_000)); print('done', flush=True); input()"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    with python("print('up', flush=True); input(); " + work) as child, python("input(); " + nested) as parent:
        child.read_line(limit_s=10.0)
        before_s, parent_before_s = child.cpu_s(), parent.cpu_s()
        for one in (child, parent):
            one.tell(b"\n")
            one.read_line(limit_s=30.0)

        assert child.cpu_s() - before_s >= 0.05
        assert parent.cpu_s() - parent_before_s >= 0.05


def test_rss_of_a_child_that_allocates_grows_by_it() -> None:
    with python("print('up', flush=True); input(); kept = b'x' * (64 << 20); print('got', flush=True); input()") as child:
        child.read_line(limit_s=10.0)
        before_bytes = child.settled_rss_bytes(quiet_s=0.05)
        child.tell(b"\n")
        child.read_line(limit_s=10.0)

        grown_bytes = child.settled_rss_bytes(quiet_s=0.05) - before_bytes

    assert (60 << 20) < grown_bytes < (80 << 20)


def test_wait_until_idle_busy_child_is_waited_for() -> None:
    source = "import time\nend = time.monotonic() + 0.6\nwhile time.monotonic() < end: pass\nprint('idle', flush=True)\ninput()"
    with python(source) as child:
        child.wait_until_idle(quiet_s=0.2, limit_s=20.0)

        assert child.read_line(limit_s=0.1) == b"idle"


def test_wait_for_never_true_is_an_error_that_names_it() -> None:
    with python("input()") as child, pytest.raises(BenchError, match="not connected within"):
        child.wait_for(lambda: False, limit_s=0.05, what="connected")


def test_wait_for_child_gone_is_an_error_before_the_limit() -> None:
    with python("raise SystemExit('broke')") as child, pytest.raises(BenchError, match="ended by itself before ready: broke"):
        child.wait_for(lambda: False, limit_s=10.0, what="ready")
