"""The embedded world holds what the template deploys, and behaves where tests rely on it."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from pymongo import MongoClient

import aws
import moto_process
import template
import world

if TYPE_CHECKING:
    from pymongo.database import Database


def test_the_table_is_the_one_that_the_template_deploys(aws_endpoint: str, table: str) -> None:
    """The keys of DESIGN.md §5, through the template's own definition."""
    made = aws.dynamodb(aws_endpoint).describe_table(TableName=table)["Table"]
    deployed = template.properties("StateTable", "AWS::DynamoDB::Table")
    assert made["KeySchema"] == deployed["KeySchema"]
    assert [key["AttributeName"] for key in made["KeySchema"]] == ["stream", "record"]


def test_a_resource_of_another_type_is_not_taken_for_it() -> None:
    with pytest.raises(ValueError, match=r"StateTable is a AWS::DynamoDB::Table"):
        template.properties("StateTable", "AWS::SQS::Queue")


def test_each_test_has_a_table_of_its_own(aws_endpoint: str, table: str) -> None:
    other = aws.create_table(aws_endpoint)
    key = {"stream": {"S": "orders"}, "record": {"S": "checkpoint"}}
    client = aws.dynamodb(aws_endpoint)
    client.put_item(TableName=other, Item=key)
    assert "Item" not in client.get_item(TableName=table, Key=key)


@pytest.mark.usefixtures("aws_endpoint")
def test_any_sdk_client_in_the_test_uses_the_embedded_aws(aws_server: aws.Server) -> None:
    assert boto3.client("sqs").meta.endpoint_url == aws_server.endpoint


def test_a_test_that_did_not_ask_sees_no_aws() -> None:
    assert not [name for name in os.environ if name.startswith(("AWS_", "MONGODB_"))]


@pytest.mark.parametrize(
    ("target", "at_once"), [("DynamoDB_20120810.UpdateItem", 1), ("AmazonSQS.ReceiveMessage", 2)]
)
def test_only_dynamodb_serves_one_request_at_a_time(target: str, at_once: int) -> None:
    """Its conditional writes are atomic; moto's threads could let two runs acquire one lease."""
    inside: list[int] = []
    most: list[int] = []

    def application(_environ: object, _start_response: object) -> list[bytes]:
        inside.append(1)
        time.sleep(0.1)
        most.append(len(inside))
        inside.pop()
        return []

    served = moto_process.one_at_a_time(application)
    request = {"HTTP_X_AMZ_TARGET": target}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: served(request, lambda *_: print), range(2)))
    assert max(most) == at_once


def test_the_database_has_change_streams(database: Database[dict[str, Any]]) -> None:
    with database.orders.watch(max_await_time_ms=100) as stream:
        database.orders.insert_one({"_id": 1})
        change = next(stream)
    assert (change["operationType"], change["documentKey"]) == ("insert", {"_id": 1})


def test_the_world_says_everything_that_the_function_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only names that the template declares reach a function under `sam local invoke`."""
    monkeypatch.delenv("MONGODB_URI", raising=False)
    with world.run() as running:
        told = running.environment()
        sdk = running.cloud.environment()
        queue = aws.session().client("sqs", endpoint_url=running.cloud.endpoint)
        size = queue.get_queue_attributes(
            QueueUrl=running.resources.queue_url, AttributeNames=["MaximumMessageSize"]
        )
        with MongoClient[dict[str, Any]](running.mongodb_uri) as client:
            assert client.admin.command("hello")["setName"]
    assert size["Attributes"] == {"MaximumMessageSize": "1048576"}
    undeclared = set(told) - set(template.function_variables()) - set(sdk)
    assert undeclared == set()
