"""The embedded AWS: moto's server, holding what template.yaml says that the function uses."""

from __future__ import annotations

import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

import processes
import template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from processes import Process

LISTENING = r"moto listening on \S+:(\d+)"
REGION = "us-east-1"
# moto takes any; with real ones an SDK would sign, and `sam local` would ask the real STS.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


@dataclass(frozen=True)
class Server:
    """A running server and its address."""

    host: str
    port: int
    process: Process = field(repr=False)

    @property
    def endpoint(self) -> str:
        """The value of AWS_ENDPOINT_URL."""
        return f"http://{self.host}:{self.port}"

    def environment(self) -> dict[str, str]:
        """What points any AWS SDK at this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            **CREDENTIALS,
        }


@dataclass(frozen=True)
class Resources:
    """What the stack creates and the function is told of."""

    table: str
    queue_url: str
    bucket: str


@contextmanager
def serve(*, host: str = "127.0.0.1", port: int = 0) -> Iterator[Server]:
    """Run an empty AWS for the length of the block."""
    script = Path(__file__).with_name("moto_process.py")
    process = processes.start("aws", [sys.executable, script, host, str(port)])
    try:
        yield Server(host, int(process.wait_for(LISTENING)[1]), process)
    finally:
        process.stop()


def session() -> boto3.Session:
    """A session with the stand-in credentials, whatever the environment holds."""
    return boto3.Session(
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
    )


def create_resources(endpoint: str, table: str | None = None) -> Resources:
    """Create the state table, the dead-letter queue and the payload bucket of the template.

    Queue and bucket are named after the table, as in `events/env.json`.
    """
    name = table or f"tidemark-{uuid.uuid4().hex[:8]}"
    create = session()
    definition = template.properties("DeadLetterQueue", "AWS::SQS::Queue")
    queue = create.client("sqs", endpoint_url=endpoint).create_queue(
        QueueName=f"{name}-dead-letters",
        # The one attribute that a delivery can run into: how large a message may be.
        Attributes={"MaximumMessageSize": str(definition["MaximumMessageSize"])},
    )
    bucket = f"{name}-payloads"
    create.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return Resources(create_table(endpoint, table), queue["QueueUrl"], bucket)


def create_table(endpoint: str, name: str | None = None) -> str:
    """Create a state table of the template's own definition; return its name, a new one if None."""
    definition = template.properties("StateTable", "AWS::DynamoDB::Table")
    name = name or f"tidemark-state-{uuid.uuid4().hex[:8]}"
    dynamodb(endpoint).create_table(
        TableName=name,
        AttributeDefinitions=definition["AttributeDefinitions"],
        KeySchema=definition["KeySchema"],
        BillingMode=definition["BillingMode"],
    )
    return name


def dynamodb(endpoint: str) -> DynamoDBClient:
    """A DynamoDB client of this server."""
    return session().client("dynamodb", endpoint_url=endpoint)
