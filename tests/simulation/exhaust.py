"""Looks into every state that two containers, three changes and two faults can lead to.

    make exhaust       or: python tests/simulation/exhaust.py --changes 2 --faults 1

Exits with 1 if a guarantee did not hold, or a mutation of the engine was not found.
"""

# ruff: noqa: E402, T201 - a command: it finds its modules by itself, and prints

from __future__ import annotations

import argparse
import gc
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "layers" / "tidemark"), str(ROOT / "tests")]

from simulation.mutations import MUTATIONS
from simulation.scope.cases import CASES
from simulation.scope.hunt import OUT_OF_SCOPE, Seen, seen
from simulation.scope.search import Found, Search
from simulation.scope.story import parsed, script_of, told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from simulation.scope.cases import Case

PROGRESS_S = 30.0
COMMAND = ".venv/bin/python tests/simulation/exhaust.py"


class Progress:
    """Tells now and then how far one search has come."""

    def __init__(self) -> None:
        self._told_s = time.monotonic()

    def __call__(self, found: Found) -> None:
        """Tell it, unless it was told just now."""
        if time.monotonic() - self._told_s > PROGRESS_S:
            self._told_s = time.monotonic()
            print(f"  … {found.case}: {found.states:,} states, depth {found.depth}", flush=True)


def explored(case: Case) -> Found:
    """Everything that `case` can lead to."""
    return Search(case).explore(Progress())


def hunted(name: str) -> Seen | None:
    """How the mutation named `name` was seen."""
    return seen(next(mutation for mutation in MUTATIONS if mutation.name == name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Explore the cases, then hunt the mutations."""
    given = _parser().parse_args(arguments)
    cases = [_bounded(case, given) for case in CASES if given.case in (None, case.name)]
    if given.play is not None:
        print("\n".join(told(cases[0], parsed(given.play))))
        return 0
    began_s = time.monotonic()
    with _pool(given.workers) as pool:
        explorations = {pool.submit(explored, case): case.name for case in cases}
        names = [each.name for each in MUTATIONS if given.mutations and each.name in _in_scope()]
        hunts = {name: pool.submit(hunted, name) for name in names}
        results = _explored(explorations)
        unseen = _show_mutations(hunts) if hunts else 0
    print(f"\n{time.monotonic() - began_s:.0f} s, {given.workers} processes")
    violations = _show_violations(results)
    print(f"{sum(found.states for found in results):,} states, {violations} violations")
    return 1 if violations or unseen else 0


def _pool(workers: int) -> ProcessPoolExecutor:
    """A process for each search, so that its memory is free again behind it."""
    return ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=gc.disable, max_tasks_per_child=1
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Look into every state of a small scope.")
    parser.add_argument("--changes", type=int, default=3, help="written at the most")
    parser.add_argument("--faults", type=int, default=2, help="that happen at the most")
    parser.add_argument("--case", choices=[case.name for case in CASES], help="only this one")
    parser.add_argument("--mutations", action="store_true", help="hunt the mutations as well")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument(
        "--play", metavar="SCRIPT", help="tell the script of a violation (of --case)"
    )
    return parser


def _bounded(case: Case, given: argparse.Namespace) -> Case:
    return case.within(changes=given.changes, faults=given.faults)


def _in_scope() -> set[str]:
    return {mutation.name for mutation in MUTATIONS} - set(OUT_OF_SCOPE)


def _explored(explorations: dict[Future[Found], str]) -> list[Found]:
    """Print the table, a line as soon as it is known."""
    print(f"  {'':22} {'states':>10} {'transitions':>12} {'deepest':>8} {'final':>7}")
    results = []
    for future in as_completed(explorations):
        found = future.result()
        results.append(found)
        print(
            f"  {found.case:22} {found.states:>10,} {found.transitions:>12,} "
            f"{found.depth:>8} {found.final:>7,}",
            flush=True,
        )
    return results


def _show_mutations(hunts: dict[str, Future[Seen | None]]) -> int:
    """Print what became of each; how many went unseen."""
    print("\nMutations")
    unseen = 0
    for name, hunt in hunts.items():
        found = hunt.result()
        unseen += found is None
        print(f"  {name:40} {_how(found)}", flush=True)
    for name, reason in OUT_OF_SCOPE.items():
        print(f"  {name:40} out of scope: {reason}")
    print(f"  {unseen} of {len(hunts)} not found")
    return unseen


def _how(found: Seen | None) -> str:
    if found is None:
        return "NOT FOUND"
    guarantee = found.violation.partition(":")[0]
    return f"found as {guarantee} by {len(found.script)} moves, {found.states:,} states"


def _show_violations(results: Sequence[Found]) -> int:
    """Print the shortest script of each case; how many violations there are."""
    for found in results:
        for violation, moves in found.scripts[:1]:
            print(f'\n{violation}\n  {COMMAND} --case "{found.case}" --play "{script_of(moves)}"')
            case = next(each for each in CASES if each.name == found.case)
            print("\n".join(told(case, moves)), end="\n\n")
    return sum(len(found.scripts) for found in results)


if __name__ == "__main__":
    sys.exit(main())
