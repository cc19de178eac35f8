"""Plays a schedule, then ends all faults and demands that everything arrives."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any, TypeAlias

from fakes import (
    HIDDEN_INVALIDATE,
    IDLE,
    INVALIDATE,
    UNAVAILABLE,
    Entry,
    StoreFault,
    Traits,
    insert,
    split,
    undecodable,
)
from simulation.schedule import (
    HARMFUL,
    Event,
    FailLetters,
    FailSink,
    FailStore,
    Finish,
    Freeze,
    Kill,
    Prune,
    RefuseInvalidates,
    Renew,
    Resume,
    Schedule,
    Start,
    Step,
    Terms,
    Wait,
    Write,
)
from simulation.world import World
from tidemark.errors import HistoryLost, StoreUnavailable, TidemarkError
from tidemark.model import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from simulation.process import Process
    from simulation.truth import Figures, Truth

    Document: TypeAlias = Callable[[int], Mapping[str, Any]]

TO_THE_END = 1_000_000
FOREIGN = {
    "idle": IDLE,
    "invalidate": INVALIDATE,
    "hidden_invalidate": HIDDEN_INVALIDATE,
    "unavailable": UNAVAILABLE,
}


class Violated(AssertionError):
    """A guarantee did not hold; the message is a script that shows it."""


def guarantee_of(violated: Violated) -> str:
    """The name of what was violated: G1 to G7, or liveness."""
    return str(violated).partition(":")[0]


class Player:
    """Does to a world what a schedule says."""

    def __init__(self, world: World, document: Document | None = None) -> None:
        self.world = world
        self._document = document or (lambda _: {})
        self._written = 0
        self._harmful = 0

    def play(self, schedule: Iterable[Event]) -> None:
        """Play `schedule` up to its end, or to the first violation."""
        for event in schedule:
            self.do(event)
            if self.world.truth.violations:
                return

    @singledispatchmethod
    def do(self, event: Event) -> None:
        """Let `event` happen."""
        raise NotImplementedError(repr(event))

    @do.register
    def _(self, event: Write) -> None:
        self._written += 1
        self._harmful += event.what in (*HARMFUL, "flaky")
        document = self._document(self._written)
        self.world.source.write(_entry(event, self._written, document))

    @do.register
    def _(self, event: Start) -> None:
        self._move(self.world.start(event.container), 1)

    @do.register
    def _(self, event: Step) -> None:
        self._move(self.world.processes.get(event.container), event.points)

    @do.register
    def _(self, event: Finish) -> None:
        self._move(self.world.processes.get(event.container), TO_THE_END)

    @do.register
    def _(self, event: Kill) -> None:
        process = self.world.processes.get(event.container)
        if process is not None and not process.is_over:
            self.world.truth.figures.crashes += 1
            process.kill()

    @do.register
    def _(self, event: Freeze) -> None:
        process = self.world.processes.get(event.container)
        if process is None or process.is_over:
            self.world.clock.advance_s(event.seconds)
        else:
            process.clock.freeze_s(event.seconds, monotonic_stops=event.monotonic_stops)

    @do.register
    def _(self, event: Renew) -> None:
        process = self.world.processes.get(event.container)
        if process is not None:
            process.keep(by_force=True)

    @do.register
    def _(self, event: FailStore) -> None:
        self.world.store.inject(StoreFault(event.how))

    @do.register
    def _(self, event: FailSink) -> None:
        self.world.sink_failures += event.times

    @do.register
    def _(self, event: FailLetters) -> None:
        self.world.letters.failures.append(event.how)

    @do.register
    def _(self, event: Wait) -> None:
        self.world.clock.sleep_s(event.seconds)

    @do.register
    def _(self, event: Prune) -> None:
        self.world.source.prune(self.world.source.end - event.keep)

    @do.register
    def _(self, event: RefuseInvalidates) -> None:
        refusal = HistoryLost("resumeAfter takes no invalidate's token", 260)
        self.world.source.invalidate_refusal = refusal if event.refuses else None

    @do.register
    def _(self, _event: Resume) -> None:
        with suppress(StoreUnavailable):
            self.world.store.set_status(self.world.stream.name, Status.RUNNING, reason=None)

    def end_faults(self) -> None:
        """No fault comes any more; what the policies leave to an operator, an operator does."""
        world = self.world
        for process in world.processes.values():
            process.kill()
        world.store.clear_faults()
        world.letters.failures.clear()
        world.sink_failures = 0
        stream = world.stream
        if stream.on_failure == "halt":
            stream = replace(stream, on_failure="dead_letter")
        if stream.on_history_lost == "halt":
            stream = replace(stream, on_history_lost="earliest")
        world.settings = replace(world.settings, streams=(stream,))
        world.store.set_status(stream.name, Status.RUNNING, reason=None)

    def demand_all(self) -> None:
        """Run without faults until nothing is owed, within a bounded number of runs."""
        runs = 4 + self._harmful * (self.world.stream.max_attempts + 4)
        for _ in range(runs):
            self.world.clock.advance_s(60)
            self._move(self.world.start(0), TO_THE_END)
            if self.world.truth.violations or self._has_all():
                return
        if owed := self.world.truth.owed():
            self.world.truth.blame("liveness", f"{runs} runs without a fault left {owed}")

    def _has_all(self) -> bool:
        return self.world.truth.start is not None and not self.world.truth.owed()

    def _move(self, process: Process | None, points: int) -> None:
        if process is None or process.is_over:
            return
        before = process.steps
        process.go_on(points)
        self.world.truth.figures.steps += process.steps - before
        if process.is_hung and points == TO_THE_END:
            self._abandon(process)
        if process.failure is not None:
            raise process.failure
        if process.summary is not None:
            self.world.truth.ended(process)

    def _abandon(self, process: Process) -> None:
        """What the supervisor does at the end of the reserve."""
        left_s = process.budget.abandon_s - process.monotonic_s()
        process.sleep_s(max(0.0, left_s))
        try:
            process.run.record_hung()
        except TidemarkError as error:
            process.telemetry.error("run.hung", error)
        process.kill()


def replay(schedule: Schedule, terms: Terms | None = None) -> Figures:
    """Play `schedule`, then end all faults and demand every change. Raises Violated."""
    terms = terms or Terms()
    return played(Player(World(terms)), schedule, terms).figures


def played(player: Player, schedule: Schedule, terms: Terms) -> Truth:
    """What came of `schedule` in the player's world. Raises Violated."""
    truth = player.world.truth
    try:
        player.play(schedule)
        if not truth.violations:
            player.end_faults()
            player.demand_all()
    finally:
        for process in player.world.processes.values():
            process.kill()
    if truth.violations:
        raise Violated(script_of(schedule, terms, str(truth.violations[0])))
    return truth


def script_of(schedule: Schedule, terms: Terms, violation: str) -> str:
    """The violation, and a Python script that plays the failing schedule again."""
    lines = "\n".join(f"        {event!r}," for event in schedule)
    return (
        f"{violation}\n\n"
        "from simulation.replay import *\n\n"
        f"replay(\n    [\n{lines}\n    ],\n    {terms!r},\n)\n"
    )


def _entry(event: Write, key: int, document: Mapping[str, Any]) -> Entry:
    if event.what in FOREIGN:
        return FOREIGN[event.what]
    if event.what == "split":
        return split(key, of=3)
    if event.what == "undecodable":
        return undecodable(key)
    return insert(key, what=event.what, **document)


__all__ = [  # what a printed script needs
    "FailLetters",
    "FailSink",
    "FailStore",
    "Finish",
    "Freeze",
    "Kill",
    "Prune",
    "RefuseInvalidates",
    "Renew",
    "Resume",
    "Start",
    "Step",
    "Terms",
    "Traits",
    "Wait",
    "Write",
    "replay",
]
