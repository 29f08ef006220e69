"""Which words of a fleet's script were not done, or are not known to have been, and what the figures of its record are worth then.

A word that could not be done is nothing that the fleet did wrong: figures about what follows a word, such as how soon partitions are given
on, say nothing without it. That two leaders claimed one epoch is wrong whatever was said. Pure.
"""

from __future__ import annotations

from floodmark.drivers.fleet_figures import FIGURES, said_of
from floodmark.drivers.fleet_notes import ENDED_MARK, FAILED_MARK, MARK
from floodmark.drivers.fleet_record import Record
from floodmark.model.shortfall import Shortfall

LOOK = "measure"
LOOKED_AT = frozenset({name for name in FIGURES if name == "looks" or name.startswith(("memory_", "tasks_"))} | {"words_failed"})
ANY_TIME = frozenset(
    {"leaders_twice", "version_back", "stale_writes", "ids_twice", "record_missed", "puts_failed", "words_said", "words_late_max_s"}
)
"""What is true whatever was done to the fleet."""
SETTLED = frozenset({"settled_points", "coverage_gaps", "orphans", "owners_twice", "strangers", "unapplied"})
"""What is true of a fleet that had its time since the last word: where no word may have been done without a note of it."""


def shortfall_of(record: Record) -> Shortfall | None:
    """Say what of the script was not done; None when all of it was, or there is none."""
    failed = [note.value or {} for note in record.of(MARK) if note.key == FAILED_MARK]
    ended = [str((note.value or {}).get("error", "")) for note in record.of(MARK) if note.key == ENDED_MARK]
    unsaid_count = max(0, said_of(record).unsaid_count)
    if not failed and not ended and not unsaid_count:
        return None
    why = []
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        why.append(f"the word {str(failed[0].get('word', ''))!r}{more} could not be done ({failed[0].get('error', 'without a reason')})")
    if unsaid_count:
        why.append(f"{unsaid_count} of the {record.script_count} words of the script are not recorded as done")
    if ended:
        why.append(f"the script ended early ({ended[0]})")
    looks_count = sum(str(one.get("word", "")).split(" ")[1:2] == [LOOK] for one in failed)
    if looks_count == len(failed) and not unsaid_count and not ended:
        stands = frozenset(FIGURES) - LOOKED_AT  # our own looks alone: nothing was left undone to the fleet
    elif unsaid_count or ended:
        stands = ANY_TIME
    else:
        stands = ANY_TIME | SETTLED
    return Shortfall(why=", and ".join(why), count=len(failed) + unsaid_count, stands=stands)
