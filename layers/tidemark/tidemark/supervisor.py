"""Every stream's run in a thread of its own, watched from the main thread.

The supervisor renews the leases of busy workers and watches the clock. No invocation returns with a
live worker: one that is still at work when the reserve is used up (a `deliver` that hangs, a server
beyond its timeouts) takes the process with it, before Lambda would kill it without a word. The next
run starts in a fresh container, at an unchanged position (G5).
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence

from tidemark.budget import Budget
from tidemark.lease import KEEPER_RENEWAL_SHARE
from tidemark.ports import Clock, Telemetry
from tidemark.run import Run

WATCH_S = 0.5
RECORDING_SHARE = 0.5  # of the grace that is left: a stalled store must not outlast it


class Worker:
    """One run in one thread."""

    def __init__(self, run: Run, telemetry: Telemetry) -> None:
        self.run = run
        self.telemetry = telemetry
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

    def stack(self) -> list[str]:
        """Where the worker's thread is: `file:line`, innermost last; no values (G8)."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return [f"{at.filename}:{at.lineno}" for at in traceback.extract_stack(frame)]

    def record_hung(self) -> None:
        """Store what is known of a run that will not end, or tell why not."""
        self._told("run.failed", self.run.record_hung)

    def _execute(self) -> None:
        self._told("run.failed", self.run.execute)

    def _renew(self) -> None:
        held = self.run.held
        if held is not None:
            self._told("lease.renewal_failed", held.renew)

    def _told(self, event: str, act: Callable[[], object]) -> None:
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

    def supervise(self, workers: Sequence[Worker]) -> None:
        """Start `workers` and return when each has ended."""
        for worker in workers:
            worker.start()
        while busy := [worker for worker in workers if worker.is_busy()]:
            left_s = self._budget.abandon_s - self._clock.monotonic_s()
            if left_s <= 0:
                self._abandon(busy)
                return
            for worker in busy:
                worker.renew_if_due()
            busy[0].wait(min(WATCH_S, left_s))

    def _abandon(self, stuck: Iterable[Worker]) -> None:
        """End the process: the stuck runs are logged and recorded first, as far as time allows."""
        records = []
        for worker in stuck:
            step = worker.run.step
            name = "deliver.hung" if step == "deliver" else "run.hung"
            worker.telemetry.error(name, step=step, stack=worker.stack())
            worker.run.summary.error = f"{name}: stuck in step {step!r} at the end of the reserve"
            record = threading.Thread(target=worker.record_hung, daemon=True)
            record.start()
            records.append(record)
        until_s = self._clock.monotonic_s() + RECORDING_SHARE * (
            self._budget.deadline_s - self._clock.monotonic_s()
        )
        for record in records:
            record.join(max(0.0, until_s - self._clock.monotonic_s()))
        self._before_exit()
        self._end_process(1)
