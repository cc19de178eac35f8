"""The shared world of a search: server, store, and the truth that judges what is done to them.

Each effect depends on nothing but the parts that it touches and the history that asks for it. So it
is worked out once, on the fakes, and remembered.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from fakes import MemoryStore, ScriptedSource, SinkFailed, StoreFault
from fakes.source import ScriptedReader
from simulation.scope import verdict
from simulation.scope.cases import EPOCH_MS, JUMP_S, STREAM
from simulation.scope.histories import Answer, Histories
from simulation.scope.parts import TIMES, Parts
from simulation.truth import Truth
from tidemark.errors import TidemarkError
from tidemark.item import attribute
from tidemark.model import ReadEnd
from tidemark.ports import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from fakes import Entry
    from simulation.scope.cases import Case
    from simulation.scope.histories import Call, History
    from simulation.scope.parts import Part

JUMP_MS = int(JUMP_S * 1000)
LONG_AGO_MS = 1
EXPIRY = "lease_expires_at_ms"

# Attributes that are no state: other fakes, and records of what was asked.
OF_SOURCE = frozenset({"clock", "opened", "batch_sizes", "open_readers", "_indexes"})
OF_STORE = frozenset({"requests", "_clock"})
OF_TRUTH = frozenset({"violations", "figures", "_source", "_store", "_ids", "_stream"})
OF_READER = frozenset({"_source"})

Trouble: TypeAlias = Literal["", "answer_lost", "delivery_fails"]


class Violated(Exception):
    """A guarantee did not hold."""


class World(NamedTuple):
    """What the containers share, and what is known to have happened to it."""

    source: Part
    store: Part
    truth: Part


class Asked(NamedTuple):
    """What a call did: world and reader behind it, its answer, and what a read proved empty."""

    world: World
    reader: Part | None
    answer: Answer
    empty_at: int | None


class ServerClock:
    """The server's clock stands still; whoever waits for it lets only its own time pass."""

    def __init__(self) -> None:
        self.waited_s = 0.0

    def monotonic_s(self) -> float:
        """What the present caller has waited."""
        return self.waited_s

    def time_ms(self) -> int:
        """The time of every write."""
        return EPOCH_MS

    def sleep_s(self, seconds: float) -> None:
        """Let the present caller wait."""
        self.waited_s += seconds


