"""Faults that pick processes of the tree by name: just those are hit, and a name that nobody has touches nothing."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from floodmark.faults.process import Journal, Kill, Pause, Scene, Terminate, Tree, inflict
from floodmark.faults.process.procfs import is_named
from floodmark.faults.process.spec import ProcessFault

from .victim import journal, play, state, until


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A shell with two children called `sleep` and one that calls itself so by argv[0] only."""
    script = "sleep 60 & echo $!; sleep 60 & echo $!; (exec -a sleep tail -f /dev/null) & echo $!; echo; wait"
    process = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    children = [int(line) for line in iter(process.stdout.readline, b"\n")]
    until(lambda: [is_named(pid, "sleep") for pid in children], all)

    yield process, children

    Tree.of(process.pid).root.send(signal.SIGKILL)
    for pid in children:
        subprocess.run(["kill", "-KILL", str(pid)], check=False, stderr=subprocess.DEVNULL)
    process.stdout.close()
    process.wait(10)


def scene(process: subprocess.Popen[bytes], log: Journal) -> Scene:
    return Scene(tree=Tree.of(process.pid), journal=log)


@pytest.mark.parametrize("fault", [Kill(name="sleep"), Terminate(name="sleep")], ids=["kill", "terminate"])
def test_fault_by_name_hits_all_of_that_name_and_not_their_parent(
    fault: ProcessFault, family: tuple[subprocess.Popen[bytes], list[int]]
) -> None:
    process, children = family
    tree = scene(process, journal())

    entry = play(inflict(fault, tree, for_s=0))

    assert sorted(entry.pids) == sorted(children)
    assert process.pid not in entry.pids


def test_pause_by_name_of_a_program_leaves_out_who_only_calls_itself_so(family: tuple[subprocess.Popen[bytes], list[int]]) -> None:
    process, children = family

    entry = play(inflict(Pause(name="tail"), scene(process, journal()), for_s=0.05))

    assert list(entry.pids) == children[2:]
    until(lambda: state(children[2]), lambda letter: letter not in "Tt")


def test_fault_by_a_name_that_nobody_has_touches_nothing_and_says_so(family: tuple[subprocess.Popen[bytes], list[int]]) -> None:
    process, children = family

    entry = play(inflict(Kill(name="nats-server"), scene(process, journal()), for_s=0))

    assert (entry.hits, entry.note) == (0, "no process of the target was chosen that is named 'nats-server'")
    assert process.poll() is None
    assert all(state(pid) not in "Z-" for pid in children)
