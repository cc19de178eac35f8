"""Every log event and metric by name, and the Powertools that carry them.

A log line is a constant event name and fields; of a foreign error only its type and its place are
logged, for its message may quote a document (G8). Each stream's metrics are apart: Powertools'
ordinary Metrics would mix the threads up.
"""

import os
import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from tidemark.errors import TidemarkError
from tidemark.model import StopReason, StreamSummary

NAMESPACE = "Tidemark"  # unless Powertools' own variable names another
NAMESPACE_VARIABLE = "POWERTOOLS_METRICS_NAMESPACE"
SERVICE = "tidemark"  # the same
SERVICE_VARIABLE = "POWERTOOLS_SERVICE_NAME"


class Event(StrEnum):
    """What is logged, with its meaning."""

    RUN_ENDED = "run.ended"  # a run released its lease: its summary
    RUN_PROGRESS = "run.progress"  # once a minute of a run that goes on: its summary so far
    RUN_FAILED = "run.failed"  # a run ended in an error; step: the numbered step it was at
    RUN_HUNG = "run.hung"  # a run was stuck, or cut short by another's hang; the process ends
    LEASE_HELD = "lease.held"  # another run reads the stream: who, until when
    LEASE_LOST = "lease.lost"  # this run outlived its lease or was fenced off: it wrote nothing
    LEASE_RENEWAL_FAILED = "lease.renewal_failed"  # the lease runs on until it expires
    LEASE_RELEASE_FAILED = "lease.release_failed"  # the lease will expire by itself
    STREAM_PAUSED = "stream.paused"  # an operator paused the stream
    STREAM_HALTED = "stream.halted"  # a policy halted the stream: status_reason
    STREAM_RESUMED = "stream.resumed"  # an operator made the stream go again
    STREAM_INVALIDATED = "stream.invalidated"  # dropped or renamed: it goes on after that
    STREAM_SCANNING = "stream.scanning"  # all of a run went into a scan: scan_ms, from and towards
    STREAM_WARY = "stream.wary"  # runs were killed here: one change at a time
    DELIVERY_FAILED = "delivery.failed"  # the sink failed: attempts, change_id, changes
    DELIVER_HUNG = "deliver.hung"  # `deliver` did not return: stack; the process ends
    DEAD_LETTER_STORED = "dead_letter.stored"  # a poison change was set aside
    GAP_RECORDED = "gap.recorded"  # changes were lost to us: from, to, why (G7)
    SOURCE_INTERRUPTED = "source.interrupted"  # a passing fault of the server, which is outlasted
    SOURCE_CONNECTED = "source.connected"  # a client was made: what the server is


METRICS = {
    "ChangesDelivered": MetricUnit.Count,
    "Batches": MetricUnit.Count,
    "LagMs": MetricUnit.Milliseconds,
    "RunDurationMs": MetricUnit.Milliseconds,
    "RunsSucceeded": MetricUnit.Count,
    "RunsFailed": MetricUnit.Count,
    "LeaseHeld": MetricUnit.Count,
    "LeaseLost": MetricUnit.Count,
    "Halted": MetricUnit.Count,
    "DeadLetters": MetricUnit.Count,
    "Gaps": MetricUnit.Count,
    "HeadroomS": MetricUnit.Seconds,
    "ScanMs": MetricUnit.Milliseconds,
    "NoProgress": MetricUnit.Count,
    "RunsUnderWay": MetricUnit.Count,
}


def metrics_of(summary: StreamSummary, duration_ms: float) -> dict[str, float]:
    """One run as metrics, by name; what is not known is left out.

    What an alarm adds up must be there together: hence the 0 of what this is not.
    """
    stop = summary.stop_reason
    values: dict[str, float | None] = {
        "ChangesDelivered": summary.changes,
        "Batches": summary.batches,
        "LagMs": summary.lag_ms,
        "RunDurationMs": duration_ms,
        "RunsSucceeded": int(stop in (StopReason.CAUGHT_UP, StopReason.BUDGET)),
        "RunsFailed": int(summary.error is not None),
        "LeaseHeld": int(stop is StopReason.LEASE_HELD),
        "LeaseLost": int(stop is StopReason.LEASE_LOST),
        "Halted": int(stop is StopReason.HALTED),
        "DeadLetters": summary.dead_letters,
        "Gaps": summary.gaps,
        "HeadroomS": summary.headroom_s,
        "ScanMs": summary.scan_ms,
        "NoProgress": int(summary.no_progress),
        "RunsUnderWay": 0,
    }
    return {name: value for name, value in values.items() if value is not None}


def metrics_under_way(summary: StreamSummary) -> dict[str, float]:
    """A run that goes on, as metrics: that it lives, and its lag where that is known."""
    lag = {} if summary.lag_ms is None else {"LagMs": float(summary.lag_ms)}
    return {"RunsUnderWay": 1, "RunsSucceeded": 0, **lag}


class HasFields(Protocol):
    """Something that can be logged."""

    def as_fields(self) -> dict[str, Any]:
        """The fields of its log event."""


class StreamTelemetry:
    """The log and the metrics of one stream."""

    def __init__(self, logger: Logger, stream: str) -> None:
        self._logger = logger
        self._stream = stream

    def event(self, name: str, **fields: Any) -> None:
        """Log that something happened."""
        self._logger.info(name, extra=self._fields(name, fields))

    def error(self, name: str, cause: BaseException | None = None, **fields: Any) -> None:
        """Log that something failed, and what may be said of its cause."""
        about = {} if cause is None else describe(cause)
        self._logger.error(name, extra=self._fields(name, about | fields))

    def report(self, summary: StreamSummary, duration_ms: float) -> None:
        """Emit one run's metrics for the service, which the alarms watch, and for the stream."""
        self._emit(metrics_of(summary, duration_ms))

    def report_under_way(self, summary: StreamSummary) -> None:
        """Emit the metrics of a run that goes on."""
        self._emit(metrics_under_way(summary))

    def _emit(self, values: dict[str, float]) -> None:
        service = os.environ.get(SERVICE_VARIABLE) or SERVICE
        namespace = os.environ.get(NAMESPACE_VARIABLE) or NAMESPACE
        metrics = EphemeralMetrics(namespace=namespace, service=service)
        metrics.add_dimensions(service=service, stream=self._stream)
        for name, value in values.items():
            metrics.add_metric(name, METRICS[name], value)
        metrics.flush_metrics()

    def _fields(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"event": Event(name).value, "stream": self._stream, **fields}


def describe(error: BaseException) -> dict[str, Any]:
    """What may be logged of an error: types, places, and the messages that are our own (G8)."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:  # a driver that retries may close a circle
        chain.append(link)
        link = link.__cause__ or link.__context__
    innermost = chain[-1].__traceback__
    return {
        "error_type": type(error).__qualname__,
        "error_message": str(error) if isinstance(error, TidemarkError) else None,
        "caused_by": [type(link).__qualname__ for link in chain[1:]],
        "error_at": [f"{at.filename}:{at.lineno}" for at in traceback.extract_tb(innermost)],
    }


def log_connected(logger: Logger) -> Callable[[HasFields], None]:
    """What a source calls with the deployment's capabilities, once a client."""

    def log(capabilities: HasFields) -> None:
        name = Event.SOURCE_CONNECTED.value
        logger.info(name, extra={"event": name, **capabilities.as_fields()})

    return log


def flush() -> None:
    """Hand every written line to Lambda before the process ends."""
    sys.stdout.flush()
    sys.stderr.flush()
