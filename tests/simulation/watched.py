"""The ports as one process sees them: each call may be interrupted, and the truth looks on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidemark.model import Batch, ReadEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bson.timestamp import Timestamp

    from fakes.source import ScriptedReader
    from simulation.process import Process
    from simulation.world import World
    from tidemark.model import Change, Deployment, Lease, OplogWindow, Position, Read, Token
    from tidemark.ports import DeadLetter, Outcome, Reader, ReadLimits
    from tidemark.settings import StreamSettings


class WatchedSource:
    """The server as one process sees it."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def begin_invocation(self) -> None:
        """See `ports.Source`."""

    def deployment(self, *, timeout_s: float) -> Deployment:
        """See `ports.Source`."""
        return self._world.source.deployment(timeout_s=timeout_s)

    def time_of(self, position: Position) -> Timestamp | None:
        """See `ports.Source`."""
        return self._world.source.time_of(position)

    def oplog_window(self, *, timeout_s: float) -> OplogWindow:
        """See `ports.Source`."""
        return self._process.call(lambda: self._world.source.oplog_window(timeout_s=timeout_s))

    def now(self, *, timeout_s: float) -> Position:
        """See `ports.Source`."""
        return self._process.call(lambda: self._world.source.now(timeout_s=timeout_s))

    def earliest(self, *, timeout_s: float) -> Position:
        """See `ports.Source`."""
        return self._process.call(lambda: self._world.source.earliest(timeout_s=timeout_s))

    def open(
        self,
        stream: StreamSettings,
        position: Position,
        *,
        timeout_s: float,
        batch_size: int | None,
    ) -> Reader:
        """See `ports.Source`."""
        self._world.truth.opened()
        reader = self._process.call(
            lambda: self._world.source.open(
                stream, position, timeout_s=timeout_s, batch_size=batch_size
            )
        )
        return WatchedReader(self._world, self._process, reader)

    def next_invalidate(
        self, stream: StreamSettings, position: Position, *, timeout_s: float
    ) -> Change | None:
        """See `ports.Source`."""
        source = self._world.source
        return self._process.call(
            lambda: source.next_invalidate(stream, position, timeout_s=timeout_s)
        )


class WatchedReader:
    """An open stream as one process sees it."""

    def __init__(self, world: World, process: Process, reader: ScriptedReader) -> None:
        self._world = world
        self._process = process
        self._reader = reader
        process.opened(reader)

    @property
    def opened_at(self) -> Timestamp | None:
        """See `ports.Reader`."""
        return self._reader.opened_at

    @property
    def opening_token(self) -> Token | None:
        """See `ports.Reader`."""
        return self._reader.opening_token

    @property
    def operation_time(self) -> Timestamp | None:
        """See `ports.Reader`."""
        return self._reader.operation_time

    def read(self, limits: ReadLimits, *, timeout_s: float) -> Read:
        """See `ports.Reader`."""
        held, ahead = self._process.run.held, self._world.stream.read_ahead
        if held is not None and not held.is_ours() and not ahead:  # a read ahead asks later
            self._world.truth.blame("G4", "a run reads that has outlived its lease")
        read = self._process.call(lambda: self._reader.read(limits, timeout_s=timeout_s))
        proven_empty = read.end is ReadEnd.EMPTY and not read.changes
        self._process.empty_at = self._reader.told if proven_empty else None
        self._process.heard = self._reader.operation_time
        return read

    def interrupt(self, *, timeout_s: float) -> None:
        """See `ports.Reader`."""

    def close(self, *, timeout_s: float) -> bool:
        """See `ports.Reader`."""
        return self._process.call(lambda: self._reader.close(timeout_s=timeout_s))


class WatchedStore:
    """The store as one process sees it."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def acquire(self, *request: Any, **times: Any) -> Any:
        """See `ports.CheckpointStore`."""
        return self._ask(None, lambda: self._world.store.acquire(*request, **times))

    def renew(self, lease: Lease, **times: Any) -> None:
        """See `ports.CheckpointStore`."""
        self._ask(lease, lambda: self._world.store.renew(lease, **times))

    def save(self, lease: Lease, *progress: Any, **times: Any) -> None:
        """See `ports.CheckpointStore`."""
        self._ask(lease, lambda: self._world.store.save(lease, *progress, **times))

    def save_gap(self, lease: Lease, *progress: Any, **times: Any) -> None:
        """See `ports.CheckpointStore`."""
        self._ask(lease, lambda: self._world.store.save_gap(lease, *progress, **times))

    def halt(self, lease: Lease, *progress: Any, **reason: Any) -> None:
        """See `ports.CheckpointStore`."""
        self._ask(lease, lambda: self._world.store.halt(lease, *progress, **reason))

    def set_status(self, *status: Any, **reason: Any) -> bool:
        """See `ports.CheckpointStore`."""
        return self._world.store.set_status(*status, **reason)

    def _ask(self, lease: Lease | None, request: Callable[[], Any]) -> Any:
        """Make a request; whatever comes of it, the truth looks at what is stored now."""

        def watched() -> Any:
            try:
                return request()
            finally:
                self._world.truth.written(lease.fencing_token if lease else None)

        return self._process.call(watched)


class WatchedSink:
    """The sink as one process sees it. A delivery has begun before anything can interrupt it."""

    may_hang_on_a_change = True

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def deliver(self, batch: Batch, *, deadline_s: float) -> Outcome:  # noqa: ARG002 - see `hang`
        """See `ports.Sink`."""
        self._world.truth.begun(batch)
        return self._process.call(lambda: self._delivered(batch))

    def _delivered(self, batch: Batch) -> Outcome:
        outcome = self._world.deliver(self._process, batch)
        self._process.require_alive()  # a user's function, or its sink, may have caught the crash
        self._world.truth.delivered(batch[: outcome.delivered], batch.fencing_token)
        return outcome


class InterruptedBatch(Batch):
    """A batch whose every step of iteration is a point where the schedule may interrupt."""

    __slots__ = ("_process",)

    def __init__(self, batch: Batch, process: Process) -> None:
        super().__init__(batch.stream, list(batch), batch.fencing_token)
        self._process = process

    def __iter__(self) -> Iterator[Change]:
        """The changes, in stream order."""
        for change in super().__iter__():
            self._process.point()
            yield change


class WatchedLetters:
    """The dead letters as one process sees them."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def put(self, letter: DeadLetter) -> None:
        """See `ports.DeadLetters`."""
        self._world.truth.setting_aside(letter.fencing_token)
        self._process.call(lambda: self._stored(letter))

    def _stored(self, letter: DeadLetter) -> None:
        known = len(self._world.letters.letters)
        try:
            self._world.letters.put(letter)
        finally:
            if len(self._world.letters.letters) > known:
                self._world.truth.set_aside(letter.change)
