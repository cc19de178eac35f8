"""Sinks made from their settings."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import botocore.session
from botocore.config import Config

from tidemark.claimcheck import ClaimCheck
from tidemark.ports import Clock, Sink
from tidemark.settings import Settings, SinkSettings
from tidemark.sinks.bulk import BulkSink
from tidemark.sinks.eventbridge import EventBridgeTarget
from tidemark.sinks.kinesis import KinesisTarget
from tidemark.sinks.sns import SnsTarget
from tidemark.sinks.sqs import SqsTarget
from tidemark.sinks.target import ANSWER_S, ATTEMPTS, CONNECT_S, Target
from tidemark.targets import region_of

# What is throttled for longer than the SDK's own attempts is the outbox's. Entries are ours:
# validating each again costs a fifth of the throughput. A user agent that is given is not put
# together anew for each request, a tenth of its cost.
CLIENT = Config(
    connect_timeout=CONNECT_S,
    read_timeout=ANSWER_S,
    retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
    max_pool_connections=50,
    parameter_validation=False,
    user_agent=f"{botocore.session.get_session().user_agent()} tidemark",
)
_PREPARING = threading.Lock()  # of a client that streams share: botocore's events take no threads
SERVICES = {"sqs": "sqs", "sns": "sns", "eventbridge": "events", "kinesis": "kinesis"}

Clients = Callable[[str, str | None], Any]  # service and region, None for the function's own


def sinks_of(settings: Settings, clients: Clients, clock: Clock) -> dict[str, Sink]:
    """Every sink of the settings by its name; clients are made at the first delivery."""
    claim_check = ClaimCheck(settings.payload_bucket or "", lambda: clients("s3", None))
    return {
        each.name: BulkSink(each, partial(target_of, each, clients), claim_check, clock)
        for each in settings.sinks
    }


def target_of(settings: SinkSettings, clients: Clients) -> Target:
    """The service that `settings` name, at its target's own region."""
    client = clients(SERVICES[settings.type], region_of(settings.target))
    with _PREPARING:
        return _target(client, settings)


def _target(client: Any, settings: SinkSettings) -> Target:
    match settings.type:
        case "sqs":
            return SqsTarget(client, settings.target)
        case "sns":
            return SnsTarget(client, settings.target)
        case "kinesis":
            return KinesisTarget(client, settings.target)
        case "eventbridge":
            return EventBridgeTarget(client, settings)
