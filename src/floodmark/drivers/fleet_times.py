"""How long a fleet took: to stand, to give the partitions of a lost worker to others, to find a new leader, to let go of what it gave up.

A word that strikes a worker starts a clock at the time that the host wrote down. What never came has no time: it is counted (`not_...`),
and the figure is missing, so that no criterion can pass on it. Who was back before anybody acted was not lost: that is a blip. Another
one who takes over its identity is no blip but a new owner, from when on it works. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from floodmark.drivers.fleet_notes import ASSIGNMENT, ELECTION, HEARTBEAT, STABLE_ID, Note, partitions_of, worker_of
from floodmark.drivers.fleet_owners import Board
from floodmark.drivers.fleet_record import LEAVING, STRUCK_S, Record


def standing(record: Record) -> dict[str, float]:
    """From the first start to a fleet that stands, and from the first claimed id to the first assignment."""
    starts_s = [word.at_s for word in record.words if word.word == "start"]
    claims_s = [note.at_s for note in record.of(STABLE_ID) if note.value is not None]
    assigned_s = [note.at_s for note in record.of(ASSIGNMENT) if note.value is not None]
    figures: dict[str, float] = {}
    if claims_s and assigned_s:
        figures["first_assignment_s"] = max(0.0, assigned_s[0] - claims_s[0])
    if not starts_s or not assigned_s:
        return figures
    board, wanted, partitions_count = Board(), _started_before_load(record), record.partitions_count
    for note in record.notes:
        if note.kind not in (ASSIGNMENT, HEARTBEAT):
            continue
        board.take(note)
        if "assigned_s" not in figures and board.assigned(wanted, partitions_count):
            figures["assigned_s"] = note.at_s - starts_s[0]
        if "assigned_s" in figures and board.assigned(wanted, partitions_count) and board.applied_by_all():
            figures["stable_s"] = note.at_s - starts_s[0]
            break
    return figures


def _started_before_load(record: Record) -> int:
    """How many workers the script began with."""
    before = [word for word in record.words if word.word == "start" and (record.load_s is None or word.at_s < record.load_s)]
    return sum(word.notes_count for word in before)


def stopping(record: Record) -> dict[str, float]:
    """How long the slowest gentle stop took. Empty when nobody was stopped."""
    took_s = [word.done_s - word.at_s for word in record.words if word.word == "stop"]
    return {"stop_max_s": max(took_s)} if took_s else {}


def joining(record: Record) -> dict[str, float]:
    """From each identity that was claimed under load to the first assignment of that worker. Empty when nobody came under load."""
    if record.load_s is None:
        return {}
    took_s: list[float] = []
    missing = 0
    holder: dict[str, str] = {}
    for note in record.of(STABLE_ID):
        token = str((note.value or {}).get("token", ""))
        if note.value is None or holder.get(note.key) == token:
            continue
        holder[note.key] = token
        worker = str(note.value.get("worker", ""))
        if note.at_s < record.load_s:
            continue
        if _held_at(record, worker, note.at_s):
            took_s.append(0.0)  # that of the identity's last holder, which nobody had taken back
            continue
        given_s = [one.at_s for one in record.of(ASSIGNMENT) if one.value is not None and worker_of(one.key) == worker]
        later_s = next((at_s for at_s in given_s if at_s >= note.at_s), None)
        if later_s is None:
            missing += 1
        else:
            took_s.append(later_s - note.at_s)
    if not took_s and not missing:
        return {}
    return {"joined": len(took_s), "not_joined": missing} | ({"joined_max_s": max(took_s)} if not missing else {})


def reassignment(record: Record) -> dict[str, float]:
    """From each blow on a worker to the record in which the last of its partitions has another owner.

    Empty when no worker that held anything was struck for longer than a blip.
    """
    gains = _gains(record)
    took_s: list[float] = []
    blips = missing = 0
    for word in record.words:
        if word.word not in LEAVING:
            continue
        for worker in word.workers:
            held = _held_at(record, worker, word.at_s)
            if not held:
                continue
            at_s = [_next_owner_s(record, gains[name], worker, word.at_s) for name in held]
            given_s = [one for one in at_s if one is not None]
            if len(given_s) == len(at_s):
                took_s.append(max(given_s) - word.at_s)
                continue
            heir_s = record.heir_s(worker, word.at_s)
            if heir_s is not None:
                took_s.append(max([heir_s, *given_s]) - word.at_s)
                continue
            back_s = record.back_s(worker, word.at_s)
            away_s = (record.end_s if back_s is None else back_s) - word.at_s
            if back_s is not None and away_s < record.settle_s:
                blips += 1
            else:
                missing += 1
    if not took_s and not missing:
        return {"blips": blips} if blips else {}
    figures: dict[str, float] = {"reassigned": len(took_s), "not_reassigned": missing, "blips": blips}
    if not missing:
        figures |= {"reassign_max_s": max(took_s), "reassign_min_s": min(took_s)}
    return figures


def _gains(record: Record) -> dict[str, list[tuple[float, str]]]:
    """Partition -> (when, who) for each record that has it and is of another owner than the one before, in order."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for note in record.of(ASSIGNMENT):
        for name in partitions_of(note.value):
            found[name].append((note.at_s, worker_of(note.key)))
    return found


