"""A run under way, and how it goes on by one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulation.scope.scene import Violated

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from simulation.scope.histories import Event, Histories, History
    from simulation.scope.parts import Part
    from simulation.scope.scene import Asked, Scene, Trouble, World

SERVER = ("source", "reader")


class Live(NamedTuple):
    """A run under way; `unseen`: what the container has not noticed yet, as it is frozen.

    `reader`: until it is closed, and behind that if it has left a scan.
    """

    history: History
    reader: Part | None = None
    unseen: tuple[Event, ...] = ()

    @property
    def port(self) -> str | None:
        """Whose answer it waits for; None while it is frozen with an answer in hand."""
        call = self.history.call
        return None if self.unseen or call is None else call.port

    @property
    def waits_for_server(self) -> bool:
        """Whether its next step touches the server."""
        return self.port in SERVER

    @property
    def was_frozen(self) -> bool:
        """Whether it has lived through a jump of time."""
        return bool(self.unseen) or self.history.was_frozen

    @property
    def is_over(self) -> bool:
        """Whether the run has come to its end."""
        return not self.unseen and self.history.call is None

    def key(self, histories: Histories) -> Hashable:
        """Equal for equal runs."""
        reader = self.reader.number if self.reader else None
        unseen = tuple(map(histories.number, self.unseen))
        return (self.history.number, reader, unseen)


def asked(scene: Scene, world: World, run: Live, jumps: int, trouble: Trouble = "") -> Asked:
    """What its call does. Raises Violated."""
    call = run.history.call
    if call is None:
        raise AssertionError("a run that has ended asks nothing")
    return scene.asked(world, run.reader, call, jumps, trouble)


def unnoticed(run: Live, answered: Asked) -> Live:
    """The run whose call had its effect, before it hears of it."""
    return run._replace(reader=answered.reader, unseen=(answered.answer,))


def gone_on(
    scene: Scene, world: World, run: Live, jumps: int, trouble: Trouble = ""
) -> tuple[World, Live]:
    """The run at its next call, or at its end. Raises Violated."""
    if run.unseen:
        run = _noticed(scene, run, run.unseen)
    else:
        answered = asked(scene, world, run, jumps, trouble)
        world = answered.world
        run = _noticed(scene, run._replace(reader=answered.reader), (answered.answer,))
    call = run.history.call
    if call is not None and call.name == "close":  # touches nothing that others see: no step
        return gone_on(scene, world, run, jumps)
    return _judged(scene, world, run), run


def leaves_no_trace(scene: Scene, world: World, run: Live, jumps: int) -> bool:
    """Whether the run, alone from here on, ends without touching anything."""
    try:
        while not run.is_over:
            behind, run = gone_on(scene, world, run, jumps)
            if behind != world:
                return False
    except Violated:
        return False
    return True


def _noticed(scene: Scene, run: Live, events: Iterable[Event]) -> Live:
    history = run.history
    for event in events:
        history = scene.histories.after(history, event)
    return run._replace(history=history, unseen=())


def _judged(scene: Scene, world: World, run: Live) -> World:
    """The world once the truth has seen where the run has come to."""
    if run.history.call is not None:
        return scene.arrived(world, run.history)
    return scene.ended(world, run.history, run.reader)
