"""One invocation, from its event to its result."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from tidemark.budget import Budget, SystemClock
from tidemark.collector import slowed_collector
from tidemark.config import select
from tidemark.errors import ConfigError, TidemarkError
from tidemark.model import RunSummary, Status
from tidemark.ports import CheckpointStore, Clock, DeadLetters, Ports, Sink, Source
from tidemark.run import Run
from tidemark.settings import Settings, StreamSettings
from tidemark.supervisor import Supervisor, Worker
from tidemark.telemetry import Event, StreamTelemetry, flush


class LambdaContext(Protocol):
    """The part of Lambda's context object that is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda kills the invocation."""


class StreamsFailed(TidemarkError):
    """One stream or more failed, after all had ended: the invocation is an error for alarms.

    What the operator does: read each stream's own error, which the message holds as JSON.
    """


@dataclass(frozen=True)
class Tidemark:
    """Everything that outlives an invocation, wired together once a container."""

    settings: Settings
    source: Source
    store: CheckpointStore
    dead_letters: DeadLetters
    sinks: Mapping[str, Sink]
    telemetry_of: Callable[[str], StreamTelemetry]
    clock: Clock = field(default_factory=SystemClock)
    one_suspect: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, event: object, context: LambdaContext) -> dict[str, Any]:
        """Run the streams that the event names, all if it names none; or an operator's action.

        Returns RunSummary as JSON. Raises ConfigError for a bad event, StreamsFailed.
        """
        if isinstance(event, dict) and "action" in event:
            return self._act(event)
        return self._run(select(self.settings, event), context.get_remaining_time_in_millis())

    def _run(self, streams: tuple[StreamSettings, ...], remaining_ms: int) -> dict[str, Any]:
        self.source.begin_invocation()
        budget = Budget.of_invocation(
            self.clock,
            remaining_ms=remaining_ms,
            reserve_s=self.settings.reserve_s,
            budget_s=self.settings.budget_s,
        )
        workers = [self._worker(stream, budget) for stream in streams]
        report = partial(self._report, workers, self.clock.monotonic_s())
        with slowed_collector():
            Supervisor(self.clock, budget, before_exit=report).supervise(workers)
        report()
        summary = RunSummary([worker.run.summary for worker in workers])
        if summary.failed:
            raise StreamsFailed(
                f"{len(summary.failed)} of {len(workers)} streams failed: "
                f"{json.dumps(summary.as_json())}"
            )
        return summary.as_json()

    def _worker(self, stream: StreamSettings, budget: Budget) -> Worker:
        telemetry = self.telemetry_of(stream.name)
        ports = Ports(
            source=self.source,
            store=self.store,
            sink=self.sinks[stream.sink],
            dead_letters=self.dead_letters,
            clock=self.clock,
            telemetry=telemetry,
            one_suspect=self.one_suspect,
        )
        run = Run(stream, self.settings, ports, budget)
        return Worker(run, telemetry, telemetry.report_under_way)

    def _report(self, workers: list[Worker], began_s: float) -> None:
        """Emit every stream's metrics."""
        for worker in workers:
            summary = worker.run.summary
            duration_ms = (self.clock.monotonic_s() - began_s) * 1000
            self.telemetry_of(summary.stream).report(summary, duration_ms)
        flush()

    def _act(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """`{"action": "resume", "stream": name}`: a paused or halted stream goes again."""
        if event["action"] != "resume":
            raise ConfigError(['event.action: is not known; write "resume"'])
        streams = select(self.settings, {"streams": [event.get("stream")]})
        name = streams[0].name
        resumed = self.store.set_status(name, Status.RUNNING, reason=None)
        self.telemetry_of(name).event(Event.STREAM_RESUMED, known=resumed)
        return {"stream": name, "resumed": resumed}
