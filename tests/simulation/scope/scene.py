"""The shared world of a search: server, store, and the truth that judges what is done to them.

Each effect depends on nothing but the parts that it touches and the history that asks for it. So it
is worked out once, on the fakes, and remembered.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from fakes import MemoryStore, ScriptedSource, SinkFailed, StoreFault
from fakes.source import ScriptedReader
from simulation.scope import verdict
from simulation.scope.cases import EPOCH_MS, JUMP_MS, LONG_AGO_MS, STREAM, in_jumps
from simulation.scope.facts import Facts, second_of
from simulation.scope.histories import Answer, Histories
from simulation.scope.parts import TIMES, Parts
from simulation.truth import Truth
from tidemark.errors import HistoryLost, TidemarkError
from tidemark.item import attribute
from tidemark.model import ReadEnd
from tidemark.ports import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from fakes import Entry
    from simulation.scope.cases import Case
    from simulation.scope.histories import Call, History
    from simulation.scope.parts import Part
    from tidemark.model import StreamSummary

EXPIRY = "lease_expires_at_ms"
HEARD_BEFORE = ("observed_operation_time", "observed_at_ms")

# Attributes that are no state: other fakes, and records of what was asked.
OF_SOURCE = frozenset(
    {"clock", "traits", "opened", "batch_sizes", "open_readers", "scans_left", "_indexes"}
)
OF_STORE = frozenset({"requests", "_clock"})
OF_TRUTH = frozenset({"violations", "figures", "_source", "_store", "_ids", "_stream"})
OF_READER = frozenset({"_source", "_traits", "opening_token", "opened_at"})

PUT = Answer()
REFUSAL = HistoryLost("resumeAfter takes no invalidate's token", 260)
NOT_DELIVERED = Answer(Outcome(0, SinkFailed("for once")))

Trouble: TypeAlias = Literal["", "answer_lost", "delivery_fails"]


class Violated(Exception):
    """A guarantee did not hold."""


class World(NamedTuple):
    """What the containers share, and what is known to have happened to it."""

    source: Part
    store: Part
    truth: Part


class Asked(NamedTuple):
    """What a call did: world and reader behind it, and its answer."""

    world: World
    reader: Part | None
    answer: Answer


class ServerClock:
    """The server's clock goes on with its oplog; whoever waits lets only its own time pass."""

    def __init__(self) -> None:
        self.waited_s = 0.0
        self.entries: Callable[[], int] = lambda: 0

    def monotonic_s(self) -> float:
        """What the present caller has waited."""
        return self.waited_s

    def time_ms(self) -> int:
        """The time of the next write."""
        return second_of(self.entries()) * 1000

    def sleep_s(self, seconds: float) -> None:
        """Let the present caller wait."""
        self.waited_s += seconds


