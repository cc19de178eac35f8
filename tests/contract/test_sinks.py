"""Every sink against the embedded AWS: what is sent arrives, whatever fails on the way."""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import pytest

import sink_kinds
from sink_kinds import (
    IN_ORDER,
    KINDS,
    PER_REQUEST,
    Fate,
    Fates,
    Faulty,
    batch_of,
    change,
    first_places,
    sink_on,
    sizes,
)
from tcp_proxy import silent_server
from tidemark.budget import SystemClock
from tidemark.consumer import ClaimBroken, read_body
from tidemark.encoding import encode
from tidemark.errors import DeliveryFailed, SinkRefused
from tidemark.model import change_id
from tidemark.sinks import destinations
from tidemark.sinks.target import REQUEST_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidemark.settings import SinkSettings


@dataclass(frozen=True)
class Received:
    """What a consumer gets: its body and what it can filter by."""

    body: str
    attributes: dict[str, str]

    @property
    def change_id(self) -> str:
        return self.attributes["changeId"]


class Rig(Protocol):
    """A real target with somebody at its other end."""

    service: str
    target: str

    def received(self) -> list[Received]:
        """All that has arrived, in the order of its arrival."""


class Queue:
    service = "sqs"

    def __init__(self, *, fifo: bool) -> None:
        self.client = boto3.client("sqs")
        name = f"q-{uuid.uuid4().hex[:8]}{'.fifo' if fifo else ''}"
        self.url = self.client.create_queue(
            QueueName=name, Attributes={"FifoQueue": "true"} if fifo else {}
        )["QueueUrl"]
        self.target = self.client.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=["QueueArn"]
        )["Attributes"]["QueueArn"]

    def received(self) -> list[Received]:
        return [
            Received(
                each["Body"],
                {name: at["StringValue"] for name, at in each["MessageAttributes"].items()},
            )
            for each in self.messages()
        ]

    def messages(self) -> list[Any]:
        found: list[Any] = []
        while answer := self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            found += answer
            for each in answer:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=each["ReceiptHandle"])
        return found


class Topic:
    service = "sns"

    def __init__(self, *, fifo: bool) -> None:
        client, self.queue = boto3.client("sns"), Queue(fifo=fifo)
        name = f"t-{uuid.uuid4().hex[:8]}{'.fifo' if fifo else ''}"
        attributes = {"FifoTopic": "true"} if fifo else {}
        self.target = client.create_topic(Name=name, Attributes=attributes)["TopicArn"]
        client.subscribe(
            TopicArn=self.target,
            Protocol="sqs",
            Endpoint=self.queue.target,
            Attributes={"RawMessageDelivery": "true"},
        )

    def received(self) -> list[Received]:
        return self.queue.received()


class Bus:
    service = "events"

    def __init__(self) -> None:
        client, self.queue = boto3.client("events"), Queue(fifo=False)
        self.target = f"bus-{uuid.uuid4().hex[:8]}"
        client.create_event_bus(Name=self.target)
        client.put_rule(
            Name="all",
            EventBusName=self.target,
            EventPattern=json.dumps({"source": ["tidemark"]}),
        )
        client.put_targets(
            Rule="all",
            EventBusName=self.target,
            Targets=[{"Id": "queue", "Arn": self.queue.target}],
        )

    def received(self) -> list[Received]:
        return [unwrapped(json.loads(each["Body"])["detail"]) for each in self.queue.messages()]


class DataStream:
    service = "kinesis"

    def __init__(self) -> None:
        self.client = boto3.client("kinesis")
        self.target = f"stream-{uuid.uuid4().hex[:8]}"
        self.client.create_stream(StreamName=self.target, ShardCount=1)

    def received(self) -> list[Received]:
        shard = self.client.get_shard_iterator(
            StreamName=self.target,
            ShardId="shardId-000000000000",
            ShardIteratorType="TRIM_HORIZON",
        )["ShardIterator"]
        records = self.client.get_records(ShardIterator=shard)["Records"]
        return [unwrapped(json.loads(each["Data"])) for each in records]


