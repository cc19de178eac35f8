"""The examples of docs/sinks.md, as written: from a write in MongoDB to a function that receives.

The function is the whole of `handler/`, in a Lambda container; what is substituted is AWS and
MongoDB themselves, the file's path, and for the consumers the event that Lambda would make.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from pymongo import MongoClient

import aws
import mongodb
from container import Container, Function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text("utf-8")
ACCOUNT = "123456789012"
ORDERS = [{"_id": number, "total": number * 10} for number in (1, 2, 3)]


def blocks(heading: str) -> dict[str, str]:
    """The code blocks of one section by their language."""
    [section] = re.findall(
        rf"^#+ {heading}\n(.*?)(?=^## |^### |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL
    )
    return dict(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL))


@pytest.fixture(scope="module")
def shop() -> Iterator[MongoClient[dict[str, Any]]]:
    """A MongoDB of this module's own: the examples name their database."""
    with mongodb.serve() as server, MongoClient[dict[str, Any]](server.uri) as client:
        yield client


@pytest.fixture
def run(
    shop: MongoClient[dict[str, Any]],
    function_environment: dict[str, str],
    aws_server: aws.Server,
    container: Callable[..., Container],
    tmp_path: Path,
) -> Callable[..., dict[str, Any]]:
    """Runs handler/ around three writes and returns the second run's result."""

    def run_around_writes(streams: str, deliver: str | None = None) -> dict[str, Any]:
        resources = aws.create_resources(aws_server.endpoint)
        (tmp_path / "streams.toml").write_text(streams, "utf-8")
        if deliver is not None:
            (tmp_path / "deliver.py").write_text(deliver, "utf-8")
        host, port = shop.address or ("", 0)
        function = Function(
            environment=function_environment
            | {
                "MONGODB_URI": f"mongodb://{host}:{port}/?directConnection=true",
                "TIDEMARK_STREAMS": str(tmp_path / "streams.toml"),
                "TIDEMARK_DEAD_LETTER_QUEUE_URL": resources.queue_url,
                "TIDEMARK_PAYLOAD_BUCKET": resources.bucket,
            },
            before=(tmp_path,) if deliver is not None else (),
        )
        lambda_ = container(function)
        shop.shop.orders.delete_many({})
        assert lambda_.invoke({}).error is None
        shop.shop.orders.insert_many([dict(order) for order in ORDERS])
        answer = lambda_.invoke({})
        summary = {} if answer.error else answer.result["streams"]["orders"]
        return {"error": answer.error, "log": lambda_.read_log()} | summary

    return run_around_writes


