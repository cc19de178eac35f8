"""What a run needs from the world: each port with its calling order and guarantees.

`tests/contract/` holds one suite a port, run on the scripted fake and on the real adapter.
"""

import threading
from dataclasses import dataclass, field
from typing import Any, Protocol

from bson.timestamp import Timestamp

from tidemark.model import (
    Acquired,
    Attempts,
    Batch,
    Change,
    Checkpoint,
    Deployment,
    Gap,
    Lease,
    NotAcquired,
    OplogWindow,
    Position,
    Read,
    Status,
    Token,
)
from tidemark.settings import StreamSettings


class Clock(Protocol):
    """Time: monotonic for budgets, wall-clock for leases only."""

    def monotonic_s(self) -> float:
        """Seconds that never go back."""

    def time_ms(self) -> int:
        """Milliseconds since the epoch, as the machine believes."""

    def sleep_s(self, seconds: float) -> None:
        """Wait for `seconds`."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """When a read is full. `max_age_s` 0 means: as soon as the server's own batch is in hand."""

    max_changes: int
    max_bytes: int | None = None
    max_age_s: float = 0.0


class Reader(Protocol):
    """One open change stream, read by one thread.

    `read` until it is of no more use, then `close`, always. After `INVALIDATED`, `GIVEN_UP` or an
    error only `close` may follow.
    """

    @property
    def opened_at(self) -> Timestamp | None:
        """The server's time as it opened the stream; None where it tells none."""

    @property
    def opening_token(self) -> Token | None:
        """The post-batch token of the opening: it stands for the opened position."""

    @property
    def operation_time(self) -> Timestamp | None:
        """The server's time at the last answer of the last read; None where none came."""

    def read(self, limits: ReadLimits, *, timeout_s: float) -> Read:
        """The next changes: at the limits, on an empty answer, or where the server closes.

        Blocks for one await where the server is at its oplog's end, for as long as it scans where
        it is not, and for `timeout_s` at the most. Never ends between the fragments of a split
        event. Raises SourceUnavailable, SourceRefused, HistoryLost, EventTooLarge, PoisonChange.
        """

    def interrupt(self, *, timeout_s: float) -> None:
        """From another thread: let the read under way end soon, in an error. Never raises."""

    def close(self, *, timeout_s: float) -> bool:
        """End the server's cursor, and each scan that a read given up has left behind.

        False where the server did not answer even that. Never raises, never blocks beyond
        `timeout_s`.
        """


class Source(Protocol):
    """A MongoDB deployment that can be watched."""

    def begin_invocation(self) -> None:
        """An invocation begins: what an earlier one found out of order may be in order again."""

    def deployment(self, *, timeout_s: float) -> Deployment:
        """What a position must know of its server. Raises as `open` does."""

    def time_of(self, position: Position) -> Timestamp | None:
        """The server's time of a position, None where its token has no known form.

        For observation and for ending a drain: no position is computed from it. No request.
        """

    def oplog_window(self, *, timeout_s: float) -> OplogWindow:
        """The oplog's oldest time, or why it is not known. Asks once in five minutes."""

    def now(self, *, timeout_s: float) -> Position:
        """The position just after everything the deployment has done so far."""

    def earliest(self, *, timeout_s: float) -> Position:
        """The position of the oldest entry of the deployment's oplog."""

    def open(
        self,
        stream: StreamSettings,
        position: Position,
        *,
        timeout_s: float,
        batch_size: int | None,
    ) -> Reader:
        """A reader of everything after `position`: a token is opened with `start_after`.

        Answers before anything is scanned: a position that is lost may be told by the first read.
        `batch_size`: changes in each of the server's answers. Raises OpeningTimedOut,
        SourceUnavailable, SourceRefused, HistoryLost, EventTooLarge.
        """

    def next_invalidate(
        self, stream: StreamSettings, position: Position, *, timeout_s: float
    ) -> Change | None:
        """The next invalidate after `position`, whether or not the stream's pipeline hides it.

        None where the server closes the cursor first. Raises OpeningTimedOut where neither comes in
        `timeout_s`, and as `open` does.
        """


class CheckpointStore(Protocol):
    """The lease and the checkpoint of a stream in one item: each write is atomic.

    `acquire` first; every other write is conditional on the lease's fencing token alone, so that a
    repeat of a write that had already succeeded succeeds again, and a former holder is refused with
    LeaseLost. Raises StoreUnavailable, StoreRefused; `acquire` also StateRefused.
    """

    def acquire(
        self, stream: str, owner: str, *, now_ms: int, expires_at_ms: int
    ) -> Acquired | NotAcquired:
        """Take the lease if it is free, expired or already `owner`'s, and the stream is running."""

    def renew(self, lease: Lease, *, expires_at_ms: int) -> None:
        """Move the lease's end; touches nothing else."""

    def save(
        self, lease: Lease, checkpoint: Checkpoint | None, attempts: Attempts, *, expires_at_ms: int
    ) -> None:
        """Store progress and move the lease's end in one write; `expires_at_ms` 0 releases it.

        A checkpoint of None leaves the position. Either of a new position and a release sets the
        count of unreleased runs back to zero.
        """

    def save_gap(
        self, lease: Lease, checkpoint: Checkpoint, gap: Gap, *, expires_at_ms: int
    ) -> None:
        """Store a new position and the record of what it skips, both or neither (G7)."""

    def halt(
        self, lease: Lease, checkpoint: Checkpoint | None, attempts: Attempts, *, reason: str
    ) -> None:
        """Store progress, set the status to halted and release, in one write."""

    def set_status(self, stream: str, status: Status, *, reason: str | None) -> bool:
        """An operator's change of status; False where the stream has no item yet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: `delivered` changes from its start, then perhaps a failure.

    `named` says that the sink itself pointed at the change behind the delivered ones. Fewer than
    the batch without an error: the deadline came first. A RetryableError blames the target and no
    change, a PoisonChange the change for ever, a FatalError halts the stream there.
    """

    delivered: int
    error: Exception | None = None
    named: bool = False


class Sink(Protocol):
    """A destination. It may see a change again, and must expect that."""

    @property
    def may_hang_on_a_change(self) -> bool:
        """Whether a delivery that does not end may be a change's own doing."""

    def deliver(self, batch: Batch, *, deadline_s: float) -> Outcome:
        """Deliver in order; `deadline_s` is the monotonic time by which it should have ended.

        Never raises for a failed delivery: that is an Outcome. Raises SinkRefused, nothing being
        delivered, where an operator must act before the first change can be.
        """


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Everything needed to redeliver one change."""

    stream: str
    change_id: str
    change: Change
    error_type: str
    error_message: str
    attempts: int
    first_failed_at_ms: int
    last_failed_at_ms: int
    fencing_token: int


class DeadLetters(Protocol):
    """Where poison changes are set aside, durably, before the position passes them (G1)."""

    def put(self, letter: DeadLetter) -> None:
        """Store one letter; returns only when it is durable. Raises DeadLetterFailed."""


class Telemetry(Protocol):
    """Log events and metrics of one stream; see `telemetry.py` for their names."""

    def event(self, name: str, **fields: Any) -> None:
        """Something happened."""

    def error(self, name: str, cause: BaseException | None = None, **fields: Any) -> None:
        """Something failed; of `cause` only its type, its place and our own messages are logged."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The world of one stream's run.

    `one_suspect` is shared by the runs of a process: whoever delivers what may kill it holds it.
    """

    source: Source
    store: CheckpointStore
    sink: Sink
    dead_letters: DeadLetters
    clock: Clock
    telemetry: Telemetry
    one_suspect: threading.Lock = field(default_factory=threading.Lock)
