"""Invokes the function again and again, and kills it in the middle of its runs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from demo_record import Record, Run

if TYPE_CHECKING:
    import threading

    from container import Answer, Container

PERIOD_S = 1.0
STREAM = "orders"


@dataclass
class Schedule:
    """One invocation at a time, a period apart, as long as nobody says stop."""

    container: Container
    record: Record
    containers: int = 1
    _cold: bool = True

    def run(self, stop: threading.Event) -> None:
        """Invoke until told to stop; the run that then goes on is waited for."""
        while not stop.is_set():
            started_s = self.record.now_s()
            self.run_once()
            passed_s = self.record.now_s() - started_s
            stop.wait(PERIOD_S * math.ceil(passed_s / PERIOD_S) - passed_s)

    def run_once(self) -> Run:
        """Invoke, note how it went, and replace a container that was killed."""
        run = self._begin()
        answer = self.container.invoke({"streams": [STREAM]})
        self._end(run, answer)
        if answer.status == 0:
            self.container.start()
            self.containers += 1
        return run

    def _begin(self) -> Run:
        record = self.record
        number = len(record.runs) + 1
        run = Run(number, self.containers, record.now_s(), record.count_deliveries(), self._cold)
        record.runs.append(run)
        return run

    def _end(self, run: Run, answer: Answer) -> None:
        self._cold = answer.killed or answer.timed_out
        run.killed = answer.killed
        run.delivered = self.record.count_deliveries() - run.delivered_before
        run.failed = answer.error is not None
        run.ending = ending(answer)
        run.ended_s = self.record.now_s()


@dataclass(frozen=True)
class Kill:
    """What to kill, and the earliest moment of the writing for it."""

    after_s: float
    whole_container: bool


@dataclass
class Killer:
    """Sends SIGKILL while a run delivers: never between runs, never before it has begun to."""

    container: Container
    record: Record
    plan: list[Kill] = field(
        default_factory=lambda: [Kill(2.5, True), Kill(9.0, False), Kill(15.5, True)]
    )
    at_least: int = 30
    """Changes that the run must have delivered before it is killed."""

    @property
    def pending(self) -> bool:
        """Whether a kill is still planned."""
        return bool(self.plan)

    def look(self, writing_for_s: float) -> None:
        """Kill if the next kill is due and a run is in the middle of delivering."""
        if self.plan and writing_for_s >= self.plan[0].after_s and self._delivering():
            kill = self.plan.pop(0)
            if kill.whole_container:
                self.container.kill()
            else:
                self.container.kill_runtime()

    def _delivering(self) -> bool:
        runs = self.record.runs
        if not runs or runs[-1].ended_s is not None:
            return False
        return self._fresh(runs[-1]) and self._growing()

    def _fresh(self, run: Run) -> bool:
        return len(self.record.deliveries) - run.delivered_before >= self.at_least

    def _growing(self) -> bool:
        """Whether a line was appended in these last milliseconds: a delivery is under way."""
        before = self.record.deliveries_file.stat().st_size
        time.sleep(0.004)
        return self.record.deliveries_file.stat().st_size > before


def ending(answer: Answer) -> str:
    """Why a run stopped, in words."""
    if answer.status == 0:
        return "SIGKILL to the container"
    if answer.killed:
        return f"SIGKILL to the runtime (HTTP {answer.status})"
    if answer.error is not None:
        return f"failed: {answer.error}"
    summary = _summary(answer)
    reason = str(summary.get("stop_reason", "?")).replace("_", " ")
    return _holder(answer) if reason == "lease held" else reason


def _holder(answer: Answer) -> str:
    """Who holds the lease and for how long yet, from the function's own log."""
    for event in answer.events:
        if event.get("lease_owner") and event.get("lease_expires_at_ms"):
            left_s = event["lease_expires_at_ms"] / 1000 - time.time()
            owner, left = str(event["lease_owner"])[:8], max(0.0, left_s)
            return f"lease held by {owner}, {left:.1f} s left"
    return "lease held"


def _summary(answer: Answer) -> dict[str, Any]:
    """The stream's part of the run's summary; empty if it did not return one."""
    result = answer.result
    if not isinstance(result, dict):
        return {}
    found: dict[str, Any] = result.get("streams", {}).get(STREAM, {})
    return found
