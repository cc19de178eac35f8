"""The AWS clients, each made when it is first needed, and the adapters on them.

A client costs tens of milliseconds at cold start: Secrets Manager's is needed once a container, the
dead letters' perhaps never.
"""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from tidemark.budget import SystemClock
from tidemark.deadletters import QueueDeadLetters
from tidemark.dynamodb import CLIENT, DynamoCheckpoints
from tidemark.ports import Sink
from tidemark.secretsmanager import fetch_secret
from tidemark.settings import Settings
from tidemark.ssm import fetch_parameter

_MAKING = threading.Lock()  # boto3 makes one client at a time; streams deliver in threads


@cache
def client(service: str, region: str | None = None, config: Config = CLIENT) -> Any:
    """The container's client of `service`, with timeouts whose worst case fits the reserve."""
    with _MAKING:
        return boto3.client(service, region_name=region, config=config)  # type: ignore[call-overload]


def connection_string(settings: Settings) -> Callable[[], str]:
    """How the connection string is had: asked anew at each call, since secrets rotate."""
    uri, secret_id, parameter = settings.uri, settings.secret_id, settings.parameter
    if uri is not None:
        return lambda: uri
    if parameter is not None:
        return lambda: fetch_parameter(client("ssm"), parameter)
    return lambda: fetch_secret(client("secretsmanager"), secret_id or "")


def checkpoints(settings: Settings) -> DynamoCheckpoints:
    """The checkpoint store on the configured table."""
    return DynamoCheckpoints(client("dynamodb"), settings.table)


def dead_letters(settings: Settings) -> QueueDeadLetters:
    """The dead letters on the configured queue and bucket."""
    return QueueDeadLetters(
        settings.dead_letter_queue_url,
        settings.payload_bucket,
        sqs=lambda: client("sqs"),
        s3=lambda: client("s3"),
    )


def sinks(settings: Settings) -> dict[str, Sink]:
    """The sinks of streams.toml by their names; each makes its client at its first delivery."""
    if not settings.sinks:
        return {}
    from tidemark.sinks import destinations  # noqa: PLC0415 - who has no sink pays for none

    def client_of(service: str, region: str | None) -> Any:
        return client(service, region, destinations.CLIENT)

    return destinations.sinks_of(settings, client_of, SystemClock())