def printed_by(consumer: str, event: Any, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the consumer of an example prints for an event."""
    module: dict[str, Any] = {}
    exec(consumer, module)
    module["handler"](event, None)
    return capsys.readouterr().out.splitlines()


class Queue:
    """A queue of this name, and the event that Lambda makes of what it holds."""

    def __init__(self, name: str) -> None:
        self.client = boto3.client("sqs")
        attributes: Any = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        self.url = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.arn = f"arn:aws:sqs:{aws.REGION}:{ACCOUNT}:{name}"

    def event(self) -> dict[str, Any]:
        return {"Records": [self._record(each) for each in self.messages()]}

    def messages(self) -> list[Any]:
        """All of them: of a FIFO queue the next of a group comes once the last is deleted."""
        found: list[Any] = []
        while several := self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages"):
            found += several
            for each in several:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=each["ReceiptHandle"])
        return found

    def _record(self, message: Any) -> dict[str, Any]:
        attributes = {
            name: {"stringValue": each["StringValue"], "dataType": each["DataType"]}
            for name, each in message.get("MessageAttributes", {}).items()
        }
        return {
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": attributes,
        }


def subscribed(topic: str, queue: Queue, *, raw: bool) -> None:
    client = boto3.client("sns")
    attributes = {"FifoTopic": "true"} if topic.endswith(".fifo") else {}
    arn = client.create_topic(Name=topic, Attributes=attributes)["TopicArn"]
    client.subscribe(
        TopicArn=arn,
        Protocol="sqs",
        Endpoint=queue.arn,
        Attributes={"RawMessageDelivery": "true"} if raw else {},
    )


def test_a_queue(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    queue, example = Queue("orders"), blocks("A queue")
    assert run(example["toml"])["changes"] == 3
    printed = printed_by(example["python"], queue.event(), capsys)
    assert sorted(line[65:] for line in printed) == [f"insert {order}" for order in ORDERS]
    assert all(re.match(r"[0-9a-f]{64} ", line) for line in printed)


def test_a_fifo_queue(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    queue = Queue("orders.fifo")
    example = blocks("A FIFO queue, in order for each document")
    assert run(example["toml"])["changes"] == 3
    printed = printed_by(example["python"], queue.event(), capsys)
    assert sorted(line[65:] for line in printed) == ["1 10", "2 20", "3 30"]
    assert len({line[:64] for line in printed}) == 3


def test_a_topic(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    queue, example = Queue("of-topic"), blocks("A topic")
    subscribed("orders", queue, raw=False)
    assert run(example["toml"])["changes"] == 3
    event = {"Records": [{"Sns": json.loads(each["Body"])} for each in queue.messages()]}
    printed = printed_by(example["python"], event, capsys)
    assert sorted(printed) == [f"insert {{'_id': {n}}} {n}0" for n in (1, 2, 3)]


def test_a_fifo_topic(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """G2: one group, one order."""
    queue, example = Queue("of-topic.fifo"), blocks("A FIFO topic")
    subscribed("orders.fifo", queue, raw=True)
    assert run(example["toml"])["changes"] == 3
    event = queue.event()
    assert printed_by(example["python"], event, capsys) == ["insert orders"] * 3
    keys = [json.loads(record["body"])["documentKey"]["_id"] for record in event["Records"]]
    assert keys == [1, 2, 3]


def test_an_event_bus(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    queue, example = Queue("of-bus"), blocks("An event bus")
    client = boto3.client("events")
    client.create_event_bus(Name="orders")
    rule = {"Rule": "shop", "EventBusName": "orders"}
    pattern = json.dumps({"source": ["shop"]})
    client.put_rule(Name=rule["Rule"], EventBusName="orders", EventPattern=pattern)
    client.put_targets(**rule, Targets=[{"Id": "queue", "Arn": queue.arn}])
    assert run(example["toml"])["changes"] == 3
    printed = [
        line
        for each in queue.messages()
        for line in printed_by(example["python"], json.loads(each["Body"]), capsys)
    ]
    assert sorted(line[:-65] for line in printed) == [
        f"order insert {{'_id': {n}}}" for n in (1, 2, 3)
    ]


def test_a_data_stream(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    client, example = boto3.client("kinesis"), blocks("A data stream")
    client.create_stream(StreamName="orders", ShardCount=1)
    assert run(example["toml"])["changes"] == 3
    shard = client.get_shard_iterator(
        StreamName="orders", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = client.get_records(ShardIterator=shard)["Records"]
    event = {
        "Records": [
            {"kinesis": {"data": base64.b64encode(each["Data"]).decode()}} for each in records
        ]
    }
    printed = printed_by(example["python"], event, capsys)
    assert [line[65:] for line in printed] == [f"insert {{'_id': {n}}}" for n in (1, 2, 3)]


def test_effectively_once(run: Callable[..., Any]) -> None:
    example = blocks("Effectively once, in a function")
    streams = '[[stream]]\nname = "orders"\ndatabase = "shop"\ncollection = "orders"\n'
    result = run(streams, example["python"])
    assert result["changes"] == 3
    assert result["log"].count("once: insert") == 3


def test_a_target_that_does_not_exist_fails_the_run_and_says_so(run: Callable[..., Any]) -> None:
    streams = blocks("A queue")["toml"].replace(":orders", ":nowhere")
    error = str(run(streams)["error"])
    assert "SinkRefused: sink 'queue'" in error
    assert f"{ACCOUNT}:nowhere does not exist" in error