class Scene:
    """The fakes, and what was found out with them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.histories = Histories(case)
        self._clock = ServerClock()
        self._source = ScriptedSource(self._clock, server_batch=case.server_batch)
        self._store = MemoryStore()
        self._reader = ScriptedReader.__new__(ScriptedReader)
        self._reader._source = self._source
        self._truth = Truth(STREAM, self._source, self._store)
        self._sources = Parts(OF_SOURCE)
        self._stores = Parts(OF_STORE, {"items": _leases_in_jumps})
        self._truths = Parts(OF_TRUTH)
        self._readers = Parts(OF_READER)
        self._remembered: dict[Hashable, Any] = {}

    def beginning(self) -> World:
        """Nothing is written, nothing stored."""
        return World(
            self._sources.taken(self._source),
            self._stores.taken(self._store),
            self._truths.taken(self._truth),
        )

    def written(self, world: World, entry: Entry, name: Hashable) -> World:
        """The server's oplog has one more entry; `name` stands for it."""

        def write() -> Part:
            self._sources.set_back(self._source, world.source)
            self._source.write(entry)
            return self._sources.taken(self._source)

        return world._replace(source=self._once(("write", world.source.number, name), write))

    def pruned(self, world: World, keep: int) -> World:
        """The server has lost all but the last `keep` entries."""

        def prune() -> Part:
            self._sources.set_back(self._source, world.source)
            self._source.prune(self._source.end - keep)
            return self._sources.taken(self._source)

        return world._replace(source=self._once(("prune", world.source.number, keep), prune))

    def end(self, world: World) -> int:
        """How many entries the oplog has."""
        return len(world.source.values["_entries"])

    def fencing_token(self, world: World) -> int:
        """Of whoever took the lease last."""
        item = world.store.values["items"].get(STREAM, {})
        return int(item["fencing_token"]["N"]) if item else 0

    def lease_is_held(self, world: World) -> bool:
        """Whether nobody else can take the lease now."""
        item = world.store.values["items"].get(STREAM, {})
        return bool(item) and int(item[EXPIRY]["N"]) > LONG_AGO_MS

    def aged(self, world: World, jumps: int) -> World:
        """Time has jumped for the `jumps`-th time."""

        def age() -> Part:
            self._stores.set_back(self._store, world.store)
            return self._aged_store(jumps)

        return world._replace(store=self._once(("age", world.store.number, jumps), age))

    def asked(
        self, world: World, reader: Part | None, history: History, jumps: int, trouble: Trouble = ""
    ) -> Asked:
        """The effect of the call at which `history` waits. Raises Violated."""
        call = history.call
        if call is None:
            raise AssertionError("a run that has ended asks nothing")
        if call.port == "store":
            return self._asked_of_store(world, reader, history, call, jumps, trouble)
        if call.port == "sink":
            return self._delivered(world, reader, history, call, trouble)
        if call.port == "letters":
            world = self._judged(world, history, "put", lambda: self._set_aside(call))
            return Asked(world, reader, Answer(), None)
        return self._asked_of_server(world, reader, history, call)

    def renewed(self, world: World, history: History, jumps: int) -> tuple[World, Answer]:
        """The effect of the keeper's renewal. Raises Violated."""
        if history.renewal is None:
            raise AssertionError("no renewal is due")
        asked = self._asked_of_store(world, None, history, history.renewal, jumps, "")
        return asked.world, asked.answer

    def arrived(self, world: World, history: History) -> World:
        """Judge that a run has come to the call at which `history` waits. Raises Violated."""
        call = history.call
        if call is None or call.name not in ("deliver", "put", "open"):
            return world

        def judge() -> None:
            if call.name == "deliver":
                self._truth.begun(call.args[0])
            elif call.name == "put":
                self._truth.setting_aside(call.args[0].fencing_token)
            else:
                self._truth.opened()

        return self._judged(world, history, "arrived", judge)

    def ended(
        self, world: World, history: History, reader: Part | None, empty_at: int | None, end: int
    ) -> World:
        """Judge how a run has ended; `end`: that of the oplog as it opened. Raises Violated."""
        summary = history.summary
        process: Any = SimpleNamespace(
            telemetry=history.telemetry, summary=summary, empty_at=empty_at
        )

        def judge() -> None:
            self._truth.ended(process)
            verdict.judge_end(
                self._truth, summary, end_at_opening=end, reader_is_open=reader is not None
            )

        return self._judged(world, history, ("ended", reader is None, empty_at, end), judge)

    def ended_last(self, world: World, history: History) -> World:
        """Judge what the last run of all leaves behind. Raises Violated."""
        summary = history.summary
        return self._judged(
            world, history, "last", lambda: verdict.judge_last_run(self._truth, summary)
        )

    def _asked_of_store(
        self,
        world: World,
        reader: Part | None,
        history: History,
        call: Call,
        jumps: int,
        trouble: Trouble,
    ) -> Asked:
        def ask() -> tuple[Part, Answer]:
            self._stores.set_back(self._store, world.store)
            if trouble:
                self._store.inject(StoreFault(trouble))
            answer = self._answer(lambda: self._store_call(history, call))
            return self._aged_store(jumps), answer

        key = ("store", world.store.number, history.number, call.name, jumps, trouble)
        store, answer = self._once(key, ask)
        token = call.args[0].fencing_token if call.name != "acquire" else None

        def judge() -> None:
            self._truth.written(token)
            verdict.judge_position(self._truth, self._store, STREAM)

        world = self._judged(world._replace(store=store), history, ("written", call.name), judge)
        return Asked(world, reader, answer, None)

    def _store_call(self, history: History, call: Call) -> Any:
        """An owner's name is drawn at random; here it is the container's."""
        args = call.args
        if call.name == "acquire":
            args = (args[0], f"container {history.container}", *args[2:])
        return getattr(self._store, call.name)(*args, **call.named)

    def _asked_of_server(
        self, world: World, reader: Part | None, history: History, call: Call
    ) -> Asked:
        def ask() -> tuple[Part, Part | None, Answer, int | None]:
            self._sources.set_back(self._source, world.source)
            if call.port == "source":
                return self._source_call(reader, call)
            if reader is None:
                raise AssertionError("a reader that is not open is asked")
            return self._reader_call(reader, call)

        key = ("server", world.source.number, reader and reader.number, history.number)
        source, behind, answer, empty_at = self._once(key, ask)
        return Asked(world._replace(source=source), behind, answer, empty_at)

    def _source_call(
        self, reader: Part | None, call: Call
    ) -> tuple[Part, Part | None, Answer, int | None]:
        answer = self._answer(lambda: getattr(self._source, call.name)(*call.args, **call.named))
        if isinstance(answer.value, ScriptedReader):
            vars(self._reader).update(vars(answer.value))
            reader = self._readers.taken(self._reader)
            answer = Answer(waited_s=answer.waited_s)
        return self._sources.taken(self._source), reader, answer, None

    def _reader_call(
        self, part: Part, call: Call
    ) -> tuple[Part, Part | None, Answer, int | None]:
        reader = self._reader
        self._readers.set_back(reader, part)
        answer = self._answer(lambda: getattr(reader, call.name)(*call.args, **call.named))
        source, behind = self._sources.taken(self._source), self._readers.taken(reader)
        if call.name == "close":
            return source, None, answer, None
        read = answer.value
        is_empty = read is not None and read.end is ReadEnd.EMPTY and not read.changes
        return source, behind, answer, reader.scanned if is_empty else None

    def _delivered(
        self, world: World, reader: Part | None, history: History, call: Call, trouble: Trouble
    ) -> Asked:
        batch = call.args[0]
        if trouble:
            return Asked(world, reader, Answer(Outcome(0, SinkFailed("for once"))), None)
        world = self._judged(
            world,
            history,
            "delivered",
            lambda: self._truth.delivered(batch, batch.fencing_token),
        )
        return Asked(world, reader, Answer(Outcome(len(batch))), None)

    def _set_aside(self, call: Call) -> None:
        self._truth.set_aside(call.args[0].change)

    def _answer(self, ask: Callable[[], Any]) -> Answer:
        self._clock.waited_s = 0.0
        try:
            value = ask()
        except TidemarkError as error:
            return Answer(error=error, waited_s=self._clock.waited_s)
        return Answer(value, waited_s=self._clock.waited_s)

    def _aged_store(self, jumps: int) -> Part:
        """What is stored, without the times that only an observer reads.

        A lease that is over is so for everybody: it is marked as long over.
        """
        for item in self._store.items.values():
            if 0 < int(item[EXPIRY]["N"]) <= EPOCH_MS + jumps * JUMP_MS:
                item[EXPIRY] = attribute(LONG_AGO_MS)
            item.update({name: attribute(EPOCH_MS) for name in item if _is_observed(name)})
        return self._stores.taken(self._store)

    def _judged(
        self, world: World, history: History, what: Hashable, judge: Callable[[], None]
    ) -> World:
        """The world with what the truth has learned. Raises Violated where it blames somebody."""

        def look() -> tuple[Part, str | None]:
            self._sources.set_back(self._source, world.source)
            self._stores.set_back(self._store, world.store)
            self._truths.set_back(self._truth, world.truth)
            self._truth.violations.clear()
            judge()
            blamed = [str(violation) for violation in self._truth.violations]
            return self._truths.taken(self._truth), blamed[0] if blamed else None

        numbers = [part.number for part in world]
        truth, blamed = self._once(("truth", *numbers, history.number, what), look)
        if blamed is not None:
            raise Violated(blamed)
        return world._replace(truth=truth)

    def _once(self, key: Hashable, find: Callable[[], Any]) -> Any:
        if key not in self._remembered:
            self._remembered[key] = find()
        return self._remembered[key]


def _is_observed(name: str) -> bool:
    return name.endswith(TIMES) and name != EXPIRY


def _leases_in_jumps(items: dict[str, dict[str, Any]]) -> Any:
    """The items, with each lease's end as exactly as a run can tell it from its own time."""
    return {
        stream: item | {"lease": _in_jumps(int(item[EXPIRY]["N"]))} for stream, item in items.items()
    }


def _in_jumps(expiry_ms: int) -> Hashable:
    if expiry_ms <= LONG_AGO_MS:
        return expiry_ms
    return "held", (expiry_ms - EPOCH_MS) // JUMP_MS
