"""What a user gets wrong outside of streams.toml: each mistake ends in words that help."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

import boto3
import pytest
from botocore.stub import Stubber

import aws
import mongodb
from service import Service, service, settings_of
from tidemark.aws import connection_string
from tidemark.errors import ConfigError, SourceRefused, SourceUnavailable
from tidemark.invocation import StreamsFailed
from tidemark.secretsmanager import fetch_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from tidemark.settings import Settings, StreamSettings

    Db: TypeAlias = Database[dict[str, Any]]
    Orders: TypeAlias = Callable[..., StreamSettings]
    Serve: TypeAlias = Callable[..., Service]
    Stored: TypeAlias = Callable[..., dict[str, Any]]


# -------------------------------------------------------------------------------------- the secret


@pytest.fixture
def secret(aws_endpoint: str, table: str) -> Callable[..., str]:
    """Stores a secret; its name."""
    client = boto3.client("secretsmanager", endpoint_url=aws_endpoint)

    def store(**value: Any) -> str:
        client.create_secret(Name=f"{table}-secret", **value)
        return f"{table}-secret"

    return store


def with_secret(name: str, table: str, *streams: StreamSettings) -> Service:
    settings: Settings = settings_of(None, table, *streams, secret_id=name)
    return service(settings, connection_string=connection_string(settings))


@pytest.mark.parametrize("shape", ["{}", '{{"uri": "{}", "rotated": 1}}', "  {}\n"])
def test_a_secret_holds_the_connection_string_or_json_with_it(
    shape: str,
    mongodb_uri: str,
    table: str,
    orders: Orders,
    secret: Callable[..., str],
) -> None:
    container = with_secret(secret(SecretString=shape.format(mongodb_uri)), table, orders())
    assert container.run()["orders"]["stop_reason"] == "caught_up"
    container.source.close()


@pytest.mark.parametrize(
    "value",
    [
        {"SecretString": "orders.example.net"},
        {"SecretString": "http://example.net"},
        {"SecretString": '{"password": "x"}'},
        {"SecretString": '{"uri": 7}'},
        {"SecretString": "{broken"},
        {"SecretString": "[]"},
        {"SecretBinary": b"mongodb://binary"},
    ],
    ids=str,
)
def test_a_secret_without_a_connection_string_is_a_mistake_of_configuration(
    value: dict[str, Any], table: str, orders: Orders, secret: Callable[..., str], stored: Stored
) -> None:
    with pytest.raises(
        StreamsFailed, match=r"ConfigError: .*MONGODB_SECRET_ID: the secret's value"
    ):
        with_secret(secret(**value), table, orders()).run()
    assert stored()["lease_expires_at_ms"] == "0"


@pytest.mark.usefixtures("aws_endpoint")
def test_a_missing_secret_is_named_as_such(table: str, orders: Orders) -> None:
    with pytest.raises(StreamsFailed, match=r"MONGODB_SECRET_ID: it does not exist"):
        with_secret("no-such-secret", table, orders()).run()


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [
        ("AccessDeniedException", SourceRefused, "role lacks secretsmanager:GetSecretValue on it"),
        ("DecryptionFailure", SourceRefused, "role lacks kms:Decrypt on its key"),
        ("InternalServiceError", SourceUnavailable, "Secrets Manager failed"),
    ],
)
@pytest.mark.usefixtures("aws_endpoint")
def test_a_secret_that_is_refused_names_what_is_missing(
    code: str, error: type[Exception], told: str
) -> None:
    client = boto3.client("secretsmanager")
    with Stubber(client) as stub:
        stub.add_client_error("get_secret_value", code)
        with pytest.raises(error, match=told):
            fetch_secret(client, "secret")


# --------------------------------------------------------------------------------------- the event


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"streams": ["ordres"]}, r"event\.streams\[0\]: is no stream\'s name; write orders"),
        ({"streams": "orders"}, r"event\.streams: is text; list one or more of orders"),
        ({"streams": []}, r"event\.streams: is an empty list"),
        (None, r"event: is null; send an object"),
        (["orders"], r"event: is a list; send an object"),
        ("orders", r"event: is text; send an object"),
        ({"action": "reset", "stream": "orders"}, r"event\.action: is not known; write .*resume"),
        ({"action": "resume", "stream": "ordres"}, r"is no stream's name; write orders"),
        ({"action": "resume"}, r"is no stream's name; write orders"),
    ],
    ids=str,
)
def test_a_bad_event_is_refused_before_anything_is_asked(
    event: object, problem: str, orders: Orders, serve: Serve, stored: Stored
) -> None:
    """G9: the message names what is wrong and what would be right."""
    with pytest.raises(ConfigError, match=problem):
        serve(orders()).tidemark.handle(event, _Context())
    assert stored() == {}


@pytest.mark.parametrize("event", [{}, {"version": "0", "source": "aws.scheduler", "detail": {}}])
def test_a_schedulers_own_event_runs_every_stream(
    event: dict[str, Any], orders: Orders, serve: Serve
) -> None:
    container = serve(orders(), orders(name="more"))
    assert set(container.tidemark.handle(event, _Context())["streams"]) == {"orders", "more"}


class _Context:
    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 10_000


# ------------------------------------------------------------------------------------- the servers


def test_a_standalone_server_is_told_what_to_do(orders: Orders, serve: Serve) -> None:
    with mongodb.serve(mongodb.Options(standalone=True)) as server:
        container = serve(orders(), uri=server.uri)
        with pytest.raises(StreamsFailed, match=r"start mongod with --replSet and run rs.initiate"):
            container.run()
        container.source.close()


def test_an_unreachable_host_ends_well_inside_the_budget(
    orders: Orders, serve: Serve, stored: Stored
) -> None:
    """G5: by the server selection's own timeout, not by the deadline."""
    container = serve(orders(), uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300")
    began_s = time.monotonic()
    with pytest.raises(StreamsFailed, match=r"no MongoDB server could be selected.*check"):
        container.run(remaining_ms=60_000)
    assert time.monotonic() - began_s < 5
    assert stored()["lease_expires_at_ms"] == "0"


def test_a_table_that_does_not_exist_is_named_as_such(orders: Orders, serve: Serve) -> None:
    with pytest.raises(StreamsFailed, match=r"StoreRefused: .*check TIDEMARK_TABLE"):
        serve(orders(), table="no-such-table").run()


# ---------------------------------------------------------------------------------------- the state


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"schema_version": {"N": "2"}}, "deploy the version that wrote it"),
        ({"resume_token": {"S": "{"}}, "restore it from the table's point-in-time recovery"),
    ],
    ids=["newer", "damaged"],
)
def test_an_item_that_cannot_be_understood_stops_the_stream(
    damage: dict[str, Any],
    told: str,
    aws_endpoint: str,
    table: str,
    orders: Orders,
    serve: Serve,
) -> None:
    """G1: nothing is guessed, and the lease is given back."""
    client = aws.dynamodb(aws_endpoint)
    serve(orders()).run()
    [item] = client.scan(TableName=table)["Items"]
    client.put_item(TableName=table, Item=item | damage)
    for _ in range(2):
        with pytest.raises(StreamsFailed, match=f"StateRefused: .*{told}"):
            serve(orders()).run()
    client.put_item(TableName=table, Item=item)
    assert serve(orders()).run()["orders"]["stop_reason"] == "caught_up"
