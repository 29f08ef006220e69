"""Every figure that a fleet's record gives, by name: criteria name them as `target.NAME`. What was not seen has no figure, never 0.

A record from which entries are missing can still show that a promise was broken, and not that none was: its zeros are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from floodmark.drivers import fleet_memory, fleet_owners, fleet_promises, fleet_times
from floodmark.drivers.fleet_notes import FAILED_MARK, LATE_MARK, MARK, SAID_MARK
from floodmark.drivers.fleet_record import Record

FELT = "fail_put"
FIGURES: dict[str, str] = {
    "settled_points": "moments at which the fleet had had its time since the last word, and was judged",
    "coverage_gaps": "partitions that nobody held, at the worst settled point",
    "orphans": "partitions that only workers held who were no more, at the worst settled point",
    "owners_twice": "partitions that two workers held, at the worst settled point",
    "strangers": "partitions that were held and that the source did not have, at the worst settled point",
    "unapplied": "workers that did not work by the assignment they had, by their heartbeats, at the worst settled point",
    "idle_workers": "workers that beat and had no assignment, at the worst settled point",
    "workers": "workers that beat at the end",
    "assigned": "partitions held at the end",
    "partitions_min": "the least that one worker held then",
    "partitions_max": "the most that one worker held then",
    "weight_sum": "the weight of all partitions then",
    "weight_deviation_ratio": "how far the worst worker's weight was from the mean then",
    "affinity_ratio": "partitions that had the same owner at the first and the last settled point",
    "moved_max": "partitions that changed hands between two settled points, the most",
    "moved_sum": "the same, all of them together",
    "leaders": "tenures of leaders",
    "leaders_twice": "epochs that two leaders claimed",
    "versions": "rounds of assignments that were published",
    "versions_load": "the same, since the load began",
    "version_back": "writes of a version that was not above what was there",
    "stale_writes": "writes of an epoch that was over",
    "emergencies": "rounds published as emergencies",
    "emergencies_load": "the same, since the load began",
    "ids": "identities that were claimed",
    "claims": "holders that identities had, one after the other",
    "ids_twice": "times at which one identity was used by two",
    "silence_max_s": "the longest silence of a worker that went on afterwards",
    "first_assignment_s": "from the first claimed identity to the first assignment",
    "assigned_s": "from the first start to all workers of the beginning holding all partitions",
    "stable_s": "the same, and all of them saying that they work by it",
    "stop_max_s": "how long the slowest gentle stop took",
    "joined": "workers that came under load and were given partitions",
    "not_joined": "workers that came under load and were not",
    "joined_max_s": "from their claimed identity to their first assignment, the longest",
    "reassigned": "blows after which all partitions of the worker found new owners",
    "not_reassigned": "blows after which they did not",
    "blips": "blows that the worker was back from before anybody acted",
    "reassign_max_s": "from a blow to the last of the worker's partitions having a new owner, the longest",
    "reassign_min_s": "the same, the shortest",
    "failovers": "blows on the leader after which there was another one",
    "no_new_leader": "blows after which there was none",
    "failover_max_s": "from a blow on the leader to the next one, the longest",
    "handovers": "times at which another worker began to hand on messages of a partition",
    "overlap_messages": "messages that a former owner handed on after the new one had begun",
    "overlap_max_s": "how long after, the longest",
    "record_missed": "entries of the fleet's keys that the server did not copy into the record, such as one that was overwritten at once",
    "queued": "messages that the work queue still had at the end: nobody has lost them, they were not handed on in time",
    "looks": "looks at the memory of the workers",
    "memory_peak_bytes": "the most that all workers together had",
    "memory_rise_bytes": "the mean of the last quarter of the looks less that of the first",
    "tasks_max": "the most tasks of all workers together",
    "tasks_rise": "the mean of the last quarter of the looks less that of the first",
    **{
        f"memory_per_{unit}{end}_bytes": f"memory of one further {unit}: {text}"
        for unit in ("worker", "partition")
        for end, text in (("", "slope over the levels"), ("_lower", "lower end of its 95 % interval"), ("_upper", "upper end"))
    },
    "puts_failed": "writes of a leader that were made to fail",
    "words_said": "words that were done to the fleet",
    "words_failed": "words that could not be done",
    "words_unsaid": "words of the script that did not fail and that the host has not recorded as done",
    "words_late_max_s": "how late a word was said, the latest",
}
_PARTS: tuple[Callable[[Record], dict[str, float]], ...] = (
    fleet_owners.ownership,
    fleet_promises.leadership,
    fleet_promises.versions,
    fleet_promises.identities,
    fleet_promises.beats,
    fleet_times.standing,
    fleet_times.stopping,
    fleet_times.joining,
    fleet_times.reassignment,
    fleet_times.failover,
    fleet_times.overlap,
    fleet_memory.memory,
)


def figures_of(record: Record) -> dict[str, float]:
    """Work out every figure that the record has evidence for."""
    figures: dict[str, float] = {}
    for part in _PARTS:
        figures |= part(record)
    if record.missed_count:  # what it has is evidence all the same; that something is not in it is none any more
        figures = {name: value for name, value in figures.items() if value}
    if record.missed_count is not None:
        figures["record_missed"] = record.missed_count
    if record.queued_count is not None:
        figures["queued"] = record.queued_count
    return figures | _script(record)


class Said(NamedTuple):
    """What became of the script's words; `unsaid_count` is below 0 for words that are none of it.

    `failed_count` has our own looks too, which are none of the words that the host is to do; `failed_here_count` has not.
    """

    said_count: int
    failed_count: int
    failed_here_count: int
    unsaid_count: int


def said_of(record: Record) -> Said:
    """Count the words that were said, that failed, and that are not known to have been done."""
    said_words, failed_words = _words(record, SAID_MARK), _words(record, FAILED_MARK)
    done_words = Counter(word.word for word in record.words)
    failed_here_count = failed_words.total() - failed_words["measure"]
    unsaid_count = (record.script_count or 0) - failed_here_count - (said_words & done_words).total()
    return Said(said_words.total(), failed_words.total(), failed_here_count, unsaid_count)


def _script(record: Record) -> dict[str, float]:
    """What became of the script. Empty when nothing of it was tried."""
    said, failed, _, unsaid = said_of(record)
    felt = sum(word.word == FELT for word in record.words)
    figures: dict[str, float] = {"puts_failed": felt} if felt else {}
    if not said and not failed:
        return figures
    late_s = [float((note.value or {}).get("late_s", 0.0)) for note in record.of(MARK) if note.key == LATE_MARK]
    figures |= {"words_said": said, "words_failed": failed, "words_late_max_s": max(late_s, default=0.0)}
    if record.script_count is not None:
        figures["words_unsaid"] = unsaid
    return figures


def _words(record: Record, key: str) -> Counter[str]:
    """How often each word was noted so; a note has the line of the script, which is its time, the word and the arguments."""
    lines = (str((note.value or {}).get("word", "")) for note in record.of(MARK) if note.key == key)
    return Counter(line.partition(" ")[2].partition(" ")[0] for line in lines)
