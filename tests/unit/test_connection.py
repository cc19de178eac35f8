"""A secret's value: what it may hold, how its services fail, and that nothing of it is shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError
from botocore.stub import Stubber

from tidemark.connection import connection_string
from tidemark.errors import ConfigError, SourceRefused, SourceUnavailable
from tidemark.secretsmanager import fetch_secret
from tidemark.ssm import fetch_parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

URI = "mongodb://user:canary@db.example.com"


@pytest.mark.parametrize(
    "value",
    [
        URI,
        f"  {URI}\n",
        json.dumps({"uri": URI}),
        json.dumps({"username": "user", "uri": URI}, indent=2),
        "\n" + json.dumps({"uri": URI}),
    ],
)
def test_a_secret_is_the_connection_string_or_json_with_it(value: str) -> None:
    assert connection_string(value, "MONGODB_SECRET_ID") == URI


def test_dns_seed_lists_are_connection_strings() -> None:
    assert connection_string("mongodb+srv://db.example.com", "V") == "mongodb+srv://db.example.com"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "canary",
        "https://canary",
        "{canary",
        "{}",
        json.dumps({"uri": None, "password": "canary"}),
        json.dumps({"uri": ["canary"]}),
        json.dumps({"URI": URI}),
        json.dumps([URI]),
        json.dumps({"uri": "canary"}),
    ],
)
def test_any_other_value_is_refused_by_its_variable_and_not_shown(value: str | None) -> None:
    """G8, G9."""
    with pytest.raises(ConfigError) as refused:
        connection_string(value, "MONGODB_SECRET_ID")
    said = str(refused.value)
    assert "MONGODB_SECRET_ID: the secret's value is no connection string" in said
    assert 'JSON with a "uri" key' in said
    assert "canary" not in said
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)


# --------------------------------------------------------------------------------- its services


@pytest.fixture
def secrets() -> Iterator[tuple[Any, Stubber]]:
    yield from _stubbed("secretsmanager")


@pytest.fixture
def parameters() -> Iterator[tuple[Any, Stubber]]:
    yield from _stubbed("ssm")


def _stubbed(service: str) -> Iterator[tuple[Any, Stubber]]:
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = boto3.client(service, region_name="us-east-1", **keys)  # type: ignore[call-overload]
    with Stubber(client) as stub:
        yield client, stub


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("ResourceNotFoundException", "does not exist in this region and account"),
        ("AccessDeniedException", "lacks secretsmanager:GetSecretValue"),
        ("DecryptionFailure", "lacks kms:Decrypt"),
        ("InvalidRequestException", "marked for deletion"),
    ],
)
def test_a_secret_that_cannot_be_had_names_the_remedy(
    secrets: tuple[Any, Stubber], code: str, remedy: str
) -> None:
    client, stub = secrets
    stub.add_client_error("get_secret_value", code, "canary")
    with pytest.raises(SourceRefused, match=rf"MONGODB_SECRET_ID: .*{remedy}") as refused:
        fetch_secret(client, "tidemark/orders")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("ParameterNotFound", "does not exist in this region and account"),
        ("AccessDeniedException", "lacks ssm:GetParameter on it, or kms:Decrypt"),
        ("InvalidKeyId", "its key is disabled or does not exist"),
    ],
)
def test_a_parameter_that_cannot_be_had_names_the_remedy(
    parameters: tuple[Any, Stubber], code: str, remedy: str
) -> None:
    client, stub = parameters
    stub.add_client_error("get_parameter", code, "canary")
    with pytest.raises(SourceRefused, match=rf"MONGODB_PARAMETER: .*{remedy}") as refused:
        fetch_parameter(client, "/tidemark/orders")
    assert "canary" not in str(refused.value)


def test_a_failing_service_is_asked_again_by_the_next_run(secrets: tuple[Any, Stubber]) -> None:
    client, stub = secrets
    stub.add_client_error("get_secret_value", "InternalServiceError", "canary")
    with pytest.raises(SourceUnavailable, match=r"Secrets Manager failed \(InternalServiceError\)"):
        fetch_secret(client, "tidemark/orders")


@pytest.mark.parametrize(
    "error",
    [
        ConnectTimeoutError(endpoint_url="https://canary"),
        EndpointConnectionError(endpoint_url="https://canary"),
    ],
)
def test_a_service_without_a_route_is_told_apart(
    error: Exception, monkeypatch: pytest.MonkeyPatch, parameters: tuple[Any, Stubber]
) -> None:
    def fail(**_: Any) -> None:
        raise error

    client, _ = parameters
    monkeypatch.setattr(client, "get_parameter", fail)
    with pytest.raises(SourceUnavailable, match="in a VPC, check its route") as told:
        fetch_parameter(client, "/tidemark/orders")
    assert "canary" not in str(told.value)


def test_a_parameter_is_asked_for_decrypted(parameters: tuple[Any, Stubber]) -> None:
    client, stub = parameters
    asked = {"Name": "/tidemark/orders", "WithDecryption": True}
    stub.add_response("get_parameter", {"Parameter": {"Value": URI}}, asked)
    assert fetch_parameter(client, "/tidemark/orders") == URI


def test_a_binary_secret_is_no_connection_string(secrets: tuple[Any, Stubber]) -> None:
    client, stub = secrets
    stub.add_response("get_secret_value", {"SecretBinary": b"canary"})
    with pytest.raises(ConfigError, match="is no connection string"):
        fetch_secret(client, "tidemark/orders")
