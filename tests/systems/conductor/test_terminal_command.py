"""`floodmark chat` as a command: its words, its exit codes, plain text in a pipe, and a real terminal that is left as it was found."""

from __future__ import annotations

import gc
import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.systems.conductor.backend.numbered import text_of
from floodmark.systems.conductor.errors import BackendError
from floodmark.systems.conductor.terminal.app import ChatApp
from floodmark.systems.conductor.terminal.command import Order, checked, run

COMMAND = [sys.executable, "-m", "floodmark", "chat"]
LIMIT_S = 30.0


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Order(backend="opnai"), "did you mean 'openai'?"),
        (Order(backend="mock", url="http://127.0.0.1:1"), "the mock is part of this process"),
        (Order(url="127.0.0.1:1"), "--url must begin with http://"),
        (Order(url="http://127.0.0.1:1", api_key_env="NO_SUCH_KEY"), "--api-key-env NO_SUCH_KEY"),
        (Order(once=" \n"), "--once needs a prompt"),
        (Order(once="-"), "--once needs a prompt"),
    ],
)
def test_checked_order_that_cannot_be_is_one_sentence(order: Order, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        checked(order, stdin=Tty(), stdout=Tty(), environment={})

    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("stdin", "stdout", "what"), [(Tty(), io.StringIO(), "output"), (io.StringIO(), Tty(), "input")])
def test_checked_without_a_terminal_names_the_way_out(stdin: io.StringIO, stdout: io.StringIO, what: str) -> None:
    with pytest.raises(UsageError, match=f"standard {what} is no terminal.*--once"):
        checked(Order(), stdin=stdin, stdout=stdout)


def test_checked_url_alone_means_openai_and_the_key_is_not_shown() -> None:
    job = checked(Order(url="http://127.0.0.1:1", api_key_env="KEY"), stdin=Tty(), stdout=Tty(), environment={"KEY": "secret-key"})

    assert job.backend == "openai"
    assert job.settings.api_key == "secret-key"
    assert job.where == "openai http://127.0.0.1:1"
    assert "secret-key" not in repr(job)


def test_run_once_prints_the_answer_and_a_line_end() -> None:
    out = io.StringIO()

    code = run(Order(once="numbered: stream=2 count=20000"), stdin=io.StringIO(), stdout=out)

    assert code == 0
    assert out.getvalue() == text_of(2, 0, 20_000, 10) + "\n"


def test_run_once_reads_its_prompt_from_stdin() -> None:
    out = io.StringIO()

    run(Order(once="-"), stdin=io.StringIO("numbered: count=2\n"), stdout=out)

    assert out.getvalue() == text_of(0, 0, 2, 10) + "\n"


def test_run_once_answer_that_breaks_off_is_printed_so_far_and_is_a_failure() -> None:
    out = io.StringIO()

    with pytest.raises(BackendError, match="the answer broke off") as raised:
        run(Order(once="numbered: count=10 fail_after=4"), stdin=io.StringIO(), stdout=out)

    assert raised.value.exit_code == 11
    assert out.getvalue() == text_of(0, 0, 4, 10) + "\n"


def test_run_once_server_that_is_not_there_is_a_failure_in_one_sentence() -> None:
    with pytest.raises(BackendError) as raised:
        run(Order(url="http://127.0.0.1:1", once="hello"), stdin=io.StringIO(), stdout=io.StringIO())

    assert "127.0.0.1:1" in str(raised.value)


def test_run_once_refused_prompt_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="control character"):
        run(Order(once="a \x07 bell"), stdin=io.StringIO(), stdout=io.StringIO())


def test_run_screen_that_breaks_down_is_a_bug_and_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(app: ChatApp) -> None:
        return None

    monkeypatch.setattr(ChatApp, "run_async", broken)

    with pytest.raises(HarnessBugError, match="broke down"):
        run(Order(), stdin=Tty(), stdout=Tty())

    gc.unfreeze()


def test_command_in_a_pipe_without_once_ends_with_2() -> None:
    ended = subprocess.run(COMMAND, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "no terminal" in ended.stderr


def test_command_whose_reader_leaves_ends_quietly() -> None:
    with subprocess.Popen([*COMMAND, "--once", "numbered: count=100000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.read(20)
        process.stdout.close()

        assert process.wait(LIMIT_S) == 0
        assert first.decode() == text_of(0, 0, 2, 10)
        assert process.stderr.read() == b""


def test_command_interrupted_while_nobody_reads_ends_with_130() -> None:
    with subprocess.Popen([*COMMAND, "--once", "numbered: count=100000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(20)  # it writes now, and soon fills the pipe
        process.send_signal(signal.SIGINT)

        assert process.wait(LIMIT_S) == 130


class Screen:
    """A terminal of 80 x 24 with the chat on it."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process, self._descriptor = process, descriptor
        self.seen = b""

    def until(self, words: bytes) -> None:
        """Read until these words were written."""
        end_s = time.monotonic() + LIMIT_S
        while words not in self.seen:
            assert time.monotonic() < end_s, self.seen[-2000:]
            self.read(0.1)

    def read(self, limit_s: float) -> bool:
        if not select.select([self._descriptor], [], [], limit_s)[0]:
            return True
        try:
            self.seen += os.read(self._descriptor, 65_536)
        except OSError:  # its other end is closed
            return False
        return True

    def type_in(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def ended(self) -> int:
        """Read until the process has ended; its exit code."""
        end_s = time.monotonic() + LIMIT_S
        while self.process.poll() is None and time.monotonic() < end_s:
            self.read(0.02)
        self.read(0)
        return self.process.wait(0)


@contextmanager
def screen() -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            COMMAND,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        )
        os.close(theirs)
        try:
            yield Screen(process, ours)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    finally:
        os.close(ours)


@pytest.mark.parametrize(
    ("how", "code"),
    [pytest.param(b"\x11", 0, id="ctrl-q"), pytest.param(b"\x03", 130, id="ctrl-c"), pytest.param(signal.SIGTERM, 130, id="sigterm")],
)
def test_command_on_a_terminal_ends_in_mid_stream_and_leaves_it_as_it_was(how: bytes | signal.Signals, code: int) -> None:
    with screen() as shown:
        shown.until(b"Ask something")
        shown.type_in(b"numbered: count=1000000 rate=1000\r")
        shown.until(b"abcd")

        before_s = time.monotonic()
        if isinstance(how, bytes):
            shown.type_in(how)
        else:
            shown.process.send_signal(how)

        assert shown.ended() == code
        assert time.monotonic() - before_s < 25.0  # the quitting itself is measured elsewhere; here Python ends too
        assert b"\x1b[?1049l" in shown.seen  # the screen that was there before is back
        assert b"\x1b[?25h" in shown.seen  # and the cursor
        assert b"Traceback" not in shown.seen
