"""The embedded world: a MongoDB and an AWS that Tidemark cannot tell from real ones.

`make local` runs this file: both servers, their addresses, and how to use them, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

import aws
import mongodb
import template
from demo_writer import Writer
from processes import ProcessFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
ENV_FILE = template.TEMPLATE.parent / ".tidemark" / "env.json"
# The stream of handler/streams.toml as it comes.
WATCHED = ("shop", "orders")
WRITES_PER_S = 5


@dataclass(frozen=True)
class World:
    """Two running servers and what the function must know of them."""

    mongodb_uri: str
    cloud: aws.Server
    resources: aws.Resources
    embedded: bool = True

    @property
    def kind(self) -> str:
        """Which MongoDB this is, in words; a given one's address stays private."""
        return "embedded MongoDB (SecantusDB)" if self.embedded else "the MongoDB of MONGODB_URI"

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

    def container_environment(self) -> dict[str, str]:
        """The same for a function in a Docker container, to which 127.0.0.1 is itself.

        Only declared names: `sam local` drops the others, and brings region and credentials.
        """
        return {
            name: value.replace(LOOPBACK, "host.docker.internal")
            for name, value in self.environment().items()
            if name in template.function_variables()
        }


@contextmanager
def run(
    options: mongodb.Options = mongodb.Options(),  # noqa: B008 - frozen
    *,
    aws_port: int = 0,
    table: str | None = None,
) -> Iterator[World]:
    """Run both servers for the length of the block; MONGODB_URI replaces the embedded MongoDB."""
    with (
        aws.serve(host=options.host, port=aws_port) as cloud,
        mongodb.given_or_embedded(options) as uri,
    ):
        resources = aws.create_resources(cloud.endpoint, table)
        yield World(uri, cloud, resources, embedded=not os.environ.get("MONGODB_URI"))


def main() -> None:
    """Run the world until Ctrl-C."""
    asked = _arguments()
    options = mongodb.Options(host=asked.host, port=asked.mongodb_port, storage=asked.storage)
    try:
        with run(options, aws_port=asked.aws_port, table=asked.table) as world:
            _tell(world)
            _write(world) if asked.write else threading.Event().wait()
    except KeyboardInterrupt:
        print("\nEnded.")
    except ProcessFailedError as error:
        sys.exit(f"{error}\nIs its port taken? --mongodb-port 0 and --aws-port 0 take free ones.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run an embedded MongoDB and AWS until Ctrl-C.")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="the address to bind. Docker on Linux reaches the host through its bridge's gateway, "
        "so for `sam local invoke` there: --host 172.17.0.1",
    )
    # 27017 is MongoDB's own; both are said in docs/deploy.md.
    parser.add_argument("--mongodb-port", type=int, default=27017, help="0: a free one")
    parser.add_argument("--aws-port", type=int, default=5000, help="0: a free one")
    parser.add_argument("--table", default="tidemark", help="the state table's name")
    parser.add_argument("--storage", type=Path, help="keep MongoDB's data in this folder")
    parser.add_argument(
        "--write", action="store_true", help=f"write {WRITES_PER_S} changes a second"
    )
    return parser.parse_args()


def _tell(world: World) -> None:
    """Say where everything is, as lines for a shell, and write the file for `sam local`."""
    ENV_FILE.parent.mkdir(exist_ok=True)
    ENV_FILE.touch(mode=0o600)  # a given connection string may hold a password
    ENV_FILE.write_text(json.dumps({"Parameters": world.container_environment()}, indent=2))
    print(f"# {world.kind}, and moto's AWS: for a shell")
    for name, value in world.environment().items():
        private = name == "MONGODB_URI" and not world.embedded
        print(f"export {name}='{'…' if private else value}'")
    print("\n# The function in a container (needs Docker; see --host):")
    path = ENV_FILE.relative_to(template.TEMPLATE.parent)
    print(f"#   sam local invoke Function --env-vars {path} --event events/schedule.json")
    print("# Ctrl-C ends both servers.", flush=True)


def _write(world: World) -> None:
    database, collection = WATCHED
    print(f"# Writing {WRITES_PER_S} changes a second to {database}.{collection}", flush=True)
    with MongoClient[dict[str, Any]](world.mongodb_uri) as client:
        writer = Writer(client[database][collection], per_second=WRITES_PER_S)
        writer.run(lambda _write: None, threading.Event())


if __name__ == "__main__":
    main()
