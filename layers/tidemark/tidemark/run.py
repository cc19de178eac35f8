"""One stream, one run: the order of effects is the product.

1. **Acquire** the lease and read the checkpoint, in one request. The loser stops here.
2. **Open** the stream at the checkpoint. The first run stores the position it begins at first.
3. **Read** until the batch is full, the server has no more, or the budget is spent.
4. **Deliver** the batch, only while the lease is ours.
5. **Settle** what failed: try again, then the stream's policy (`settle.py` holds 4 and 5).
6. **Checkpoint**, fenced: behind delivered changes, or at an empty answer's token (G1, G6).
7. **Repeat** until caught up (drain) or the budget ends (linger).
8. **Close** the stream, then **release** the lease with the last checkpoint, in one write.

A crash between any two of them loses nothing: what was not checkpointed comes again (G3).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from tidemark.budget import Budget
from tidemark.errors import LeaseLost, StreamHalted, StreamInvalidated, TidemarkError
from tidemark.lease import HeldLease, LeaseTerms
from tidemark.model import (
    Acquired,
    NotAcquired,
    Read,
    ReadEnd,
    Status,
    StopReason,
    StreamSummary,
)
from tidemark.ports import Ports, Reader, ReadLimits
from tidemark.progress import Progress, lag_ms
from tidemark.readahead import ReadAhead, one_thread
from tidemark.recovery import Recovery
from tidemark.settings import Settings, StreamSettings
from tidemark.settle import Settlement, is_killed_reading, is_wary

if TYPE_CHECKING:
    from concurrent.futures import Executor

MARGIN_S = 0.1  # beyond one await: a read cut short costs the connection and the cursor
STALL_S = 10.0  # beyond a batch's age and one await: a server this late is not going to answer
CLOSE_S = 1.0
CLOSE_SHARE = 0.4  # of what is left until the run is given up
LEAST_S = 0.1  # a timeout of 0 would mean none
ACQUIRE_POLL_S = 0.2
RESTS = {  # why the lease was not had, and the event that tells it
    Status.RUNNING: (StopReason.LEASE_HELD, "lease.held"),
    Status.PAUSED: (StopReason.PAUSED, "stream.paused"),
    Status.HALTED: (StopReason.HALTED, "stream.halted"),
}


class Run:
    """A run of one stream, made once and executed once.

    `step` names what the run is doing, for whoever must end it; `held` is its lease, once it has
    one; `make_executor` gives the thread that reads ahead.
    """

    def __init__(
        self, stream: StreamSettings, settings: Settings, ports: Ports, budget: Budget
    ) -> None:
        self.stream = stream
        self.step = "acquire"
        self.held: HeldLease | None = None
        self.make_executor: Callable[[], Executor] = one_thread
        self.summary = StreamSummary(stream.name, error="the run ended without a result")
        self._settings = settings
        self._ports = ports
        self._budget = budget
        self._settlement: Settlement | None = None
        self._recovery: Recovery | None = None
        self._await_s = settings.max_await_ms / 1000
        self._checkpoint_interval_s = stream.checkpoint_interval_s
        self._empty_reads = 0

    def execute(self) -> StreamSummary:
        """Run the stream; an error is told in the summary, and logged."""
        try:
            self._execute()
            self.summary.error = None
        except LeaseLost as lost:
            self.summary.error = None
            self.summary.stop_reason = StopReason.LEASE_LOST
            self._ports.telemetry.error("lease.lost", lost)
        except Exception as error:
            self._fail(error)
        return self.summary

    def record_hung(self) -> None:
        """Store what is known of a run that will not end: whoever calls ends the process next."""
        self._count()
        if self._settlement is not None:
            self._settlement.record_hung()

    def _execute(self) -> None:
        answer = self._acquire()  # 1
        if isinstance(answer, NotAcquired):
            self.summary.stop_reason = self._rest(answer)
            return
        held, acquired = answer
        self.held = held
        self.summary.fencing_token = held.lease.fencing_token
        progress = Progress(held, self._ports.clock, acquired.checkpoint, acquired.attempts)
        try:
            self.summary.stop_reason = self._follow(held, acquired, progress)  # 2 to 8's closing
        except Exception as error:
            self._release_after(error, progress)
            raise
        self.step = "release"
        self._tell(progress)
        progress.release()  # 8
        self.summary.error = None
        self._ports.telemetry.event("run.ended", **self.summary.as_json())

    def _acquire(self) -> tuple[HeldLease, Acquired] | NotAcquired:
        """Take the lease; a lingering run may wait for its predecessor to give it back."""
        clock, wait_s = self._ports.clock, self._settings.acquire_wait_s
        terms = LeaseTerms(int(self._settings.lease_s * 1000), self._budget.deadline_ms)
        give_up_s = clock.monotonic_s() + min(wait_s, self._left_s())
        while True:
            answer = HeldLease.take(self._ports.store, clock, terms, self.stream.name)
            if not isinstance(answer, NotAcquired) or answer.status is not Status.RUNNING:
                return answer
            if clock.monotonic_s() + ACQUIRE_POLL_S > give_up_s:
                return answer
            clock.sleep_s(ACQUIRE_POLL_S)

    def _follow(self, held: HeldLease, acquired: Acquired, progress: Progress) -> StopReason:
        """Open and read the stream, again behind each invalidate and each gap."""
        self.step = "open"
        recovery = self._recovery = Recovery(self.stream, self._ports, self._budget, progress)
        recovery.begin()
        if is_killed_reading(acquired):
            self._halt_killed(acquired, progress)
        wary = is_wary(acquired)
        if wary or acquired.unreleased_runs:  # each batch is stored: the killer's own is found
            self._checkpoint_interval_s = 0.0
        if wary:
            self._ports.telemetry.event("stream.wary", unreleased_runs=acquired.unreleased_runs)
        settlement = self._settlement = Settlement(
            self.stream, self._ports, self._budget, held, progress, wary=wary
        )
        while self._has_time():
            try:
                with self._opened(progress, settlement) as reader:  # 2
                    return self._read_on(reader, held, progress, settlement)
            except TidemarkError as error:
                self.step = "open"
                recovery.go_on_after(error)  # or raise it
        return StopReason.BUDGET

    @contextmanager
    def _opened(self, progress: Progress, settlement: Settlement) -> Iterator[Reader]:
        reader = self._ports.source.open(
            self.stream,
            progress.position,
            timeout_s=self._left_s(),
            batch_size=1 if settlement.is_wary else None,
        )
        if self.stream.read_ahead and not settlement.is_wary:
            reader = ReadAhead(reader, self.make_executor())
        try:
            yield reader
        finally:
            reader.close(timeout_s=self._close_timeout_s())  # 8

    def _read_on(
        self, reader: Reader, held: HeldLease, progress: Progress, settlement: Settlement
    ) -> StopReason:
        quiet_since_s = self._ports.clock.monotonic_s()
        while self._has_time():
            self.step = "read"
            held.require()
            limits = self._limits(settlement)
            read = reader.read(limits, timeout_s=self._read_timeout_s(limits))  # 3
            if not self._deliver(read, settlement):  # 4, 5
                return StopReason.BUDGET
            self._checkpoint(read, progress)  # 6
            now = self._ports.clock.monotonic_s()
            if read.end is not ReadEnd.EMPTY:
                quiet_since_s = now
            elif self._is_caught_up(now - quiet_since_s):
                return StopReason.CAUGHT_UP
            del read  # or two batches are held while the next one is decoded
        return StopReason.BUDGET  # 7

    def _deliver(self, read: Read, settlement: Settlement) -> bool:
        """Whether everything that was read is settled."""
        if not read.changes:
            return True
        self.step = "deliver"
        return settlement.deliver(read.changes) == len(read.changes)

    def _checkpoint(self, read: Read, progress: Progress) -> None:
        self.step = "checkpoint"
        self._empty_reads = 0 if read.changes else self._empty_reads + 1
        if read.resume_token is not None:
            progress.moved_to(read.resume_token)
        if read.end is ReadEnd.INVALIDATED:
            raise self._invalidated(read)
        progress.save_if_due(self._checkpoint_interval_s)

    def _invalidated(self, read: Read) -> StreamInvalidated:
        last = read.changes[-1] if read.changes else {}
        return StreamInvalidated(
            f"stream {self.stream.name!r}: the server closed the cursor",
            hidden=last.get("operationType") != "invalidate",
        )

    def _is_caught_up(self, quiet_s: float) -> bool:
        return self._settings.mode == "drain" and quiet_s >= self.stream.idle_s

    def _limits(self, settlement: Settlement) -> ReadLimits:
        return ReadLimits(
            max_changes=1 if settlement.is_wary else self.stream.max_changes,
            max_bytes=self.stream.max_bytes,
            max_age_s=max(0.0, min(self.stream.max_age_s, self._longest_age_s())),
        )

    def _longest_age_s(self) -> float:
        """How long a batch may wait: the awaits before its first change and after its age fit."""
        return self._left_s() - 2 * self._await_s - MARGIN_S

    def _has_time(self) -> bool:
        """Whether a read can wait for a whole await: one cut short would cost the connection."""
        return self._left_s() > self._await_s + MARGIN_S

    def _left_s(self) -> float:
        return self._budget.left_s(self._ports.clock.monotonic_s())

    def _close_timeout_s(self) -> float:
        """A share of the reserve of a short invocation: the release must still fit behind it."""
        left_s = self._budget.abandon_s - self._ports.clock.monotonic_s()
        return max(LEAST_S, min(CLOSE_S, left_s * CLOSE_SHARE))

    def _read_timeout_s(self, limits: ReadLimits) -> float:
        return min(self._left_s(), limits.max_age_s + self._await_s + STALL_S)

    def _rest(self, answer: NotAcquired) -> StopReason:
        """Why a run that did not get the lease ends, told in the log."""
        stop, event = RESTS[answer.status]
        self._ports.telemetry.event(
            event,
            lease_owner=answer.owner,
            lease_expires_at_ms=answer.expires_at_ms,
            status_reason=answer.status_reason,
        )
        return stop

    def _release_after(self, error: Exception, progress: Progress) -> None:
        """Give the lease back with what was delivered; a failure to do so hides no error."""
        self._tell(progress)
        held = self.held
        if held is None or held.is_over or isinstance(error, LeaseLost):
            return
        failed_at, self.step = self.step, "release"
        try:
            progress.release()
        except TidemarkError as failed:
            self._ports.telemetry.error("lease.release_failed", failed)
        self.step = failed_at  # what the log tells

    def _fail(self, error: Exception) -> None:
        self.summary.stop_reason = StopReason.FAILED
        ours = isinstance(error, TidemarkError)
        self.summary.error = f"{type(error).__name__}: {error}" if ours else type(error).__name__
        self._ports.telemetry.error("run.failed", error, step=self.step)

    def _halt_killed(self, acquired: Acquired, progress: Progress) -> NoReturn:
        reason = f"{acquired.unreleased_runs} runs were killed before they delivered anything"
        progress.halt(reason)
        raise StreamHalted(f"stream {self.stream.name!r}: {reason}: does a batch fit the memory?")

    def _tell(self, progress: Progress) -> None:
        """Write what came of the run into its summary."""
        self._count()
        self.summary.lag_ms = lag_ms(
            progress.latest,
            now_ms=self._ports.clock.time_ms(),
            empty_reads=self._empty_reads,
            changes=self.summary.changes,
        )
        if progress.latest is not None:
            self.summary.position = str(progress.latest.position)

    def _count(self) -> None:
        if self._settlement is not None:
            self.summary.changes = self._settlement.delivered
            self.summary.batches = self._settlement.batches
            self.summary.dead_letters = self._settlement.dead_letters
        if self._recovery is not None:
            self.summary.gaps = self._recovery.gaps
