"""A container on the embedded world, made by `serve(stream, …)`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pymongo.uri_parser
import pytest

import aws
import servers
import service
from tcp_proxy import Proxy
from tidemark.dynamodb import CLIENT
from tidemark.settings import StreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.config import Config
    from pymongo.database import Database


@pytest.fixture
def orders(database: Database[dict[str, Any]]) -> Callable[..., StreamSettings]:
    """Makes the stream "orders" on the test's own database, changed by keywords."""

    def make(**given: Any) -> StreamSettings:
        own: dict[str, Any] = {
            "name": "orders",
            "database": database.name,
            "collection": "orders",
            "idle_s": 0.02,
        }
        return StreamSettings(**(own | given))

    return make


@pytest.fixture
def behind_proxy(mongodb_uri: str) -> Iterator[Callable[..., tuple[Proxy, str]]]:
    """Makes a proxy before the session's MongoDB: itself, and the connection string through it."""
    [(host, port)] = pymongo.uri_parser.parse_uri(mongodb_uri)["nodelist"]
    with ExitStack() as stack:

        def make(**given: Any) -> tuple[Proxy, str]:
            proxy = stack.enter_context(Proxy((host, port), **given))
            return proxy, proxy.mongodb_uri

        yield make


@pytest.fixture
def server_of() -> Iterator[Callable[..., servers.Server]]:
    """Makes a server of `local/servers` with a character: `server_of(servers.MONGOS)`."""
    with ExitStack() as stack:

        def make(character: servers.Character = servers.MONGOD, **given: Any) -> servers.Server:
            return stack.enter_context(servers.serve(character, **given))

        yield make


@pytest.fixture
def serve(
    mongodb_uri: str,
    aws_endpoint: str,
    table: str,
    behind_proxy: Callable[..., tuple[Proxy, str]],
    server_of: Callable[..., servers.Server],
) -> Iterator[Callable[..., service.Service]]:
    """Makes a container: `serve(stream, …, deliver=…, lease_s=…)`."""
    assert aws_endpoint
    assert callable(behind_proxy)  # it must end after the containers that are behind it
    assert callable(server_of)  # likewise
    made: list[service.Service] = []

    def make(
        *streams: StreamSettings,
        deliver: service.Recorder | None = None,
        sdk: Config = CLIENT,
        **given: Any,
    ) -> service.Service:
        uri = given.pop("uri", mongodb_uri)
        settings = service.settings_of(uri, given.pop("table", table), *streams, **given)
        made.append(service.service(settings, deliver, sdk=sdk))
        return made[-1]

    yield make
    for container in made:
        container.source.close()


@pytest.fixture
def stored(aws_endpoint: str, table: str) -> Callable[..., dict[str, Any]]:
    """Reads a stream's checkpoint item as plain values; {} where there is none."""
    client = aws.dynamodb(aws_endpoint)

    def read(stream: str = "orders") -> dict[str, Any]:
        key = {"stream": {"S": stream}, "record": {"S": "checkpoint"}}
        item = client.get_item(TableName=table, Key=key).get("Item", {})
        return {name: value for name in item for value in item[name].values()}

    return read


@pytest.fixture
def expire(aws_endpoint: str, table: str) -> Callable[..., None]:
    """Lets a stream's lease end now, as if its time had passed."""
    client = aws.dynamodb(aws_endpoint)

    def end(stream: str = "orders") -> None:
        client.update_item(
            TableName=table,
            Key={"stream": {"S": stream}, "record": {"S": "checkpoint"}},
            UpdateExpression="SET lease_expires_at_ms = :now",
            ExpressionAttributeValues={":now": {"N": "1"}},
        )

    return end


@pytest.fixture
def isolate(aws_endpoint: str, table: str) -> Callable[..., None]:
    """Lets a stream's next run be isolated, as if two runs had been killed at its position."""
    client = aws.dynamodb(aws_endpoint)

    def mark(stream: str = "orders") -> None:
        client.update_item(
            TableName=table,
            Key={"stream": {"S": stream}, "record": {"S": "checkpoint"}},
            UpdateExpression="SET unreleased_runs = :killed",
            ExpressionAttributeValues={":killed": {"N": "2"}},
        )

    return mark


@pytest.fixture
def gaps(aws_endpoint: str, table: str) -> Callable[[], list[dict[str, Any]]]:
    """Reads every gap's record as plain values."""
    client = aws.dynamodb(aws_endpoint)

    def read() -> list[dict[str, Any]]:
        items = client.scan(TableName=table)["Items"]
        plain: list[dict[str, Any]] = [
            {name: value for name in item for value in item[name].values()} for item in items
        ]
        return [item for item in plain if item["record"].startswith("gap#")]

    return read
