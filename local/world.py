"""The embedded world: a MongoDB and an AWS that Tidemark cannot tell from real ones.

`make local` runs this file: both servers, their addresses, and how to use them, until Ctrl-C.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aws
import mongodb

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class World:
    """Two running servers and what the function must know of them."""

    mongodb_uri: str
    cloud: aws.Server
    resources: aws.Resources

    def environment(self) -> dict[str, str]:
        """The function's environment, by the names that template.yaml declares."""
        return {
            "MONGODB_URI": self.mongodb_uri,
            # Asked for by the connection string or not at all, unless the environment says more.
            "MONGODB_TLS": os.environ.get("MONGODB_TLS", "off"),
            "MONGODB_CA_FILE": os.environ.get("MONGODB_CA_FILE", ""),
            "TIDEMARK_TABLE": self.resources.table,
            "TIDEMARK_DEAD_LETTER_QUEUE_URL": self.resources.queue_url,
            "TIDEMARK_PAYLOAD_BUCKET": self.resources.bucket,
            "POWERTOOLS_SERVICE_NAME": "tidemark",
            "POWERTOOLS_METRICS_NAMESPACE": "Tidemark",
            **self.cloud.environment(),
        }


@contextmanager
def run(
    options: mongodb.Options = mongodb.Options(),  # noqa: B008 - frozen
    *,
    aws_port: int = 0,
) -> Iterator[World]:
    """Run both servers for the length of the block; MONGODB_URI replaces the embedded MongoDB."""
    with (
        aws.serve(host=options.host, port=aws_port) as cloud,
        mongodb.given_or_embedded(options) as uri,
    ):
        yield World(uri, cloud, aws.create_resources(cloud.endpoint))
