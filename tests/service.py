"""A real `Tidemark` on the embedded world, with a `deliver` that remembers."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from aws_lambda_powertools import Logger

from tidemark.deadletters import QueueDeadLetters
from tidemark.dynamodb import CLIENT, DynamoCheckpoints
from tidemark.invocation import Tidemark
from tidemark.model import Batch, Change, change_id
from tidemark.mongodb.source import MongoSource
from tidemark.settings import Settings, StreamSettings
from tidemark.sinks.function import FunctionSink
from tidemark.telemetry import StreamTelemetry, log_connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.client import BaseClient
    from botocore.config import Config


@dataclass
class Recorder:
    """A user's `deliver`: it remembers each batch, after `before` had its say about it."""

    before: Callable[[Batch], object] = lambda _: None
    batches: list[Batch] = field(default_factory=list)

    def __call__(self, batch: Batch) -> object:
        """Deliver `batch`, unless `before` raises; its answer is ours."""
        answer = self.before(batch)
        self.batches.append(batch)
        return answer

    @property
    def changes(self) -> list[Change]:
        """Every delivered change, with repeats."""
        return [change for batch in self.batches for change in batch]

    @property
    def keys(self) -> list[Any]:
        """The `_id` of each delivered change's document; its operation where there is none."""
        return [key_of(change) for change in self.changes]

    @property
    def ids(self) -> list[str]:
        """Every delivered change's id."""
        return [change_id(change) for change in self.changes]


def key_of(change: Change) -> Any:
    """The `_id` of a change's document; its operation where there is none."""
    return change["documentKey"]["_id"] if "documentKey" in change else change["operationType"]


@dataclass
class Context:
    """What Lambda tells an invocation."""

    remaining_ms: int = 10_000
    function_name: str = "tidemark"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:tidemark"
    aws_request_id: str = "11111111-2222-3333-4444-555555555555"

    def get_remaining_time_in_millis(self) -> int:
        """As at the invocation's start: nobody asks twice."""
        return self.remaining_ms


@dataclass
class Service:
    """One container: a `Tidemark`, what it delivered, and its DynamoDB client to inject faults."""

    tidemark: Tidemark
    source: MongoSource
    deliver: Recorder
    dynamodb: BaseClient
    log: io.StringIO

    def run(self, *streams: str, remaining_ms: int = 10_000) -> dict[str, Any]:
        """Invoke it; the summaries by stream."""
        event = {"streams": list(streams)} if streams else {}
        result: dict[str, Any] = self.tidemark.handle(event, Context(remaining_ms))["streams"]
        return result

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was logged, in order."""
        return events_of(self.log.getvalue())

    def named(self, event: str) -> list[dict[str, Any]]:
        """The log's events of one name."""
        return [each for each in self.events if each["event"] == event]

    def resume(self, stream: str) -> dict[str, Any]:
        """An operator lets a halted stream go again."""
        return self.tidemark.handle({"action": "resume", "stream": stream}, Context())


def settings_of(uri: str | None, table: str, *streams: StreamSettings, **given: Any) -> Settings:
    """Settings with short waits, changed by `given`."""
    short: dict[str, Any] = {
        "max_await_ms": 50,
        "reserve_s": 2.0,
        "tls": "off",
        "uri": uri,
        "table": table,
    }
    return Settings(**(short | given), streams=streams)


def service(
    settings: Settings,
    deliver: Recorder | None = None,
    *,
    connection_string: Callable[[], str] | None = None,
    sdk: Config = CLIENT,
) -> Service:
    """A container with these settings; the environment says where AWS is."""
    log = io.StringIO()
    recorder, logger = deliver or Recorder(), Logger(service=uuid.uuid4().hex, stream=log)
    dynamodb = boto3.client("dynamodb", config=sdk)
    source = MongoSource(
        settings, connection_string or (lambda: settings.uri or ""), log_connected(logger)
    )
    tidemark = Tidemark(
        settings=settings,
        source=source,
        store=DynamoCheckpoints(dynamodb, settings.table),
        dead_letters=QueueDeadLetters(
            settings.dead_letter_queue_url,
            settings.payload_bucket,
            sqs=lambda: boto3.client("sqs", config=CLIENT),
            s3=lambda: boto3.client("s3", config=CLIENT),
        ),
        sinks={"deliver": FunctionSink(recorder)},
        telemetry_of=lambda stream: StreamTelemetry(logger, stream),
    )
    return Service(tidemark, source, recorder, dynamodb, log)


def events_of(output: str) -> list[dict[str, Any]]:
    """The structured lines of a log, by Powertools."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [line for line in lines if "event" in line]


def metrics_of(output: str) -> list[dict[str, Any]]:
    """The lines in CloudWatch's embedded metric format."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [line for line in lines if "_aws" in line]