def unwrapped(body: dict[str, Any]) -> Received:
    attributes = body.pop("tidemark")
    return Received(json.dumps(body), attributes)


RIGS: dict[str, Callable[[], Rig]] = {
    "sqs": lambda: Queue(fifo=False),
    "sqs-fifo": lambda: Queue(fifo=True),
    "sns": lambda: Topic(fifo=False),
    "sns-fifo": lambda: Topic(fifo=True),
    "eventbridge": Bus,
    "kinesis": DataStream,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rig(kind: str, aws_endpoint: str) -> Rig:
    assert aws_endpoint
    return RIGS[kind]()


@pytest.fixture
def client(rig: Rig) -> Faulty:
    return Faulty(boto3.client(rig.service, config=destinations.CLIENT))  # type: ignore[call-overload]


@pytest.fixture
def bucket(aws_endpoint: str) -> str:
    assert aws_endpoint
    name = f"payloads-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def settings_of(kind: str, rig: Rig, **given: Any) -> SinkSettings:
    return sink_kinds.sink_settings(kind, target=rig.target, **given)


def changes(count: int, keys: int = 1_000) -> list[dict[str, Any]]:
    return [change(number, number % keys) for number in range(count)]


def test_what_is_delivered_arrives_in_full_requests(kind: str, rig: Rig, client: Faulty) -> None:
    """G1: every change, its body as the encoder writes it, with what a consumer filters by."""
    sent = changes(25)
    outcome = sink_on(client, settings_of(kind, rig)).deliver(batch_of(sent), deadline_s=9)
    assert (outcome.delivered, outcome.error) == (25, None)
    assert sum(sizes(client.requests).values()) == -(-25 // PER_REQUEST[kind])
    received = {each.change_id: each for each in rig.received()}
    assert received.keys() == {change_id(each) for each in sent}
    for each in sent:
        arrived = received[change_id(each)]
        assert json.loads(arrived.body) == json.loads(encode(each))
        assert arrived.attributes == {
            "stream": "orders",
            "operationType": "insert",
            "ns": "shop.orders",
            "changeId": change_id(each),
        }


@pytest.mark.parametrize("concurrency", [1, 4])
def test_nothing_is_lost_and_order_is_kept_where_entries_fail(
    kind: str, rig: Rig, client: Faulty, concurrency: int
) -> None:
    """G1, G2: entries that are throttled, misjudged or missing in the answer."""
    client.fates = Fates([Fate.TAKEN, Fate.THROTTLED, Fate.MISJUDGED, Fate.UNANSWERED] * 12)
    sent = changes(40, keys=7)
    settings = settings_of(kind, rig, concurrency=concurrency)
    outcome = sink_on(client, settings).deliver(batch_of(sent), deadline_s=1e9)
    assert (outcome.delivered, outcome.error) == (40, None)
    arrived = [each.change_id for each in rig.received()]
    places = first_places(arrived)
    assert places.keys() == {change_id(each) for each in sent}
    if kind in IN_ORDER:
        for key in range(7):
            of_key = [places[change_id(each)] for each in sent if each["documentKey"]["_id"] == key]
            assert of_key == sorted(of_key)
    if kind.endswith("fifo"):
        assert len(arrived) == len(sent), "the service drops what comes again"


def test_a_target_that_does_not_exist_is_refused(kind: str, rig: Rig, client: Faulty) -> None:
    """G1: on EventBridge too, whose PutEvents would take the events and drop them."""
    missing = re.sub(r"-[0-9a-f]{8}", "-00000000", rig.target)
    settings = replace(settings_of(kind, rig), target=missing)
    with pytest.raises(SinkRefused, match="does not exist"):
        sink_on(client, settings).deliver(batch_of(changes(3)), deadline_s=9)


@pytest.mark.usefixtures("aws_endpoint")  # for the region and the credentials
@pytest.mark.parametrize("name", ["sqs", "eventbridge"])
def test_a_target_that_never_answers_costs_less_than_the_reserve(name: str) -> None:
    """G5: the run's last delivery begins with six seconds left; no change is blamed."""
    with silent_server() as port:
        endpoint = f"http://127.0.0.1:{port}"
        service: Any = {"eventbridge": "events"}.get(name, name)
        stalled = boto3.client(service, endpoint_url=endpoint, config=destinations.CLIENT)
        sink = sink_on(stalled, sink_kinds.sink_settings(name), clock=SystemClock())
        began_s = time.monotonic()
        outcome = sink.deliver(batch_of(changes(30)), deadline_s=began_s + 6)
    assert time.monotonic() - began_s < REQUEST_S <= 6
    assert (outcome.delivered, outcome.named) == (0, False)
    assert isinstance(outcome.error, DeliveryFailed)


def test_a_body_over_the_limit_waits_in_s3(
    kind: str, rig: Rig, client: Faulty, bucket: str
) -> None:
    """The message carries pointer, size and digest; the consumer reads the body behind it."""
    s3 = boto3.client("s3")
    large = change(1, fullDocument={"_id": 1, "text": "é" * 5_000})
    settings = settings_of(kind, rig, max_message_bytes=5_000)
    sink = sink_on(client, settings, s3=s3, bucket=bucket)
    outcome = sink.deliver(batch_of([change(0), large, change(2)]), deadline_s=9)
    assert (outcome.delivered, outcome.error) == (3, None)
    bodies = {each.change_id: each.body for each in rig.received()}
    assert len(bodies[change_id(large)]) < 500
    for each in (change(0), large, change(2)):
        assert json.loads(read_body(bodies[change_id(each)], s3)) == json.loads(encode(each))
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


@pytest.fixture
def claimed(bucket: str) -> tuple[str, str]:
    """A queue's message that points at an object, and the object's key."""
    large = change(1, fullDocument={"text": "x" * 5_000})
    memory, s3 = sink_kinds.Memory(), boto3.client("s3")
    settings = sink_kinds.sink_settings("sqs", max_message_bytes=5_000)
    sink_on(memory, settings, s3=s3, bucket=bucket).deliver(batch_of([large]), deadline_s=9)
    body = memory.taken[0]["MessageBody"]
    return body, json.loads(body)["$claimCheck"]["key"]


@pytest.mark.parametrize(
    ("content", "told"), [(b"{}", "bytes, not"), (None, "the digest is not the claim's")]
)
def test_a_consumer_notices_a_body_that_is_not_the_one(
    bucket: str, claimed: tuple[str, str], content: bytes | None, told: str
) -> None:
    s3, (body, key) = boto3.client("s3"), claimed
    whole = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.put_object(Bucket=bucket, Key=key, Body=content or whole.replace(b"x", b"y"))
    with pytest.raises(ClaimBroken, match=told):
        read_body(body, s3)


@pytest.mark.usefixtures("aws_endpoint")
def test_a_bucket_that_does_not_exist_is_refused() -> None:
    settings = sink_kinds.sink_settings("sqs", max_message_bytes=5_000)
    sink = sink_on(sink_kinds.Memory(), settings, s3=boto3.client("s3"), bucket="not-there")
    large = change(1, fullDocument={"text": "x" * 5_000})
    with pytest.raises(SinkRefused, match=r"claim check: arn:aws:s3:::not-there/\* does not exist"):
        sink.deliver(batch_of([large]), deadline_s=9)


@pytest.mark.parametrize(
    "body",
    [
        '{"_id":1,"$claimCheck":{"bucket":"b","key":"k","bytes":1,"sha256":"0"}}',
        '{"$claimCheck":{"bucket":"b"}}',
        '{"$claimCheck":1}',
        "[]",
    ],
)
def test_a_document_that_looks_like_a_claim_is_a_document(body: str) -> None:
    assert read_body(body, s3=None) == body.encode()
