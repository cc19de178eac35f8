"""The destination that a parameter chooses: what is created for it, and a change that arrives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

import stack
from sink_kinds import batch_of, change
from tidemark import aws as aws_adapters
from tidemark import config
from tidemark.errors import ConfigError
from tidemark.ports import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidemark.settings import Settings

SECRET = {"MongodbSecretId": "tidemark/dev/mongodb"}
KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
QUEUES = {
    "DestinationQueue",
    "DestinationQueueDeadLetters",
    "DestinationQueuePolicy",
    "DestinationQueueDeadLettersPolicy",
    "ConsumerDeadLettersAlarm",
}
TOPIC = {"DestinationTopic", "DestinationSubscription"}
CREATED: dict[str, set[str]] = {
    "function": set(),
    "sqs": QUEUES,
    "sqs-fifo": QUEUES,
    "sns": QUEUES | TOPIC,
    "sns-fifo": QUEUES | TOPIC,
    "eventbridge": QUEUES | {"DestinationBus", "DestinationRule"},
    "kinesis": {"DestinationDataStream"},
}
SERVICES = [kind for kind in CREATED if kind != "function"]
QUEUED = [kind for kind, made in CREATED.items() if made >= QUEUES]
EXISTING = {
    "sqs": "arn:aws:sqs:eu-west-1:210987654321:orders.fifo",
    "sns": "arn:aws:sns:us-east-1:210987654321:orders",
    "eventbridge": "arn:aws:events:us-east-1:210987654321:event-bus/orders",
    "kinesis": "arn:aws:kinesis:us-east-1:210987654321:stream/orders",
}


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty AWS inside this process."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", stack.REGION)
    with mock_aws():
        aws_adapters.client.cache_clear()
        yield
        aws_adapters.client.cache_clear()


def settings_of(deployed: stack.Stack) -> Settings:
    """What the function makes of its variables, with a stream that names no sink."""
    variables = deployed.properties("Function")["Environment"]["Variables"]
    return config.parse('[[stream]]\nname = "orders"\n', variables)


def allowed(deployed: stack.Stack) -> dict[str, Any]:
    """The role's statements about the destination, by Sid."""
    [policy] = deployed.properties("FunctionRole")["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    return {each["Sid"]: each for each in statements if each["Sid"].startswith("Destination")}


def added(deployed: stack.Stack) -> set[str]:
    """The resources that only some stacks have, but for the alarms of every ordinary one."""
    declared = stack.translated(SECRET)["Resources"]
    some = {name for name in deployed.resources if "Condition" in declared[name]}
    return some - {"NoSuccessAlarm", "HeadroomAlarm"}


def attributes_of(deployed: stack.Stack, logical_id: str) -> Any:
    url = deployed.resources[logical_id]
    answer = boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return answer["Attributes"]


# ------------------------------------------------------------------ what is created


@pytest.mark.parametrize("kind", CREATED)
def test_a_destination_is_created_with_what_it_needs_and_nothing_else(kind: str) -> None:
    assert added(stack.deploy(**SECRET, Destination=kind)) == CREATED[kind]


@pytest.mark.parametrize("kind", EXISTING)
def test_an_existing_target_is_taken_and_nothing_is_created(kind: str) -> None:
    target = EXISTING[kind]
    deployed = stack.deploy(**SECRET, Destination=kind, DestinationTarget=target)
    assert added(deployed) == set()
    [statement] = allowed(deployed).values()
    assert statement["Resource"] == target == deployed.outputs["DestinationArn"]
    [sink] = settings_of(deployed).sinks
    assert (sink.type, sink.target) == (kind, target)


@pytest.mark.parametrize(
    ("kind", "of"),
    [("sqs", "sns"), ("sns", "eventbridge"), ("eventbridge", "kinesis"), ("kinesis", "sqs")],
)
def test_a_target_of_another_service_is_refused_by_the_function_at_its_start(
    kind: str, of: str
) -> None:
    """No rule of CloudFormation can look into an ARN (G9)."""
    deployed = stack.deploy(**SECRET, Destination=kind, DestinationTarget=EXISTING[of])
    with pytest.raises(ConfigError, match="is an ARN of something else"):
        settings_of(deployed)


def test_without_a_destination_changes_go_to_the_function_and_nothing_is_allowed() -> None:
    deployed = stack.deploy(**SECRET)
    [stream] = settings_of(deployed).streams
    assert stream.sink == "deliver"
    assert allowed(deployed) == {}
    assert "DestinationArn" not in deployed.outputs


@pytest.mark.parametrize("logical_id", ["DestinationQueue", "DestinationDataStream"])
def test_a_destination_that_holds_the_only_copy_outlives_the_stack(logical_id: str) -> None:
    resource = stack.translated(SECRET)["Resources"][logical_id]
    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


# ------------------------------------------------------------------ a change arrives


def received(deployed: stack.Stack, kind: str) -> Any:
    """The one message that the destination's consumer finds, as JSON."""
    if kind == "kinesis":
        return record_of(deployed.outputs["DestinationArn"])
    answer = boto3.client("sqs").receive_message(QueueUrl=deployed.resources["DestinationQueue"])
    [message] = answer["Messages"]
    body = json.loads(message["Body"])
    return body["detail"] if kind == "eventbridge" else body


def record_of(arn: str) -> Any:
    name, kinesis = arn.rpartition("/")[2], boto3.client("kinesis")
    records = [
        record
        for shard in kinesis.list_shards(StreamName=name)["Shards"]
        for record in kinesis.get_records(
            ShardIterator=kinesis.get_shard_iterator(
                StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
        )["Records"]
    ]
    [record] = records
    return json.loads(record["Data"])


@pytest.mark.parametrize("kind", SERVICES)
def test_a_change_reaches_the_destinations_consumer(kind: str) -> None:
    """From the function's own variables, through topic or bus, to the queue or data stream."""
    deployed = stack.deploy(**SECRET, Destination=kind)
    settings = settings_of(deployed)
    [stream] = settings.streams
    sink = aws_adapters.sinks(settings)[stream.sink]
    outcome = sink.deliver(batch_of([change(1, key="first")]), deadline_s=float("inf"))
    assert outcome == Outcome(1)
    assert received(deployed, kind)["documentKey"] == {"_id": "first"}


# ------------------------------------------------------------------ the queue


@pytest.mark.parametrize("kind", QUEUED)
def test_the_queue_has_a_dead_letter_queue_that_keeps_longer(kind: str) -> None:
    """A letter's age counts from its first sending: what is dead on the tenth day has four left."""
    deployed = stack.deploy(**SECRET, Destination=kind)
    queue = attributes_of(deployed, "DestinationQueue")
    letters = attributes_of(deployed, "DestinationQueueDeadLetters")
    redrive = json.loads(queue["RedrivePolicy"])
    assert redrive == {"deadLetterTargetArn": letters["QueueArn"], "maxReceiveCount": 5}
    days = [int(each["MessageRetentionPeriod"]) / 86_400 for each in (queue, letters)]
    assert days == [10, 14]
    assert deployed.outputs["ConsumerQueueArn"] == queue["QueueArn"]


@pytest.mark.parametrize("kind", ["sqs-fifo", "sns-fifo"])
def test_a_fifo_destination_is_fifo_from_end_to_end_with_an_order_for_each_document(
    kind: str,
) -> None:
    deployed = stack.deploy(**SECRET, Destination=kind)
    for logical_id in ("DestinationQueue", "DestinationQueueDeadLetters"):
        assert attributes_of(deployed, logical_id)["FifoQueue"] == "true"
    properties = deployed.properties("DestinationQueue")
    assert properties["FifoThroughputLimit"] == "perMessageGroupId"
    assert properties["DeduplicationScope"] == "messageGroup"
    assert deployed.outputs["DestinationArn"].endswith(".fifo")


def senders(deployed: stack.Stack, logical_id: str) -> dict[str, Any]:
    """Who may send to a queue beside the function, by service: the ARNs it has to do that for.

    Each statement has to be about that queue alone: SQS takes no other.
    """
    attributes = attributes_of(deployed, logical_id)
    statements = json.loads(attributes["Policy"])["Statement"]
    assert {each["Resource"] for each in statements} == {attributes["QueueArn"]}
    [tls, *allowing] = statements
    assert (tls["Sid"], tls["Effect"], tls["Principal"]) == ("TlsOnly", "Deny", "*")
    assert {each["Action"] for each in allowing} <= {"sqs:SendMessage"}
    return {
        each["Principal"]["Service"]: each["Condition"]["ArnEquals"]["aws:SourceArn"]
        for each in allowing
    }


def test_the_stacks_own_topic_alone_may_send_to_its_queue() -> None:
    deployed = stack.deploy(**SECRET, Destination="sns")
    topic = deployed.outputs["DestinationArn"]
    assert senders(deployed, "DestinationQueue") == {"sns.amazonaws.com": topic}
    assert senders(deployed, "DestinationQueueDeadLetters") == {}


def test_the_stacks_own_rule_alone_may_send_to_the_buss_queue() -> None:
    """And both, rule and bus, to the dead letters."""
    deployed = stack.deploy(**SECRET, Destination="eventbridge")
    rule = senders(deployed, "DestinationQueue")["events.amazonaws.com"]
    assert deployed.resources["DestinationRule"] in rule
    letters = senders(deployed, "DestinationQueueDeadLetters")
    assert letters == {"events.amazonaws.com": [deployed.outputs["DestinationArn"], rule]}


# ------------------------------------------------------------------ encryption


def test_topic_and_queue_are_encrypted_without_a_key_of_yours() -> None:
    deployed = stack.deploy(**SECRET, Destination="sns")
    assert attributes_of(deployed, "DestinationQueue")["SqsManagedSseEnabled"] == "true"
    assert deployed.properties("DestinationTopic")["KmsMasterKeyId"] == "alias/aws/sns"


def test_a_data_stream_is_encrypted_without_a_key_of_yours() -> None:
    stream = stack.deploy(**SECRET, Destination="kinesis").properties("DestinationDataStream")
    assert stream["StreamEncryption"] == {"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}


@pytest.mark.parametrize(
    ("kind", "logical_id", "place"),
    [
        ("sqs", "DestinationQueue", ["KmsMasterKeyId"]),
        ("sqs", "DestinationQueueDeadLetters", ["KmsMasterKeyId"]),
        ("sns", "DestinationTopic", ["KmsMasterKeyId"]),
        ("eventbridge", "DestinationBus", ["KmsKeyIdentifier"]),
        ("kinesis", "DestinationDataStream", ["StreamEncryption", "KeyId"]),
    ],
)
def test_one_key_of_yours_encrypts_the_destination_too(
    kind: str, logical_id: str, place: list[str]
) -> None:
    found = stack.deploy(**SECRET, Destination=kind, KmsKeyArn=KEY).properties(logical_id)
    for name in place:
        found = found[name]
    assert found == KEY


@pytest.mark.parametrize(
    ("kind", "actions"),
    [
        ("sqs", ["kms:Decrypt", "kms:GenerateDataKey"]),
        ("sns", ["kms:Decrypt", "kms:GenerateDataKey"]),
        ("kinesis", "kms:GenerateDataKey"),
    ],
)
def test_an_existing_targets_own_key_is_used_only_through_its_service(
    kind: str, actions: object
) -> None:
    """As each service's guide asks of who sends; EventBridge asks it of nobody but itself."""
    target = {"Destination": kind, "DestinationTarget": EXISTING[kind]}
    deployed = stack.deploy(**SECRET, **target, DestinationKmsKeyArn=KEY)
    assert allowed(deployed)["DestinationKey"] == {
        "Sid": "DestinationKey",
        "Effect": "Allow",
        "Action": actions,
        "Resource": KEY,
        "Condition": {"StringLike": {"kms:ViaService": f"{kind}.*.amazonaws.com"}},
    }


# ------------------------------------------------------------------ the alarm


def test_what_the_consumer_gave_up_rings() -> None:
    deployed = stack.deploy(**SECRET, Destination="eventbridge")
    found = boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]
    [alarm] = [each for each in found if "ConsumerDeadLetters" in each["AlarmName"]]
    url = deployed.resources["DestinationQueueDeadLetters"]
    assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": url.rpartition("/")[2]}]
