"""Every state that can be reached, each looked into once, the nearest first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulation.scope.moves import after, beginning, moves_from, settle_the_rest
from simulation.scope.scene import Scene, Violated

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from simulation.scope.cases import Case
    from simulation.scope.moves import Move, State


@dataclass(slots=True)
class Found:
    """What a search has met. `scripts`: a violation, and the shortest way there."""

    case: str
    states: int = 0
    transitions: int = 0
    depth: int = 0
    final: int = 0
    histories: int = 0
    scripts: list[tuple[str, list[Move]]] = field(default_factory=list)


class Search:
    """Breadth first, so that the first violation met is one of the shortest."""

    def __init__(self, case: Case, *, stop_at: int = 1) -> None:
        self.scene = Scene(case)
        self.found = Found(case.name)
        self._stop_at = stop_at
        self._came: dict[Hashable, tuple[Hashable, Move] | None] = {}

    def explore(self, tell: Callable[[Found], object] = lambda _: None) -> Found:
        """Look into every state; `tell` hears of each further step of depth."""
        first = beginning(self.scene)
        self._came[first.key] = None
        level = [first]
        while level and len(self.found.scripts) < self._stop_at:
            level = self._next_level(level)
            self.found.depth += bool(level)
            self.found.states = len(self._came)
            self.found.histories = len(self.scene.histories)
            tell(self.found)
        return self.found

    def _next_level(self, level: list[State]) -> list[State]:
        behind: list[State] = []
        for state in level:
            key = state.key
            if state.is_final:
                self._finish(state, key)
            for move in moves_from(self.scene, state):
                reached = self._reached(state, key, move)
                if reached is not None:
                    behind.append(reached)
        return behind

    def _reached(self, state: State, key: Hashable, move: Move) -> State | None:
        """The state behind `move`, if it is new and keeps the guarantees."""
        self.found.transitions += 1
        try:
            reached = after(self.scene, state, move)
        except Violated as violated:
            self.found.scripts.append((str(violated), [*self._way(key), move]))
            return None
        reached_key = reached.key
        if reached_key in self._came:
            return None
        self._came[reached_key] = (key, move)
        return reached

    def _finish(self, state: State, key: Hashable) -> None:
        self.found.final += 1
        try:
            settle_the_rest(self.scene, state)
        except Violated as violated:
            self.found.scripts.append((str(violated), self._way(key)))

    def _way(self, key: Hashable) -> list[Move]:
        moves: list[Move] = []
        came = self._came[key]
        while came is not None:
            key, move = came
            moves.append(move)
            came = self._came[key]
        return moves[::-1]