def _held_at(record: Record, worker: str, at_s: float) -> dict[str, int]:
    held: dict[str, int] = {}
    for note in record.of(ASSIGNMENT):
        if note.at_s > at_s:
            break
        if worker_of(note.key) == worker:
            held = partitions_of(note.value)
    return held


def _next_owner_s(record: Record, gains: list[tuple[float, str]], worker: str, since_s: float) -> float | None:
    """When another worker was given it that beat afterwards: one that is dead as well owns nothing."""
    for at_s, owner in gains:
        if at_s > since_s and owner != worker and record.beats_on(owner, at_s):
            return at_s
    return None


def failover(record: Record) -> dict[str, float]:
    """From each blow on the leader to the next one's key. Empty when no leader was struck, or each was back before anybody took over."""
    tenures = record.of(ELECTION)
    took_s: list[float] = []
    missing = 0
    for word in record.words:
        if word.word not in LEAVING:
            continue
        before = [note for note in tenures if note.at_s <= word.at_s]
        if not before or before[-1].value is None or str(before[-1].value.get("worker")) not in word.workers:
            continue
        token = before[-1].value.get("token")
        later = [note for note in tenures if note.at_s > word.at_s and note.value is not None]
        taken_s = next((note.at_s for note in later if (note.value or {}).get("token") != token), None)
        if taken_s is not None and not _renewed(later, token, word.at_s, taken_s):
            took_s.append(taken_s - word.at_s)
        elif not _renewed(later, token, word.at_s, record.end_s):
            missing += 1
    if not took_s and not missing:
        return {}
    figures: dict[str, float] = {"failovers": len(took_s), "no_new_leader": missing}
    if not missing:
        figures["failover_max_s"] = max(took_s)
    return figures


def _renewed(later: list[Note], token: object, struck_s: float, until_s: float) -> bool:
    """Whether the leader that was struck goes on as the leader: a blip."""
    return any((note.value or {}).get("token") == token and struck_s + STRUCK_S < note.at_s < until_s for note in later)


def overlap(record: Record) -> dict[str, float]:
    """How long the former owner of a partition went on handing messages on after the new one had begun.

    Empty without deliveries, and without a handover nothing is said of how long. From the messages themselves, by the server's clock:
    the record says who should, they say who did.
    """
    if not record.deliveries:
        return {}
    gained_s = _gained(record)
    owner: dict[str, str] = {}
    former: dict[str, dict[str, float]] = defaultdict(dict)
    handovers = late = 0
    worst_s = 0.0
    for at_s, name, worker in record.deliveries:
        now = owner.get(name)
        if now == worker:
            continue
        lost_s = former[name].get(worker)
        if now is not None and lost_s is not None and not _between(gained_s[name, worker], lost_s, at_s):
            late += 1
            worst_s = max(worst_s, at_s - lost_s)
            continue
        if now is not None:
            former[name][now] = at_s
            handovers += 1
        former[name].pop(worker, None)
        owner[name] = worker
    return {"handovers": handovers, "overlap_messages": late} | ({"overlap_max_s": worst_s} if handovers else {})


def _gained(record: Record) -> defaultdict[tuple[str, str], list[float]]:
    """(partition, worker) -> when it became its: not held by it in the record before."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    held: dict[str, dict[str, int]] = {}
    for note in record.of(ASSIGNMENT):
        worker, names = worker_of(note.key), partitions_of(note.value)
        for name in names.keys() - held.get(worker, {}).keys():
            found[name, worker].append(note.at_s)
        held[worker] = names
    return found


def _between(times_s: list[float], begin_s: float, end_s: float) -> bool:
    place = bisect_left(times_s, begin_s)
    return place < len(times_s) and times_s[place] <= end_s
