"""What the host is told at its start, checked before anything is started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.host.lies import read_lies
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.strategy import STRATEGIES

PARTITIONS_COUNT = 100
MOST_PARTITIONS = 1_000_000
ALWAYS = "always"
_GROUP = re.compile(r"(\d+)x(\d+)")
_SETTING = re.compile(r"([a-z_]+)=(.+)")
_SYNC = re.compile(rf"{ALWAYS}|[1-9]\d*(ms|s|m|h)")
_FAIL_PUT = re.compile(r"round=(\d+),k=(\d+)")


class FailPut(msgspec.Struct, frozen=True, kw_only=True):
    """The k-th record that a leader writes in its n-th round, both from 1, is not written; the store says that it could not be reached."""

    round: int
    k: int


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One fleet. `nats` empty: a server of our own, `apart` from our process tree or in it, that syncs what it stores by `sync`."""

    nats: str = ""
    apart: bool = False
    sync: str = ALWAYS
    settings: Settings
    strategy: str = "consistent-hash"
    partitions: tuple[Partition, ...]
    per_process_count: int = 1
    network: bool = False
    out_stream: bool = True
    batch_count: int = 1
    fail_put: FailPut | None = None
    lies: dict[str, int] = {}
    seed: int = 1


def read_options(
    *,
    nats: str = "",
    server: str = "inside",
    sync: str = ALWAYS,
    profile_name: str = "default",
    chosen: Sequence[str] = (),
    strategy: str = "consistent-hash",
    partitions: int | None = None,
    weights: str = "",
    per_process: int = 1,
    assignment_history: int = 64,
    network: bool = False,
    out: str = "stream",
    batch: int = 1,
    fail_put: str = "",
    lie: Sequence[str] = (),
    seed: int = 1,
) -> Options:
    """Read the words of the command line. Raises: UsageError, one sentence that says what is allowed."""
    if server not in ("inside", "apart"):
        raise UsageError(f"--server is inside or apart, got {server!r}")
    if nats and server == "apart":
        raise UsageError("--server apart is for a server of our own; leave out --nats or --server")
    if _SYNC.fullmatch(sync) is None:
        raise UsageError(f"--sync is {ALWAYS}, or how often, such as 10s or 2m; got {sync!r}")
    if nats and sync != ALWAYS:
        raise UsageError("--sync is for a server of our own; leave out --nats or --sync")
    if strategy not in STRATEGIES:
        raise UsageError(f"no strategy {strategy!r}; there are: {', '.join(STRATEGIES)}")
    if out not in ("stream", "core"):
        raise UsageError(f"--out is stream or core, got {out!r}")
    for name, value, least in (("--per-process", per_process, 1), ("--assignment-history", assignment_history, 1), ("--batch", batch, 1)):
        if value < least:
            raise UsageError(f"{name} must be {least} or more, got {value}")
    if assignment_history > 64:
        raise UsageError(f"--assignment-history: NATS keeps 64 versions of a key at most, got {assignment_history}")
    return Options(
        nats=nats,
        apart=server == "apart",
        sync=sync,
        settings=profile(profile_name, **{"assignment_history_count": assignment_history, **_chosen(chosen)}),
        strategy=strategy,
        partitions=_partitions(partitions, weights),
        per_process_count=per_process,
        network=network,
        out_stream=out == "stream",
        batch_count=batch,
        fail_put=_fail_put(fail_put),
        lies=read_lies(lie),
        seed=seed,
    )


def named(number: int, weight: int | None = None) -> Partition:
    """The partition of a number.

    >>> named(17).keys
    ('p17',)
    """
    return Partition(keys=(f"p{number}",)) if weight is None else Partition(keys=(f"p{number}",), weight=weight)


def _partitions(count: int | None, weights: str) -> tuple[Partition, ...]:
    groups = []
    for word in weights.split():
        match = _GROUP.fullmatch(word)
        if match is None:
            raise UsageError(f"--weights: {word!r} is no group; write for example 10x1 5x2 2x5, partitions times their weight")
        groups.append((int(match[1]), int(match[2])))
    spread = [weight for many, weight in groups for _ in range(many)]
    if groups and count is not None and count != len(spread):
        raise UsageError(f"--partitions is {count}, and --weights names {len(spread)}; leave out one of them")
    wanted = len(spread) if groups else PARTITIONS_COUNT if count is None else count
    if not 0 <= wanted <= MOST_PARTITIONS:
        raise UsageError(f"--partitions must be between 0 and {MOST_PARTITIONS}, got {wanted}")
    return tuple(named(number, spread[number] if groups else None) for number in range(wanted))


def _chosen(words: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        match = _SETTING.fullmatch(word)
        if match is None:
            raise UsageError(f"--set: {word!r} is no setting; write for example heartbeat_s=0.5")
        found[match[1]] = match[2]
    return found


def _fail_put(text: str) -> FailPut | None:
    if not text:
        return None
    match = _FAIL_PUT.fullmatch(text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"--fail-put: {text!r} is no place; write for example round=2,k=3, both from 1")
    return FailPut(round=int(match[1]), k=int(match[2]))
