"""Sinks made from their settings."""

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
from tidemark.sinks.target import Target
from tidemark.targets import region_of

# Two attempts of 0.5 s to connect and 2 s to answer, at most 1 s apart; what is throttled for
# longer is the outbox's. Entries are ours: validating each again costs a fifth of the throughput.
# A user agent that is given is not put together anew for each request, a tenth of its cost.
CLIENT = Config(
    connect_timeout=0.5,
    read_timeout=2,
    retries={"total_max_attempts": 2, "mode": "standard"},
    max_pool_connections=50,
    parameter_validation=False,
    user_agent=f"{botocore.session.get_session().user_agent()} tidemark",
)
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
    match settings.type:
        case "sqs":
            return SqsTarget(client, settings.target)
        case "sns":
            return SnsTarget(client, settings.target)
        case "kinesis":
            return KinesisTarget(client, settings.target)
        case "eventbridge":
            return EventBridgeTarget(client, settings)
