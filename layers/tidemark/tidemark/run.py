"""One stream, one run: the order of effects is the product.

1. **Acquire** the lease and read the checkpoint, in one request. The loser stops here.
2. **Open** the stream at the checkpoint. The first run stores the position it begins at first.
3. **Read** until the batch is full, the server has no more, or the budget is spent. A passing
   fault of the server is outlasted: the stream is opened again at the position.
4. **Deliver** the batch, only while the lease is ours.
5. **Settle** what failed: try again, then the stream's policy (`settle.py` holds 4 and 5).
6. **Checkpoint**, fenced: after delivered changes, or at an empty answer's token (G1, G6).
7. **Repeat** until caught up with the run's beginning (drain) or the budget ends (linger).
8. **Close** the stream, then **release** the lease with the last checkpoint, in one write.

A crash between any two of them loses nothing: what was not checkpointed comes again (G3).
"""

from typing import TYPE_CHECKING, NoReturn

from tidemark.account import Account
from tidemark.backoff import Jitter, backoff_s, jitter_of
from tidemark.budget import Budget
from tidemark.errors import (
    HistoryLost,
    LeaseLost,
    OpeningTimedOut,
    SourceUnavailable,
    SourceUnreachable,
    StreamHalted,
    StreamInvalidated,
    TidemarkError,
)
from tidemark.lease import HeldLease, LeaseTerms
from tidemark.model import (
    Acquired,
    NotAcquired,
    Position,
    Read,
    ReadEnd,
    Status,
    StopReason,
    StreamSummary,
)
from tidemark.pace import Pace
from tidemark.ports import Ports, Reader, ReadLimits
from tidemark.progress import Progress
from tidemark.readahead import ReadAhead, one_thread
from tidemark.reading import Reading
from tidemark.recovery import Recovery
from tidemark.settings import Settings, StreamSettings
from tidemark.settle import Settlement, is_killed_reading, is_wary

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

