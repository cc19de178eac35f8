"""Plays schedules without end in sight, and shows that the invariants would see a mistake.

    make soak          or: python tests/simulation/soak.py --schedules 10000 --seed 1

Exits with 1 if a guarantee did not hold or a mutation went unseen.
"""

# ruff: noqa: E402, T201 - a command: it finds its modules by itself, and prints

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "layers" / "tidemark"), str(ROOT / "tests")]

from simulation.company import play_company
from simulation.generate import generated, smallest
from simulation.mutations import MUTATIONS, Mutation
from simulation.replay import Violated, guarantee_of, replay
from simulation.truth import Figures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulation.schedule import Schedule, Terms

COMPANY_EACH = 10  # schedules: two streams of one process
MUTATION_SCHEDULES = 1_000  # within so many each mutation must be seen


def soak(seeds: Iterable[int]) -> tuple[Figures, list[str]]:
    """Play the schedule of each seed; the sums, and a script for each that failed."""
    sums, failures = Figures(), []
    for seed in seeds:
        schedule, terms = generated(Random(seed))
        try:
            sums += replay(schedule, terms)
            if seed % COMPANY_EACH == 0:
                sums += play_company(seed)
        except Violated as violated:
            failures.append(f"seed {seed}: {shrunk(schedule, terms, violated)}")
    return sums, failures


def shrunk(schedule: Schedule, terms: Terms, violated: Violated) -> Violated:
    """The same guarantee violated by as few events as can be found."""

    def fails(less: Schedule) -> bool:
        return _violation(less, terms, violated) is not None

    return _violation(smallest(schedule, fails), terms, violated) or violated


def schedules_to_see(mutation: Mutation, seeds: Iterable[int]) -> tuple[int, str] | None:
    """How many schedules it takes to see a mutation, and as what; None if none shows it."""
    with mutation.applied():
        for count, seed in enumerate(seeds, 1):
            try:
                mutation.play(seed)
            except Violated as violated:
                if "TypeError" in str(violated):
                    raise  # the mutation no longer fits what it replaces
                return count, guarantee_of(violated)
    return None


def _violation(schedule: Schedule, terms: Terms, like: Violated) -> Violated | None:
    try:
        replay(schedule, terms)
    except Violated as violated:
        return violated if guarantee_of(violated) == guarantee_of(like) else None
    return None


def _show_mutations(first_seed: int) -> int:
    """Print the table; how many mutations went unseen."""
    unseen = 0
    for mutation in MUTATIONS:
        seen = schedules_to_see(mutation, range(first_seed, first_seed + MUTATION_SCHEDULES))
        unseen += seen is None
        told = "NOT SEEN" if seen is None else f"seen as {seen[1]} after {seen[0]} schedules"
        print(f"  {mutation.name:42} {told}")
    return unseen


def main() -> int:
    """Soak, then try each mutation."""
    parser = argparse.ArgumentParser(description="Play random schedules against the engine.")
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    sums, failures = soak(range(given.seed, given.seed + given.schedules))
    print("\n\n".join(failures[:3]))
    print(f"{time.monotonic() - began:.0f} s, seeds from {given.seed}")
    for name, count in asdict(sums).items():
        print(f"  {name:16} {count:>9,}")
    print(f"  {'violations':16} {len(failures):>9,}\n\nMutations")
    unseen = _show_mutations(given.seed)
    print(f"\n{len(failures)} violations, {unseen} of {len(MUTATIONS)} mutations unseen")
    return 1 if failures or unseen else 0


if __name__ == "__main__":
    sys.exit(main())