class Scene:
    """The fakes, and what was found out with them. `beginning`: nothing has happened yet."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._clock = ServerClock()
        self._source = ScriptedSource(
            self._clock, server_batch=case.server_batch, traits=case.traits
        )
        self._clock.entries = lambda: self._source.end
        self.histories = Histories(case, Facts(self._source))
        self._store = MemoryStore()
        self._reader = ScriptedReader.__new__(ScriptedReader)
        self._reader._source, self._reader._traits = self._source, case.traits
        self._truth = Truth(STREAM, self._source, self._store)
        self._sources = Parts(OF_SOURCE)
        self._stores = Parts(OF_STORE, {"items": _leases_in_jumps})
        self._truths = Parts(OF_TRUTH)
        self._readers = Parts(OF_READER)
        self._remembered: dict[Hashable, Any] = {}
        self.beginning = World(
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

    def refusing(self, world: World) -> World:
        """The server opens no stream at an invalidate's own token any more."""

        def refuse() -> Part:
            self._sources.set_back(self._source, world.source)
            self._source.invalidate_refusal = REFUSAL
            return self._sources.taken(self._source)

        return world._replace(source=self._once(("refuse", world.source.number), refuse))

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
        self, world: World, reader: Part | None, call: Call, jumps: int, trouble: Trouble = ""
    ) -> Asked:
        """The effect of a call. Raises Violated."""
        if call.port == "store":
            return self._asked_of_store(world, reader, call, jumps, trouble)
        if call.port == "sink":
            return self._delivered(world, reader, call, trouble)
        if call.port == "letters":
            letter = call.args[0]
            world = self._judged(world, call.number, lambda: self._truth.set_aside(letter.change))
            return Asked(world, reader, PUT)
        return self._asked_of_server(world, reader, call)

    def arrived(self, world: World, history: History) -> World:
        """Judge that a run has come to its next call. Raises Violated."""
        call, judge = history.call, self._judge_of(history)
        if call is None or judge is None:
            return world
        return self._judged(world, ("arrived", call.number, history.is_ours), judge)

    def _judge_of(self, history: History) -> Callable[[], None] | None:
        call = history.call
        if call is None:
            return None
        if call.name == "deliver":
            return partial(self._truth.begun, call.args[0])
        if call.name == "put":
            return partial(self._truth.setting_aside, call.args[0].fencing_token)
        if call.name == "read":
            return partial(verdict.judge_read, self._truth, is_ours=history.is_ours)
        return self._truth.opened if call.name == "open" else None

    def ended(self, world: World, history: History, reader: Part | None) -> World:
        """Judge how a run has ended; `reader`: one that it has left. Raises Violated."""
        summary, heard = _summary(history), history.heard

        def judge() -> None:
            if reader is not None:
                self._readers.set_back(self._reader, reader)
            process: Any = SimpleNamespace(
                telemetry=history.telemetry,
                summary=summary,
                readers=[] if reader is None else [self._reader],
                began_end=heard.began_end,
                heard=heard.server_time,
                empty_at=heard.empty_at,
            )
            self._truth.ended(process)
            verdict.judge_end(self._truth, summary, reader_is_open=reader is not None)

        what = ("ended", history.number, reader and reader.number)
        return self._judged(world, what, judge)

    def ended_last(self, world: World, history: History) -> None:
        """Judge what the last run of all leaves behind. Raises Violated."""
        summary = _summary(history)
        judge = partial(verdict.judge_last_run, self._truth, summary)
        self._judged(world, ("last", history.number), judge)

    def _asked_of_store(
        self, world: World, reader: Part | None, call: Call, jumps: int, trouble: Trouble
    ) -> Asked:
        def ask() -> tuple[Part, Answer]:
            self._stores.set_back(self._store, world.store)
            if trouble:
                self._store.inject(StoreFault(trouble))
            answer = self._answered(self._store, call)
            return self._aged_store(jumps), answer

        def judge() -> None:
            self._truth.written(token)
            verdict.judge_position(self._truth, self._store, STREAM)

        token = None if call.name == "acquire" else call.args[0].fencing_token
        store, answer = self._once(("store", world.store.number, call.number, jumps, trouble), ask)
        world = self._judged(world._replace(store=store), ("written", token), judge)
        return Asked(world, reader, answer)

    def _asked_of_server(self, world: World, reader: Part | None, call: Call) -> Asked:
        def ask() -> tuple[Part, Part | None, Answer]:
            self._sources.set_back(self._source, world.source)
            if call.port == "source":
                return self._source_call(reader, call)
            if reader is None:
                raise AssertionError("a reader that is not open is asked")
            return self._reader_call(reader, call)

        key = ("server", world.source.number, reader and reader.number, call.number)
        source, behind, answer = self._once(key, ask)
        return Asked(world._replace(source=source), behind, answer)

    def _source_call(self, reader: Part | None, call: Call) -> tuple[Part, Part | None, Answer]:
        answer = self._answered(self._source, call)
        opened = answer.value
        if isinstance(opened, ScriptedReader):
            vars(self._reader).update(vars(opened))
            reader = self._readers.taken(self._reader)
            answer = Answer(
                waited_s=answer.waited_s, server_time=opened.opened_at, token=opened.opening_token
            )
        return self._sources.taken(self._source), reader, answer

    def _reader_call(self, reader: Part, call: Call) -> tuple[Part, Part | None, Answer]:
        self._readers.set_back(self._reader, reader)
        answer = self._answered(self._reader, call)
        source, behind = self._sources.taken(self._source), self._readers.taken(self._reader)
        if call.name == "close":
            return source, behind if self._reader.has_left_scan else None, answer
        read = answer.value
        is_empty = read is not None and read.end is ReadEnd.EMPTY and not read.changes
        empty_at = self._reader.told if is_empty else None
        time = self._reader.operation_time
        return source, behind, replace(answer, server_time=time, empty_at=empty_at)

    def _delivered(self, world: World, reader: Part | None, call: Call, trouble: Trouble) -> Asked:
        if trouble:
            return Asked(world, reader, NOT_DELIVERED)
        batch = call.args[0]
        judge = partial(self._truth.delivered, batch, batch.fencing_token)
        world = self._judged(world, ("delivered", call.number), judge)
        answer = self._once(("all", len(batch)), lambda: Answer(Outcome(len(batch))))
        return Asked(world, reader, answer)

    def _answered(self, port: object, call: Call) -> Answer:
        self._clock.waited_s = 0.0
        try:
            value = getattr(port, call.name)(*call.args, **call.named)
        except TidemarkError as error:
            return Answer(error=error, waited_s=self._clock.waited_s)
        except AssertionError as refused:
            raise Violated(f"a port's contract: {call.port}.{call.name}: {refused}") from refused
        return Answer(value, waited_s=self._clock.waited_s)

    def _aged_store(self, jumps: int) -> Part:
        """What is stored, without the times that only an observer reads.

        The server's time as a run before has heard it is one of them: it makes the lag of a run
        that hears none itself, which is not judged here.
        A lease that is over is so for everybody: it is marked as long over.
        """
        for item in self._store.items.values():
            if 0 < int(item[EXPIRY]["N"]) <= EPOCH_MS + jumps * JUMP_MS:
                item[EXPIRY] = attribute(LONG_AGO_MS)
            item.update({name: attribute(EPOCH_MS) for name in item if _is_observed(name)})
            for name in HEARD_BEFORE:
                item.pop(name, None)
        return self._stores.taken(self._store)

    def _judged(self, world: World, what: Hashable, judge: Callable[[], None]) -> World:
        """The world with what the truth has learned. Raises Violated where it blames somebody."""

        def look() -> tuple[Part, str | None]:
            self._sources.set_back(self._source, world.source)
            self._stores.set_back(self._store, world.store)
            self._truths.set_back(self._truth, world.truth)
            self._truth.violations.clear()
            judge()
            blamed = [str(violation) for violation in self._truth.violations]
            return self._truths.taken(self._truth), blamed[0] if blamed else None

        truth, blamed = self._once(("truth", *(part.number for part in world), what), look)
        if blamed is not None:
            raise Violated(blamed)
        return world._replace(truth=truth)

    def _once(self, key: Hashable, find: Callable[[], Any]) -> Any:
        if key not in self._remembered:
            self._remembered[key] = find()
        return self._remembered[key]


def _summary(history: History) -> StreamSummary:
    if history.summary is None:
        raise AssertionError("the run has not ended")
    return history.summary


def _is_observed(name: str) -> bool:
    return name.endswith(TIMES) and name != EXPIRY


def _leases_in_jumps(items: dict[str, dict[str, Any]]) -> Any:
    """The items, with each lease's end as exactly as a run can tell it from its own time."""
    return {
        stream: item | {"lease": in_jumps(int(item[EXPIRY]["N"]))} for stream, item in items.items()
    }
