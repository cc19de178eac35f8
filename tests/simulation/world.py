"""Containers, server, store and sink of one schedule, each call of a port watched by the truth."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

from fakes import ManualClock, MemoryDeadLetters, MemoryStore, ScriptedSource, SinkFailed
from simulation.process import Process
from simulation.truth import Truth
from simulation.watched import (
    InterruptedBatch,
    WatchedLetters,
    WatchedSink,
    WatchedSource,
    WatchedStore,
)
from tidemark.budget import Budget
from tidemark.ports import Outcome, Ports
from tidemark.run import Run
from tidemark.settings import Settings, StreamSettings
from tidemark.sinks.function import FunctionSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.schedule import Terms
    from tidemark.model import Batch

REMAINING_MS = 15_000
FLAKY_TIMES = 2
T = TypeVar("T")


class AtOnce(Executor):
    """Reads ahead when it is asked to: as early as any thread could, and always in the same way.

    What the read has proved to be empty is known to the run only once it takes the read.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Do it now; an error waits for whoever asks, a crash does not."""
        known = self._process.empty_at
        future = _Unseen[T](self._process)
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        future.empty_at, self._process.empty_at = self._process.empty_at, known
        return future


class _Unseen(Future[T]):
    empty_at: int | None = None

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def result(self, timeout: float | None = None) -> T:
        self._process.empty_at = self.empty_at
        return super().result(timeout)


class World:
    """One stream and whoever reads it.

    `deliver` is a user's function; without it each change says in its document what it does.
    `suspect_of` gives a process the lock that its streams share.
    """

    def __init__(
        self,
        terms: Terms,
        deliver: Callable[[Batch], object] | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.suspect_of: Callable[[Process], Any] = lambda _: threading.Lock()
        self.source = ScriptedSource(
            self.clock, server_batch=terms.server_batch, traits=terms.traits
        )
        self.store = MemoryStore(self.clock)
        self.letters = MemoryDeadLetters()
        self.sink_failures = 0
        self.settings = _settings(terms)
        self.truth = Truth("orders", self.source, self.store)
        self.processes: dict[int, Process] = {}
        self._terms = terms
        self._own = None if deliver is None else FunctionSink(deliver)
        self._failed: Counter[object] = Counter()
        self.clock.on_sleep = lambda _: self.keep_all()

    @property
    def stream(self) -> StreamSettings:
        """The one stream."""
        return self.settings.streams[0]

    def keep_all(self) -> None:
        """Every keeper looks whether its lease is due."""
        for process in self.processes.values():
            process.keep()

    def start(self, container: int) -> Process:
        """A process for an invocation of `container`, unless one is under way."""
        process = self.processes.get(container)
        if process is not None and not process.is_over:
            return process
        clock = self.clock.container(skew_ms=self._terms.skews_ms[container])
        process = Process(container, clock, has_keeper=self._terms.keeper)
        process.budget = Budget.of_invocation(
            process, remaining_ms=REMAINING_MS, reserve_s=self.settings.reserve_s
        )
        process.run = Run(self.stream, self.settings, self._ports(process), process.budget)
        process.run.make_executor = lambda: AtOnce(process)
        alive = [each for each in self.processes.values() if not each.is_over]
        self.truth.figures.runs += 1
        self.truth.figures.overlaps += bool(alive)
        self.processes[container] = process
        return process

    def deliver(self, process: Process, batch: Batch) -> Outcome:
        """What the sink makes of a batch."""
        if self._own is not None:
            return self._own.deliver(InterruptedBatch(batch, process), deadline_s=0)
        kinds = [_kind_of(change) for change in batch]
        if "killer" in kinds:
            self.truth.figures.crashes += 1
            process.die()
        if "hang" in kinds:
            process.hang()
        if self.sink_failures:
            self.sink_failures -= 1
            return Outcome(0, SinkFailed("for a while"))
        if "poison" in kinds or self._is_flaky(batch, kinds):
            return Outcome(0, SinkFailed("with one of these"))
        if "named" in kinds:
            return Outcome(kinds.index("named"), SinkFailed("with this one"), named=True)
        return Outcome(len(batch))

    def _is_flaky(self, batch: Batch, kinds: list[str]) -> bool:
        for change, kind in zip(batch, kinds, strict=True):
            name = batch.change_id(change)
            if kind == "flaky" and self._failed[name] < FLAKY_TIMES:
                self._failed[name] += 1
                return True
        return False

    def _ports(self, process: Process) -> Ports:
        return Ports(
            source=WatchedSource(self, process),
            store=WatchedStore(self, process),
            sink=WatchedSink(self, process),
            dead_letters=WatchedLetters(self, process),
            clock=process,
            telemetry=process.telemetry,
            one_suspect=self.suspect_of(process),
        )


def _settings(terms: Terms) -> Settings:
    stream = StreamSettings(
        name="orders",
        start_at=terms.start_at,
        max_changes=terms.max_changes,
        max_age_s=terms.max_age_s,
        checkpoint_interval_s=terms.checkpoint_interval_s,
        max_attempts=terms.max_attempts,
        on_failure=terms.on_failure,
        on_history_lost=terms.on_history_lost,
        read_ahead=terms.read_ahead,
    )
    return Settings(table="state", mode=terms.mode, reserve_s=2.0, lease_s=8.0, streams=(stream,))


def _kind_of(change: Any) -> str:
    return str(change.get("fullDocument", {}).get("what", "ok"))
