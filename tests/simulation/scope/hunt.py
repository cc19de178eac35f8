"""Which mutation of the engine the search finds, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulation.scope.cases import CASES
from simulation.scope.search import Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulation.mutations import Mutation
    from simulation.scope.cases import Case
    from simulation.scope.moves import Move

BOUNDS = ((3, 0), (1, 1), (2, 1), (1, 2), (2, 2))  # changes and faults, the least first


class Seen(NamedTuple):
    """A mutation was seen as `violation`, `states` after the search began."""

    case: str
    violation: str
    script: list[Move]
    states: int


# Not to be seen here, and why. The random schedules see them (simulation/soak.py).
OUT_OF_SCOPE = {
    "token inside a split event": "no change of this scope is split",
    "attempts not stored": "that a poison change is never found shows only in many runs",
    "renewal after release": "the keeper decides and renews at once, here",
    "one_suspect not shared": "it takes two streams in one process, and here is one",
}


def seen(mutation: Mutation, cases: Sequence[Case] = CASES) -> Seen | None:
    """The first violation that `mutation` leads to; None where there is none in these bounds."""
    states = 0
    with mutation.applied():
        for changes, faults in BOUNDS:
            for case in reversed(cases):  # the least first
                found = Search(case.within(changes=changes, faults=faults)).explore()
                states += found.states
                if found.scripts:
                    violation, script = found.scripts[0]
                    if "TypeError" in violation:
                        raise TypeError(f"{mutation.name} no longer fits the engine: {violation}")
                    return Seen(case.name, violation, script, states)
    return None
