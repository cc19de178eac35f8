"""A script of moves, played again and told step by step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulation.scope.moves import BEGIN, Move, after, beginning, moves_from, settle_the_rest
from simulation.scope.runs import Live
from simulation.scope.scene import Scene, Violated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from simulation.scope.cases import Case
    from simulation.scope.moves import State

MEANINGS = {
    "write": "the next entry is written",
    "drop": "the collection is dropped",
    "lose": "the server has lost all but so many entries",
    "refuse": "the server opens no stream at an invalidate's token any more",
    "wait": "time passes until the dead container's lease is over",
    "crash": "the container is gone",
    "go": "{call}",
    "lost": "{call}, done, its answer lost",
    "fails": "{call}, which fails",
    "renew": "the keeper renews the lease",
    "freeze": "frozen before {call}; its monotonic clock runs on",
    "stop": "frozen before {call}; its monotonic clock stops",
    "gofreeze": "frozen behind {call}; its monotonic clock runs on",
    "gostop": "frozen behind {call}; its monotonic clock stops",
}


def script_of(moves: Iterable[Move]) -> str:
    """The moves as `parsed` reads them."""
    return " ".join(map(str, moves))


def parsed(script: str) -> list[Move]:
    """The moves of a script such as `begin0 write go0`. Raises ValueError."""
    moves = []
    for word in script.split():
        match = re.fullmatch(r"([a-z]+)(\d?)", word)
        if match is None or match[1].removeprefix(BEGIN) not in (*MEANINGS, ""):
            raise ValueError(f"{word!r} is no move")
        moves.append(Move(match[1], int(match[2]) if match[2] else None))
    return moves


def told(case: Case, moves: Sequence[Move]) -> Iterator[str]:
    """Each move and what it means, then the violation, if there is one."""
    scene = Scene(case)
    state = beginning(scene)
    try:
        for move in moves:
            if move not in list(moves_from(scene, state)):
                raise ValueError(f"{move} cannot happen here")
            yield f"  {move!s:14} {_meaning(state, move)}"
            state = after(scene, state, move)
        if state.is_final:
            yield "  everything is written, and a last run begins"
            settle_the_rest(scene, state)
    except Violated as violated:
        yield str(violated)


def _meaning(state: State, move: Move) -> str:
    name = move.name.removeprefix(BEGIN) or "go"
    return MEANINGS[name].format(call=_call(state, move))


def _call(state: State, move: Move) -> str:
    if move.name.startswith(BEGIN):
        return "store.acquire"
    run = state.slots[move.number or 0]
    if not isinstance(run, Live) or run.history.call is None:
        return ""
    if run.unseen:
        return "it wakes up"
    return f"{run.history.call.port}.{run.history.call.name}"
