"""One run in one container, which moves only when it is told to.

The run has a thread of its own, and a baton: exactly one thread runs at a time, and control passes
at points before and behind each call of a port, so that a schedule decides everything. A killed
process has no effect on the world any more: each later call of a port raises `Crash` again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from fakes import Crash, RecordingTelemetry
from tidemark.errors import TidemarkError
from tidemark.lease import KEEPER_RENEWAL_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable

    from bson.timestamp import Timestamp

    from fakes import ContainerClock
    from fakes.source import ScriptedReader
    from tidemark.budget import Budget
    from tidemark.model import StreamSummary
    from tidemark.run import Run

T = TypeVar("T")
KEEPER_S = 0.5
CALL_S = 0.004


class Process:
    """A process of the container `name`; `run` is set before it first moves."""

    run: Run
    budget: Budget

    def __init__(self, name: int, clock: ContainerClock, *, has_keeper: bool) -> None:
        self.name = name
        self.clock = clock
        self.telemetry = RecordingTelemetry()
        self.empty_at: int | None = None  # what the last read proved to hold nothing up to there
        self.readers: list[ScriptedReader] = []
        self.heard: Timestamp | None = None  # the server's time at its last answer
        self.began_end: Timestamp | None = None  # the server's time as the run first opened it
        self.summary: StreamSummary | None = None
        self.steps = 0  # calls of ports
        self.is_hung = False
        self.is_dead = False
        self.failure: BaseException | None = None
        self._has_keeper = has_keeper
        self._is_keeping = False
        self._points = 0
        self._go = threading.Semaphore(0)
        self._yielded = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._execute, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, or its process died."""
        return self.is_dead or self.summary is not None

    def opened(self, reader: ScriptedReader) -> None:
        """The run has opened a stream."""
        self.readers.append(reader)
        self.began_end = self.began_end or reader.opened_at
        self.heard = reader.opened_at

    def go_on(self, points: int) -> None:
        """Let the process go past `points` - 1 points; returns when it waits at one, or is over."""
        if self.is_over:
            return
        self._points = points - 1
        self._hand_over()

    def kill(self) -> None:
        """End the process where it is."""
        if self.is_over:
            return
        self.is_dead = True
        self._hand_over()
        self._thread.join()

    def die(self) -> None:
        """End the process from within."""
        self.is_dead = True
        raise Crash

    def hang(self) -> None:
        """Wait for an end that only a kill brings."""
        self.is_hung = True
        while True:
            self._points = 0
            self.point()

    def call(self, act: Callable[[], T]) -> T:
        """Call a port: the schedule may interrupt before and behind it."""
        self.point()
        self.steps += 1
        self.clock.advance_s(CALL_S)
        try:
            return act()
        finally:
            self.point()

    def point(self) -> None:
        """A place where the schedule may interrupt; raises Crash in a dead process."""
        self.require_alive()
        if self._is_keeping or threading.current_thread() is not self._thread:
            return  # the keeper, or the supervisor that records a hung run
        if self._points > 0:
            self._points -= 1
            return
        self._yielded.release()
        self._go.acquire()
        self.require_alive()

    def require_alive(self) -> None:
        """Raise Crash in a dead process, again where somebody swallowed it."""
        if self.is_dead:
            raise Crash

    def keep(self, *, by_force: bool = False) -> None:
        """Renew the lease as the supervisor's keeper does; `by_force` even where it is not due."""
        held = None if self.is_dead or self._is_keeping else self.run.held
        if held is None:
            return
        due = self._has_keeper and not held.is_over and held.renewal_due(KEEPER_RENEWAL_SHARE)
        if by_force or due:
            self._is_keeping = True
            try:
                held.renew()
            except TidemarkError as error:
                self.telemetry.error("lease.renewal_failed", error)
            finally:
                self._is_keeping = False

    def monotonic_s(self) -> float:
        """The container's clock; the process is its run's `Clock`."""
        return self.clock.monotonic_s()

    def time_ms(self) -> int:
        """The container's clock."""
        return self.clock.time_ms()

    def sleep_s(self, seconds: float) -> None:
        """Sleep, with the keeper awake."""
        while seconds > 0:
            self.point()
            self.clock.sleep_s(min(KEEPER_S, seconds))
            seconds -= KEEPER_S

    def _hand_over(self) -> None:
        self._go.release()
        self._yielded.acquire()

    def _execute(self) -> None:
        self._go.acquire()
        try:
            if not self.is_dead:
                self.summary = self.run.execute()
        except Crash:
            self.is_dead = True
        except BaseException as failure:  # told by `failure`
            self.failure = failure
            self.is_dead = True
        finally:
            self._yielded.release()
