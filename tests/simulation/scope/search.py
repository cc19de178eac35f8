"""Every state that can be reached, each looked into once, the nearest first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulation.scope.moves import Move, after, beginning, moves_from, settle_the_rest
from simulation.scope.runs import Live
from simulation.scope.scene import Scene, Violated

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from simulation.scope.cases import Case
    from simulation.scope.moves import Slot, State


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

    def __init__(self, case: Case) -> None:
        self.scene = Scene(case)
        self.found = Found(case.name)
        self._slots: dict[Hashable, int] = {}
        self._numbers: dict[Hashable, int] = {}  # of states
        self._came: list[tuple[int, Move]] = []  # from which state, by which move

    def explore(self, tell: Callable[[Found], object] = lambda _: None) -> Found:
        """Look into every state up to the first violation; `tell` hears of each step of depth."""
        first = beginning(self.scene)
        self._numbers[self._key(first)] = 0
        self._came.append((0, Move("")))
        level = [first]
        while level and not self.found.scripts:
            level = self._next_level(level)
            self.found.depth += bool(level)
            self.found.states = len(self._numbers)
            self.found.histories = len(self.scene.histories)
            tell(self.found)
        return self.found

    def _next_level(self, level: list[State]) -> list[State]:
        behind: list[State] = []
        for state in level:
            number = self._numbers[self._key(state)]
            if state.is_final:
                self._finish(state, number)
            for move in moves_from(self.scene, state):
                reached = self._reached(state, number, move)
                if reached is not None:
                    behind.append(reached)
        return behind

    def _reached(self, state: State, number: int, move: Move) -> State | None:
        """The state behind `move`, if it is new and keeps the guarantees."""
        self.found.transitions += 1
        try:
            reached = after(self.scene, state, move)
        except Violated as violated:
            self.found.scripts.append((str(violated), [*self.way(number), move]))
            return None
        key = self._key(reached)
        if key in self._numbers:
            return None
        self._numbers[key] = len(self._came)
        self._came.append((number, move))
        return reached

    def _finish(self, state: State, number: int) -> None:
        self.found.final += 1
        try:
            settle_the_rest(self.scene, state)
        except Violated as violated:
            self.found.scripts.append((str(violated), self.way(number)))

    def _key(self, state: State) -> Hashable:
        """Equal for equal states."""
        numbers = [part.number for part in state.world]
        first, second = map(self._slot_number, state.slots)
        return (*numbers, first, second, state.written, state.faults, state.has_dropped)

    def _slot_number(self, slot: Slot) -> int:
        key = slot.key(self.scene.histories) if isinstance(slot, Live) else slot
        return self._slots.setdefault(key, len(self._slots))

    def way(self, number: int) -> list[Move]:
        """How the state of this number was reached."""
        moves: list[Move] = []
        while number:
            number, move = self._came[number]
            moves.append(move)
        return moves[::-1]
