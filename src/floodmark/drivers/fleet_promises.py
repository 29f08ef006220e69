"""What the keys of a fleet promise among themselves: one leader of an epoch, versions that only rise, one holder of an identity.

Nothing here waits for a settled point: these hold at every moment, so a single entry that breaks one is counted. Pure.
"""

from __future__ import annotations

import itertools
from collections import defaultdict

from floodmark.drivers.fleet_notes import ASSIGNMENT, ELECTION, HEARTBEAT, STABLE_ID, Note, place_of, worker_of
from floodmark.drivers.fleet_record import Record


def leadership(record: Record) -> dict[str, float]:
    """Tenures of leaders. Empty when nobody was ever elected."""
    tokens: dict[int, set[str]] = defaultdict(set)
    tenures, holder = 0, ""
    for note in record.of(ELECTION):
        if note.value is None:
            holder = ""
            continue
        token = str(note.value.get("token", ""))
        epoch = int(note.value.get("epoch", 0))
        if epoch:  # a key that was just created has none yet
            tokens[epoch].add(token)
        tenures += token != holder
        holder = token
    if not tenures:
        return {}
    return {"leaders": tenures, "leaders_twice": sum(len(claimants) > 1 for claimants in tokens.values())}


def versions(record: Record) -> dict[str, float]:
    """Rounds of assignments and their numbers. Empty when nothing was published.

    `version_back`: writes of a version below the highest one before, or, of one worker, of the same one with other partitions;
    `stale_writes`: writes of an epoch below the highest one before, in assignments or in the leader's key.
    """
    rounds = record.rounds
    if not rounds:
        return {}
    back = stale = 0
    top_epoch = top_version = 0
    last: dict[str, Note] = {}
    for note in record.notes:
        if note.kind == ELECTION:
            top_epoch = max(top_epoch, place_of(note.value)[0])
        if note.kind != ASSIGNMENT or note.value is None:
            continue
        epoch, version = place_of(note.value)
        before = last.get(note.key)
        twice = before is not None and place_of(before.value) == (epoch, version) and _partitions(before) != _partitions(note)
        back += version < top_version or twice
        stale += epoch < top_epoch
        top_epoch, top_version = max(top_epoch, epoch), max(top_version, version)
        last[note.key] = note
    figures: dict[str, float] = {
        "versions": len({(one.epoch, one.version) for one in rounds}),
        "version_back": back,
        "stale_writes": stale,
        "emergencies": sum(one.lifecycle == "emergency" for one in rounds),
    }
    if record.load_s is not None:
        loaded = [one for one in rounds if one.at_s >= record.load_s]
        figures["versions_load"] = len(loaded)
        figures["emergencies_load"] = sum(one.lifecycle == "emergency" for one in loaded)
    return figures


def _partitions(note: Note) -> list[tuple[str, ...]]:
    return sorted(tuple(map(str, one.get("keys", ()))) for one in (note.value or {}).get("partitions", ()))


def identities(record: Record) -> dict[str, float]:
    """Stable ids. `ids_twice`: times at which one id beat for two holders in turn: a token that is back after another one was there."""
    claimed = {worker_of(note.key) for note in record.of(STABLE_ID) if note.value is not None}
    if not claimed and not record.beats:
        return {}
    twice = 0
    past: dict[tuple[str, str], list[str]] = defaultdict(list)
    for note in record.notes:
        if note.kind not in (STABLE_ID, HEARTBEAT) or note.value is None:
            continue
        token = str(note.value.get("token", ""))
        seen = past[note.kind, worker_of(note.key)]
        if not seen or seen[-1] != token:
            twice += token in seen
            seen.append(token)
    claims = sum(len(tokens) for (kind, _), tokens in past.items() if kind == STABLE_ID)
    return {"ids": len(claimed), "claims": claims, "ids_twice": twice}


def beats(record: Record) -> dict[str, float]:
    """How long the longest silence of a worker was that went on afterwards, as one identity."""
    if not record.beats:
        return {}
    longest_s = 0.0
    for times_s, notes in record.beats.values():
        for at, (before, after) in enumerate(itertools.pairwise(notes)):
            if before.value is not None and after.value is not None and before.value.get("token") == after.value.get("token"):
                longest_s = max(longest_s, times_s[at + 1] - times_s[at])
    return {"silence_max_s": longest_s} if longest_s else {}
