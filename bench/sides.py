"""The two sides of a comparison: a bare `try_next()` loop, and a whole run of Tidemark."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from tidemark import aws
from tidemark.collector import slowed_collector
from tidemark.invocation import Tidemark
from tidemark.model import Acquired, Attempts, Checkpoint, Lease, Status
from tidemark.mongodb.source import MongoSource
from tidemark.settings import Settings, StreamSettings
from tidemark.sinks.function import FunctionSink
from tidemark.telemetry import StreamTelemetry

if TYPE_CHECKING:
    from collections.abc import Callable

    from bson.timestamp import Timestamp
    from pymongo import MongoClient

    from tidemark.model import Batch, Gap
    from tidemark.ports import CheckpointStore

DATABASE = "tidemark_bench"
TABLE = "bench"
TEN_MINUTES_MS = 600_000


@dataclass(frozen=True)
class Lap:
    """One reading of all changes. `cpu_s` is the whole process's, all threads."""

    changes: int
    seconds: float
    cpu_s: float


@dataclass(frozen=True)
class Context:
    """Lambda's context, with `remaining_ms` left at any time that it is asked."""

    remaining_ms: int = TEN_MINUTES_MS

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation would be killed."""
        return self.remaining_ms


@dataclass
class MemoryStore:
    """A checkpoint store that answers at once: what is left of a run without DynamoDB."""

    taken: int = 0
    saved: dict[str, Checkpoint | None] = field(default_factory=dict)

    def acquire(self, stream: str, owner: str, *, now_ms: int, expires_at_ms: int) -> Acquired:
        """Give the lease to whoever asks."""
        del now_ms
        self.taken += 1
        return Acquired(Lease(stream, owner, self.taken, expires_at_ms), self.saved.get(stream))

    def renew(self, lease: Lease, *, expires_at_ms: int) -> None:
        """Nothing: nobody else asks."""

    def save(
        self, lease: Lease, checkpoint: Checkpoint | None, attempts: Attempts, *, expires_at_ms: int
    ) -> None:
        """Remember the checkpoint."""
        del attempts, expires_at_ms
        self.saved[lease.stream] = checkpoint or self.saved.get(lease.stream)

    def save_gap(
        self, lease: Lease, checkpoint: Checkpoint, gap: Gap, *, expires_at_ms: int
    ) -> None:
        """Refuse: a benchmark has no gap."""
        raise NotImplementedError

    def halt(
        self, lease: Lease, checkpoint: Checkpoint | None, attempts: Attempts, *, reason: str
    ) -> None:
        """Refuse: a benchmark halts nothing."""
        raise NotImplementedError

    def set_status(self, stream: str, status: Status, *, reason: str | None) -> bool:
        """Refuse: a benchmark has no operator."""
        raise NotImplementedError


def nothing(_: Batch) -> None:
    """Deliver to nobody."""


def fresh_stream(
    start: Timestamp | str, collection: str = "changes", **options: Any
) -> StreamSettings:
    """A stream that nobody has read yet, from `start` on; it ends at the first empty answer."""
    given: dict[str, Any] = {"idle_s": 0.0, "start_at": start} | options
    name = f"bench-{uuid.uuid4().hex[:12]}"
    return StreamSettings(name=name, database=DATABASE, collection=collection, **given)


def tidemark(
    uri: str,
    *streams: StreamSettings,
    store: CheckpointStore | None = None,
    deliver: Callable[[Batch], object] = nothing,
    **options: Any,
) -> Tidemark:
    """What app.py makes, with its log written to nowhere; DynamoDB is the environment's."""
    settings = Settings(table=TABLE, uri=uri, tls="off", streams=streams, **options)
    return container(settings, FunctionSink(deliver), store)


def container(
    settings: Settings, sink: FunctionSink, store: CheckpointStore | None = None
) -> Tidemark:
    """Wire everything together as app.py does."""
    logger = Logger(service="bench", stream=Path(os.devnull).open("w"))  # noqa: SIM115 - it lives on
    return Tidemark(
        settings=settings,
        source=MongoSource(settings, aws.connection_string(settings)),
        store=store or aws.checkpoints(settings),
        dead_letters=aws.dead_letters(settings),
        sinks={"deliver": sink},
        telemetry_of=lambda stream: StreamTelemetry(logger, stream),
    )


def timed(reading: Callable[[], int]) -> Lap:
    """One lap of a side that returns how many changes it read."""
    seconds, cpu_s = time.perf_counter(), time.process_time()
    count = reading()
    return Lap(count, time.perf_counter() - seconds, time.process_time() - cpu_s)


def bare_loop(client: MongoClient[Any], start: Timestamp, collection: str, count: int) -> int:
    """Open, read everything up to an empty answer, close; nothing else."""
    read = 0
    with client[DATABASE][collection].watch(
        start_at_operation_time=start, max_await_time_ms=250
    ) as stream:
        try_next = stream.try_next
        while True:
            if try_next() is not None:
                read += 1
            elif read >= count:
                return read


def paced_loop(client: MongoClient[Any], start: Timestamp, collection: str, count: int) -> int:
    """A bare loop that has learnt from Tidemark to slow the collector (docs/decisions/0010)."""
    with slowed_collector():
        return bare_loop(client, start, collection, count)


def whole_run(container: Tidemark, stream: StreamSettings) -> int:
    """One invocation, from its event to its result."""
    answer = container.handle({"streams": [stream.name]}, Context())
    return int(answer["streams"][stream.name]["changes"])
