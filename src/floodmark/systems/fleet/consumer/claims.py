"""Who holds which subject, and what of it may be taken: the decision alone, no server.

A durable tells in its metadata for which assignment (epoch, version) it was made, and where it stood with subjects that it gave up. Of two
workers that claim a subject the one with the newer assignment has it; at the same one (or where there are no versions) an update takes it
and a consumer that was found missing leaves it: somebody took its subjects away, and making it again must not take them back.
The same holds for a durable of the very same name: a worker that was started anew under its old id may have a predecessor that only slept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

Version = tuple[int, int]  # (epoch, version)
UNVERSIONED: Version = (0, 0)
VERSION_KEY, OWNER_KEY, LEFT_KEY = "floodmark-version", "floodmark-owner", "floodmark-left"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """One durable of the fleet, as the server tells of it."""

    name: str
    subjects: tuple[str, ...]
    version: Version
    owner: str  # drawn by the consumer that made it; two of the same name differ in it
    ack_floor: int  # everything up to this sequence of the stream is done with, as far as this durable goes
    left: Mapping[str, tuple[Version, int]]  # subjects that it gave up: for which assignment it had held them, and its floor then


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do so that a durable can be made."""

    subjects: tuple[str, ...]  # those that it may have
    refused: tuple[str, ...]  # those that a newer assignment has
    rob: tuple[Holder, ...]  # durables that must go first


def metadata_of(version: Version, owner: str, left: Mapping[str, tuple[Version, int]]) -> dict[str, str]:
    """Say it in the words of a durable's metadata, which are text."""
    said = {VERSION_KEY: f"{version[0]}.{version[1]}", OWNER_KEY: owner}
    if left:
        said[LEFT_KEY] = msgspec.json.encode({subject: [*held, floor] for subject, (held, floor) in sorted(left.items())}).decode()
    return said


def holder_of(name: str, subjects: Iterable[str], ack_floor: int, metadata: Mapping[str, str]) -> Holder:
    """Read what `metadata_of` said; what somebody else wrote there counts as nothing."""
    try:
        epoch, version = (int(word) for word in metadata.get(VERSION_KEY, "0.0").split("."))
        left = msgspec.json.decode(metadata.get(LEFT_KEY, "{}"), type=dict[str, tuple[int, int, int]])
    except (ValueError, msgspec.DecodeError):
        epoch, version, left = 0, 0, {}
    return Holder(
        name=name,
        subjects=tuple(sorted(subjects)),
        version=(epoch, version),
        owner=metadata.get(OWNER_KEY, ""),
        ack_floor=ack_floor,
        left={subject: ((one, two), floor) for subject, (one, two, floor) in left.items()},
    )


def is_ahead(holder: Holder, version: Version, owner: str, *, take: bool) -> bool:
    """Tell if a durable of our name is another's, and must be left to it."""
    return holder.owner != owner and (holder.version > version or (holder.version == version and not take))


def plan(wanted: Sequence[str], version: Version, others: Iterable[Holder], *, take: bool) -> Plan:
    """Decide, on a stream where each subject has one consumer, who must go and what must be left to others.

    Args:
        others: all durables of the fleet but our own.
        take: whether a subject at the same version is ours (an update) or theirs (making a missing consumer again).
    """
    ours = set(wanted)
    refused: set[str] = set()
    rob: list[Holder] = []
    for holder in others:
        both = ours.intersection(holder.subjects)
        if not both:
            continue
        if holder.version > version or (holder.version == version and not take):
            refused |= both
        else:
            rob.append(holder)
    subjects = tuple(subject for subject in wanted if subject not in refused)
    rob = [holder for holder in rob if not refused.issuperset(ours.intersection(holder.subjects))]
    return Plan(subjects=subjects, refused=tuple(sorted(refused)), rob=tuple(rob))


def floors(
    wanted: Collection[str], holders: Iterable[Holder], told: Mapping[str, tuple[Version, int]] = MappingProxyType({})
) -> dict[str, int]:
    """Tell, on a stream that keeps what was read, up to where each subject is done with; a subject that nobody held is not in the answer.

    The word of the newest assignment counts; among equals, that which is furthest behind: rather twice than never.

    Args:
        told: what we know ourselves, in the words of `Holder.left`.
    """
    known: dict[str, tuple[Version, int]] = {}
    words = [(subject, word) for subject, word in told.items()]
    for holder in holders:
        words += holder.left.items()
        words += ((subject, (holder.version, holder.ack_floor)) for subject in holder.subjects)
    for subject, (version, floor) in words:
        before = known.get(subject)
        if before is None or version > before[0] or (version == before[0] and floor < before[1]):
            known[subject] = (version, floor)
    return {subject: floor for subject, (_, floor) in known.items() if subject in wanted}
