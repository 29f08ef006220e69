"""Carry accounts and publications between processes, and make one of many.

Contract: `from_wire(to_wire(x))` counts as `x` does and can go on counting; merging the parts gives what one process would have counted.
Agents have disjoint subscriptions, so slots are renumbered in the order of the parts: slot s of part i is s plus the slots of the parts
before it. Agents have disjoint publishers, so a publisher is taken from the one part that handed out its sequences.
Format: msgpack, arrays as little-endian bytes, holes of all accounts in flat columns. The same version on both sides.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec
import numpy as np

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.holes import Holes, Tally
from floodmark.ledger.inbox import Ints
from floodmark.ledger.publications import Checkpoints, Publications
from floodmark.ledger.ranges import Ranges

_TallyWire = tuple[int, int, int, list[int]]
_ACCOUNT_COUNTS = (
    "received_count",
    "delivered_count",
    "seen_count",
    "duplicated_count",
    "reordered_count",
    "corrupted_count",
    "unexpected_count",
)
_PUBLICATION_COUNTS = ("attempted_count", "acknowledged_count", "failed_count", "dropped_by_us_count", "ignored_count")
_PUBLISHER_COLUMNS = ("attempted_end", "resolved_end", "first_sent_ns", "last_sent_ns", "last_ack_ns")
_SLOT_COLUMNS = ("channel", "active_ns", "closed_ns", "dropped_ns", "missed_ns", "anonymous")
_ACCOUNT_COLUMNS = ("next_seq", "delivered")


class _AccountsWire(msgspec.Struct, array_like=True):
    run: int
    warmup_run: int
    channels: int
    publishers: int
    slots: int
    holes_per_account: int
    counts: list[int]
    slot_columns: list[bytes]
    account_columns: list[bytes]
    seen: bytes
    holes: list[bytes]  # owner, number of ranges, floor, two written-off counts; then start, end, kind of every range
    tallies: list[tuple[int, int, _TallyWire]]  # kind, account
    corrupted_strays: dict[int, int]
    unexpected: list[tuple[int, int, int, _TallyWire]]  # slot, why, first publisher


class _PublicationsWire(msgspec.Struct, array_like=True):
    publishers: int
    counts: list[int]
    columns: list[bytes]
    ranges: list[list[bytes]]  # early, failures, unsent: owner and number of ranges; start and end of every range
    points: list[list[tuple[int, int, bytes, bytes]]]  # sent, acknowledged: publisher, stride, times, sequences


def accounts_to_wire(accounts: Accounts) -> bytes:
    """Encode; 50,000 clean accounts take a few milliseconds."""
    slots, rows = accounts.slots, accounts.slots * accounts.ranks
    held = sorted(accounts.holes.items())
    heads = [(account, len(h.starts), h.floor_seq, h.missing_written_off, h.damaged_written_off) for account, h in held]
    return msgspec.msgpack.encode(
        _AccountsWire(
            run=accounts.run,
            warmup_run=accounts.warmup_run,
            channels=accounts.channels,
            publishers=accounts.publishers,
            slots=slots,
            holes_per_account=accounts.holes_per_account,
            counts=[getattr(accounts, name) for name in _ACCOUNT_COUNTS],
            slot_columns=[_pack(getattr(accounts, name)[:slots]) for name in _SLOT_COLUMNS],
            account_columns=[_pack(getattr(accounts, name)[:rows]) for name in _ACCOUNT_COLUMNS],
            seen=np.packbits(accounts.seen[:slots]).tobytes(),
            holes=[_pack(np.array(heads, np.int64).ravel())]
            + [_pack(np.array([n for _, h in held for n in getattr(h, name)], np.int64)) for name in ("starts", "ends", "kinds")],
            tallies=[(kind, account, tally.wire()) for account, h in held for kind, tally in sorted(h.tallies.items())],
            corrupted_strays=accounts.corrupted_strays,
            unexpected=[
                (slot, why, accounts.unexpected_publisher[slot, why], tally.wire()) for (slot, why), tally in accounts.unexpected.items()
            ],
        )
    )


def accounts_from_wire(data: bytes) -> Accounts:
    """Decode what `accounts_to_wire` gave."""
    wire = msgspec.msgpack.decode(data, type=_AccountsWire)
    accounts = Accounts(
        run=wire.run,
        warmup_run=wire.warmup_run,
        channels=wire.channels,
        publishers=wire.publishers,
        holes_per_account=wire.holes_per_account,
    )
    accounts.slots = wire.slots
    for names, columns in ((_SLOT_COLUMNS, wire.slot_columns), (_ACCOUNT_COLUMNS, wire.account_columns)):
        for name, column in zip(names, columns, strict=True):
            setattr(accounts, name, _unpack(column))
    accounts.seen = np.unpackbits(np.frombuffer(wire.seen, np.uint8), count=wire.slots).astype(np.bool_)
    for name, count in zip(_ACCOUNT_COUNTS, wire.counts, strict=True):
        setattr(accounts, name, count)
    heads = _unpack(wire.holes[0]).reshape(-1, 5).tolist()
    starts, ends, kinds = (_unpack(column).tolist() for column in wire.holes[1:])
    at = 0
    for account, ranges, floor_seq, missing, damaged in heads:
        holes = accounts.holes[account] = Holes()
        holes.starts, holes.ends, holes.kinds = starts[at : at + ranges], ends[at : at + ranges], kinds[at : at + ranges]
        holes.floor_seq, holes.missing_written_off, holes.damaged_written_off = floor_seq, missing, damaged
        at += ranges
    accounts.holes_count = at
    for kind, account, tally in wire.tallies:
        accounts.holes[account].tallies[kind] = Tally(*tally)
    accounts.corrupted_strays = wire.corrupted_strays
    for slot, why, publisher, tally in wire.unexpected:
        accounts.unexpected[slot, why], accounts.unexpected_publisher[slot, why] = Tally(*tally), publisher
    return accounts


def merge_accounts(parts: Sequence[Accounts]) -> Accounts:
    """Make one of the accounts of several agents; the parts must not be used any more.

    Raises: UsageError for no parts, or parts of different runs or populations.
    """
    if not parts:
        raise UsageError("no accounts to merge; a run has at least one agent")
    first = parts[0]
    shapes = {(part.run, part.warmup_run, part.channels, part.publishers) for part in parts}
    if len(shapes) != 1:
        raise UsageError(f"accounts of different runs cannot be merged: (run, warmup_run, channels, publishers) are {sorted(shapes)}")
    whole = Accounts(
        run=first.run,
        warmup_run=first.warmup_run,
        channels=first.channels,
        publishers=first.publishers,
        holes_per_account=max(part.holes_per_account for part in parts),
    )
    ranks = whole.ranks
    for name in (*_SLOT_COLUMNS, "seen"):
        setattr(whole, name, np.concatenate([getattr(part, name)[: part.slots] for part in parts]))
    for name in _ACCOUNT_COLUMNS:
        setattr(whole, name, np.concatenate([getattr(part, name)[: part.slots * ranks] for part in parts]))
    for name in (*_ACCOUNT_COUNTS, "holes_count"):
        setattr(whole, name, sum(getattr(part, name) for part in parts))
    for part in parts:
        offset = whole.slots
        whole.holes.update({account + offset * ranks: holes for account, holes in part.holes.items()})
        whole.corrupted_strays.update({slot + offset: count for slot, count in part.corrupted_strays.items()})
        whole.unexpected.update({(slot + offset, why): tally for (slot, why), tally in part.unexpected.items()})
        whole.unexpected_publisher.update({(slot + offset, why): p for (slot, why), p in part.unexpected_publisher.items()})
        whole.slots += part.slots
    return whole


def publications_to_wire(publications: Publications) -> bytes:
    """Encode, checkpoints included."""
    return msgspec.msgpack.encode(
        _PublicationsWire(
            publishers=publications.publishers,
            counts=[getattr(publications, name) for name in _PUBLICATION_COUNTS],
            columns=[_pack(np.array(getattr(publications, name), np.int64)) for name in _PUBLISHER_COLUMNS],
            ranges=[_pack_ranges(kind) for kind in (publications.early, publications.failures, publications.unsent)],
            points=[
                [(p, points.stride, points.times_ns.tobytes(), points.seqs.tobytes()) for p, points in kind.items()]
                for kind in (publications.sent_points, publications.ack_points)
            ],
        )
    )


def publications_from_wire(data: bytes) -> Publications:
    """Decode what `publications_to_wire` gave."""
    wire = msgspec.msgpack.decode(data, type=_PublicationsWire)
    publications = Publications(publishers=wire.publishers)
    for name, count in zip(_PUBLICATION_COUNTS, wire.counts, strict=True):
        setattr(publications, name, count)
    for name, column in zip(_PUBLISHER_COLUMNS, wire.columns, strict=True):
        setattr(publications, name, _unpack(column).tolist())
    publications.early, publications.failures, publications.unsent = (_unpack_ranges(kind) for kind in wire.ranges)
    publications.sent_points, publications.ack_points = (
        {p: Checkpoints(array("q", times_ns), array("q", seqs), stride) for p, stride, times_ns, seqs in kind} for kind in wire.points
    )
    return publications


def merge_publications(parts: Sequence[Publications]) -> Publications:
    """Make one of the publications of several agents; the parts must not be used any more.

    Raises: UsageError for no parts or different populations, HarnessBugError when two agents published as the same publisher.
    """
    if not parts:
        raise UsageError("no publications to merge; a run has at least one agent")
    if len({part.publishers for part in parts}) != 1:
        raise UsageError(
            f"publications of different populations cannot be merged: {sorted({part.publishers for part in parts})} publishers"
        )
    whole = Publications(publishers=parts[0].publishers)
    for part in parts:
        used = np.flatnonzero(np.array(part.attempted_end, np.int64)).tolist()
        for publisher in used:
            if whole.attempted_end[publisher]:
                raise HarnessBugError(f"two agents published as publisher {publisher}; each publisher has one agent")
            for name in _PUBLISHER_COLUMNS:
                getattr(whole, name)[publisher] = getattr(part, name)[publisher]
        for name in _PUBLICATION_COUNTS:
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
        for name in ("early", "failures", "unsent", "sent_points", "ack_points"):
            getattr(whole, name).update(getattr(part, name))
    return whole


def _pack(column: Ints) -> bytes:
    return column.astype("<i8", copy=False).tobytes()


def _unpack(data: bytes) -> Ints:
    return np.frombuffer(data, "<i8").astype(np.int64)


def _pack_ranges(kind: dict[int, Ranges]) -> list[bytes]:
    heads = np.array([(publisher, len(ranges)) for publisher, ranges in kind.items()], np.int64).ravel()
    starts = np.array([start for ranges in kind.values() for start in ranges.starts], np.int64)
    ends = np.array([end for ranges in kind.values() for end in ranges.ends], np.int64)
    return [_pack(heads), _pack(starts), _pack(ends)]


def _unpack_ranges(columns: list[bytes]) -> dict[int, Ranges]:
    heads, starts, ends = (_unpack(column).tolist() for column in columns)
    kind: dict[int, Ranges] = {}
    at = 0
    for publisher, count in zip(heads[::2], heads[1::2], strict=True):
        kind[publisher] = Ranges(starts[at : at + count], ends[at : at + count])
        at += count
    return kind
