"""What can happen next in a state, and the state behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from simulation.scope.cases import JUMP_S, LAST_CONTAINER, SKEWS_S
from simulation.scope.histories import Freeze, Renewal
from simulation.scope.runs import Live, asked, gone_on, leaves_no_trace, unnoticed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulation.scope.scene import Scene, Trouble, World

CONTAINERS = (0, 1)
LAST_JUMPS = 20  # when the last run begins: long behind everything else
FREEZES = ("freeze", "stop")  # before the call is made; the monotonic clock runs on, or stops
LATE_FREEZES = ("gofreeze", "gostop")  # behind the call's effect, before its answer is noticed
FROZEN = {
    (stops, is_behind): Freeze(JUMP_S, stops, is_behind)
    for stops in (False, True)
    for is_behind in (False, True)
}
TROUBLES: dict[str, Trouble] = {"lost": "answer_lost", "fails": "delivery_fails"}
BEGIN = "begin"  # and its first call: "begin", "beginlost", "begingofreeze", "begingostop"
FAULTS = ("lost", "fails", *FREEZES, *LATE_FREEZES)
FAULTY = frozenset(
    {"drop", "lose", "refuse", "crash", *FAULTS, *(BEGIN + fault for fault in FAULTS)}
)

Slot: TypeAlias = Live | Literal["idle", "over"]


class State(NamedTuple):
    """Everything. `jumps`: how often time has jumped, which the other parts imply."""

    world: World
    slots: tuple[Slot, Slot]
    written: int
    faults: int  # that may still happen
    has_dropped: bool
    jumps: int

    @property
    def runs(self) -> list[tuple[int, Live]]:
        """The containers with a run under way."""
        return [(at, slot) for at, slot in enumerate(self.slots) if isinstance(slot, Live)]

    @property
    def is_final(self) -> bool:
        """Whether both containers have had their run."""
        return self.slots == ("over", "over")

    def with_slot(self, container: int, slot: Slot) -> State:
        """The state with another state of one container."""
        first, second = self.slots
        return self._replace(slots=(slot, second) if container == 0 else (first, slot))


class Move(NamedTuple):
    """One step of somebody; `number`: of a container, or of the entries that a loss leaves."""

    name: str
    number: int | None = None

    def __str__(self) -> str:
        """`go0`: what a script is made of."""
        return self.name + ("" if self.number is None else str(self.number))


def beginning(scene: Scene) -> State:
    """Nothing has happened yet."""
    return State(scene.beginning, ("idle", "idle"), 0, scene.case.max_faults, False, 0)


def moves_from(scene: Scene, state: State) -> Iterator[Move]:
    """Everything that can happen next and makes a difference."""
    faults = scene.case.faults if state.faults else frozenset()
    alone = _first_in_any_order(scene, state)
    if alone is not None:
        yield Move("go", alone)
        return
    yield from _server_moves(scene, state, faults)
    if "idle" in state.slots:
        yield from _beginnings(scene, state, faults)
    for container, run in state.runs:
        yield from _run_moves(container, run, faults)


def after(scene: Scene, state: State, move: Move) -> State:
    """The state behind `move`. Raises Violated."""
    if move.name in FAULTY:
        state = state._replace(faults=state.faults - 1)
    if move.name in ("write", "drop", "lose", "refuse"):
        return _after_server(scene, state, move)
    if move.name == "wait":
        return _jumped(scene, state)
    if move.number is None:
        raise AssertionError(f"whose move is {move.name}?")
    if move.name == "crash":
        return state.with_slot(move.number, "over")
    run = _run_of(scene, state, move, move.number)
    return _after_run(scene, state.with_slot(move.number, run), move, run)


def _run_of(scene: Scene, state: State, move: Move, container: int) -> Live:
    if move.name.startswith(BEGIN):
        began_s = state.jumps * JUMP_S + SKEWS_S[container]
        return Live(scene.histories.begun(container, began_s))
    run = state.slots[container]
    if not isinstance(run, Live):
        raise TypeError(f"{move} cannot happen: the run is {run}")
    return run


def settle_the_rest(scene: Scene, state: State) -> None:
    """Everything is written, and a last run meets no fault. Raises Violated."""
    world = scene.aged(state.world, LAST_JUMPS)
    for place in range(state.written, len(scene.case.script)):
        world = scene.written(world, scene.case.script[place], place)
    began_s = LAST_JUMPS * JUMP_S + SKEWS_S[LAST_CONTAINER]
    run = Live(scene.histories.begun(LAST_CONTAINER, began_s))
    while not run.is_over:
        world, run = gone_on(scene, world, run, LAST_JUMPS)
    scene.ended_last(world, run.history)


def _after_server(scene: Scene, state: State, move: Move) -> State:
    if move.name == "lose":
        return state._replace(world=scene.pruned(state.world, move.number or 0))
    if move.name == "refuse":
        return state._replace(world=scene.refusing(state.world))
    if move.name == "drop":
        return state._replace(world=_dropped(scene, state.world), has_dropped=True)
    place = state.written
    world = scene.written(state.world, scene.case.script[place], place)
    return state._replace(world=world, written=place + 1)


def _after_run(scene: Scene, state: State, move: Move, run: Live) -> State:
    container, how = move.number or 0, move.name.removeprefix(BEGIN)
    if how == "renew":
        return _renewed(scene, state, container, run)
    if how in LATE_FREEZES:
        answered = asked(scene, state.world, run, state.jumps)
        state = state._replace(world=answered.world)
        state = state.with_slot(container, unnoticed(run, answered))
    if how in (*FREEZES, *LATE_FREEZES):
        return _frozen(scene, state, container, monotonic_stops=how.endswith("stop"))
    world, run = gone_on(scene, state.world, run, state.jumps, TROUBLES.get(how, ""))
    return state._replace(world=world).with_slot(container, _slot(run, world == state.world))


def _renewed(scene: Scene, state: State, container: int, run: Live) -> State:
    if run.history.renewal is None:
        raise AssertionError("no renewal is due")
    done = scene.asked(state.world, run.reader, run.history.renewal, state.jumps)
    run = run._replace(history=scene.histories.after(run.history, Renewal(done.answer)))
    return state._replace(world=done.world).with_slot(container, run)


def _slot(run: Live, has_left_no_trace: bool) -> Slot:
    """What a run leaves; one that was turned away leaves its container as it was before."""
    if not run.is_over:
        return run
    return "idle" if has_left_no_trace and not run.history.token else "over"


def _frozen(scene: Scene, state: State, container: int, *, monotonic_stops: bool) -> State:
    """Time passes beyond every lease; for others at work too, whose clocks run on."""
    for each, run in state.runs:
        stops = monotonic_stops and each == container
        freeze = FROZEN[stops, bool(run.unseen)]
        if run.unseen:
            thawed = run._replace(unseen=(*run.unseen, freeze))
        else:
            thawed = run._replace(history=scene.histories.after(run.history, freeze))
        state = state.with_slot(each, thawed)
    return _jumped(scene, state)


def _jumped(scene: Scene, state: State) -> State:
    jumps = state.jumps + 1
    return state._replace(jumps=jumps, world=scene.aged(state.world, jumps))


def _dropped(scene: Scene, world: World) -> World:
    return scene.written(world, scene.case.drop, "drop")


def _server_moves(scene: Scene, state: State, faults: frozenset[str]) -> Iterator[Move]:
    """What the server does by itself, only directly before somebody asks it for something.

    Nobody else sees it: it can be moved past every other step without a difference.
    """
    is_asked = any(run.waits_for_server for _, run in state.runs)
    if is_asked and state.written < len(scene.case.script):
        yield Move("write")
    if not is_asked and not state.is_final:
        return
    if "drop" in faults and not state.has_dropped:
        yield Move("drop")
    if "history_lost" in faults:
        for keep in scene.case.keeps:
            if scene.pruned(state.world, keep) != state.world:
                yield Move("lose", keep)
    if "invalidates_refused" in faults and scene.refusing(state.world) != state.world:
        yield Move("refuse")


def _beginnings(scene: Scene, state: State, faults: frozenset[str]) -> Iterator[Move]:
    """A run begins, with its first call.

    Nothing tells the containers from each other: the first to begin is the first. A freeze before
    its first call would be no more than a later beginning.
    """
    container = state.slots.index("idle")
    yield Move(BEGIN, container)
    if "answer_lost" in faults:
        yield Move(BEGIN + "lost", container)
    if "freeze" in faults:
        yield from (Move(BEGIN + name, container) for name in LATE_FREEZES)
    if not state.runs and scene.lease_is_held(state.world):
        yield Move("wait")  # its holder is dead, and there is nobody who would be harmed


def _run_moves(container: int, run: Live, faults: frozenset[str]) -> Iterator[Move]:
    yield Move("go", container)
    if run.history.renewal is not None and not run.unseen:
        yield Move("renew", container)
    if "crash" in faults:
        yield Move("crash", container)
    if "freeze" in faults and not run.was_frozen:
        yield from (Move(name, container) for name in (*FREEZES, *LATE_FREEZES))
    if "answer_lost" in faults and run.port == "store":
        yield Move("lost", container)
    if "delivery_fails" in faults and run.port == "sink":
        yield Move("fails", container)


def _first_in_any_order(scene: Scene, state: State) -> int | None:
    """A container whose next step can be moved before every step of others without a difference.

    Its run leaves no trace; or nobody can see or change any more what the server tells it.
    """
    for container, run in state.runs:
        if _is_lost(scene, state, run):
            return container
    if state.faults or state.written < len(scene.case.script) or "idle" in state.slots:
        return None
    if any(not run.history.token for _, run in state.runs):  # it could yet take the lease
        return None
    return next((each for each, run in state.runs if run.waits_for_server), None)


def _is_lost(scene: Scene, state: State, run: Live) -> bool:
    """Whether it was turned away, or another has taken its lease, and it ends without a trace.

    It is tried out, alone, with everything that the server may yet hold when it is asked.
    """
    if run.history.token and scene.fencing_token(state.world) <= run.history.token:
        return False
    futures = _futures(scene, state)
    return all(leaves_no_trace(scene, world, run, state.jumps) for world in futures)


def _futures(scene: Scene, state: State) -> Iterator[World]:
    faults = scene.case.faults if state.faults else frozenset()
    world = state.world
    for place in range(state.written, len(scene.case.script) + 1):
        yield world
        if "drop" in faults and not state.has_dropped:
            yield _dropped(scene, world)
        if "history_lost" in faults:
            yield scene.pruned(world, 0)
        if "invalidates_refused" in faults:
            yield scene.refusing(world)
        if place < len(scene.case.script):
            world = scene.written(world, scene.case.script[place], place)
