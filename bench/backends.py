"""The servers that a measurement needs, each a process of its own, ended with the block."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import bson
from bson.timestamp import Timestamp
from pymongo import MongoClient

import aws
import changes
import mongodb
import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
Kind = Literal["stub", "embedded", "uri"]
DATABASE = "tidemark_bench"
BATCH_BYTES = changes.BATCH_BYTES
INSERTED_BYTES = 8_000_000  # a bulk write


@dataclass(frozen=True)
class Served:
    """`count` changes of one collection, from the operation time `start` on."""

    uri: str
    count: int
    start: tuple[int, int]
    collection: str = "changes"


@contextmanager
def serve(kind: Kind, count: int, size_bytes: int, *options: str) -> Iterator[Served]:
    """Serve changes for the length of the block; `options` are the stub's own."""
    if kind == "stub":
        with stub(count, size_bytes, *options) as uri:
            yield Served(uri, count, (changes.CLUSTER_TIME.time, 1))
        return
    with mongodb.given_or_embedded() as uri, MongoClient[dict[str, Any]](uri) as client:
        collection = f"changes_{size_bytes}"
        client[DATABASE].drop_collection(collection)
        try:
            start = client.admin.command("ping")["operationTime"]
            _fill(client, collection, count, size_bytes)
            yield Served(uri, count, (start.time, start.inc + 1), collection)
        finally:
            client.drop_database(DATABASE)


@contextmanager
def stub(count: int, size_bytes: int, *options: str) -> Iterator[str]:
    """The MongoDB stub's connection string."""
    command = [sys.executable, HERE / "stub.py", "--count", count, "--size-bytes", size_bytes]
    process = processes.start("stub", [*map(str, command), *options])
    try:
        port = process.wait_for(r"stub listening on \S+:(\d+)")[1]
        yield f"mongodb://127.0.0.1:{port}/?directConnection=true"
    finally:
        process.stop()


@contextmanager
def dynamodb(*options: str) -> Iterator[dict[str, str]]:
    """The environment that points an SDK at the DynamoDB stub."""
    process = processes.start("dynamodb", [sys.executable, HERE / "dynamodb_stub.py", *options])
    try:
        port = process.wait_for(r"stub listening on \S+:(\d+)")[1]
        region = {"AWS_DEFAULT_REGION": aws.REGION, "AWS_REGION": aws.REGION}
        yield {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", **region, **aws.CREDENTIALS}
    finally:
        process.stop()


def start_of(served: Served) -> Timestamp:
    """Where the changes begin."""
    return Timestamp(*served.start)


def _fill(client: MongoClient[dict[str, Any]], collection: str, count: int, size: int) -> None:
    """Insert documents whose change events have about `size` bytes."""
    document = bson.decode(changes.event(size, 0)).get("fullDocument", {"note": "a small one"})
    document.pop("_id", None)
    at_once = max(1, INSERTED_BYTES // size)
    for done in range(0, count, at_once):
        several = [dict(document) for _ in range(min(at_once, count - done))]
        client[DATABASE][collection].insert_many(several, ordered=False)
