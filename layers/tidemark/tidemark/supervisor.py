"""Every stream's run in a thread of its own, watched from the main thread.

The supervisor renews the leases of busy workers, tells once a minute how far they are, and watches
the clock. No invocation returns with a live worker: one that is still at work when the reserve is
used up (a server beyond its timeouts), or whose `deliver` takes longer than `deliver_timeout_s`,
takes the process with it, before Lambda would kill it without a word. The next run starts in a
fresh container, at an unchanged position (G5).
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from tidemark.budget import Budget
from tidemark.lease import KEEPER_RENEWAL_SHARE
from tidemark.model import StreamSummary
from tidemark.ports import Clock, Telemetry
from tidemark.run import Run

WATCH_S = 0.5
PROGRESS_EVERY_S = 60.0
RECORDING_S = 5.0  # a request to the store, with its retry
RECORDING_SHARE = 0.5  # of the grace that is left: a stalled store must not outlast it


class Worker:
    """One run in one thread; `report` emits the metrics of one that goes on."""

    def __init__(
        self,
        run: Run,
        telemetry: Telemetry,
        report: Callable[[StreamSummary], None] = lambda _: None,
    ) -> None:
        self.run = run
        self.telemetry = telemetry
        self._report = report
        self._told_at_s: float | None = None
        self._thread = threading.Thread(target=self._execute, name=run.stream.name, daemon=True)
        self._renewal: threading.Thread | None = None

    def start(self) -> None:
        """Begin the run."""
        self._thread.start()

    def is_busy(self) -> bool:
        """Whether the run has not ended."""
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait for the run's end, for `seconds` at the most."""
        self._thread.join(max(0.0, seconds))

    def renew_if_due(self) -> None:
        """Have the lease renewed where the worker is too busy to: a slow store holds nobody up."""
        held, renewal = self.run.held, self._renewal
        if held is None or (renewal is not None and renewal.is_alive()):
            return
        if not held.is_over and held.renewal_due(KEEPER_RENEWAL_SHARE):
            self._renewal = threading.Thread(target=self._renew, daemon=True)
            self._renewal.start()

    def tell_progress_if_due(self, now_s: float) -> None:
        """Log and measure a long run once a minute: who watches it must not take it for dead."""
        self._told_at_s = now_s if self._told_at_s is None else self._told_at_s
        if now_s - self._told_at_s >= PROGRESS_EVERY_S:
            self._told_at_s = now_s
            self._guarded("run.failed", self._tell_progress)

    def stack(self) -> list[str]:
        """Where the worker's thread is: `file:line`, innermost last; no values (G8)."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return [f"{at.filename}:{at.lineno}" for at in traceback.extract_stack(frame)]

    def record_hung(self) -> None:
        """Store what is known of a run that will not end, or tell why not."""
        self._guarded("run.failed", self.run.record_hung)

    def record_cut_short(self) -> None:
        """Give back what the run holds, or tell why not."""
        self._guarded("run.failed", self.run.record_cut_short)

    def interrupt(self) -> None:
        """Let a read under way end: another stream's hang ends this process soon."""
        act = partial(self._guarded, "run.failed", self.run.interrupt)
        threading.Thread(target=act, daemon=True).start()

    def _execute(self) -> None:
        self._guarded("run.failed", self.run.execute)

    def _tell_progress(self) -> None:
        summary = self.run.tell_progress()
        if summary is not None:
            self._report(summary)

    def _renew(self) -> None:
        held = self.run.held
        if held is not None:
            self._guarded("lease.renewal_failed", held.renew)

    def _guarded(self, event: str, act: Callable[[], object]) -> None:
        """Do it; nothing escapes the thread: Python would print its message and source (G8)."""
        try:
            act()
        except BaseException as error:
            self.telemetry.error(event, error, step=self.run.step)


class Supervisor:
    """Runs workers to their end, or the process to its own.

    `before_exit` flushes what must not be lost with the process; `end_process` does not return.
    """

    def __init__(
        self,
        clock: Clock,
        budget: Budget,
        before_exit: Callable[[], None],
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._clock = clock
        self._budget = budget
        self._before_exit = before_exit
        self._end_process = end_process
        self._recordings: list[threading.Thread] = []

    def supervise(self, workers: Sequence[Worker]) -> None:
        """Start `workers` and return when each has ended."""
        hung: set[Worker] = set()
        for worker in workers:
            worker.start()
        while busy := {worker for worker in workers if worker.is_busy()}:
            now_s = self._clock.monotonic_s()
            hung |= self._new_hung(busy - hung, now_s)
            left_s = self._budget.abandon_s - now_s
            if left_s <= 0 or busy <= hung:
                self._abandon(busy - hung, by_another=bool(hung))
                return
            self._attend(busy - hung, now_s)
            next(iter(busy - hung)).wait(min(WATCH_S, left_s))

    def _attend(self, busy: Iterable[Worker], now_s: float) -> None:
        for worker in busy:
            worker.renew_if_due()
            worker.tell_progress_if_due(now_s)

    def _new_hung(self, busy: Iterable[Worker], now_s: float) -> set[Worker]:
        """Record each `deliver` that takes too long; the other runs end first, then the process."""
        overdue = {worker for worker in busy if worker.run.is_overdue(now_s)}
        if overdue:
            self._record(overdue, "took longer than deliver_timeout_s")
            self._budget.end_early(now_s)
            for worker in set(busy) - overdue:
                worker.interrupt()
        return overdue

    def _abandon(self, stuck: Iterable[Worker], *, by_another: bool) -> None:
        """End the process: the stuck runs are logged and recorded first, as far as time allows.

        `by_another`: it ends because of another run, and these are only not over yet.
        """
        if by_another:
            self._cut_short(stuck)
        else:
            self._record(stuck, "was stuck at the end of the reserve")
        now_s = self._clock.monotonic_s()
        until_s = now_s + min(RECORDING_S, RECORDING_SHARE * (self._budget.deadline_s - now_s))
        for recording in self._recordings:
            recording.join(max(0.0, until_s - self._clock.monotonic_s()))
        self._before_exit()
        self._end_process(1)

    def _record(self, stuck: Iterable[Worker], why: str) -> None:
        for worker in stuck:
            step = worker.run.step
            name = "deliver.hung" if step == "deliver" else "run.hung"
            worker.telemetry.error(name, step=step, stack=worker.stack())
            worker.run.summary.error = f"{name}: step {step!r} {why}"
            self._start(worker.record_hung)

    def _cut_short(self, busy: Iterable[Worker]) -> None:
        for worker in busy:
            worker.telemetry.error("run.hung", step=worker.run.step, stack=worker.stack())
            worker.run.summary.error = "run.hung: cut short by another stream's deliver"
            self._start(worker.record_cut_short)

    def _start(self, record: Callable[[], None]) -> None:
        recording = threading.Thread(target=record, daemon=True)
        recording.start()
        self._recordings.append(recording)
