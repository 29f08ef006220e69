"""The tree holds the target's processes, all of them and nobody else; the freeze stops all of them and lets all go."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys

import pytest

from floodmark.core.errors import UsageError
from floodmark.faults.process import freeze, procfs
from floodmark.faults.process.freeze import frozen
from floodmark.faults.process.tree import ForeignProcessError, Process, Tree

from .victim import SLEEPER, play, process_of, state, until, victim

FORKER = """
import os, time
while True:
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0: time.sleep(0.05)
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_tree_with_workers_lists_parents_first_and_nobody_else() -> None:
    with victim() as target, victim() as stranger:
        workers = [target.worker() for _ in range(3)]
        stranger.worker()

        found = [process.pid for process in target.tree.processes()]

        assert found[0] == target.pid
        assert sorted(found) == sorted([target.pid, *workers])


def test_tree_orphan_of_the_same_session_belongs_to_it() -> None:
    with victim() as target:
        code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-I', '-S', '-c', {SLEEPER!r}], stdout=-3).pid)"
        orphan = int(target.ask(f"subprocess.check_output([sys.executable, '-c', {code!r}], text=True).strip()"))

        found = [process.pid for process in target.tree.processes()]

        assert procfs.stat(orphan).parent != target.pid  # type: ignore[union-attr]
        assert found == [target.pid, orphan]


def test_tree_worker_seen_before_its_parent_died_stays_in_it() -> None:
    with victim() as target:
        worker = int(target.ask(f"worker({SLEEPER!r}, session=True)"))
        target.tree.processes()
        target.process.kill()
        target.process.wait()

        found = [process.pid for process in target.tree.processes()]

        assert found == [worker]


def test_tree_pid_with_another_start_time_is_a_stranger_and_is_not_touched() -> None:
    with victim() as target:
        real = target.tree.root
        reused = Tree(real.pid, real.started_ticks - 1)

        assert reused.processes() == []
        assert reused.root.send(signal.SIGKILL) is False
        assert target.ask("1 + 1") == "2"


def test_process_that_has_ended_takes_no_signal() -> None:
    with victim() as target:
        root = target.tree.root
        target.process.kill()
        target.process.wait()

        assert root.send(signal.SIGTERM) is False
        assert not root.alive


@pytest.mark.parametrize("who", ["nobody", "the first", "ourselves", "our parent"])
def test_tree_of_floodmark_itself_is_refused(who: str) -> None:
    pid = {"nobody": 0, "the first": 1, "ourselves": os.getpid(), "our parent": os.getppid()}[who]

    with pytest.raises(UsageError, match="cannot be the target"):
        Tree(pid, 1)


def test_tree_of_a_pid_that_is_not_there_is_refused() -> None:
    with victim() as target:
        pid = target.pid
    with pytest.raises(UsageError, match="no process"):
        Tree.of(pid)


def test_errors_of_the_tree_survive_pickling() -> None:
    error = ForeignProcessError(7, "send it SIGKILL")

    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_frozen_tree_that_forks_all_the_time_stands_still_as_a_whole_and_goes_on() -> None:
    async def job() -> None:
        with victim(FORKER) as target:
            until(target.tree.processes, lambda found: len(found) > 2)
            async with frozen(target.tree) as still:
                states = {process.pid: state(process.pid) for process in target.tree.processes()}
                assert set(states) == {process.pid for process in still.processes if process.alive}
                assert set(states.values()) == {"T"}
                seen = set(states)
            until(lambda: {process.pid for process in target.tree.processes()}, lambda found: bool(found - seen))

    play(job())


def test_frozen_leaves_a_process_stopped_that_somebody_else_had_stopped() -> None:
    async def job() -> None:
        with victim() as target:
            worker = target.worker()
            os.kill(worker, signal.SIGSTOP)
            until(lambda: state(worker), lambda letter: letter == "T")
            async with frozen(target.tree) as still:
                assert [process.pid for process in still.held()] == [target.pid]
            assert target.ask("3") == "3"
            assert state(worker) == "T"

    play(job())


def test_frozen_with_a_process_that_cannot_be_stopped_lets_the_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def job() -> None:
        with victim() as target:
            worker = target.worker()
            send = Process.send

            def foreign(process: Process, number: signal.Signals) -> bool:
                if process.pid == worker:
                    raise ForeignProcessError(worker, "be stopped")
                return send(process, number)

            with monkeypatch.context() as patch:
                patch.setattr(Process, "send", foreign)
                with pytest.raises(ForeignProcessError):
                    async with frozen(target.tree):
                        pytest.fail("a part of the tree was taken for the whole")
            assert target.ask("1") == "1"

    play(job())


def test_frozen_with_a_process_that_does_not_let_us_continue_it_is_an_error_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def job() -> None:
        with victim() as target:
            worker = target.worker()
            send = Process.send

            def foreign(process: Process, number: signal.Signals) -> bool:
                if process.pid == worker and number is signal.SIGCONT:
                    raise ForeignProcessError(worker, "send it SIGCONT")
                return send(process, number)

            with monkeypatch.context() as patch:
                patch.setattr(Process, "send", foreign)
                with pytest.raises(ForeignProcessError, match=f"process {worker} .* does not let us send it SIGCONT"):
                    async with frozen(target.tree):
                        pass
            assert target.ask("1") == "1"
            assert state(worker) == "T"
            os.kill(worker, signal.SIGCONT)

    play(job())


def test_frozen_that_does_not_come_to_rest_is_an_error_and_lets_everyone_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def job() -> None:
        with victim() as target:
            monkeypatch.setattr(freeze, "STOP_LIMIT_S", 0.05)
            monkeypatch.setattr(procfs, "at_rest", lambda pid: False)
            with pytest.raises(freeze.WillNotStopError, match="did not stand still"):
                async with frozen(target.tree):
                    pytest.fail("it was taken for stopped")
            assert target.ask("1") == "1"

    play(job())


def test_frozen_cancelled_inside_lets_everyone_go() -> None:
    async def job() -> None:
        with victim() as target:
            worker = target.worker()
            inside = asyncio.Event()

            async def hold() -> None:
                async with frozen(target.tree):
                    inside.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(hold())
            await inside.wait()
            assert {state(target.pid), state(worker)} == {"T"}
            task.cancel()
            await asyncio.wait([task])
            assert target.ask("4") == "4"
            until(lambda: state(worker), lambda letter: letter == "S")

    play(job())


def test_process_of_another_user_gives_a_sentence_and_is_not_touched() -> None:
    with victim() as target:
        worker = target.worker()
        program = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
from floodmark.faults.process.tree import Process, ForeignProcessError
try: os.setuid(65534)
except PermissionError: print("only root can become another user"); sys.exit()
try: Process({process_of(worker).started_ticks}, {worker}).send(signal.SIGKILL)
except ForeignProcessError as exc: print(exc)
"""
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        if "only root" in said.stdout:
            pytest.skip(said.stdout.strip())
        assert "does not let us send it SIGKILL" in said.stdout, said
        assert process_of(worker).alive


def test_process_order_is_by_age() -> None:
    assert sorted([Process(9, 1), Process(3, 8)]) == [Process(3, 8), Process(9, 1)]