INTERRUPT_S = 1.0
FAULT_CAP_S = 5.0  # an opening is cheap, and an election lasts some ten seconds
UNHURRIED_S = 10.0
ACQUIRE_POLL_S = 0.2
NOT_HAD = {  # why the lease was not had, and the event that tells it
    Status.RUNNING: (StopReason.LEASE_HELD, "lease.held"),
    Status.PAUSED: (StopReason.PAUSED, "stream.paused"),
    Status.HALTED: (StopReason.HALTED, "stream.halted"),
}
PASSING = (SourceUnavailable, OpeningTimedOut)


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
        self._settings = settings
        self._ports = ports
        self._budget = budget
        self._progress: Progress | None = None
        await_s = settings.max_await_ms / 1000
        self._pace = Pace(budget, ports.clock, await_s)
        self._checkpoint_interval_s = stream.checkpoint_interval_s
        self._reading = Reading(stream, ports.source, await_s)
        self._account = Account(stream.name, ports, self._reading)
        self._jitter: Jitter = max
        self._reads = 0  # of the opening
        self._faults = 0  # since the last read that succeeded
        self._delivered_before = 0  # when progress was told last
        self._doubted: Position | None = None
        self._reader: Reader | None = None
        self._is_interrupted = False

    @property
    def summary(self) -> StreamSummary:
        """What came of the run so far."""
        return self._account.summary

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

    def is_overdue(self, now_s: float) -> bool:
        """Whether the user's `deliver` has taken longer than `deliver_timeout_s`."""
        settlement = self._account.settlement
        return settlement is not None and settlement.is_overdue(now_s)

    def record_hung(self) -> None:
        """Store what is known of a run that will not end: whoever calls ends the process next."""
        self._account.count()
        if self._account.settlement is not None:
            self._account.settlement.record_hung()

    def interrupt(self) -> None:
        """From another thread, once the budget was ended early: let the read under way end."""
        self._is_interrupted = True
        reader = self._reader
        if reader is not None and self.step == "read":
            reader.interrupt(timeout_s=INTERRUPT_S)

    def record_cut_short(self) -> None:
        """Give back what a run holds that ends by another's doing: nobody is to blame for it."""
        self._account.count()
        if self._account.settlement is not None:
            self._account.settlement.record_cut_short()

    def tell_progress(self) -> StreamSummary | None:
        """Log how far a run has come that is not over.

        None of one that gets nowhere: without the lease, or while it only waits for a server that
        fails or for a sink that fails.
        """
        if self._progress is None or not self._gets_on():
            return None
        self._account.tell(self._progress)
        self._ports.telemetry.event("run.progress", step=self.step, **self.summary.as_json())
        return self.summary

    def _gets_on(self) -> bool:
        """Whether the server is at work for the run, or changes were delivered since asked last."""
        settlement = self._account.settlement
        delivered = settlement.delivered if settlement else 0
        before, self._delivered_before = self._delivered_before, delivered
        return delivered > before or (self.step == "read" and not self._faults)

    def _execute(self) -> None:
        answer = self._acquire()  # 1
        if isinstance(answer, NotAcquired):
            self.summary.stop_reason = self._not_had(answer)
            return
        held, acquired = answer
        self.held, self._jitter = held, jitter_of(held.lease)
        self.summary.fencing_token = held.lease.fencing_token
        progress = Progress(held, self._ports.clock, acquired.checkpoint, acquired.attempts)
        self._progress = progress
        try:
            self.summary.stop_reason = self._follow(held, acquired, progress)  # 2 to 8's closing
        except Exception as error:
            self._release_after(error, progress)
            raise
        self.step = "release"
        self._account.tell(progress)
        progress.release()  # 8
        self._account.tell_headroom(progress.latest, self._pace.asking_timeout_s())
        self._account.tell_scanning(progress)
        self.summary.error = None
        self._ports.telemetry.event("run.ended", **self.summary.as_json())

    def _acquire(self) -> tuple[HeldLease, Acquired] | NotAcquired:
        """Take the lease; a lingering run may wait for its predecessor to give it back."""
        clock, wait_s = self._ports.clock, self._settings.acquire_wait_s
        terms = LeaseTerms(int(self._settings.lease_s * 1000), self._budget.deadline_ms)
        give_up_s = clock.monotonic_s() + min(wait_s, self._pace.left_s())
        while True:
            answer = HeldLease.take(self._ports.store, clock, terms, self.stream.name)
            if not isinstance(answer, NotAcquired) or answer.status is not Status.RUNNING:
                return answer
            if clock.monotonic_s() + ACQUIRE_POLL_S > give_up_s:
                return answer
            clock.sleep_s(ACQUIRE_POLL_S)

    def _follow(self, held: HeldLease, acquired: Acquired, progress: Progress) -> StopReason:
        """Open and read the stream, again after each invalidate, gap and passing fault."""
        self.step = "open"
        recovery = Recovery(self.stream, self._ports, self._budget, progress)
        self._account.recovery = recovery
        if is_killed_reading(acquired):
            self._halt_killed(acquired, progress)
        wary = is_wary(acquired)
        if wary or acquired.unreleased_runs:  # each batch is stored: the killer's own is found
            self._checkpoint_interval_s = 0.0
        if wary:
            self._ports.telemetry.event("stream.wary", unreleased_runs=acquired.unreleased_runs)
        settlement = Settlement(self.stream, self._ports, self._budget, held, progress, wary=wary)
        self._account.settlement = settlement
        while True:
            try:
                recovery.begin()
                if not self._pace.has_time():
                    return StopReason.BUDGET
                return self._read_through(held, progress, settlement, recovery)
            except SourceUnreachable:
                raise
            except PASSING as fault:
                if self._is_interrupted:
                    return StopReason.BUDGET
                self._outlast(fault)
            except TidemarkError as error:
                self._go_on_after(error, recovery)

    def _go_on_after(self, error: TidemarkError, recovery: Recovery) -> None:
        """Let recovery move the position past `error`; a passing fault meanwhile is outlasted."""
        if self._is_doubtful(error):
            return
        self.step = "open"
        while True:
            try:
                recovery.go_on_after(error)
            except PASSING as fault:
                self._outlast(fault)
            else:
                return

    def _is_doubtful(self, error: TidemarkError) -> bool:
        """Whether a stream that was read has lost its position: an opening of our own decides.

        The driver resumes by `resumeAfter`, which takes no invalidate's token: the server may still
        have what it calls lost. Once a position.
        """
        position = self._progress.position if self._progress and self._progress.latest else None
        known, self._doubted = self._doubted, position
        return isinstance(error, HistoryLost) and self._reads > 0 and known != position

    def _outlast(self, fault: TidemarkError) -> None:
        """Wait before the stream is opened again, or raise `fault` where no time is left for it."""
        self._faults += 1
        delay_s = backoff_s(self._faults, self._jitter, FAULT_CAP_S)
        if not self._pace.has_time(delay_s):
            raise fault
        self._ports.telemetry.error("source.interrupted", fault, faults=self._faults)
        self._ports.clock.sleep_s(delay_s)

    def _read_through(
        self, held: HeldLease, progress: Progress, settlement: Settlement, recovery: Recovery
    ) -> StopReason:
        """Open the stream, read it until the run ends, and close it."""
        self._account.began(progress.position)
        self._reads = 0
        reader = self._reader = self._opened(progress, settlement)  # 2
        try:
            recovery.require_same_deployment()
            self._note_opening(reader, progress)
            stop, gave_up = self._read_on(reader, held, progress, settlement)
        finally:
            self._reader = None
            answered = reader.close(timeout_s=self._pace.close_timeout_s())  # 8
        if gave_up and not answered:
            raise SourceUnavailable(
                f"stream {self.stream.name!r}: MongoDB did not answer, and does not answer another "
                "connection either: check the cluster's state and the network path"
            )
        return stop

    def _opened(self, progress: Progress, settlement: Settlement) -> Reader:
        reader = self._ports.source.open(
            self.stream,
            progress.position,
            timeout_s=self._pace.left_s(),
            batch_size=1 if settlement.is_wary else None,
        )
        if self.stream.read_ahead and not settlement.is_wary:
            return ReadAhead(reader, self.make_executor())
        return reader

    def _note_opening(self, reader: Reader, progress: Progress) -> None:
        progress.observe(reader.opened_at)
        now_s = self._ports.clock.monotonic_s()
        self._reading.opened(reader, now_s, is_sharded=progress.is_sharded)

    def _read_on(
        self, reader: Reader, held: HeldLease, progress: Progress, settlement: Settlement
    ) -> tuple[StopReason, bool]:
        """Read until the run ends: why, and whether a read was given up for that."""
        while self._pace.has_time():
            self.step = "read"
            self._require_lease(held)
            self._reading.begin_read()
            before, began_s = progress.position, self._ports.clock.monotonic_s()
            read = reader.read(self._limits(settlement), timeout_s=self._read_timeout_s())  # 3
            now_s = self._ports.clock.monotonic_s()
            progress.observe(reader.operation_time)
            self._reads, self._faults = self._reads + 1, 0
            if not self._deliver(read, settlement):  # 4, 5
                return StopReason.BUDGET, False
            self._checkpoint(read, progress, before)  # 6
            caught_up = self._reading.is_caught_up(read, took_s=now_s - began_s, now_s=now_s)
            if read.end is ReadEnd.GIVEN_UP:
                return StopReason.BUDGET, True
            if caught_up and self._settings.mode == "drain":
                return StopReason.CAUGHT_UP, False
            del read  # or two batches are held while the next one is decoded
        return StopReason.BUDGET, False  # 7

    def _deliver(self, read: Read, settlement: Settlement) -> bool:
        """Whether everything that was read is settled."""
        if not read.changes:
            return True
        self.step = "deliver"
        return settlement.deliver(read.changes) == len(read.changes)

    def _checkpoint(self, read: Read, progress: Progress, before: Position) -> None:
        self.step = "checkpoint"
        if read.end is ReadEnd.INVALIDATED:
            raise self._invalidated(read, before)
        if read.resume_token is not None:
            progress.moved_to(read.resume_token)
        progress.save_if_due(self._checkpoint_interval_s)

    def _invalidated(self, read: Read, before: Position) -> StreamInvalidated:
        """The server closed the cursor: with a token that is new since `before`, or without."""
        token = read.resume_token
        is_new = token is not None and token != before.resume_token
        return StreamInvalidated(
            f"stream {self.stream.name!r}: the server closed the cursor", token if is_new else None
        )

    def _limits(self, settlement: Settlement) -> ReadLimits:
        return ReadLimits(
            max_changes=1 if settlement.is_wary else self.stream.max_changes,
            max_bytes=self.stream.max_bytes,
            max_age_s=max(0.0, min(self.stream.max_age_s, self._pace.longest_age_s())),
        )

    def _read_timeout_s(self) -> float:
        """All that is left: a server that answers late is scanning, as long as it is there."""
        return self._pace.left_s()

    def _require_lease(self, held: HeldLease) -> None:
        """Read only while the lease is ours: what a former holder reads, it may not deliver."""
        held.require()

    def _not_had(self, answer: NotAcquired) -> StopReason:
        """Why a run that did not get the lease ends, told in the log; and its lag, if unread."""
        stop, event = NOT_HAD[answer.status]
        self._ports.telemetry.event(
            event,
            lease_owner=answer.owner,
            lease_expires_at_ms=answer.expires_at_ms,
            status_reason=answer.status_reason,
        )
        if stop is not StopReason.LEASE_HELD:
            has_time = self._pace.left_s() > UNHURRIED_S  # a client may have to be made first
            self._account.not_had(answer, self._pace.asking_timeout_s() if has_time else None)
        return stop

    def _release_after(self, error: Exception, progress: Progress) -> None:
        """Give the lease back with what was delivered; a failure to do so hides no error."""
        self._account.tell(progress)
        held = self.held
        if held is None or held.is_over or isinstance(error, LeaseLost):
            return
        failed_at, self.step = self.step, "release"
        try:
            progress.release()
        except TidemarkError as failed:
            self._ports.telemetry.error("lease.release_failed", failed)
        self.step = failed_at  # what the log tells
        if not isinstance(error, SourceUnavailable):
            self._account.tell_headroom(progress.latest, self._pace.asking_timeout_s())

    def _fail(self, error: Exception) -> None:
        self.summary.stop_reason = StopReason.FAILED
        ours = isinstance(error, TidemarkError)
        self.summary.error = f"{type(error).__name__}: {error}" if ours else type(error).__name__
        self._ports.telemetry.error("run.failed", error, step=self.step)

    def _halt_killed(self, acquired: Acquired, progress: Progress) -> NoReturn:
        reason = f"{acquired.unreleased_runs} runs were killed before they delivered anything"
        progress.halt(reason)
        raise StreamHalted(f"stream {self.stream.name!r}: {reason}: does a batch fit the memory?")
