"""`python -m floodmark.systems.fleet.simulation --seeds 0..2000`: play histories of a fleet, and judge each at every step.

One line of totals at the end. A violation is told with its seed, the time, the invariant in a sentence, the last events and the command
that plays it again. Exit code 0: none; 10: a violation; 2: a wrong option.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time

from floodmark.systems.fleet.simulation.defects import DEFECTS
from floodmark.systems.fleet.simulation.plan import TEMPLATES, plan_for
from floodmark.systems.fleet.simulation.run import Totals, Wish, play_many
from floodmark.systems.fleet.simulation.world import Outcome

PROGRAM = "python -m floodmark.systems.fleet.simulation"
SHOWN_COUNT = 5  # failing seeds that are told in full
FAIL = 10


def main(arguments: list[str]) -> int:
    """Play what was asked for. Returns: the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="the fleet on virtual time, judged at every step")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, metavar="N", help="play one seed")
    which.add_argument(
        "--seeds", type=_seeds, metavar="A..B", default=range(200), help="play the seeds from A to B, B not among them (0..200)"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="so many at the start, whatever the seed says")
    parser.add_argument("--partitions", type=int, default=0, metavar="N", help="so many, whatever the seed says")
    parser.add_argument("--episode", default="", choices=["", *TEMPLATES], metavar="NAME", help=f"only this one: {', '.join(TEMPLATES)}")
    parser.add_argument("--defect", default="", choices=["", *DEFECTS], metavar="D", help=f"put a defect back: {', '.join(DEFECTS)}")
    parser.add_argument("--processes", type=int, default=0, metavar="N", help="play on so many processes (default: one per processor)")
    parser.add_argument("--trace", action="store_true", help="tell every event, not only the last ones of a violation")
    chosen = parser.parse_args(arguments)
    if min(chosen.workers, chosen.partitions, chosen.processes) < 0:
        parser.error("--workers, --partitions and --processes must be 0 or more")
    seeds = [chosen.seed] if chosen.seed is not None else list(chosen.seeds)
    wish = Wish(
        workers_count=chosen.workers,
        partitions_count=chosen.partitions,
        episode=chosen.episode,
        defect=chosen.defect,
        trace=chosen.trace,
    )
    totals, began_s = Totals(), time.monotonic()
    for outcome in play_many(seeds, wish, processes_count=chosen.processes):
        totals.add(outcome)
        if chosen.trace or (outcome.violations and len(totals.failed_seeds) <= SHOWN_COUNT):
            print(told(outcome, wish), flush=True)
    print(summary(totals, time.monotonic() - began_s))
    return FAIL if totals.failed_seeds else 0


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        seeds = range(int(first), int(last) if dots else int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of seeds; write it like 0..2000") from None
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text} is empty: no seed would be played, and nothing shown by it")
    return seeds


def told(outcome: Outcome, wish: Wish) -> str:
    """One outcome in full: the plan, the events, the violations, the command to play it again."""
    plan = plan_for(outcome.seed, workers_count=wish.workers_count, partitions_count=wish.partitions_count, episode=wish.episode)
    lines = [
        f"seed {outcome.seed}: {plan.workers_count} workers, {plan.partitions_count} partitions, profile {plan.profile}, {plan.strategy}, "
        f"weather {plan.weather.name!r}, handover {plan.settings.handover.value}, "
        f"episodes {', '.join(episode.name for episode in plan.episodes)}"
    ]
    lines += [f"  {event.at_s:10.4f} s  {event.who:<6} {event.what}" for event in outcome.events]
    lines += [f"VIOLATION at {each.at_s:.4f} s, {each.invariant}: {each.sentence}" for each in outcome.violations]
    if outcome.violations:
        lines.append(f"play it again: {replay(outcome.seed, wish)}")
    return "\n".join(lines)


def replay(seed: int, wish: Wish) -> str:
    """The command that plays a seed again, with every event."""
    said = {"workers": wish.workers_count, "partitions": wish.partitions_count, "episode": wish.episode, "defect": wish.defect}
    options = "".join(f" --{name} {shlex.quote(str(value))}" for name, value in said.items() if value)
    return f"{PROGRAM} --seed {seed}{options} --trace"


def summary(totals: Totals, took_s: float) -> str:
    """The one line at the end."""
    failed = totals.failed_seeds
    which = "" if not failed else f" (seeds {', '.join(map(str, failed[:20]))}{', ...' if len(failed) > 20 else ''})"
    return (
        f"{totals.seeds_count} seeds, {len(failed)} with a violation{which}; {totals.virtual_s / 3600:.1f} h of virtual time, "
        f"{totals.steps_count:,} steps, {totals.writes_count:,} writes, {totals.rounds_count:,} rounds, {totals.epochs_count:,} epochs; "
        f"{totals.losses_judged_count} losses judged ({totals.losses_hindered_count} hindered), the latest {totals.loss_late_s_most:.3f} s "
        f"after TTL + grace; {totals.overlaps_count} overlaps of {totals.overlap_s_total:.1f} s in all, "
        f"the longest {totals.overlap_s_longest:.3f} s; "
        f"{took_s:.1f} s, {60 * totals.seeds_count / took_s:,.0f} seeds a minute"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
